"""Whole runs in miniature: real channel processes and programs, and a test that plays the daemons.

The sessions between the parties are made by real handshakes, and the relay is a real mediator in a process
of its own.
"""

import asyncio
import base64
import contextlib
import functools
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from didmpc.agent.sandbox.choice import choose
from didmpc.agent.sandbox.disk import descendants
from didmpc.agent.sandbox.policy import Mechanism
from didmpc.local import unix_socket
from didmpc.protocols import did as dids
from didmpc.protocols.envelope import pack_authcrypt, unpack
from didmpc.protocols.identity import Identities, Identity
from didmpc.protocols.message import ENCRYPTED, Message
from didmpc.protocols.messages import mediation, relay_control
from didmpc.protocols.mpc import abort
from didmpc.protocols.session.handshake import WIRE_BINARY, Established, Initiation, Party, respond

NAMES = ("Alice", "Bob", "Carol", "Dave", "Erin")
LINE = 32 * 1024 * 1024
PATIENCE = 120.0
MANIFEST = "5e" * 32
Line = dict[str, Any]


# --- the mediator


class Mediator:
    """`didmpc mediator start` on a home of its own, as a subprocess; it can be killed and started again."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._process: asyncio.subprocess.Process | None = None
        self._account: Identity | None = None
        self.did = ""
        self.port = 0

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "from didmpc.mediator.cli import app; app()"),
            *("start", "--home", str(self._home), "--port", str(self.port), "--json"),
            stdout=asyncio.subprocess.PIPE,
            stderr=(self._home / "stderr").open("ab"),
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            ready = json.loads(await self._process.stdout.readline())
        self.did = ready["did"]
        self.port = int(ready["url"].rstrip("/").rpartition(":")[2])

    @property
    def websocket(self) -> str:
        return next(s.uri for s in dids.resolve(self.did).services if s.uri.startswith("ws"))

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def channels(self, count: int) -> list[relay_control.Channel]:
        """Relay channels as an agent gets them: an account, then a grant."""
        async with aiohttp.ClientSession() as http:
            if self._account is None:
                self._account = Identity.peer4()
                await self._ask(http, mediation.mediate_request())
            expires = int(asyncio.get_running_loop().time()) + 4_000_000_000
            answer = await self._ask(http, relay_control.channel_create(count, expires))
        return relay_control.parse_channel_created(answer)

    async def _ask(self, http: aiohttp.ClientSession, request: Message) -> Message:
        me = self._account
        assert me is not None
        addressed = Message(
            type=request.type, body=request.body, from_=me.did, to=(self.did,), return_route="all"
        )
        envelope = pack_authcrypt(addressed, me, dids.resolve(self.did))
        url = next(s.uri for s in dids.resolve(self.did).services if s.uri.startswith("http"))
        async with http.post(url, data=envelope, headers={"Content-Type": ENCRYPTED}) as response:
            assert response.status == 200, await response.text()
            return unpack(await response.read(), Identities(me)).message


# --- one party


@dataclass(eq=False)
class Seat:
    """One party: its channel process, with the test as its daemon and as its user."""

    pid: int
    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    socket: Path
    log: Path
    lines: list[Line] = field(default_factory=list)
    events: list[Line] = field(default_factory=list)
    output: dict[str, bytearray] = field(
        default_factory=lambda: {"stdout": bytearray(), "stderr": bytearray()}
    )
    frames: Callable[["Seat", Line], None] | None = None
    identity: Identity | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    ui: asyncio.StreamWriter | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _paused: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        return NAMES[self.pid]

    @property
    def stdout(self) -> str:
        return self.output["stdout"].decode()

    def tell(self, **line: Any) -> None:
        """Say something as the daemon."""
        self.writer.write(json.dumps(line).encode() + b"\n")

    def say(self, **line: Any) -> None:
        """Say something as the user interface."""
        assert self.ui is not None
        self.ui.write(json.dumps(line).encode() + b"\n")

    async def attach(self) -> None:
        connection = unix_socket.connect(self.socket)
        connection.setblocking(False)
        self._ui_reader, self.ui = await asyncio.open_connection(sock=connection, limit=256 * 1024)
        self.read_on()

    def read_on(self) -> None:
        """Read what the user interface is told (again)."""
        self._terminal = asyncio.create_task(self._read_ui(self._ui_reader))
        self.tasks.append(self._terminal)

    def stop_reading(self) -> None:
        """Be a terminal that stands still."""
        self._terminal.cancel()

    async def until(self, condition: Callable[[], Any], timeout: float = PATIENCE) -> Any:
        """Wait until something has been said."""
        async with asyncio.timeout(timeout):
            while not (found := condition()):
                self.changed.clear()
                await self.changed.wait()
        return found

    def line(self, name: str) -> Any:
        return next((line[name] for line in self.lines if name in line), None)

    def event(self, name: str, /, **details: Any) -> Line | None:
        """The first event of this name (and with these details) that the user interface was told."""
        wanted = {"event": name, **details}.items()
        return (
            next((event for event in self.events if wanted <= event.items()), None)
            if details
            else next((event for event in self.events if event["event"] == name), None)
        )

    async def ended(self, timeout: float = PATIENCE) -> Line:
        try:
            ended = await self.until(lambda: self.line("ended"), timeout)
        except TimeoutError:
            raise AssertionError(
                f"{self.name} has not ended: {self.events[-3:]} {self.output} {self.log.read_text()}"
            ) from None
        assert isinstance(ended, dict)
        self.writer.close()  # as the daemon does
        return ended

    def pause(self, pid: int) -> None:
        """Stop a process of this party."""
        os.kill(pid, signal.SIGSTOP)
        self._paused.append(pid)

    def resume(self) -> None:
        for pid in self._paused:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._paused.clear()

    async def program_pid(self) -> int:
        """The process id of the program."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for pid in descendants(self.process.pid):
                    command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                    if b"didmpc.agent.program" in command and not command[0].endswith(b"bwrap"):
                        return pid
                await asyncio.sleep(0.01)

    async def read_daemon(self) -> None:
        while text := await self.reader.readline():
            line = json.loads(text)
            if "frame" in line and self.frames is not None:
                self.frames(self, line["frame"])
            elif "sign" in line and self.identity is not None:
                signature = abort.sign(self.identity, MANIFEST, self.pid, line["sign"])
                self.tell(signature={"signature": signature})
            else:
                self.lines.append(line)
            self.changed.set()

    async def _read_ui(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while text := await reader.readline():
                line = json.loads(text)
                if "out" in line:
                    self.output[line["out"]] += base64.b64decode(line["data"])
                else:
                    self.events.append(line)
                self.changed.set()

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.resume()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        for writer in (self.writer, self.ui):
            if writer is not None:
                writer.close()


async def seat(pid: int, folder: Path) -> Seat:
    """Start a channel process and say hello to it."""
    ours, theirs = socket.socketpair()
    folder.mkdir(mode=0o700, exist_ok=True)
    log = folder / "channel.log"
    with theirs, log.open("ab") as log_file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "didmpc.agent.channel", str(theirs.fileno())),
            pass_fds=(theirs.fileno(),),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log_file,
            stderr=log_file,
            start_new_session=True,
        )
    ours.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=ours, limit=LINE)
    party = Seat(pid, process, reader, writer, folder / "ui.sock", log)
    party.tasks.append(asyncio.create_task(party.read_daemon()))
    party.tell(hello={"attempt": "attempt", "ui_socket": str(party.socket)})
    await party.until(lambda: party.line("ready"))
    return party


# --- a run


@dataclass
class Table:
    """The parties of one run."""

    seats: list[Seat]

    def __getitem__(self, pid: int) -> Seat:
        return self.seats[pid]

    def __iter__(self) -> Iterator[Seat]:
        return iter(self.seats)

    async def ended(self, timeout: float = PATIENCE) -> list[Line]:
        return list(await asyncio.gather(*(seat.ended(timeout) for seat in self.seats)))

    async def started(self) -> None:
        await asyncio.gather(*(seat.until(lambda s=seat: s.event("started")) for seat in self.seats))


def session_line(pid: int, folder: Path, program: str, m: int, **changes: Any) -> Line:
    """What the daemon says of the run; the working copy is made from the text of the program."""
    directory = folder / "work"
    bundle = directory / "bundle"
    bundle.mkdir(mode=0o700, parents=True, exist_ok=True)
    (bundle / "program.py").write_text(program)
    config = {
        "pid": pid,
        "m": m,
        "threshold": (m - 1) // 2,
        "entry": "program.py",
        "arguments": [],
        "names": list(NAMES[:m]),
        "options": {},
        "allow_threshold_change": False,
        "coalesce": True,
        "log_level": "warning",
    }
    return {
        "me": pid,
        "parties": [{"pid": i, "name": NAMES[i]} for i in range(m)],
        "mode": "session",
        "resume_limit": 60.0,
        "directory": str(directory),
        "sandbox": best_sandbox().value,
        "input": None,
        "log": True,
        "config": config | changes.pop("config", {}),
        **changes,
    }


@functools.cache
def best_sandbox() -> Mechanism:
    """What the agent would choose here."""
    return choose(Path("/nonexistent")).mechanism


def shake_hands(
    one: Identity, other: Identity, wires: Sequence[str] = (WIRE_BINARY,)
) -> tuple[Established, Established]:
    """Two ends of a session, by the real handshake."""
    initiation = Initiation(Party.of(one), Party.of(other), "open-1", link={}, wires=wires)
    body, answered = respond(Party.of(other), Party.of(one), "open-1", initiation.body, wires=wires)
    return initiation.finish(body), answered


def alive(pid: int) -> bool:
    """Whether a process still runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
