"""The relay of a mediator under two agents who do whatever the input says."""

import asyncio
import time
from collections.abc import Iterator
from enum import IntEnum
from functools import cache

from didmpc.mediator.limits import Limits
from didmpc.mediator.relay.legs import Leg
from didmpc.mediator.relay.relay import Relay
from didmpc.protocols.errors import SessionError
from didmpc.protocols.messages import relay_control
from didmpc.protocols.relay import hop
from didmpc.protocols.session.packet import PacketOpener, PacketSealer
from fuzz_targets.service import mediator
from fuzz_targets.sessions import Reader, established
from fuzz_targets.target import Target, key

LIMITS = Limits(channels_per_leg=3, leg_control_frames=64, credit_bytes=64 * 1024)


class Op(IntEnum):
    """What an agent does next."""

    BIND = 0
    DATA = 1
    PING = 2
    RAW = 3
    STOP = 4  # or start to read
    LEAVE = 5
    WAIT = 6


@cache
def capabilities() -> tuple[bytes, ...]:
    """Near and far of two channels, and one that nobody granted."""
    answer = mediator().ask(relay_control.channel_create(2, int(time.time()) + 86_400))
    channels = relay_control.parse_channel_created(answer)
    return (*(end for channel in channels for end in (channel.near, channel.far)), bytes(32))


class Agent:
    """One agent with a leg, the packets it got, and whether it reads."""

    def __init__(self, relay: Relay, name: str, sent: dict[bytes, int]) -> None:
        self.relay = relay
        self.sent = sent  # by everybody, in order
        self.reads = True
        self.aborted = False
        self._got: dict[tuple[int, int], int] = {}
        self._rebind_key = key(name, "Ed25519")
        self.join()

    def join(self) -> None:
        near, far = established()
        self._sealer = PacketSealer(near.secret_send, near.sid_out, ordered=True)
        self._opener = PacketOpener(near.secret_receive, near.sid_in)
        self._exporter = near.exporter
        self._got.clear()
        self.aborted = False
        self.leg = Leg(
            far,
            write=self._write,
            write_now=self._write_now,
            has_room=lambda size: self.reads,
            abort=self._abort,
            limits=LIMITS,
            address="127.0.0.1",
        )
        self.relay.join(self.leg)

    def _abort(self, reason: str) -> None:
        self.aborted = True

    async def _write(self, packet: bytearray) -> None:
        self._write_now(packet)

    def _write_now(self, packet: bytearray) -> None:
        """What arrives is sealed for us, whole, in order, and was sent by somebody."""
        frame = hop.decode(self._opener.open(bytes(packet)))
        if isinstance(frame, hop.Data):
            number = self.sent[frame.packet]
            assert self._got.get((frame.channel, frame.packet[0]), -1) < number, "out of order, or twice"
            self._got[frame.channel, frame.packet[0]] = number

    async def say(self, frame: bytes) -> None:
        try:
            packet = bytearray(self._sealer.seal(frame))
            self.leg.open(packet)
            await self.relay.receive(self.leg, packet, time.time())
        except SessionError:
            self.aborted = True
        if self.aborted:
            self.leave()

    def leave(self) -> None:
        self.relay.leave(self.leg)
        self.join()

    def bind(self, channel: int, capability: bytes) -> bytes:
        return hop.encode_bind(hop.bind(channel, capability, self._rebind_key, self._exporter))


def legs(data: bytes) -> None:
    there = mediator()
    there.loop.run_until_complete(_play(there.relay, Reader(data), capabilities()))


async def _play(relay: Relay, reader: Reader, granted: tuple[bytes, ...]) -> None:
    before = relay._memory
    sent: dict[bytes, int] = {}
    agents = [Agent(relay, name, sent) for name in ("near", "far")]
    while reader:
        command = reader.byte()
        who = command & 1
        agent, channel = agents[who], (command >> 1) & 3
        match Op((command >> 3) % len(Op)):
            case Op.BIND:
                await agent.say(agent.bind(channel, granted[reader.byte() % len(granted)]))
            case Op.DATA:
                packet = bytes((who,)) + len(sent).to_bytes(4, "big") + bytes(reader.byte() * 128)
                sent[packet] = len(sent)
                await agent.say(hop.encode_data(channel, packet))
            case Op.PING:
                await agent.say(hop.encode_ping(bytes(8)))
            case Op.RAW:
                piece = reader.piece()
                if piece[:1] != bytes((hop.FrameType.DATA,)):  # packets are numbered, see above
                    await agent.say(piece)
            case Op.STOP:
                agent.reads = not agent.reads
            case Op.LEAVE:
                agent.leave()
            case Op.WAIT:
                await asyncio.sleep(0)
    for agent in agents:
        relay.leave(agent.leg)
    assert relay.leg_count == 0 and relay.channel_count == 0
    assert relay._memory == before, "memory was set aside, and is not there again"
    await asyncio.sleep(0)


def _do(op: Op, who: int, channel: int = 0) -> int:
    return op << 3 | channel << 1 | who


def _seeds() -> Iterator[bytes]:
    both = [_do(Op.BIND, 0), 0, _do(Op.BIND, 1), 1]
    full = [_do(Op.DATA, 0), 255] * 3
    yield bytes([*both, _do(Op.DATA, 0), 1, _do(Op.DATA, 1), 255, _do(Op.PING, 0), _do(Op.WAIT, 0)])
    yield bytes([*both, _do(Op.STOP, 1), *full, _do(Op.WAIT, 0), _do(Op.LEAVE, 1), *both, *full])
    yield bytes([*both, *both, _do(Op.BIND, 0, 1), 4, _do(Op.BIND, 0, 2), 2, _do(Op.BIND, 0, 3), 3])
    yield bytes([_do(Op.RAW, 0), 0, 5, 7, 0, 0, 0, 9, _do(Op.LEAVE, 0)])


TARGETS = (Target("legs", legs, _seeds, is_json=False),)
