"""Real program processes, connected by a small switch in place of channel processes and mediators."""

import asyncio
import contextlib
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from didmpc.agent.program.wire import Decoder, Frame, FrameType, encode, encode_json

DEMOS = Path(__file__).parent / "mpyc_demos"
GRACE = 10.0  # after which a channel process would end a program whose peer has failed
Tamper = Callable[[int, Frame], "list[Frame]"]


@dataclass
class Party:
    """One program process, and what came from it."""

    pid: int
    process: asyncio.subprocess.Process
    writer: asyncio.Transport
    lost: asyncio.Event
    sent: list[Frame] = field(default_factory=list)
    states: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    failed: dict[str, Any] | None = None
    stats: dict[str, Any] | None = None
    exit: int | None = None
    exited_at: float = 0.0
    stdout: str = ""
    stderr: str = ""


class Port(asyncio.Protocol):
    """One end of a socket pair; what came before a reset still counts."""

    def __init__(self, switch: "Switch", pid: int) -> None:
        self.switch, self.pid = switch, pid
        self.decoder = Decoder()
        self.lost = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        for frame in self.decoder.feed(data):
            self.switch.take(self.pid, frame)

    def connection_lost(self, exc: Exception | None) -> None:
        assert not self.decoder.incomplete
        self.lost.set()


class Switch:
    """Carries DATA and END between the parties; a test may change what passes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.parties: list[Party] = []
        self.tamper: Tamper = lambda receiver, frame: [frame]
        self._tasks: list[asyncio.Task[None]] = []

    async def start(
        self,
        program: str | Path,
        arguments: Sequence[str] = (),
        *,
        m: int = 3,
        threshold: int | None = None,
        stdin: bytes | None = b"",
        **config: Any,
    ) -> "Switch":
        """Start `m` parties; a program given as text is written to a file first."""
        if isinstance(program, str):
            path = self.directory / "program.py"
            path.write_text(program)
            program = path
        for pid in range(m):
            ours, theirs = socket.socketpair()
            environment = {name: value for name, value in os.environ.items() if not name.startswith("DIDMPC")}
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-u", "-m", "didmpc.agent.program", str(theirs.fileno())),
                cwd=program.parent,
                env=environment,
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            theirs.close()
            loop = asyncio.get_running_loop()
            writer, port = await loop.create_unix_connection(partial(Port, self, pid), sock=ours)
            assert process.stdin is not None
            if stdin is not None:  # else it stays open, and nothing is typed
                process.stdin.write(stdin)
                process.stdin.close()
            self.parties.append(Party(pid, process, writer, port.lost))
            agreed = {
                "pid": pid,
                "m": m,
                "threshold": (m - 1) // 2 if threshold is None else threshold,
                "entry": program.name,
                "arguments": list(arguments),
                "names": [f"Party{i}" for i in range(m)],
                "options": {"bit_length": 32, "sec_param": 30, "no_prss": False},
            }
            writer.write(encode_json(FrameType.CONFIG, agreed | config))
        for party in self.parties:
            self._tasks.append(asyncio.create_task(self._collect(party)))
        return self

    def go(self) -> "Switch":
        """All links are up."""
        for party in self.parties:
            party.writer.write(encode(FrameType.GO))
        return self

    def send(self, receiver: int, frame: Frame) -> None:
        """What the channel process of `receiver` hands to its program."""
        self.write(receiver, encode(*frame))

    def write(self, receiver: int, data: bytes) -> None:
        """Bytes for the program of `receiver`, unless it has gone."""
        if not self.parties[receiver].writer.is_closing():
            self.parties[receiver].writer.write(data)

    async def end(self, timeout: float = 240, grace: float = GRACE) -> list[Party]:
        """All parties, once they have ended. When one has failed, the others have `grace` seconds left."""
        waiting = set(self._tasks)
        deadline = time.monotonic() + timeout
        while waiting and time.monotonic() < deadline:
            _, waiting = await asyncio.wait(waiting, timeout=0.1)
            if any(party.exit for party in self.parties):
                deadline = min(deadline, time.monotonic() + grace)
        await self.kill()
        return self.parties

    async def ended(self, pid: int, timeout: float = 120) -> Party:
        """Party `pid`, once it has ended; the others are left to themselves."""
        await asyncio.wait_for(asyncio.shield(self._tasks[pid]), timeout)
        return self.parties[pid]

    async def kill(self) -> None:
        """End what still runs."""
        for party in self.parties:
            if party.exit is None:
                with contextlib.suppress(ProcessLookupError):
                    party.process.kill()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for party in self.parties:
            party.writer.close()

    def take(self, pid: int, frame: Frame) -> None:
        """A frame that the program of party `pid` has written."""
        party = self.parties[pid]
        if frame.type in (FrameType.DATA, FrameType.END):
            party.sent.append(frame)
            for passed in self.tamper(frame.pid, frame._replace(pid=pid)):
                self.send(frame.pid, passed)
        elif frame.type is FrameType.STATE:
            party.states.append((time.monotonic(), frame.json()))
        elif frame.type is FrameType.FAILED:
            party.failed = frame.json()
        else:
            assert frame.type is FrameType.STATS
            party.stats = frame.json()

    async def _collect(self, party: Party) -> None:
        assert party.process.stdout is not None and party.process.stderr is not None
        out, error = await asyncio.gather(party.process.stdout.read(), party.process.stderr.read())
        party.exit = await party.process.wait()
        party.exited_at = time.monotonic()
        await party.lost.wait()
        party.stdout, party.stderr = out.decode(), error.decode()


@pytest.fixture
async def switch(tmp_path: Path) -> AsyncIterator[Switch]:
    made = Switch(tmp_path)
    yield made
    await made.kill()


@pytest.fixture
def demos() -> Path:
    return DEMOS


@pytest.fixture(scope="session")
def mpyc() -> Any:
    """MPyC in this process, for the codec; it must not read pytest's command line or set its event loops."""
    argv, sys.argv = sys.argv, ["test"]
    os.environ["MPYC_NOUVLOOP"] = "1"
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        import mpyc.runtime
    finally:
        sys.argv = argv
        del os.environ["MPYC_NOUVLOOP"]
        asyncio.set_event_loop(None)
    yield mpyc.runtime.mpc
    loop.close()
