"""What the hop and its channels do where section 13 of docs/session-extension.md says so."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from mediator_parts import PATIENCE, Client, Leg, code_of

from didmpc.mediator.app import Running
from didmpc.protocols.messages import relay_control
from didmpc.protocols.relay import hop
from didmpc.protocols.relay.hop import ErrorCode, UnboundReason

NewLeg = Callable[[], Awaitable[Leg]]


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x02",
        hop.encode_bind(hop.Bind(1, bytes(32), bytes(32), bytes(64)))[:-1],
        hop.HEADER.pack(9, 1),
        hop.encode_ping(b"1234567"),
        hop.HEADER.pack(7, 1) + bytes(8),
        hop.encode_bound(1, 1),
        hop.encode_unbound(1, UnboundReason.LEFT),
        hop.encode_credit(1, 1),
        hop.encode_error(1, ErrorCode.EXPIRED),
    ],
)
async def test_a_frame_that_is_malformed_or_the_mediators_ends_the_hop(new_leg: NewLeg, frame: bytes) -> None:
    leg = await new_leg()
    await leg.send(frame)
    closed = await leg.ws.receive(timeout=PATIENCE)
    assert closed.data == aiohttp.WSCloseCode.POLICY_VIOLATION


async def test_another_open_on_the_socket_puts_a_new_hop_in_place_with_nothing_bound(
    alice: Client, new_leg: NewLeg, mediator: Running
) -> None:
    (channel,) = await alice.channels()
    near, far = await new_leg(), await new_leg()
    await far.bind(9, channel.far)
    await near.bind(7, channel.near)
    assert isinstance(await near.hear(), hop.Bound)
    assert isinstance(await far.hear(), hop.Bound)
    anew = await Leg(near.ws).open(mediator.did)
    assert await far.hear() == hop.Unbound(9, UnboundReason.LEFT)
    await anew.data(7, b"?")
    assert await anew.hear() == hop.Error(7, ErrorCode.NOT_BOUND)
    anew.rebind_key = near.rebind_key
    await anew.bind(7, channel.near)
    assert isinstance(await anew.hear(), hop.Bound)


async def test_an_expired_channel_is_bound_no_more(alice: Client, new_leg: NewLeg) -> None:
    answer = await alice.ask(relay_control.channel_create(1, int(time.time()) + 3))
    (channel,) = relay_control.parse_channel_created(answer)
    leg = await new_leg()
    heard: hop.Frame | None = None
    while heard != hop.Error(1, ErrorCode.EXPIRED):
        await leg.bind(1, channel.near)
        await leg.send(hop.encode_ping(b"12345678"))
        while (frame := await leg.hear()) != hop.Pong(b"12345678"):
            heard = frame
        await asyncio.sleep(0.1)


async def test_near_and_far_stand_for_one_end_each(alice: Client, new_leg: NewLeg) -> None:
    (channel,) = await alice.channels()
    one, other = await new_leg(), await new_leg()
    await one.bind(1, channel.near)
    await other.bind(1, channel.near)  # not the other end, and not with another key
    assert await other.hear() == hop.Error(1, ErrorCode.WRONG_REBIND_KEY)
    await one.bind(2, channel.far)  # both may be one's own
    assert {type(await one.hear()) for _ in range(2)} == {hop.Bound}
    await one.data(1, b"to myself")
    assert await one.hear() == hop.Data(2, b"to myself")


async def test_channels_are_created_once_by_one_envelope(alice: Client) -> None:
    request = alice.pack(relay_control.channel_create(1, int(time.time()) + 60), return_route="all")
    _, first = await alice.post(request)
    assert alice.unpack(first).message.type == relay_control.CHANNEL_CREATED
    _, second = await alice.post(request)
    assert code_of(alice.unpack(second).message) == "e.p.crypto.message.dejavu"
