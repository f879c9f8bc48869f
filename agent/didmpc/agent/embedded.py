"""An embedded mediator, for an agent that was given none: a child process on this machine.

Only agents on this machine can reach it. It keeps its DID and its port in `HOME/mediator`, because
invitations and contacts name them; when it dies it is started again, and it never outlives its agent.
"""

import asyncio
import contextlib
import json
import logging
import os
import sys
from dataclasses import dataclass

from didmpc.agent.wallet.home import Home
from didmpc.local.private_files import PRIVATE_FOLDER
from didmpc.protocols.errors import DidmpcError

READY_WITHIN = 15.0
STOP_WITHIN = 5.0
RESTART_AFTER = (0.2, 1.0, 5.0)  # seconds; the last one for ever
STEADY = 30.0  # a process that ran so long is no crash loop
LONGEST_LINE = 64 * 1024

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ready:
    """What a mediator prints when it is ready."""

    did: str
    url: str


class EmbeddedMediator:
    """Runs `didmpc mediator start` as a child and keeps it running."""

    def __init__(self, home: Home) -> None:
        self._home = home.mediator
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._lines: asyncio.Task[None] | None = None
        self._last_words = ""

    async def start(self, *, first_time: bool) -> Ready:
        """Start it and wait until it is ready. The first time any free port will do, then always that."""
        self._home.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        ready = await self._spawn(["--port", "0"] if first_time else [])
        self._keeper = asyncio.create_task(self._keep(ready), name="embedded mediator")
        return ready

    async def close(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        await self._stop()

    async def _spawn(self, port: list[str]) -> Ready:
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "didmpc.agent.embedded_child",
            "start",
            "--json",
            "--home",
            str(self._home),
            *port,
            stdin=asyncio.subprocess.PIPE,  # held open for as long as we live
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LONGEST_LINE,
            # Ctrl-C in a terminal goes to the whole group: the agent alone decides when this one stops.
            start_new_session=True,
            # Settings of a mediator that this user hosts are not for this one.
            env={
                name: value
                for name, value in os.environ.items()
                if name != "DIDMPC_HOME" and not name.startswith("DIDMPC_MEDIATOR_")
            },
        )
        assert process.stdout is not None and process.stderr is not None
        self._last_words = ""
        self._lines = asyncio.create_task(self._log_lines(process.stderr))
        line = b""
        with contextlib.suppress(TimeoutError, ValueError):
            async with asyncio.timeout(READY_WITHIN):
                line = await process.stdout.readline()
        try:
            content = json.loads(line)
            return Ready(str(content["did"]), str(content["url"]))
        except (ValueError, KeyError, TypeError) as problem:
            await self._stop()
            raise DidmpcError(
                "The mediator of this agent did not start.",
                why=self._last_words or "It said nothing.",
                fix="Free its port, or name another mediator: didmpc agent start --mediator INVITATION",
            ) from problem

    async def _keep(self, ready: Ready) -> None:
        """Start the mediator again whenever it ends."""
        clock = asyncio.get_running_loop().time
        crashes = 0
        while True:
            started = clock()
            if self._process is not None:
                status = await self._process.wait()
                log.warning("the embedded mediator ended with status %s", status)
            crashes = 0 if clock() - started > STEADY else crashes
            await asyncio.sleep(RESTART_AFTER[min(crashes, len(RESTART_AFTER) - 1)])
            crashes += 1
            try:
                again = await self._spawn([])
                if again.did != ready.did:
                    log.error("the embedded mediator came back with another DID: restart this agent")
            except DidmpcError as problem:
                log.warning("%s", problem)

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            for stop in (process.terminate, process.kill):
                with contextlib.suppress(ProcessLookupError):
                    stop()
                try:
                    async with asyncio.timeout(STOP_WITHIN):
                        await process.wait()
                    break
                except TimeoutError:
                    continue
        if self._lines is not None:
            await asyncio.wait({self._lines}, timeout=1.0)
            self._lines.cancel()
            self._lines = None

    async def _log_lines(self, stream: asyncio.StreamReader) -> None:
        """Into our log, and the last line kept: it says why a start failed."""
        while True:
            try:
                line = await stream.readline()
            except ValueError:
                continue  # longer than the limit: the reader dropped it
            if not line:
                return
            text = line.decode(errors="replace").rstrip()
            if text:
                self._last_words = text
                log.info("mediator: %s", text)
