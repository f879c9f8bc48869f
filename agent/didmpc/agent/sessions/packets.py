"""The mailbox as a path of the parties of a run: packets between the channel process and the mailbox."""

from collections.abc import Mapping
from typing import Any

from didmpc.agent.mailbox.mailbox import Mailbox
from didmpc.agent.mailbox.packet_post import PacketPost
from didmpc.agent.sessions.channel_process import ChannelProcess
from didmpc.agent.sessions.seat import Seat
from didmpc.protocols.crypto.encoding import b64url, unb64url


class Packets:
    """Carries packets between the channel process and the mailbox."""

    def __init__(self, seat: Seat, mailbox: Mailbox, channel: ChannelProcess) -> None:
        self._mailbox = mailbox
        self._channel = channel
        self._posts = {pid: PacketPost(mailbox, seat.manifest.roster[pid].did) for pid in seat.peers}
        self._sids: set[bytes] = set()

    def expect(self, pid: int, sid: bytes) -> None:
        """From now on packets for this session of ours go to the channel process, as from party `pid`."""
        self._sids.add(sid)
        self._mailbox.expect_packets(sid, lambda packet: self._take(pid, packet))

    def forget(self) -> None:
        """No packets are expected any more."""
        for sid in self._sids:
            self._mailbox.forget_packets(sid)
        self._sids.clear()

    async def send(self, line: Mapping[str, Any]) -> None:
        """One packet is to go out."""
        await self._posts[int(line["pid"])].send(unb64url(line["data"]))

    def _take(self, pid: int, packet: bytes) -> None:
        if self._channel.keeps_up:
            self._channel.tell({"packet": {"pid": pid, "data": b64url(packet)}})
