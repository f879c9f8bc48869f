"""A backup is whole and of one moment, and what it restores is the same mediator; damage is found first."""

import asyncio
import contextlib
import io
import os
import sqlite3
import stat
import tarfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from mediator_parts import Client
from operator_parts import mediator_command

from didmpc.mediator.app import running
from didmpc.mediator.host.home import Home
from didmpc.mediator.operator import backup as backups
from didmpc.protocols.errors import LocalMisuse

NOBODY = 65534


@contextlib.asynccontextmanager
async def full_of_mail(home: Path, http: aiohttp.ClientSession) -> AsyncIterator[tuple[Client, str]]:
    """A mediator with ten messages for one account."""
    async with running(Home(home), port=0) as mediator:
        alice = await Client(http, mediator.did).enrol()
        did = await alice.new_did()
        for n in range(10):
            assert await alice.send(did, b'{"n":%d}' % n) == 202
        yield alice, did


async def test_a_backup_taken_under_load_is_one_consistent_state_and_restores_the_same_mediator(
    tmp_path: Path, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backups, "PAGES", 1)  # many steps, so that mail comes between them
    home, file = tmp_path / "first", tmp_path / "backup.tar"
    taken: list[bytes] = []
    async with full_of_mail(home, http) as (alice, did):
        (home / "mediator.toml").write_text("[limits]\naccounts = 77\n")

        async def keep_sending(sender: int) -> None:
            n = 0
            while True:
                n += 1
                body = b'{"sender":%d,"n":%d}' % (sender, n)
                if await alice.send(did, body) == 202:
                    taken.append(body)

        senders = [asyncio.create_task(keep_sending(n)) for n in range(4)]
        while len(taken) < 20:
            await asyncio.sleep(0.005)
        before = len(taken)
        made = (await mediator_command(home, "backup", str(file), "--json")).json
        during = len(taken) - before
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)
    assert during > 0  # else nothing was shown
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert made["accounts"] == 1
    assert set(tmp_path.iterdir()) == {file, home}  # and nothing that was only needed meanwhile

    second = tmp_path / "second"
    restored = (await mediator_command(second, "restore", str(file), "--json")).json
    assert (restored["did"], restored["messages"]) == (made["did"], made["messages"])
    for name in ("mediator.json", "mediator.sqlite3", "log.key", "mediator.toml"):
        assert stat.S_IMODE((second / name).stat().st_mode) == 0o600
    with contextlib.closing(sqlite3.connect(second / "mediator.sqlite3")) as store:
        (rows, size) = store.execute("SELECT count(*), sum(size) FROM msg").fetchone()
        assert store.execute("SELECT sum(n), sum(bytes) FROM box").fetchone() == (rows, size)
        assert rows == made["messages"]
    async with running(Home(second)) as mediator:
        assert mediator.did == made["did"]
        got = set()
        while mail := await alice.fetch(50):
            got |= {body for _, body in mail}
            await alice.acknowledge(*(name for name, _ in mail))
    assert set(taken[:before]) <= got
    assert len(got) == made["messages"]


async def test_ids_given_out_after_a_backup_do_not_come_back_for_other_mail(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    home, file = tmp_path / "m", tmp_path / "backup.tar"
    async with full_of_mail(home, http) as (alice, did):
        await mediator_command(home, "backup", str(file))
        await alice.send(did, b'{"after":"the backup"}')
        seen = {name for name, _ in await alice.fetch(50)}
    assert (await mediator_command(home, "restore", str(file), "--force")).status == 0
    async with running(Home(home)):
        await alice.send(did, b'{"after":"the restore"}')
        names = {body: name for name, body in await alice.fetch(50)}
    assert len(names) == 11
    assert names[b'{"after":"the restore"}'] not in seen


async def test_a_stopped_mediator_is_backed_up_too(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    home, file = tmp_path / "m", tmp_path / "backup.tar"
    async with full_of_mail(home, http):
        pass
    told = await mediator_command(home, "backup", str(file))
    assert "10 messages" in told.err and "private keys" in told.err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
async def test_what_root_restores_into_the_home_of_a_service_belongs_to_the_service(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    home, theirs, file = tmp_path / "m", tmp_path / "service", tmp_path / "backup.tar"
    async with full_of_mail(home, http):
        await mediator_command(home, "backup", str(file))
    theirs.mkdir(mode=0o700)
    os.chown(theirs, NOBODY, NOBODY)
    assert (await mediator_command(theirs, "restore", str(file))).status == 0
    assert (await mediator_command(theirs, "accounts")).status == 0
    assert {"mediator.json", "mediator.sqlite3", "mediator.lock"} <= {path.name for path in theirs.iterdir()}
    assert {(path.stat().st_uid, path.stat().st_gid) for path in theirs.iterdir()} == {(NOBODY, NOBODY)}
    assert (file.stat().st_uid, home.stat().st_uid) == (0, 0)


async def test_nothing_is_overwritten_unless_forced_and_not_while_it_runs(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    home, file = tmp_path / "m", tmp_path / "backup.tar"
    async with full_of_mail(home, http):
        assert (await mediator_command(home, "backup", str(file))).status == 0
        again = await mediator_command(home, "backup", str(file))
        assert again.status == 1 and "--force" in again.err
        assert (await mediator_command(home, "backup", str(file), "--force")).status == 0
        runs = await mediator_command(home, "restore", str(file), "--force")
        assert runs.status == 1 and "running already" in runs.err
    there = await mediator_command(home, "restore", str(file))
    assert there.status == 1 and "--force" in there.err
    nowhere = await mediator_command(home, "backup", str(tmp_path / "no" / "folder" / "b.tar"))
    assert nowhere.status == 1 and "Traceback" not in nowhere.err


def _without(name: str, content: bytes) -> bytes:
    kept = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(content)) as old, tarfile.open(fileobj=kept, mode="w:") as new:
        for member in old:
            if member.name != name:
                new.addfile(member, old.extractfile(member))
    return kept.getvalue()


def _with(member: tarfile.TarInfo, content: bytes) -> bytes:
    made = io.BytesIO(content)
    with tarfile.open(fileobj=made, mode="a:") as archive:
        archive.addfile(member)
    return made.getvalue()


def _link() -> tarfile.TarInfo:
    member = tarfile.TarInfo("mediator.json")
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return member


def _flip(content: bytes) -> bytes:
    at = content.index(b"SQLite format 3") + 5000
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


DAMAGE = {
    "empty": lambda content: b"",
    "no archive": lambda content: b"\x00" * 4096,
    "cut off": lambda content: content[: len(content) // 2],
    "a bit has flipped": _flip,
    "without keys": lambda content: _without("mediator.json", content),
    "without a manifest": lambda content: _without("manifest.json", content),
    "with a file above": lambda content: _with(tarfile.TarInfo("../evil"), content),
    "with a link": lambda content: _with(_link(), content),
    "of another version": lambda content: content.replace(b'"version": 1,', b'"version": 9,'),
    "of another mediator": lambda content: content.replace(b'"did": "did:peer:2.V', b'"did": "did:peer:2.W'),
}


async def test_what_is_damaged_is_refused_and_nothing_is_changed(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    home, file, other = tmp_path / "m", tmp_path / "backup.tar", tmp_path / "other"
    async with full_of_mail(home, http):
        await mediator_command(home, "backup", str(file))
    async with running(Home(other), port=0):
        pass
    before = {path.name: path.read_bytes() for path in other.iterdir()}
    whole = file.read_bytes()
    for what, damage in DAMAGE.items():
        file.write_bytes(damage(whole))
        said = await mediator_command(other, "restore", str(file), "--force")
        assert said.status == 1, what
        assert "cannot be restored" in said.err and "Nothing was changed" in said.err, (what, said.err)
        assert {path.name: path.read_bytes() for path in other.iterdir()} == before, what
    missing = await mediator_command(other, "restore", str(tmp_path / "nowhere"), "--force")
    assert missing.status == 1 and "No such file" in missing.err
    file.write_bytes(whole)
    assert (await mediator_command(other, "restore", str(file), "--force")).status == 0
    assert (other / "mediator.json").read_bytes() == (home / "mediator.json").read_bytes()


async def test_a_mediator_that_stops_ends_its_backup_and_leaves_nothing_behind(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    home, file = tmp_path / "m", tmp_path / "backup.tar"
    async with full_of_mail(home, http):
        stop = threading.Event()
        stop.set()
        with pytest.raises(LocalMisuse, match="not finished"):
            await asyncio.to_thread(backups.back_up, Home(home), file, stop=stop)
    assert set(tmp_path.iterdir()) == {home}
