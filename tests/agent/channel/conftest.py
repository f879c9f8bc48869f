"""Real channel processes and programs around a real mediator."""

import asyncio
import itertools
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from channel_parts import MANIFEST, NAMES, Mediator, Seat, Table, seat, session_line, shake_hands

from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.identity import Identity


@pytest.fixture
async def mediator(tmp_path: Path) -> AsyncIterator[Mediator]:
    home = tmp_path / "mediator"
    home.mkdir(mode=0o700)
    running = Mediator(home)
    await running.start()
    yield running
    await running.kill()  # which ends a stopped one, too


Gather = Callable[..., Awaitable[Table]]


@pytest.fixture
async def seats(tmp_path: Path) -> AsyncIterator[list[Seat]]:
    """Filled by what a test starts, ended with it."""
    started: list[Seat] = []
    yield started
    await asyncio.gather(*(seat.close() for seat in started))


@pytest.fixture
async def gather(tmp_path: Path, mediator: Mediator, seats: list[Seat]) -> Gather:
    """Start a run: `await gather(program)`; `program` may be one text or one for each party."""

    async def run(program: str | list[str], m: int = 3, **session: Any) -> Table:
        programs = [program] * m if isinstance(program, str) else program
        folders = [tmp_path / name for name in NAMES[:m]]
        seats.extend(await asyncio.gather(*(seat(pid, folder) for pid, folder in enumerate(folders))))
        table = Table(seats)
        identities = [Identity.peer4() for _ in range(m)]
        parties = [{"pid": pid, "name": NAMES[pid], "did": identities[pid].did} for pid in range(m)]
        session = {"parties": parties, "manifest_sha256": MANIFEST, **session}
        for party, text in zip(table, programs, strict=True):
            party.identity = identities[party.pid]
            await party.attach()
            party.tell(session=session_line(party.pid, folders[party.pid], text, m, **session))
        pairs = list(itertools.combinations(range(m), 2))
        for (low, high), channel in zip(pairs, await mediator.channels(len(pairs)), strict=True):
            ends = shake_hands(identities[low], identities[high])
            for me, peer, session_keys, capability in (
                (low, high, ends[0], channel.far),
                (high, low, ends[1], channel.near),
            ):
                path = {
                    "mediator": mediator.did,
                    "ws": mediator.websocket,
                    "capability": b64url(capability),
                    "private": True,
                }
                table[me].tell(link={"pid": peer, "session": session_keys.to_json(), "path": path})
        return table

    return run


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The channel processes start as the daemon would start them."""
    monkeypatch.setenv("DIDMPC_PASSPHRASE_FOR_TESTS", "never to be seen by a program")
    roots = os.pathsep.join(str(path) for path in sys.path if (Path(path) / "didmpc").is_dir())
    monkeypatch.setenv("PYTHONPATH", roots)
