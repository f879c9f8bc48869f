"""`didmpc mediator migrate`, as it is typed: of a mediator that takes mail in meanwhile, and with kill -9."""

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from postgres import Database

from didmpc.bench.cluster import DIDMPC, Cluster, Mediator
from didmpc.bench.mediator.account import Account, Forwards, connect, http_url
from didmpc.bench.mediator.wire import http_request
from didmpc.mediator.limits import Limits
from didmpc.mediator.migration.command import migrate as migrate_command
from didmpc.mediator.migration.postgres import DatabaseFailed, PostgresSide, PostgresView
from didmpc.mediator.migration.side import COPYING, DONE, LEFT, Note
from didmpc.mediator.migration.tables import MAIL, TABLES
from didmpc.mediator.store.postgres import PostgresStore
from didmpc.mediator.store.postgres.schema import prepare
from didmpc.protocols.errors import LocalMisuse
from didmpc.protocols.messages import pickup

WITHIN = 180.0


class Load:
    """Somebody who sends mail, one message after another, and writes down what was accepted."""

    def __init__(self, mediator: str) -> None:
        self.accepted: list[str] = []
        self.refused = 0
        self._stop = threading.Event()
        self._mediator = mediator
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send()))

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def until(self, count: int) -> None:
        until = time.monotonic() + WITHIN
        while len(self.accepted) < count:
            assert time.monotonic() < until and self._thread.is_alive()
            time.sleep(0.01)

    async def _send(self) -> None:
        connection = await connect(self._mediator)
        account = Account.new(self._mediator)
        await account.enrol(connection)
        forwards = Forwards(account.did, self._mediator, 300)
        while not self._stop.is_set():
            tag, envelope = forwards.next()
            status, _ = await connection.post(http_request(http_url(self._mediator), envelope))
            assert status in (202, 503), status
            if status == 202:
                self.accepted.append(tag)
            else:
                self.refused += 1
                await asyncio.sleep(0.02)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path, names=(), mediator_count=0) as cluster:
        yield cluster


def started(cluster: Cluster, name: str = "one", *flags: str, home: Path | None = None) -> Mediator:
    mediator = cluster.start_mediator(name, "--limits", "off", *flags, home=home)
    mediator.ready()
    return mediator


def migrate(database: Database, source: str, target: str, *more: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [str(DIDMPC), "mediator", "migrate", "--from", source, "--to", target, *more],
        env={**os.environ, **database.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def done(process: "subprocess.Popen[str]", status: int = 0) -> tuple[dict[str, Any], str]:
    out, err = process.communicate(timeout=WITHIN)
    assert process.returncode == status, (out, err)
    assert "Traceback" not in err
    return (json.loads(out) if out.startswith("{") else {}), err


def tags(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        return [json.loads(body)["tag"] for (body,) in db.execute("SELECT body FROM msg ORDER BY seq")]


def test_a_mediator_that_takes_mail_in_is_moved_without_loss_through_kills_and_back_again(
    cluster: Cluster, database: Database, tmp_path: Path
) -> None:
    mediator = started(cluster)
    store = f"sqlite://{mediator.home}"
    with Load(mediator.did) as load:
        load.until(100)
        foreseen, _ = done(migrate(database, store, database.url, "--dry-run", "--json"))
        assert foreseen["runs"] and foreseen["rows"]["msg"] >= 100
        for seconds in (0.6, 0.9):  # in the midst of a pass, before it, or after all was done
            process = migrate(database, store, database.url)
            time.sleep(seconds)
            process.kill()
            process.communicate()
        process = migrate(database, store, database.url, "--json")
        _, err = process.communicate(timeout=WITHIN)
        assert process.returncode == 0 or "finished" in err, err
        refused = load.refused
        until = time.monotonic() + WITHIN
        while load.refused == refused:  # it takes nothing in any more
            assert time.monotonic() < until
            time.sleep(0.01)
    mediator.process.send(signal.SIGTERM)
    mediator.process.wait()
    assert tags(mediator.home / "mediator.sqlite3") == load.accepted
    # The old store is left for good, and says so.
    again = cluster.start_command(mediator.home, ["mediator", "start", "--json"], name="again").wait()
    assert again.status == 1 and "moved to" in again.json()["error"]["what"]
    assert "finished" in done(migrate(database, store, database.url), 1)[1]

    back = tmp_path / "back"
    back.mkdir(mode=0o700)
    shutil.copy(mediator.home / "mediator.json", back)
    moved, _ = done(migrate(database, database.url, f"sqlite://{back}", "--json"))
    assert moved["tables"]["msg"]["count"] == len(load.accepted) and moved["mailboxes_compared"] == 1
    assert tags(back / "mediator.sqlite3") == load.accepted
    started(cluster, "back", home=back)


def test_what_cannot_be_moved_is_told_in_words(cluster: Cluster, database: Database, tmp_path: Path) -> None:
    home = started(cluster).home
    store = f"sqlite://{home}"
    with_password = database.url.replace("@", ":secret@")
    for source, target, said in (
        (store, with_password, "does not belong"),
        (store, "mysql://x", "names no store"),
        (store, store, "didmpc mediator backup"),
        (database.url, database.url, "pg_dump"),
        (f"sqlite://{tmp_path}/nowhere/mediator.sqlite3", database.url, "no mediator in"),
        (f"sqlite://{home}/other.sqlite3", database.url, f"sqlite://{home}"),
        (database.url, f"sqlite://{tmp_path}/nowhere", "Copy the mediator.json of a node"),
        (store, database.url.replace("127.0.0.1:", "127.0.0.1:1"), "cannot be used"),
        (store, database.url + "x", "does not exist"),
        (database.url, f"sqlite://{home}", "holds no mediator"),
    ):
        err = done(migrate(database, source, target), 1)[1]
        assert said in err and "secret" not in err, err
    # Another mediator's half is not gone on with.
    other = started(cluster, "other").home
    process = migrate(database, store, database.url)
    process.wait(WITHIN)
    assert "finished" in done(migrate(database, f"sqlite://{other}", database.url), 1)[1]


def test_a_mediator_goes_on_in_postgresql_where_it_was(cluster: Cluster, database: Database) -> None:
    mediator = started(cluster)
    with Load(mediator.did) as load:
        load.until(20)
    mediator.process.send(signal.SIGTERM)
    mediator.process.wait()
    done(migrate(database, f"sqlite://{mediator.home}", database.url))
    cluster.variables = {**cluster.variables, **database.environment}
    node = cluster.start_mediator(
        "node", "--limits", "off", "--store", database.url, home=mediator.home, port=mediator.port
    )
    node.ready()
    assert node.did == mediator.did

    async def enrol() -> int:
        connection = await connect(node.did)
        account = Account.new(node.did)
        await account.enrol(connection)  # with numbers that nobody had before
        answer = await account.ask(connection, pickup.status_request())
        return pickup.parse_status(answer).message_count

    assert asyncio.run(enrol()) == 0
    with Load(node.did) as more:
        more.until(5)
    node.process.send(signal.SIGTERM)
    node.process.wait()
    assert len(load.accepted) >= 20


async def test_a_database_that_goes_away_is_told_in_words_wherever_it_is_met(database: Database) -> None:
    side = await PostgresSide.open(database.dsn, prepare=prepare)
    rule = next(table for table in TABLES if table.name == "rule")

    async def read_all(view: PostgresView, *, hashed: bool) -> None:
        async for _ in view.rows(MAIL, hashed=hashed):
            pass

    async with side.view() as view:
        gone = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database.name}'"
        await database.server.admin(gone)
        for meet in (
            lambda: read_all(view, hashed=False),
            lambda: read_all(view, hashed=True),
            lambda: view.big(MAIL, [(1,)]),
            lambda: view.count(MAIL),
            lambda: view.highest(MAIL),
            side.lacks,
            side.holds_nothing,
            side.note,
            lambda: side.set_note(Note("me", COPYING)),
            side.nodes,
            side.keys,
            lambda: side.delete(rule, [("did:x",)]),
            lambda: side.insert(rule, [("did:x", True)]),
            lambda: side.update(rule, [("did:x", False)]),
            lambda: side.set_highest(MAIL, 1),
        ):
            with pytest.raises(DatabaseFailed, match="Give the same command again"):
                await meet()
    await side.close()


def test_without_what_talks_to_postgresql_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("asyncpg", "didmpc.mediator.migration.run"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(LocalMisuse, match=r"didmpc\[postgres\]"):
        migrate_command("sqlite:///m", "postgresql://x@y/z")


async def test_no_node_starts_on_half_of_a_store_or_on_one_that_was_left(
    database: Database, tmp_path: Path
) -> None:
    side = await PostgresSide.open(database.dsn, prepare=prepare)
    try:
        for state, said in ((COPYING, "half"), (LEFT, "moved to elsewhere")):
            await side.set_note(Note("me", state))
            with pytest.raises(LocalMisuse, match=said):
                await PostgresStore.open(database.dsn, tmp_path, Limits())
        await side.set_note(Note("me", DONE))
        await (await PostgresStore.open(database.dsn, tmp_path, Limits())).close()
    finally:
        await side.close()
