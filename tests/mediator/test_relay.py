"""Relay channels: binding, credit, displacement, and one that does not read."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast

import aiohttp
import pytest
from mediator_parts import PATIENCE, SHORT_WHILE, Client, Leg, code_of, figures, pass_on

from didmpc.mediator.app import Running, running
from didmpc.mediator.host.home import Home
from didmpc.mediator.limits import Limits
from didmpc.mediator.relay.legs import End
from didmpc.mediator.relay.legs import Leg as RelayLeg
from didmpc.mediator.relay.relay import Relay
from didmpc.mediator.store import ChannelEnd, Store
from didmpc.protocols.envelope import pack_authcrypt
from didmpc.protocols.errors import SessionError
from didmpc.protocols.identity import Identity
from didmpc.protocols.message import Message
from didmpc.protocols.messages import discover_features, relay_control
from didmpc.protocols.messages.discover_features import Query
from didmpc.protocols.messages.empty import EMPTY
from didmpc.protocols.messages.relay_control import Channel
from didmpc.protocols.relay import hop
from didmpc.protocols.relay.hop import ErrorCode, UnboundReason
from didmpc.protocols.session import handshake
from didmpc.protocols.session.handshake import OPEN, Initiation, Party, respond

NewLeg = Callable[[], Awaitable[Leg]]
CREDIT = 64 * 1024  # of the fixture's limits


async def connected(new_leg: NewLeg, channel: Channel) -> tuple[Leg, Leg]:
    """Two legs that have the two ends of a channel as their number 7 and 9."""
    near, far = await new_leg(), await new_leg()
    await near.bind(7, channel.near)
    await near.synchronise()
    await far.bind(9, channel.far)
    assert await near.hear() == hop.Bound(7, CREDIT)
    assert await far.hear() == hop.Bound(9, CREDIT)
    return near, far


async def test_packets_pass_both_ways_unread_and_are_counted(
    alice: Client, new_leg: NewLeg, http: aiohttp.ClientSession, mediator: Running
) -> None:
    (channel,) = await alice.channels()
    near, far = await connected(new_leg, channel)
    await near.data(7, b"there")
    assert await far.hear() == hop.Data(9, b"there")
    await far.data(9, b"and back")
    assert await near.hear() == hop.Data(7, b"and back")
    counted = await figures(http, mediator.settings.url)
    assert (counted["relay_bytes_total"], counted["relay_packets_total"]) == (13, 2)


async def test_credit_comes_back_as_the_far_socket_takes_the_bytes(alice: Client, new_leg: NewLeg) -> None:
    (channel,) = await alice.channels()
    near, far = await connected(new_leg, channel)
    credit = CREDIT
    for _ in range(40):
        while credit < 10_000:
            frame = await near.hear()
            assert isinstance(frame, hop.Credit)
            credit += frame.bytes
        await near.data(7, bytes(10_000))
        credit -= 10_000
        assert await far.hear() == hop.Data(9, bytes(10_000))


async def test_more_than_the_credit_closes_the_channel(alice: Client, new_leg: NewLeg) -> None:
    (channel,) = await alice.channels()
    near, far = await connected(new_leg, channel)
    await near.data(7, bytes(CREDIT + 1))
    assert await near.hear() == hop.Error(7, ErrorCode.OVER_CREDIT)
    assert await far.hear() == hop.Unbound(9, UnboundReason.LEFT)
    await near.bind(7, channel.near)  # and may begin anew
    assert await near.hear() == hop.Bound(7, CREDIT)


async def test_one_that_does_not_read_holds_up_neither_the_other_channel_nor_memory(
    alice: Client, new_leg: NewLeg
) -> None:
    first, second = await alice.channels(2)
    near, stuck = await connected(new_leg, first)
    other = await new_leg()
    await near.bind(8, second.near)
    await other.bind(9, second.far)
    assert await near.hear() == hop.Bound(8, CREDIT)
    assert await other.hear() == hop.Bound(9, CREDIT)
    reading = stuck.ws._response.connection.transport  # type: ignore[union-attr]
    reading.pause_reading()  # type: ignore[union-attr]
    sent = granted = 0
    with pytest.raises(TimeoutError):  # until there is no more credit
        while True:
            while sent + 16_000 > CREDIT + granted:
                async with asyncio.timeout(SHORT_WHILE):
                    frame = await near.hear()
                assert isinstance(frame, hop.Credit)
                granted += frame.bytes
            await near.data(7, sent.to_bytes(8, "big") + bytes(15_992))
            sent += 16_000
    await near.data(8, b"goes on")
    assert await other.hear() == hop.Data(9, b"goes on")
    reading.resume_reading()  # type: ignore[union-attr]
    for position in range(0, sent, 16_000):  # nothing was dropped
        assert await stuck.hear() == hop.Data(9, position.to_bytes(8, "big") + bytes(15_992))


async def test_a_leg_that_leaves_and_comes_back_is_bound_again(alice: Client, new_leg: NewLeg) -> None:
    (channel,) = await alice.channels()
    near, far = await connected(new_leg, channel)
    await far.ws.close()
    assert await near.hear() == hop.Unbound(7, UnboundReason.LEFT)
    await near.data(7, b"nobody there")  # on its way before UNBOUND was read
    back = await new_leg()
    back.rebind_key = far.rebind_key
    await back.bind(1, channel.far)
    assert await near.hear() == hop.Bound(7, CREDIT)
    assert await back.hear() == hop.Bound(1, CREDIT)
    await near.data(7, b"again")
    assert await back.hear() == hop.Data(1, b"again")


async def test_what_was_sent_before_a_leg_left_still_arrives(alice: Client, new_leg: NewLeg) -> None:
    (channel,) = await alice.channels()
    near, far = await connected(new_leg, channel)
    for n in range(4):
        await near.data(7, bytes([n]) * 15_000)
    await near.ws.close()
    for n in range(4):
        assert await far.hear() == hop.Data(9, bytes([n]) * 15_000)
    assert await far.hear() == hop.Unbound(9, UnboundReason.LEFT)


async def test_a_later_bind_displaces_the_earlier_leg(alice: Client, new_leg: NewLeg) -> None:
    (channel,) = await alice.channels()
    near, far = await connected(new_leg, channel)
    again = await new_leg()
    again.rebind_key = near.rebind_key
    await again.bind(3, channel.near)
    assert await near.hear() == hop.Unbound(7, UnboundReason.DISPLACED)
    assert await far.hear() == hop.Unbound(9, UnboundReason.LEFT)
    assert await far.hear() == hop.Bound(9, CREDIT)
    assert await again.hear() == hop.Bound(3, CREDIT)
    await near.data(7, b"too late")
    await near.synchronise()  # no error: it may not have read UNBOUND yet
    await again.data(3, b"hello")
    assert await far.hear() == hop.Data(9, b"hello")


async def test_frequent_rebinding_keeps_the_other_side_in_credit(alice: Client, new_leg: NewLeg) -> None:
    (channel,) = await alice.channels()
    near, far = await connected(new_leg, channel)
    for _ in range(5):
        await far.data(9, bytes(CREDIT // 2))
        await near.bind(7, channel.near)
    heard: list[hop.Frame] = []
    while sum(isinstance(frame, hop.Bound) for frame in heard) < 5:
        heard.append(await far.hear())
    assert not [frame for frame in heard if isinstance(frame, hop.Error)]


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda bind: bind._replace(capability=bytes(32)), ErrorCode.BAD_PROOF),
        (lambda bind: bind._replace(signature=bytes(64)), ErrorCode.BAD_PROOF),
        (lambda bind: bind._replace(rebind_key=bytes(32)), ErrorCode.BAD_PROOF),
    ],
)
async def test_a_bind_without_proof_is_refused(
    alice: Client, new_leg: NewLeg, spoil: Callable[[hop.Bind], hop.Bind], code: ErrorCode
) -> None:
    (channel,) = await alice.channels()
    leg = await new_leg()
    await leg.send(hop.encode_bind(spoil(hop.bind(7, channel.near, leg.rebind_key, leg.exporter))))
    assert await leg.hear() == hop.Error(7, code)


async def test_the_proof_of_one_hop_session_is_worth_nothing_on_another(
    alice: Client, new_leg: NewLeg
) -> None:
    (channel,) = await alice.channels()
    victim, thief = await new_leg(), await new_leg()
    seen = hop.bind(7, channel.near, victim.rebind_key, victim.exporter)
    await thief.send(hop.encode_bind(seen))
    assert await thief.hear() == hop.Error(7, ErrorCode.BAD_PROOF)


async def test_nobody_binds_without_a_capability_or_with_another_key(alice: Client, new_leg: NewLeg) -> None:
    (channel,) = await alice.channels()
    near, _ = await connected(new_leg, channel)
    stranger = await new_leg()
    await stranger.bind(1, b"guess" * 6 + b"!!")
    assert await stranger.hear() == hop.Error(1, ErrorCode.UNKNOWN_CAPABILITY)
    await stranger.bind(2, channel.near)
    assert await stranger.hear() == hop.Error(2, ErrorCode.WRONG_REBIND_KEY)
    await near.synchronise()  # and is none the worse for it


async def test_numbers_are_used_once_and_bounded(alice: Client, new_leg: NewLeg) -> None:
    channels = await alice.channels(4)
    leg = await new_leg()
    for number, channel in enumerate(channels[:3]):
        await leg.bind(number, channel.near)
    await leg.bind(0, channels[3].near)
    assert await leg.hear() == hop.Error(0, ErrorCode.CHANNEL_IN_USE)
    await leg.bind(3, channels[3].near)
    assert await leg.hear() == hop.Error(3, ErrorCode.TOO_MANY_CHANNELS)


async def test_data_for_a_number_that_was_never_bound_is_an_error(new_leg: NewLeg) -> None:
    leg = await new_leg()
    await leg.data(5, b"?")
    assert await leg.hear() == hop.Error(5, ErrorCode.NOT_BOUND)


async def test_a_revoked_channel_ends_for_both(alice: Client, bob: Client, new_leg: NewLeg) -> None:
    (channel,) = await alice.channels()
    near, far = await connected(new_leg, channel)
    await bob.ask(relay_control.channel_revoke([channel.id]))  # not his
    await near.synchronise()
    assert (await alice.ask(relay_control.channel_revoke([channel.id]))).type == EMPTY
    assert await near.hear() == hop.Unbound(7, UnboundReason.REVOKED)
    assert await far.hear() == hop.Unbound(9, UnboundReason.REVOKED)
    await near.bind(7, channel.near)
    assert await near.hear() == hop.Error(7, ErrorCode.UNKNOWN_CAPABILITY)


async def test_only_accounts_get_channels_and_not_without_end(alice: Client, mediator: Running) -> None:
    stranger = Client(alice.http, mediator.did)
    answer = await stranger.ask(relay_control.channel_create(1, int(time.time()) + 60))
    assert answer.body["code"] == "e.p.req.not_enroll"
    assert len(await alice.channels(8)) == 8
    answer = await alice.ask(relay_control.channel_create(1, int(time.time()) + 60))
    assert answer.body["code"] == "e.p.me.res.quota"
    answer = await alice.ask(relay_control.channel_create(1, int(time.time()) - 1))
    assert answer.body["code"] == "e.p.msg.bad-body"


async def test_channels_do_not_outlive_the_longest_time(alice: Client) -> None:
    answer = await alice.ask(relay_control.channel_create(1, int(time.time()) + 10**9))
    assert answer.body["expires"] < time.time() + 8 * 24 * 3600


async def test_a_packet_that_is_not_authentic_ends_the_leg(new_leg: NewLeg) -> None:
    leg = await new_leg()
    packet = bytearray(leg._sealer.seal(hop.encode_ping(b"12345678")))
    packet[-1] ^= 1
    await leg.ws.send_bytes(bytes(packet))
    closed = await leg.ws.receive(timeout=PATIENCE)
    assert closed.data == aiohttp.WSCloseCode.POLICY_VIOLATION


async def test_a_packet_that_is_played_again_ends_the_leg(alice: Client, new_leg: NewLeg) -> None:
    leg = await new_leg()
    packet = leg._sealer.seal(hop.encode_ping(b"12345678"))
    await leg.ws.send_bytes(packet)
    await leg.hear()
    await leg.ws.send_bytes(packet)
    closed = await leg.ws.receive(timeout=PATIENCE)
    assert closed.data == aiohttp.WSCloseCode.POLICY_VIOLATION


async def test_an_open_is_answered_once_and_only_on_a_websocket(
    mediator: Running, bob: Client, http: aiohttp.ClientSession
) -> None:
    me = Identity.key()
    request = Message(type=OPEN, from_=me.did, to=(mediator.did,), return_route="all")
    initiation = Initiation(Party.of(me), Party.of(bob.mediator), request.id, link={})
    request.body.update(initiation.body)
    envelope = pack_authcrypt(request, me, bob.mediator)
    bob.secrets.add(me)
    _, body = await bob.post(envelope)
    assert bob.unpack(body).message.body["code"] == "e.p.session.transport"
    async with bob.line() as line:
        await line.ws.send_bytes(envelope)
        assert (await line.hear()).type.endswith("/accept")
        await line.ws.send_bytes(envelope)
        assert (await line.hear()).body["code"] == "e.p.crypto.message.dejavu"


async def test_envelopes_still_pass_on_a_socket_that_is_a_leg(alice: Client, mediator: Running) -> None:
    (channel,) = await alice.channels()
    async with alice.line() as line:
        leg = await Leg(line.ws).open(mediator.did)
        await line.go_live()
        await leg.bind(1, channel.near)
        await leg.synchronise()


async def running_with(
    tmp_path: Path, http: aiohttp.ClientSession, stack: AsyncExitStack, limits: Limits
) -> tuple[Running, Client, NewLeg]:
    mediator = await stack.enter_async_context(running(Home(tmp_path / "other"), port=0, limits=limits))

    async def new_leg() -> Leg:
        ws = await stack.enter_async_context(http.ws_connect(f"{mediator.settings.url}/ws"))
        return await Leg(ws).open(mediator.did)

    return mediator, await Client(http, mediator.did).enrol(), new_leg


async def test_memory_is_set_aside_only_where_both_ends_are_bound_and_within_the_owners_share(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    limits = Limits(
        credit_bytes=CREDIT, relay_account_bytes=2 * 2 * CREDIT, relay_memory_bytes=3 * 2 * CREDIT
    )
    async with AsyncExitStack() as stack:
        mediator, alice, new_leg = await running_with(tmp_path, http, stack, limits)
        bob, carol = await Client(http, mediator.did).enrol(), await Client(http, mediator.did).enrol()
        near, far = await new_leg(), await new_leg()
        channels = await alice.channels(20)
        for number, channel in enumerate(channels):
            await near.bind(number, channel.near)
        await near.synchronise()  # no end of them holds anything yet

        async def meets(number: int, channel: Channel) -> bool:
            await far.bind(number, channel.far)
            frame = await far.hear()
            assert frame in (hop.Bound(number, CREDIT), hop.Error(number, ErrorCode.TOO_MANY_CHANNELS))
            return isinstance(frame, hop.Bound)

        assert [await meets(n, channels[n]) for n in range(3)] == [True, True, False]
        (of_bob,), (of_carol,) = await bob.channels(), await carol.channels()
        await near.bind(100, of_bob.near)
        await near.bind(101, of_carol.near)
        await near.hear()  # Bound, for the channels above
        await near.hear()
        await near.synchronise()
        assert await meets(100, of_bob)
        assert not await meets(101, of_carol)  # nothing is left
        for _ in range(5):
            await far.bind(0, channels[0].far)  # anew: it holds what it held
            assert await far.hear() == hop.Bound(0, CREDIT)
        await alice.ask(relay_control.channel_revoke([channels[0].id]))
        assert await far.hear() == hop.Unbound(0, UnboundReason.REVOKED)
        assert await meets(101, of_carol)  # it was given back


async def test_what_still_waits_for_a_reader_counts_until_it_is_gone() -> None:
    limits = Limits(credit_bytes=CREDIT)
    relay = Relay(cast(Store, None), limits)

    def end(side: int) -> End:
        bound = End(leg_that_never_reads(limits), side, ChannelEnd(1, side, 0.0, b"", 5))
        relay._ends[1, side] = bound.leg.ends[side] = bound
        relay.join(bound.leg)
        return bound

    reader, sender = end(0), end(1)
    relay._connect(sender, reader)
    assert limits.relay_memory_bytes - relay._memory == relay._reserved[5] == 2 * CREDIT
    pass_on(relay, sender.leg, hop.encode_data(1, bytes(50_000)))
    relay.leave(sender.leg)
    assert limits.relay_memory_bytes - relay._memory == relay._reserved[5] == 50_000
    again = end(1)
    relay._connect(again, reader)
    assert again.allowance == CREDIT - 50_000
    # The reader may spend its first credit and the new one before it has read of either.
    assert relay._reserved[5] == CREDIT + 2 * CREDIT
    relay.leave(again.leg)
    relay.leave(reader.leg)
    assert (relay._memory, relay._reserved) == (limits.relay_memory_bytes, {})


async def test_legs_of_one_address_are_bounded_and_room_comes_back(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with AsyncExitStack() as stack:
        _, _, new_leg = await running_with(tmp_path, http, stack, Limits(legs_per_address=2))
        first, _ = await new_leg(), await new_leg()
        with pytest.raises(SessionError):  # it got a problem report, no accept
            await new_leg()
        await first.ws.close()
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(SessionError):
                    await new_leg()
                    break


async def test_a_leg_that_binds_nothing_is_closed_and_one_that_did_is_kept(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with AsyncExitStack() as stack:
        limits = Limits(leg_unbound_seconds=1.0)
        _, alice, new_leg = await running_with(tmp_path, http, stack, limits)
        (channel,) = await alice.channels()
        used = await new_leg()
        await used.bind(1, channel.near)
        unused = await new_leg()
        closed = await unused.ws.receive(timeout=PATIENCE)
        assert closed.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
        await asyncio.sleep(0.1)
        await used.synchronise()


async def test_a_mediator_may_relay_nothing_and_says_so(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async with running(Home(tmp_path / "other"), port=0, relays=False) as mediator:
        alice = await Client(http, mediator.did).enrol()
        answer = await alice.ask(discover_features.queries([Query("protocol", "https://w3id.org/didmpc/*")]))
        disclosed = {feature.id for feature in discover_features.parse_disclose(answer)}
        assert not disclosed & {relay_control.PROTOCOL, handshake.PROTOCOL}
        assert disclosed  # it speaks our other protocols
        refused = await alice.ask(relay_control.channel_create(1, int(time.time()) + 60))
        assert code_of(refused) == "e.p.msg.unsupported"
        async with alice.line() as line:
            opening = Message(type=OPEN, body={"hs": "e30"})
            assert code_of(await line.ask(opening)) == "e.p.msg.unsupported"


def leg_that_never_reads(limits: Limits) -> RelayLeg:
    me, mediator = Identity.key(), Identity.key()
    initiation = Initiation(Party.of(me), Party.of(mediator), "open", link={})
    _, established = respond(Party.of(mediator), Party.of(me), "open", initiation.body, link={})

    async def stuck(packet: bytes) -> None:
        await asyncio.Event().wait()

    return RelayLeg(
        established,
        write=stuck,
        write_now=lambda _: None,
        has_room=lambda _: False,
        abort=lambda _: None,
        limits=limits,
        address="",
    )


async def test_a_leg_that_only_asks_and_never_reads_is_dropped_at_a_bound() -> None:
    me, mediator = Identity.key(), Identity.key()
    initiation = Initiation(Party.of(me), Party.of(mediator), "open", link={})
    _, established = respond(Party.of(mediator), Party.of(me), "open", initiation.body, link={})
    written: list[bytes] = []
    aborted: list[str] = []

    async def stuck(packet: bytes) -> None:
        written.append(packet)
        await asyncio.Event().wait()

    leg = RelayLeg(
        established,
        write=stuck,
        write_now=lambda _: None,
        has_room=lambda _: False,
        abort=aborted.append,
        limits=Limits(leg_control_frames=8),
        address="",
    )
    for _ in range(8):
        leg.control(hop.encode_pong(b"12345678"))
    await asyncio.sleep(0)
    assert (len(written), aborted) == (1, [])
    for _ in range(2):
        leg.control(hop.encode_pong(b"12345678"))
    assert len(aborted) == 1
    leg.close()
