"""A full disk: nothing more is taken in, mailboxes can be emptied, and it goes on when there is space."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from mediator_parts import Client, Process

from didmpc.mediator.limits import KIB, MIB, Limits
from didmpc.mediator.refusals import DiskFull
from didmpc.mediator.store import Store
from didmpc.mediator.store.sqlite import BALLAST, SqliteStore
from didmpc.mediator.store.sqlite.ballast import Ballast
from didmpc.protocols.identity import Identity
from didmpc.protocols.messages.mediation import Update

NOW, LATER = 1_000.0, 2_000.0
ALICE = Identity.peer4().did
LIMITS = Limits(free_disk_bytes=4 * MIB, free_disk_for_mail_bytes=32 * MIB)
NO_WATERMARK = Limits(free_disk_bytes=0, free_disk_for_mail_bytes=0)
BODY = 64 * KIB


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, so that it can really be full."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system; the tests beside this one need none")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(folder)],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Another program takes all the space that is left."""
    path = folder / "junk"
    with path.open("wb", buffering=0) as junk, contextlib.suppress(OSError):
        while True:
            junk.write(bytes(64 * KIB))
    with path.open("ab", buffering=0) as junk, contextlib.suppress(OSError):
        while True:
            junk.write(b"x")
    return path


@contextlib.asynccontextmanager
async def opened(folder: Path, limits: Limits) -> AsyncIterator[Store]:
    store = SqliteStore(folder, limits)
    try:
        yield store
    finally:
        await store.close()


async def box(store: Store) -> str:
    did = Identity.peer4().did
    await store.enrol(ALICE, NOW)
    await store.update_keylist(ALICE, [Update(did, "add")], did.encode(), NOW, None)
    return did


async def put(store: Store, did: str, first: int, count: int) -> None:
    bodies = (n.to_bytes(4, "big") * (BODY // 4) for n in range(first, first + count))
    for body in bodies:
        await store.enqueue(did, [body], LATER, NOW)


async def names(store: Store) -> list[int]:
    listing = await store.oldest(ALICE, None, NOW, messages=10_000, bytes=1 << 40)
    return [item.seq for item in listing.mail]


def assert_exact(folder: Path, count: int) -> None:
    with contextlib.closing(sqlite3.connect(folder / "mediator.sqlite3")) as db:
        assert db.execute("SELECT sum(n), sum(bytes) FROM box").fetchone() == (count, count * BODY)
        assert db.execute("SELECT count(*), sum(size) FROM msg").fetchone() == (count, count * BODY)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_mail_stops_at_the_watermark_and_goes_on_in_the_space_that_acknowledging_frees(
    small_disk: Path,
) -> None:
    async with opened(small_disk, LIMITS) as store:
        did = await box(store)
        with pytest.raises(DiskFull):
            await put(store, did, 0, 10_000)
        kept = await names(store)
        assert len(kept) > 100
        await store.acknowledge(ALICE, kept[:-10], NOW)
        await put(store, did, 20_000, len(kept) // 3)  # the file has room inside, the disk has not
        with pytest.raises(DiskFull):
            await put(store, did, 30_000, 10_000)


async def test_on_a_really_full_disk_mailboxes_can_be_emptied_and_then_it_recovers(small_disk: Path) -> None:
    async with opened(small_disk, LIMITS) as store:
        did = await box(store)
        await put(store, did, 0, 300)
        junk = fill(small_disk)
        with pytest.raises(DiskFull):
            await put(store, did, 1_000, 1)
        with pytest.raises(DiskFull):
            await box(store)
        kept = await names(store)
        for seq in kept[:100]:
            await store.acknowledge(ALICE, [seq], NOW)
        await asyncio.gather(*(store.acknowledge(ALICE, [seq], NOW) for seq in kept[100:200]))
        assert len(await names(store)) == 100
        assert not (small_disk / BALLAST).exists()  # that is what it was for
        with pytest.raises(DiskFull):
            await put(store, did, 1_000, 1)
        junk.unlink()
        await put(store, did, 1_000, 5)
        assert (small_disk / BALLAST).stat().st_size == LIMITS.ballast_bytes
    assert_exact(small_disk, 105)


async def test_without_a_watermark_the_ballast_is_for_acknowledgements_alone(small_disk: Path) -> None:
    async with opened(small_disk, NO_WATERMARK) as store:
        did = await box(store)
        await put(store, did, 0, 100)
        kept = await names(store)
        fill(small_disk)
        with pytest.raises(DiskFull):
            await put(store, did, 1_000, 1_000)
        assert (small_disk / BALLAST).exists()
        before = len(await names(store))
        results = await asyncio.gather(
            *(put(store, did, 5_000 + n, 1) for n in range(20)),
            *(store.acknowledge(ALICE, [seq], NOW) for seq in kept[:50]),
            return_exceptions=True,
        )
        assert results[20:] == [None] * 50
        assert all(result is None or isinstance(result, DiskFull) for result in results)
        left = before - 50 + results[:20].count(None)
        assert len(await names(store)) == left
    assert_exact(small_disk, left)


async def test_senders_hear_when_to_come_back_and_a_mediator_starts_on_a_full_disk(
    small_disk: Path, http: aiohttp.ClientSession
) -> None:
    options = ("--limit", "free-disk-bytes=4MiB", "--limit", "free-disk-for-mail-bytes=4MiB")
    process = await Process(small_disk / "m").start("--port", "0", *options)
    alice = await Client(http, process.ready["did"]).enrol()
    did = await alice.new_did()
    for n in range(3):
        assert await alice.send(did, b'{"n":%d}' % n) == 202
    junk = fill(small_disk)
    headers = {"Content-Type": "application/didcomm-encrypted+json"}
    async with http.post(alice.url, data=alice.forward(did, b'{"n":4}'), headers=headers) as response:
        assert response.status == 507
        assert int(response.headers["Retry-After"]) > 0
        assert (await response.json(content_type=None))["code"] == "e.p.me.res.storage"
    ((first, _),) = await alice.fetch(1)
    await alice.acknowledge(first)
    assert await alice.waiting() == 2
    await process.stop(signal.SIGKILL)
    again = await Process(small_disk / "m").start(*options)
    ((second, _),) = await alice.fetch(1)
    await alice.acknowledge(second)
    assert await alice.send(did, b'{"n":5}') == 507
    junk.unlink()
    assert await alice.send(did, b'{"n":5}') == 202
    assert await alice.waiting() == 2
    status, _ = await again.stop(signal.SIGTERM)
    assert status == 0


# --- without a full disk


async def test_what_sqlite_has_no_space_for_is_refused_alone(tmp_path: Path) -> None:
    async with opened(tmp_path, NO_WATERMARK) as store:
        did = await box(store)
        await put(store, did, 0, 20)
        kept = await names(store)
        writer = store._database._writer
        (pages,) = writer.execute("PRAGMA page_count").fetchone()
        writer.execute(f"PRAGMA max_page_count={pages}")
        results = await asyncio.gather(
            put(store, did, 100, 50), store.acknowledge(ALICE, kept[:5], NOW), return_exceptions=True
        )
        assert isinstance(results[0], DiskFull) and results[1] is None
        writer.execute("PRAGMA max_page_count=1000000")
        await put(store, did, 200, 20)


def test_the_ballast_is_taken_only_from_what_is_to_spare(tmp_path: Path) -> None:
    path = tmp_path / "ballast"
    ballast = Ballast(path, 64 * KIB)
    assert not ballast.hold(spare=1 << 60)
    assert not path.exists()
    assert ballast.hold(spare=0)
    assert path.stat().st_blocks * 512 >= 64 * KIB
    assert path.stat().st_mode & 0o777 == 0o600
    assert Ballast(path, 64 * KIB).is_held  # after a restart
    ballast.release()
    assert not ballast.is_held and not path.exists()
    ballast.release()
