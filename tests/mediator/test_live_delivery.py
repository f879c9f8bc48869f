"""Live delivery on a WebSocket: leases, acknowledgements, lost sockets."""

import asyncio

import aiohttp
from mediator_parts import PATIENCE, SHORT_WHILE, Client, Line

from didmpc.protocols.identity import Identity
from didmpc.protocols.message import Message
from didmpc.protocols.messages import mediation, pickup, problem_report, trust_ping


async def pushes(line: Line, count: int) -> list[tuple[str, bytes]]:
    """So many pushed messages, whatever statuses come in between."""
    mail: list[tuple[str, bytes]] = []
    while len(mail) < count:
        message = await line.hear()
        if message.type == pickup.DELIVERY:
            mail.extend(pickup.parse_delivery(message).messages)
    return mail


async def requested(line: Line, limit: int = 50) -> list[tuple[str, bytes]]:
    answer = await line.ask(pickup.delivery_request(limit))
    return list(pickup.parse_delivery(answer).messages) if answer.type == pickup.DELIVERY else []


async def test_what_waited_is_there_to_be_requested_and_what_comes_is_pushed(
    alice: Client, bob: Client
) -> None:
    did = await alice.new_did()
    await bob.send(did, b'{"n":1}', b'{"n":2}')
    async with alice.line() as line:
        status = await line.go_live()
        assert (status.live_delivery, status.message_count) == (True, 2)
        await bob.send(did, b'{"n":3}')
        assert [body for _, body in await line.pushed()] == [b'{"n":3}']
        assert [body for _, body in await requested(line)] == [b'{"n":1}', b'{"n":2}', b'{"n":3}']


async def test_pushed_mail_stays_queued_and_can_be_requested_on_the_next_socket(
    alice: Client, bob: Client
) -> None:
    did = await alice.new_did()
    async with alice.line() as line:
        await line.go_live()
        await bob.send(did, b'{"n":1}')
        first = await line.pushed()
    async with alice.line() as line:
        assert (await line.go_live()).message_count == 1
        assert await requested(line) == first
        await line.acknowledge(first[0][0])
        assert (await line.hear()).type == pickup.STATUS
    async with alice.line() as line:
        assert (await line.go_live()).message_count == 0
        assert await line.stays_silent()


async def test_two_sockets_share_the_mail_and_none_gets_it_twice(alice: Client, bob: Client) -> None:
    did = await alice.new_did()
    async with alice.line() as one, alice.line() as other:
        await one.go_live()
        await other.go_live()
        for n in range(6):
            await bob.send(did, f'{{"n":{n}}}'.encode())
        got: list[bytes] = []

        async def read(line: Line) -> None:
            while True:
                mail = await line.pushed()
                got.extend(body for _, body in mail)

        readers = [asyncio.create_task(read(line)) for line in (one, other)]
        async with asyncio.timeout(PATIENCE):
            while len(got) < 6:
                await asyncio.sleep(0.01)
        await asyncio.sleep(SHORT_WHILE)  # in which nothing comes twice
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        assert sorted(got) == [f'{{"n":{n}}}'.encode() for n in range(6)]


async def test_mail_of_a_socket_that_ends_goes_to_the_one_that_is_left(alice: Client, bob: Client) -> None:
    did = await alice.new_did()
    async with alice.line() as left:
        async with alice.line() as lost:
            await lost.go_live()
            await bob.send(did, b'{"n":1}')
            leased = await lost.pushed()
            await left.go_live()
            assert await left.stays_silent()
        assert await left.pushed() == leased


async def test_a_client_that_does_not_acknowledge_gets_a_bounded_share(alice: Client, bob: Client) -> None:
    did = await alice.new_did()
    async with alice.line() as line:
        await line.go_live()
        for n in range(10):
            await bob.send(did, f'{{"n":{n}}}'.encode())
        mail = await pushes(line, 6)
        assert [len(mail), await line.stays_silent()] == [6, True]
        await line.acknowledge(*(name for name, _ in mail[:4]))
        mail += await pushes(line, 4)
        assert [body for _, body in mail] == [f'{{"n":{n}}}'.encode() for n in range(10)]


async def test_acknowledging_over_http_makes_room_too(alice: Client, bob: Client) -> None:
    did = await alice.new_did()
    async with alice.line() as line:
        await line.go_live()
        for n in range(8):
            await bob.send(did, f'{{"n":{n}}}'.encode())
        mail = await pushes(line, 6)
        await alice.acknowledge(*(name for name, _ in mail))
        assert len(await pushes(line, 2)) == 2


async def test_a_poll_leaves_out_what_is_on_its_way_to_a_socket(alice: Client, bob: Client) -> None:
    did = await alice.new_did()
    async with alice.line() as line:
        await line.go_live()
        await bob.send(did, b'{"n":1}')
        leased = await line.pushed()
        assert await alice.fetch() == []
        again = await line.ask(pickup.delivery_request(5))  # on its own socket it may ask again
        assert list(pickup.parse_delivery(again).messages) == leased


async def test_switched_off_nothing_is_pushed_any_more(alice: Client, bob: Client) -> None:
    did = await alice.new_did()
    async with alice.line() as line:
        await line.go_live()
        off = pickup.parse_status(await line.ask(pickup.live_delivery_change(False)))
        assert not off.live_delivery
        await bob.send(did, b'{"n":1}')
        assert await line.stays_silent()


async def test_the_text_true_switches_on_too(alice: Client) -> None:
    async with alice.line() as line:
        change = Message(type=pickup.LIVE_DELIVERY_CHANGE, body={"live_delivery": "true"})
        assert pickup.parse_status(await line.ask(change)).live_delivery


async def test_return_route_is_said_once_per_socket(alice: Client) -> None:
    async with alice.line() as line:
        await line.tell(trust_ping.ping("", ""), return_route=None)
        assert await line.stays_silent()
        assert (await line.ask(trust_ping.ping("", ""))).type == trust_ping.PING_RESPONSE
        await line.tell(trust_ping.ping("", ""), return_route=None)
        assert (await line.hear()).type == trust_ping.PING_RESPONSE
        await line.tell(trust_ping.ping("", ""), return_route="none")
        assert await line.stays_silent()


async def test_return_route_thread_covers_that_thread_alone(alice: Client) -> None:
    async with alice.line() as line:
        await line.tell(trust_ping.ping("", ""), return_route="thread", thid="t1")
        assert (await line.hear()).thread == "t1"
        await line.tell(trust_ping.ping("", ""), return_route=None, thid="t2")
        assert await line.stays_silent()
        await line.tell(trust_ping.ping("", ""), return_route=None, thid="t1")
        assert (await line.hear()).thread == "t1"


async def test_binary_frames_carry_envelopes_too(alice: Client) -> None:
    async with alice.line() as line:
        await line.ws.send_bytes(alice.pack(trust_ping.ping("", ""), return_route="all"))
        assert (await line.hear()).type == trust_ping.PING_RESPONSE


async def test_a_forward_that_fails_on_a_websocket_does_not_vanish_silently(bob: Client) -> None:
    async with bob.line() as line:
        await line.ws.send_str(bob.forward(Identity.peer4().did, b"{}").decode())
        report = problem_report.parse(await line.hear())
        assert report.code == "e.p.req.not_enroll"


async def test_one_bad_message_does_not_end_the_socket_but_many_do(alice: Client) -> None:
    async with alice.line() as line:
        await line.ws.send_str("{}")
        assert (await line.hear()).type == problem_report.PROBLEM_REPORT
        assert (await line.ask(mediation.mediate_request())).type == mediation.MEDIATE_GRANT
        await line.ws.send_str("nonsense")
        assert (await line.hear()).type == problem_report.PROBLEM_REPORT
        await line.ws.send_bytes(b"\x01nonsense")
        assert (await line.hear()).type == problem_report.PROBLEM_REPORT
        closed = await line.ws.receive(timeout=PATIENCE)
        assert (closed.type, closed.data) == (aiohttp.WSMsgType.CLOSE, aiohttp.WSCloseCode.POLICY_VIOLATION)
        assert closed.extra  # says why


async def test_a_message_larger_than_the_limit_ends_the_socket(alice: Client) -> None:
    async with alice.line() as line:
        await line.ws.send_str("{" + " " * 300_000)
        closed = await line.ws.receive(timeout=PATIENCE)
        assert (closed.type, closed.data) == (aiohttp.WSMsgType.CLOSE, aiohttp.WSCloseCode.MESSAGE_TOO_BIG)
        assert "larger" in (closed.extra or "")


async def test_a_live_request_played_again_on_another_socket_does_nothing(alice: Client, bob: Client) -> None:
    did = await alice.new_did()
    request = alice.pack(pickup.live_delivery_change(True), return_route="all").decode()
    async with alice.line() as line, alice.line() as eavesdropper:
        await line.ws.send_str(request)
        await line.hear()
        await eavesdropper.ws.send_str(request)
        assert problem_report.parse(await eavesdropper.hear()).code == "e.p.crypto.message.dejavu"
        await bob.send(did, b'{"n":1}')
        assert len(await line.pushed()) == 1
        assert await eavesdropper.stays_silent()


async def test_many_requests_at_once_and_a_live_socket_get_every_message(alice: Client, bob: Client) -> None:
    """Requests wait for each other, and mail is leased and acknowledged meanwhile."""
    did = await bob.new_did()
    async with bob.line() as live, asyncio.TaskGroup() as group:
        await live.go_live()

        async def acknowledge() -> set[str]:
            seen: set[str] = set()
            while len(seen) < 10:
                message = await live.hear()
                if message.type == pickup.DELIVERY:
                    names = [name for name, _ in pickup.parse_delivery(message).messages]
                    seen.update(names)
                    await live.acknowledge(*names)
            return seen

        pushed = group.create_task(acknowledge())
        for number in range(10):
            group.create_task(alice.send(did, b'{"n": %d}' % number))
            group.create_task(bob.fetch())
    assert len(pushed.result()) == 10
