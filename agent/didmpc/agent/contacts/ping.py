"""trust-ping/2.0 to a contact, through both mediators and back, with the time each takes."""

import asyncio
import time
from typing import Any

from didmpc.agent.contacts.contacts import Contact
from didmpc.agent.control.server import Stream
from didmpc.agent.mailbox.mailbox import Mailbox
from didmpc.protocols.envelope import Unpacked
from didmpc.protocols.errors import DidmpcError, LocalMisuse
from didmpc.protocols.messages import trust_ping

MOST = 1000
LONGEST = 3600.0
PAUSE = 0.2  # seconds between pings


class Pinger:
    """Pings contacts."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._waiting: dict[str, tuple[str, asyncio.Future[float]]] = {}
        mailbox.on(trust_ping.PING_RESPONSE, self._on_response)

    async def ping(self, contact: Contact, count: int, timeout: float, stream: Stream) -> dict[str, Any]:
        """Ping `count` times, each time waiting up to `timeout`; every answer is an event."""
        if not 1 <= count <= MOST or not 0 < timeout <= LONGEST:
            raise LocalMisuse(f"Ping 1 to {MOST} times, waiting at most {LONGEST:.0f} s each time.")
        times: list[float] = []
        for number in range(1, count + 1):
            if number > 1:
                await asyncio.sleep(PAUSE)
            try:
                seconds = await self._once(contact, timeout)
            except TimeoutError:
                await stream.event({"event": "lost", "n": number})
                continue
            times.append(seconds)
            await stream.event({"event": "pong", "n": number, "ms": round(seconds * 1000, 2)})
        if not times:
            raise DidmpcError(
                f"{contact.name} did not answer.",
                why="The mediators took the pings, but that agent seems to be offline.",
                fix=f"Ask {contact.name} to run: didmpc agent start",
            )
        milliseconds = [seconds * 1000 for seconds in times]
        return {
            "sent": count,
            "received": len(times),
            "min": round(min(milliseconds), 2),
            "avg": round(sum(milliseconds) / len(times), 2),
            "max": round(max(milliseconds), 2),
        }

    async def _once(self, contact: Contact, timeout: float) -> float:
        message = trust_ping.ping(contact.my_did, contact.did)
        answer: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting[message.id] = contact.did, answer
        started = time.monotonic()
        try:
            async with asyncio.timeout(timeout):
                await self._mailbox.send_to_contact(contact, message, timeout=timeout)
                return await answer - started
        finally:
            del self._waiting[message.id]

    async def _on_response(self, unpacked: Unpacked) -> None:
        waiting = self._waiting.get(unpacked.message.thread)
        # The thread id is random and went to this contact alone, so whoever knows it is the contact,
        # but one that does not prove a sender at all is nobody.
        if waiting is not None and unpacked.authenticated and not waiting[1].done():
            waiting[1].set_result(time.monotonic())
