"""Parties without a session: each message of MPyC is one DIDComm message, and so are signs of life."""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Any

from didmpc.agent.mailbox.mailbox import Mailbox
from didmpc.agent.sessions.channel_process import ChannelProcess
from didmpc.agent.sessions.post import Post
from didmpc.agent.sessions.seat import Seat
from didmpc.protocols.crypto.encoding import b64url, unb64url
from didmpc.protocols.errors import DidmpcError, MessageError
from didmpc.protocols.message import Attachment, Message
from didmpc.protocols.mpc import messages

UNDER_WAY = 16  # messages to one party at a time; they are numbered, so they may overtake each other
ALIVE_EVERY = 10.0


class Frames:
    """Carries frames between the channel process and the mailbox, and watches who is still there."""

    def __init__(self, seat: Seat, mailbox: Mailbox, post: Post, channel: ChannelProcess) -> None:
        self._seat = seat
        self._mailbox = mailbox
        self._post = post
        self._channel = channel
        self._under_way = {pid: asyncio.Semaphore(UNDER_WAY) for pid in seat.peers}
        self._heard: dict[int, float] = {}
        self._reported = (mailbox.envelopes, mailbox.crypto_seconds)

    def take(self, pid: int, message: Message) -> None:
        """A message of MPyC has come from party `pid`."""
        data = message.attachments[0].data_base64 if len(message.attachments) == 1 else None
        if data is None or pid not in self._seat.without_session:
            raise MessageError("A frame carries one attachment, and comes where no session was agreed.")
        frame = {
            "pid": pid,
            "n": messages.number(message.body, "n", 0, 1 << 62),
            "start": messages.number(message.body, "start", 0, 1 << 31),
            "data": b64url(data),
        }
        self._channel.tell({"frame": frame})
        self._tell_cost()

    async def send(self, frame: Mapping[str, Any]) -> None:
        """A message of MPyC is to go out."""
        pid = int(frame["pid"])
        message = Message(
            type=messages.FRAME,
            body={"n": frame["n"], "start": frame["start"]},
            attachments=(Attachment(id="0", data_base64=unb64url(frame["data"])),),
        )
        async with self._under_way[pid]:
            try:
                await self._post.send(pid, message)
            except DidmpcError as error:
                what = f"{self._seat.names[pid]} could not be reached."
                self._abort(None, what, error.what)
        self._tell_cost()

    def heard(self, pid: int) -> None:
        """Party `pid` is there: something came from it."""
        self._heard[pid] = time.monotonic()

    async def keep_alive(self) -> None:
        """Tell that we are here, and end the run when a party is not. Sessions have heartbeats."""
        self._heard = dict.fromkeys(self._seat.without_session, time.monotonic())
        limit = max(self._seat.manifest.resume_limit, 3 * ALIVE_EVERY)
        while self._heard:
            await asyncio.sleep(ALIVE_EVERY)
            with contextlib.suppress(DidmpcError):
                await self._post.broadcast(
                    messages.ALIVE, {}, to=self._seat.without_session, patience=ALIVE_EVERY
                )
            for pid, heard in self._heard.items():
                if time.monotonic() - heard > limit:
                    self._abort(pid, f"Nothing was heard from it for {limit:.0f} s.")

    def _abort(self, pid: int | None, what: str, why: str = "") -> None:
        cause = {"kind": "unreachable", "what": what, "why": why}
        self._channel.tell({"abort": {"pid": pid, "cause": cause}})

    def _tell_cost(self) -> None:
        """What the envelopes have cost since the last time, for the statistics of the run."""
        envelopes, seconds = self._reported
        self._reported = (self._mailbox.envelopes, self._mailbox.crypto_seconds)
        cost = {"envelopes": self._reported[0] - envelopes, "seconds": self._reported[1] - seconds}
        self._channel.tell({"cost": cost})
