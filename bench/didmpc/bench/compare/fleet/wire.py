"""A connection to a host of a fleet: SSH (asyncssh), and the keeper behind it.

The bench waits in threads of its own; connections live on an event loop in one more (`Connections`). Host
keys must be known; passwords, agent forwarding and the settings in ~/.ssh/config play no part.
"""

import asyncio
import base64
import concurrent.futures
import contextlib
import importlib.util
import json
import shlex
import threading
from collections.abc import Callable, Coroutine
from importlib import metadata
from pathlib import Path
from typing import Any, Self, TypeVar

from didmpc.bench.compare.fleet import keeper
from didmpc.bench.compare.fleet.plan import Place
from didmpc.bench.compare.hosts import HostError
from didmpc.protocols.errors import LocalMisuse

CONNECT_WITHIN = 30.0
ANSWER_WITHIN = 60.0
MOST_LINE = 4 << 20
MODULE = "didmpc.bench.compare.fleet.keeper"
Json = dict[str, Any]
T = TypeVar("T")


def raise_unless_possible() -> None:
    """Raises LocalMisuse where asyncssh is not installed."""
    if importlib.util.find_spec("asyncssh") is None:
        raise LocalMisuse(
            "Hosts of a fleet are reached with asyncssh, which is not installed.",
            why="Nothing else of didmpc needs it, so it is not installed with it.",
            fix="In a checkout: make install-fleet. Elsewhere: pip install 'didmpc[fleet]'",
        )


class Connections:
    """An event loop in a thread. Use as a context manager: at its end all connections are closed."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ssh", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, task: Coroutine[Any, Any, T], *, within: float, what: str) -> T:
        """Wait for something on the loop. Raises HostError after `within` seconds."""
        waiting = asyncio.run_coroutine_threadsafe(task, self._loop)
        try:
            return waiting.result(within)
        except concurrent.futures.TimeoutError:
            waiting.cancel()
            raise HostError(f"{what} did not answer within {within:g} s.") from None
        except BaseException:
            waiting.cancel()
            raise


class Wire:
    """To one host; `heard` gets what the keeper tells unasked, on the thread of the connections."""

    def __init__(
        self, connections: Connections, place: Place, known_hosts: Path, heard: Callable[[Json], None]
    ) -> None:
        self._connections = connections
        self._place = place
        self._known_hosts = known_hosts
        self._heard = heard
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._count = 0
        self._lost = ""
        self._tasks: list[asyncio.Task[None]] = []

    def open(self) -> Json:
        """Connect, and start the keeper: what it says of itself. Raises HostError."""
        return self._connections.run(self._open(), within=2 * CONNECT_WITHIN, what=self._who)

    def ask(self, do: str, *, within: float = ANSWER_WITHIN, **fields: Any) -> Any:
        """What the keeper answers. Raises HostError when it cannot, or is not there any more."""
        return self._connections.run(self._ask(do, fields), within=within, what=self._who)

    def raise_if_lost(self) -> None:
        """Raises HostError."""
        if self._lost:
            raise HostError(
                f"The connection to {self._who} was lost.",
                why=self._lost,
                fix="What was started there ends by itself. Look at the host and at the way to it.",
            )

    def close(self) -> None:
        """The keeper ends all, and itself; returns when it has. Never raises for a host that is gone."""
        with contextlib.suppress(HostError):
            self._connections.run(self._close(), within=ANSWER_WITHIN, what=self._who)

    @property
    def _who(self) -> str:
        place = self._place
        return f"{place.name} ({place.user}@{place.ssh}{'' if place.port == 22 else f':{place.port}'})"

    # --- on the loop

    async def _open(self) -> Json:
        import asyncssh  # noqa: PLC0415  (optional)

        place = self._place
        try:
            self._ssh = await asyncssh.connect(
                place.ssh,
                place.port,
                username=place.user,
                known_hosts=str(self._known_hosts),
                client_keys=[str(place.key)] if place.key else (),
                preferred_auth="publickey",
                agent_forwarding=False,
                config=None,
                connect_timeout=CONNECT_WITHIN,
                login_timeout=CONNECT_WITHIN,
                keepalive_interval=10,
                keepalive_count_max=3,
            )
        except (OSError, asyncssh.Error, asyncssh.KeyImportError) as error:
            raise self._refused(error) from None
        command = [place.python, "-I", "-m", MODULE]
        if place.sudo and place.user != "root":
            command = ["sudo", "-n", *command]
        self._process = await self._ssh.create_process(f"exec {shlex.join(command)}", encoding=None)
        self._buffer = b""
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                said = await self._line()
        except TimeoutError:
            said = None
        greeting = said if isinstance(said, dict) else {}
        if greeting.get("keeper") != keeper.VERSION or greeting.get("didmpc") != metadata.version("didmpc"):
            await self._no_keeper(greeting)
        self._tasks = [asyncio.create_task(each) for each in (self._listen(), self._beat())]
        return greeting

    async def _no_keeper(self, greeting: Json) -> None:
        words = b""
        if not greeting:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    words = (await self._process.stderr.read(2000)).strip()
        self._ssh.abort()
        here = metadata.version("didmpc")
        why = f"It has didmpc {greeting.get('didmpc')}, and this is {here}." if greeting else ""
        why = (
            why
            or words.decode(errors="replace").rpartition("\n")[2][-500:]
            or "Nothing was said for too long."
        )
        raise HostError(
            f"didmpc {here} does not run on {self._who}.",
            why=why,
            fix=f"Install this version, and name its Python in the file of hosts ({self._place.python}).",
        )

    def _refused(self, error: Exception) -> HostError:
        import asyncssh  # noqa: PLC0415

        place = self._place
        what = f"{self._who} cannot be reached."
        if isinstance(error, asyncssh.HostKeyNotVerifiable):
            return self._unknown_key(asyncssh)
        if isinstance(error, asyncssh.PermissionDenied):
            key = str(place.key) if place.key else "the keys of the SSH agent and of ~/.ssh"
            return HostError(
                f"{self._who} lets nobody in with {key}.",
                why="Only keys are tried, no passwords.",
                fix=f"Add the public key to ~{place.user}/.ssh/authorized_keys there, or name another `key`.",
            )
        if isinstance(error, asyncssh.KeyImportError):
            return HostError(
                f"The key {place.key} cannot be used.",
                why=f"{error}.",
                fix="Name a private key without a passphrase; put one that has a passphrase into ssh-agent.",
            )
        if isinstance(error, FileNotFoundError) and place.key and not place.key.exists():
            return HostError(f"There is no key {place.key}.", fix="Name another `key` in the file of hosts.")
        if isinstance(error, TimeoutError):
            why = f"Nothing was answered within {CONNECT_WITHIN:g} s."
        else:
            why = f"{(error.strerror if isinstance(error, OSError) else None) or error}."
        return HostError(what, why=why, fix="Look at the address, at firewalls, and whether sshd runs there.")

    def _unknown_key(self, ssh: Any) -> HostError:
        place, file = self._place, self._known_hosts
        shown = place.ssh if place.port == 22 else f"[{place.ssh}]:{place.port}"
        known: Any = ()
        with contextlib.suppress(OSError, ValueError, ssh.KeyImportError):
            known = ssh.read_known_hosts(str(file)).match(place.ssh, "", place.port)
        if any(known[:2]):
            return HostError(
                f"{self._who} has another host key than the one that is known.",
                why=f"{file} has a key of {shown}, and a different one was shown. Who is it?",
                fix=f"If it was set up anew, and you know its new key: ssh-keygen -R '{shown}' -f {file}",
            )
        return HostError(
            f"The host key of {self._who} is not known.",
            why=f"{file} holds none of {shown}, and no key is accepted unseen.",
            fix="Add it, once you have compared its fingerprint with what the host's console shows: "
            "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
        )

    async def _line(self) -> Any:
        """None at the end; raises ValueError for what is no JSON."""
        while b"\n" not in self._buffer:
            if len(self._buffer) > MOST_LINE:
                raise ValueError("a line is too long")
            data = await self._process.stdout.read(1 << 16)
            if not data:
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    async def _listen(self) -> None:
        why = "The host closed it."
        try:
            while (said := await self._line()) is not None:
                if not isinstance(said, dict):
                    raise ValueError("a line is no object")
                if "id" not in said:
                    self._heard(said)
                elif (future := self._asked.pop(said["id"], None)) is not None and not future.done():
                    future.set_result(said)
        except Exception as error:  # whatever it is, nobody may wait for an answer any longer
            why = f"{error}." if str(error) else f"{type(error).__name__}."
        finally:
            self._lost = why
            for future in self._asked.values():
                if not future.done():
                    future.cancel()
            self._asked.clear()

    async def _beat(self) -> None:
        while not self._lost:
            await asyncio.sleep(keeper.BEAT)
            with contextlib.suppress(HostError):
                await self._ask("beat", {})

    async def _ask(self, do: str, fields: Json) -> Any:
        self.raise_if_lost()
        self._count += 1
        number = self._count
        future = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            self._process.stdin.write(json.dumps({"do": do, "id": number, **fields}).encode() + b"\n")
            await self._process.stdin.drain()
            said = await future
        except asyncio.CancelledError:
            self.raise_if_lost()
            raise
        except (OSError, self._ssh_errors()):
            self._lost = self._lost or "The host closed it."
            self.raise_if_lost()
        finally:
            self._asked.pop(number, None)
        if "error" in said:
            raise HostError(f"{self._who} could not do what it was told ({do}).", why=f"{said['error']}.")
        return said.get("value")

    @staticmethod
    def _ssh_errors() -> type[Exception]:
        import asyncssh  # noqa: PLC0415

        return asyncssh.Error

    async def _close(self) -> None:
        if not hasattr(self, "_process"):
            return
        for task in self._tasks[1:]:
            task.cancel()
        with contextlib.suppress(OSError, self._ssh_errors()):
            self._process.stdin.write_eof()
        # The keeper has ended when its stdout does, and has cleaned up by then.
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._ssh.close()
        with contextlib.suppress(OSError, self._ssh_errors()):
            await self._ssh.wait_closed()


def text_of(said: Json) -> bytes:
    """What a process wrote."""
    return base64.b64decode(str(said["data"]))
