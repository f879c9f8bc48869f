"""The relay shares out what it has: channels in turn, control first, and no faster than a channel's rate."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import cast

import aiohttp
from mediator_parts import PATIENCE, SMALL, Client, Leg, Process, code_of, pass_on

from didmpc.mediator.app import running
from didmpc.mediator.host.home import Home
from didmpc.mediator.limits import KIB, Limits
from didmpc.mediator.relay.legs import End
from didmpc.mediator.relay.legs import Leg as RelayLeg
from didmpc.mediator.relay.pace import Pace
from didmpc.mediator.relay.relay import Relay
from didmpc.mediator.store import ChannelEnd, Store
from didmpc.protocols.identity import Identity
from didmpc.protocols.messages import relay_control
from didmpc.protocols.relay import hop
from didmpc.protocols.relay.hop import ErrorCode, UnboundReason
from didmpc.protocols.session.handshake import Initiation, Party, respond
from didmpc.protocols.session.packet import PacketOpener

NewLeg = Callable[[], Awaitable[Leg]]
CREDIT = SMALL.credit_bytes


class SlowLeg:
    """A leg whose socket takes one message at a time, when it is told to."""

    def __init__(self, limits: Limits) -> None:
        me, mediator = Identity.key(), Identity.key()
        initiation = Initiation(Party.of(me), Party.of(mediator), "open", link={})
        body, established = respond(Party.of(mediator), Party.of(me), "open", initiation.body, link={})
        ours = initiation.finish(body)
        self._opener = PacketOpener(ours.secret_receive, ours.sid_in)
        self._taken: asyncio.Queue[bytes] = asyncio.Queue()
        self._may = asyncio.Semaphore(0)
        self.leg = RelayLeg(
            established,
            write=self._write,
            write_now=lambda _: None,
            has_room=lambda _: False,
            abort=lambda _: None,
            limits=limits,
            address="",
        )

    async def _write(self, packet: bytes) -> None:
        await self._may.acquire()
        self._taken.put_nowait(packet)

    async def take(self) -> hop.Frame:
        self._may.release()
        async with asyncio.timeout(PATIENCE):
            return hop.decode(self._opener.open(await self._taken.get()))


def meet(
    relay: Relay, channel: int, near: RelayLeg, far: RelayLeg, pace: Pace | None = None
) -> tuple[End, End]:
    """The two ends of a channel, bound under its number; `pace` is that of the near one."""
    ends = []
    for side, leg in enumerate((near, far)):
        end = End(leg, channel, ChannelEnd(channel, side, 0.0, b"", 1), None if side else pace)
        relay._ends[channel, side] = leg.ends[channel] = end
        ends.append(end)
    relay._connect(ends[1], ends[0])
    return ends[0], ends[1]


async def test_a_bulk_channel_starves_no_other_and_control_goes_before_both() -> None:
    limits = Limits(credit_bytes=512 * KIB)
    relay = Relay(cast(Store, None), limits)
    sender, slow = SlowLeg(limits), SlowLeg(limits)
    for each in (sender, slow):
        relay.join(each.leg)
    bulk, _ = meet(relay, 1, sender.leg, slow.leg)
    small, _ = meet(relay, 2, sender.leg, slow.leg)
    assert [await slow.take() for _ in range(2)] == [hop.Bound(1, 512 * KIB), hop.Bound(2, 512 * KIB)]
    for _ in range(100):
        pass_on(relay, sender.leg, hop.encode_data(bulk.number, bytes(5000)))
    assert await slow.take() == hop.Data(1, bytes(5000))  # and the next is on its way
    for n in range(3):
        pass_on(relay, sender.leg, hop.encode_data(small.number, bytes([n])))
    slow.leg.control(hop.encode_pong(b"12345678"))
    took = [await slow.take() for _ in range(8)]
    # One that was being written, then control, then packet by packet in turn.
    assert took[1] == hop.Pong(b"12345678")
    assert [frame.channel for frame in took if isinstance(frame, hop.Data)] == [1, 1, 2, 1, 2, 1, 2]
    for each in (sender, slow):
        relay.leave(each.leg)


async def test_small_packets_make_progress_while_bulk_fills_the_same_sockets(
    alice: Client, new_leg: NewLeg
) -> None:
    bulk, small = await alice.channels(2)
    near, far = await new_leg(), await new_leg()
    for number, channel in ((1, bulk), (2, small)):
        await near.bind(number, channel.near)
        await far.bind(number, channel.far)
        assert await near.hear() == await far.hear() == hop.Bound(number, CREDIT)
    carried = answered = 0

    async def push() -> None:
        """All of the bulk that credit allows, for ever; and one small packet at a time."""
        nonlocal answered
        credit = CREDIT
        await near.data(2, b"0")
        while answered < 100:
            while credit >= 8000:
                await near.data(1, bytes(8000))
                credit -= 8000
            match await near.hear():
                case hop.Credit(1, count):
                    credit += count
                case hop.Data(2):
                    answered += 1
                    await near.data(2, b"again")

    async def pull() -> None:
        nonlocal carried
        while True:
            match await far.hear():
                case hop.Data(1, packet):
                    carried += len(packet)
                case hop.Data(2):
                    await far.data(2, b"there")

    pulling = asyncio.create_task(pull())
    async with asyncio.timeout(60):
        await push()
    pulling.cancel()
    assert carried > CREDIT  # the bulk went on, too


# --- the rate of a channel


async def test_a_session_of_25_parties_finds_room_for_all_its_channels() -> None:
    """Even in half of the memory that is set aside by default, each party's channels at one mediator."""
    for memory in (Limits().relay_memory_bytes, Limits().relay_memory_bytes // 2):
        limits = Limits(relay_memory_bytes=memory)
        relay = Relay(cast(Store, None), limits)
        legs = [SlowLeg(limits).leg for _ in range(25)]
        pairs = [(near, far) for far in range(25) for near in range(far)]
        for channel, (near, far) in enumerate(pairs):
            ends = [
                End(legs[pid], channel, ChannelEnd(channel, side, 0.0, b"", far))
                for side, pid in enumerate((near, far))
            ]
            assert relay._credit(ends[0]), f"{channel} of {len(pairs)} channels found room"
            relay._connect(ends[1], ends[0])
        for leg in legs:
            leg.close()


async def with_rate(alice: Client, rate: int | None) -> tuple[int | None, relay_control.Channel]:
    answer = await alice.ask(relay_control.channel_create(1, int(time.time()) + 3600, rate=rate))
    (channel,) = relay_control.parse_channel_created(answer)
    return answer.body.get("rate"), channel


async def test_the_rate_that_holds_is_told_and_may_be_less(
    tmp_path: Path, http: aiohttp.ClientSession, alice: Client
) -> None:
    assert (await with_rate(alice, None))[0] is None
    assert (await with_rate(alice, 2**53 - 1))[0] == 2**53 - 1
    refused = await alice.ask(relay_control.channel_create(1, int(time.time()) + 60, rate=0))
    assert code_of(refused) == "e.p.msg.bad-body"
    limits = replace(SMALL, channel_rate=50_000)
    async with running(Home(tmp_path / "slow"), port=0, limits=limits) as mediator:
        bob = await Client(http, mediator.did).enrol()
        assert [(await with_rate(bob, rate))[0] for rate in (None, 10_000, 90_000)] == [
            50_000,
            10_000,
            50_000,
        ]


class Sender:
    """Sends as much as it has credit for, and keeps a record of the credit."""

    def __init__(self, leg: Leg, number: int) -> None:
        self.leg = leg
        self.number = number
        self.credit = self.granted = self.sent = 0
        self.since = time.monotonic()
        """No later than the mediator can have begun to count."""

    async def hear(self) -> None:
        match await self.leg.hear():
            case hop.Bound(self.number, count):
                self.credit = count
                self.granted += count
            case hop.Credit(self.number, count):
                self.credit += count
                self.granted += count
            case other:
                raise AssertionError(f"{other}")

    async def send(self, size: int) -> None:
        while self.credit < size:
            await self.hear()
        await self.leg.data(self.number, self.sent.to_bytes(8, "big") + bytes(size - 8))
        self.credit -= size
        self.sent += size

    def most(self, rate: int) -> float:
        """What may have been granted until now."""
        return CREDIT + rate * (time.monotonic() - self.since)


async def test_credit_comes_no_faster_than_the_rate_and_nothing_is_dropped(
    alice: Client, new_leg: NewLeg
) -> None:
    rate = 64 * KIB
    _, channel = await with_rate(alice, rate)
    near, far = await new_leg(), await new_leg()
    sender = Sender(near, 7)
    await far.bind(9, channel.far)
    await near.bind(7, channel.near)
    assert await far.hear() == hop.Bound(9, CREDIT)
    for position in range(0, 24 * 4096, 4096):  # half as much again as the burst
        await sender.send(4096)
        assert sender.granted <= sender.most(rate)
        assert await far.hear() == hop.Data(9, position.to_bytes(8, "big") + bytes(4088))


async def test_binding_anew_gives_no_more_than_the_rate(alice: Client, new_leg: NewLeg) -> None:
    rate = 8 * KIB
    _, channel = await with_rate(alice, rate)
    near, far = await new_leg(), await new_leg()
    sender = Sender(near, 7)
    await far.bind(9, channel.far)
    await near.bind(7, channel.near)
    await sender.hear()
    assert await far.hear() == hop.Bound(9, CREDIT)
    while sender.credit >= 8 * KIB:
        await sender.send(8 * KIB)
        await far.hear()
    for _ in range(3):
        again = await new_leg()
        again.rebind_key, sender.leg = near.rebind_key, again
        await again.bind(7, channel.near)
        await sender.hear()
        assert sender.sent + sender.credit <= sender.most(rate)
    await sender.send(8 * KIB)  # and it still gets there
    heard = [await far.hear()]
    while not isinstance(heard[-1], hop.Data):
        heard.append(await far.hear())
    assert all(isinstance(frame, hop.Unbound | hop.Bound | hop.Data) for frame in heard)


async def test_credit_does_not_overtake_the_bound_that_would_void_it() -> None:
    limits = Limits(credit_bytes=512 * KIB)
    relay = Relay(cast(Store, None), limits)
    sender, far = SlowLeg(limits), SlowLeg(limits)
    for each in (sender, far):
        relay.join(each.leg)
    sender.leg.control(hop.encode_pong(b"12345678"))
    await asyncio.sleep(0)  # it is being written
    pace = Pace(1 << 24, 512 * KIB, time.monotonic())
    pace.spend(512 * KIB, time.monotonic())
    end, _ = meet(relay, 1, sender.leg, far.leg, pace)
    while pace.level(time.monotonic()) - end.allowance < pace.piece:
        await asyncio.sleep(0.001)
    end.pay()
    first, second, third = [await sender.take() for _ in range(3)]
    assert first == hop.Pong(b"12345678")
    assert isinstance(second, hop.Bound)
    assert isinstance(third, hop.Credit)
    for each in (sender, far):
        relay.leave(each.leg)


async def test_both_ends_keep_their_credit_however_often_one_is_bound_anew(
    alice: Client, new_leg: NewLeg
) -> None:
    """The end that stayed may have forgotten credit, which must not count against its rate for ever."""
    rate = 256 * KIB
    _, channel = await with_rate(alice, rate)
    near, far = await new_leg(), await new_leg()
    await near.bind(7, channel.near)
    for _ in range(5):
        await far.bind(9, channel.far)
        assert isinstance(await far.hear(), hop.Bound)
        sender = Sender(near, 7)
        while not sender.granted:
            match await near.hear():
                case hop.Bound(7, count):
                    sender.credit, sender.granted = count, count or 1
        for _ in range(20):
            await sender.send(4096)
            while not isinstance(await far.hear(), hop.Data):
                pass


def test_a_pace_grows_to_its_burst_and_may_be_overdrawn() -> None:
    pace = Pace(rate=100, burst=8000, now=0.0)
    assert (pace.level(0.0), pace.level(1000.0), pace.is_full(0.0)) == (8000, 8000, True)
    pace.spend(9000, 0.0)
    assert (pace.level(0.0), pace.level(10.0), pace.is_full(89.0)) == (-1000, 0, False)
    assert pace.seconds_until(1000, 0.0) == 20.0
    assert pace.is_full(90.0)
    assert pace.seconds_until(0, 1000.0) == 0.0
    assert [Pace(rate, 8000, 0.0).piece for rate in (1, 100, 10_000, 10**9)] == [1024, 1024, 1250, 2000]


async def test_paces_of_channels_that_nobody_uses_are_forgotten() -> None:
    relay = Relay(cast(Store, None), Limits())
    pace = relay._pace((1, 0), 1 << 40)
    assert pace is not None and relay._pace((1, 0), 1 << 40) is pace
    pace.spend(10, time.monotonic() + 3600)  # not full for an hour
    relay.expire(0.0)
    assert relay._paces
    relay._paces[1, 0] = Pace(1, 1, 0.0)
    relay.expire(0.0)
    assert not relay._paces


async def test_both_ends_are_told_when_a_channel_expires() -> None:
    relay = Relay(cast(Store, None), Limits())
    legs = [SlowLeg(Limits()) for _ in range(2)]
    for each in legs:
        relay.join(each.leg)
    meet(relay, 1, legs[0].leg, legs[1].leg)  # it has expired long ago, and was not swept yet
    for each in legs:
        assert isinstance(await each.take(), hop.Bound)
    relay.expire(time.time())
    for each in legs:
        assert await each.take() == hop.Unbound(1, UnboundReason.EXPIRED)
        relay.leave(each.leg)
    assert relay.channel_count == 0


# --- a mediator that is killed


async def test_a_killed_mediator_knows_whose_the_ends_are(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    process = await Process(tmp_path / "m").start("--port", "0")
    alice = await Client(http, process.ready["did"]).enrol()
    (channel,) = await alice.channels()
    async with AsyncExitStack() as stack:

        async def new_leg() -> Leg:
            ws = await stack.enter_async_context(http.ws_connect(alice.ws_url, compress=0))
            return await Leg(ws).open(process.ready["did"])

        near, far = await new_leg(), await new_leg()
        await near.bind(1, channel.near)
        await far.bind(1, channel.far)
        assert {type(await leg.hear()) for leg in (near, far)} == {hop.Bound}
        await process.stop(signal.SIGKILL)
        process = await Process(tmp_path / "m").start()
        thief = await new_leg()
        for capability in (channel.near, channel.far):
            await thief.bind(1, capability)
            assert await thief.hear() == hop.Error(1, ErrorCode.WRONG_REBIND_KEY)
        back = []
        for former, capability in ((near, channel.near), (far, channel.far)):
            leg = await new_leg()
            leg.rebind_key = former.rebind_key
            back.append((leg, capability))
        for leg, capability in reversed(back):
            await leg.bind(1, capability)
        assert {type(await leg.hear()) for leg, _ in back} == {hop.Bound}
        await back[0][0].data(1, b"goes on")
        assert await back[1][0].hear() == hop.Data(1, b"goes on")
    await process.stop(signal.SIGTERM)
