"""`didmpc doctor`, as far as the running agent knows: every check with a fix when it fails."""

import asyncio
import email.utils
import platform
import stat
import time
from collections.abc import Awaitable
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import aiohttp

from didmpc.agent.mailbox.mailbox import Mailbox, NotAdmitted
from didmpc.agent.mailbox.transport import words_for
from didmpc.agent.sandbox.choice import choose
from didmpc.agent.wallet.home import Home
from didmpc.agent.wallet.wallet import Wallet
from didmpc.protocols.errors import DidmpcError
from didmpc.protocols.messages import discover_features

WITHIN = 8.0  # for everything; the checks run side by side
CLOCK_SKEW = 60.0
SLOW = 2.0  # seconds of round trip that a person should hear about
PACKAGES = ("didmpc", "mpyc", "numpy", "cryptography", "joserfc", "aiohttp", "uvloop")


@dataclass(frozen=True, slots=True)
class Check:
    """One finding."""

    name: str
    ok: bool
    detail: str
    fix: str = ""


class Doctor:
    """Examines one running agent."""

    def __init__(self, home: Home, wallet: Wallet, mailbox: Mailbox, http: aiohttp.ClientSession) -> None:
        self._home = home
        self._wallet = wallet
        self._mailbox = mailbox
        self._http = http

    async def examine(self) -> list[dict[str, Any]]:
        """All checks; one that hangs counts as failed."""
        mediator = asyncio.create_task(self._mediator())
        websocket = asyncio.create_task(_bounded("websocket", self._websocket()))
        sandbox = Check("sandbox", *(await asyncio.to_thread(choose, self._home.root)).report())
        found = [self._private_home(), self._keys(), *await mediator, await websocket, sandbox, _versions()]
        return [asdict(check) for check in found]

    def _private_home(self) -> Check:
        paths = [self._home.root, *sorted(self._home.root.iterdir())]
        exposed = [
            path for path in paths if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o077
        ]
        if exposed:
            return Check(
                "home", False, f"others may read {exposed[0]}", f"Run: chmod -R go-rwx {self._home.root}"
            )
        return Check("home", True, str(self._home.root))

    def _keys(self) -> Check:
        detail = f"encrypted ({self._wallet.encryption})"
        if self._wallet.only_key_file:
            detail += "; whoever copies the whole home has them (--passphrase-file FILE protects better)"
        return Check("keys", True, detail)

    async def _mediator(self) -> list[Check]:
        """Reachable by HTTP, and what its clock says."""
        host, uri = self._mailbox.host, self._mailbox.http_uri
        if not uri:
            return [Check("mediator", True, f"{host} (WebSocket only)")]
        try:
            async with asyncio.timeout(WITHIN):
                started = time.monotonic()
                async with self._http.get(uri, allow_redirects=False) as response:
                    seconds = time.monotonic() - started
                    clock = _clock(response.headers.get("Date", ""))
        except (aiohttp.ClientError, OSError, TimeoutError) as problem:
            fix = "Check the network, and ask whoever runs the mediator whether it is up."
            return [Check("mediator", False, f"{host} cannot be reached: {words_for(problem)}", fix)]
        return [Check("mediator", True, f"{host} answers in {seconds * 1000:.0f} ms"), clock]

    async def _websocket(self) -> Check:
        """Connected, answering, and relaying session packets."""
        if not self._mailbox.connected.is_set():
            problem = self._mailbox.unreachable()
            if isinstance(problem, NotAdmitted):
                return Check("websocket", False, problem.what, problem.fix)
            return Check(
                "websocket",
                False,
                f"not connected to {self._mailbox.host}",
                "A proxy or firewall in between may refuse WebSockets; the agent keeps trying.",
            )
        started = time.monotonic()
        question = discover_features.queries([discover_features.Query("protocol")])
        await self._mailbox.ask_mediator(question.type, question.body, timeout=WITHIN)
        seconds = time.monotonic() - started
        return Check(
            "websocket",
            seconds < SLOW,
            f"live, {seconds * 1000:.0f} ms round trip",
            "" if seconds < SLOW else "The way to the mediator is slow: a nearer one makes sessions faster.",
        )


async def _bounded(name: str, check: Awaitable[Check]) -> Check:
    try:
        async with asyncio.timeout(WITHIN):
            return await check
    except TimeoutError:
        return Check(name, False, f"no answer within {WITHIN:.0f} s", "Check the network, then try again.")
    except DidmpcError as problem:
        return Check(name, False, f"{problem.what} {problem.why}".strip(), problem.fix)


def _clock(date: str) -> Check:
    """Our clock against the mediator's: messages that expire depend on both."""
    try:
        theirs = email.utils.parsedate_to_datetime(date).timestamp()
    except ValueError:
        return Check("clock", True, "the mediator does not tell the time")
    ahead = time.time() - theirs
    detail = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the mediator's"
    if abs(ahead) > CLOCK_SKEW:
        return Check("clock", False, detail, "Set the clock of this machine (timedatectl set-ntp true).")
    return Check("clock", True, detail if abs(ahead) >= 1 else "the same as the mediator's")


def _versions() -> Check:
    parts = [f"Python {platform.python_version()}"]
    missing: list[str] = []
    for package in PACKAGES:
        try:
            parts.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            if package != "numpy":  # only some programs need it
                missing.append(package)
    if missing:
        return Check("versions", False, f"missing: {', '.join(missing)}", "Install didmpc again.")
    return Check("versions", True, ", ".join(parts))
