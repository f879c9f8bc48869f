"""Tells systemd how the mediator is: ready, alive, stopping (sd_notify(3)). Elsewhere it does nothing."""

import asyncio
import logging
import os
import socket
from collections.abc import Mapping

log = logging.getLogger(__name__)


class Notifier:
    """For the service manager that the environment names."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._every = 0.0
        microseconds, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
        if microseconds.isdigit() and pid in ("", str(os.getpid())):
            self._every = int(microseconds) / 1e6 / 2  # half the time, as sd_watchdog_enabled(3) advises

    def ready(self) -> None:
        self._tell("READY=1")

    def stopping(self) -> None:
        self._tell("STOPPING=1")

    async def stay_alive(self) -> None:
        """Say so again and again, where that is asked for: one that hangs says nothing, and is restarted."""
        while self._address and self._every > 0:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(self._every)

    def _tell(self, state: str) -> None:
        if self._address[:1] not in ("/", "@"):
            return
        name = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            try:
                sender.sendto(state.encode(), name)
            except OSError as problem:
                log.warning("the service manager cannot be told %s: %s", state, problem.strerror)
