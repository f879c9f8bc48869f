"""Both versions of coordinate-mediation and of message pickup, on one account and one mailbox."""

import time

import aiohttp
import pytest
from mediator_parts import Client, Line, code_of

from didmpc.mediator.app import Running
from didmpc.protocols.identity import Identity
from didmpc.protocols.message import Message
from didmpc.protocols.messages import discover_features, mediation, pickup, problem_report

V2, V3 = mediation.V2, mediation.V3


async def register(client: Client, did: str, version: mediation.Version) -> str:
    answer = await client.ask(mediation.keylist_update([(did, "add")], version=version))
    assert answer.type == version.update_response
    (outcome,) = mediation.parse_keylist_update_response(answer)
    return outcome.result


@pytest.mark.parametrize(("first", "then"), [(V2, V3), (V3, V2), (V3, V3)])
async def test_an_account_of_one_version_is_one_of_the_other(
    mediator: Running, http: aiohttp.ClientSession, first: mediation.Version, then: mediation.Version
) -> None:
    client = Client(http, mediator.did)
    grant = await client.ask(mediation.mediate_request(version=first))
    assert grant.type == first.grant
    assert grant.body["routing_did"] == ([mediator.did] if first is V3 else mediator.did)
    did, second = Identity.peer4().did, Identity.peer4().did
    assert await register(client, did, then) == "success"
    assert await register(client, did, first) == "no_change"
    assert await register(client, second, first) == "success"
    listing = await client.ask(mediation.keylist_query(mediation.Page(1, 1), version=then))
    assert (listing.type, listing.body["pagination"]["count"]) == (then.listing, 1)
    assert listing.body[then.entries] == [{"recipient_did": second}]
    removal = await client.ask(mediation.keylist_update([(did, "remove")], version=then))
    assert mediation.parse_keylist_update_response(removal)[0].result == "success"
    again = await client.ask(mediation.mediate_request(version=then))
    assert mediation.parse_mediate_grant(again) == mediator.did


async def test_mail_is_told_of_and_given_in_the_version_that_asks(alice: Client, bob: Client) -> None:
    did, before = await alice.new_did(), time.time()
    await bob.send(did, b'{"n":1}')
    status = await alice.ask(pickup.status_request(did, version=pickup.V4))
    assert status.type == "https://didcomm.org/message-pickup/4.0/status"
    state = pickup.parse_status(status)
    assert (state.message_count, state.recipient_did, state.longest_waited_seconds) == (1, did, None)
    assert state.oldest_received_time is not None
    assert status.body["oldest_received_time"] >= int(before * 1000) - 1
    delivery = await alice.ask(pickup.delivery_request(5, version=pickup.V4))
    assert (delivery.type, delivery.thid is not None) == (pickup.V4.delivery, True)
    ((name, body),) = pickup.parse_delivery(delivery).messages
    assert body == b'{"n":1}'
    assert await alice.fetch() == [(name, body)]  # by 3.0 it is the same mail
    status = await alice.ask(pickup.messages_received([name], version=pickup.V4))
    assert pickup.parse_status(status).message_count == 0
    assert await alice.waiting() == 0


async def test_where_there_is_nothing_4_0_delivers_nothing_and_3_0_says_so(alice: Client) -> None:
    did = await alice.new_did()
    empty = await alice.ask(pickup.delivery_request(5, did, version=pickup.V4))
    assert (empty.type, empty.attachments, empty.body) == (pickup.V4.delivery, (), {"recipient_did": did})
    assert (await alice.ask(pickup.delivery_request(5, did))).type == pickup.STATUS


async def go_live(line: Line, version: pickup.Version) -> pickup.Status:
    answer = await line.ask(pickup.live_delivery_change(True, version=version))
    assert answer.type == version.status
    return pickup.parse_status(answer)


@pytest.mark.parametrize("version", pickup.VERSIONS, ids=["3.0", "4.0"])
async def test_a_push_is_in_the_version_that_switched_live_mode_on(
    alice: Client, bob: Client, version: pickup.Version
) -> None:
    did = await alice.new_did()
    async with alice.line() as line:
        assert (await go_live(line, version)).live_delivery
        await bob.send(did, b'{"n":1}')
        push = await line.hear()
        assert (push.type, push.thid) == (version.delivery, None)
        ((name, body),) = pickup.parse_delivery(push).messages
        assert body == b'{"n":1}'
        assert await alice.waiting() == 1  # held until it is acknowledged
        await line.tell(pickup.messages_received([name], version=version))
        assert (await line.hear()).type == version.status
        assert await alice.waiting() == 0


async def test_a_4_0_push_that_was_not_acknowledged_is_there_to_be_requested(
    alice: Client, bob: Client
) -> None:
    did = await alice.new_did()
    async with alice.line() as line:
        await go_live(line, pickup.V4)
        await bob.send(did, b'{"n":1}')
        pushed = pickup.parse_delivery(await line.hear())
    async with alice.line() as line:
        again = await line.ask(pickup.delivery_request(5, version=pickup.V4))
        assert pickup.parse_delivery(again) == pushed


async def test_live_mode_of_4_0_needs_a_websocket_too(alice: Client) -> None:
    answer = await alice.ask(pickup.live_delivery_change(True, version=pickup.V4))
    assert code_of(answer) == "e.m.live-mode-not-supported"


async def test_everything_that_is_spoken_is_disclosed(alice: Client) -> None:
    query = discover_features.queries([discover_features.Query("protocol", "https://didcomm.org/*")])
    disclosed = discover_features.parse_disclose(await alice.ask(query))
    spoken = {feature.id.removeprefix("https://didcomm.org/") for feature in disclosed}
    assert spoken >= {
        *("coordinate-mediation/2.0", "coordinate-mediation/3.0", "messagepickup/3.0", "message-pickup/4.0"),
        *("routing/2.0", "trust-ping/2.0", "discover-features/2.0", "report-problem/2.0", "out-of-band/2.0"),
        *("basicmessage/2.0", "empty/1.0"),
    }


async def test_a_wrong_version_is_refused_by_name(alice: Client) -> None:
    for protocol in ("coordinate-mediation/4.0/mediate-request", "message-pickup/3.0/status-request"):
        answer = await alice.ask(Message(type=f"https://didcomm.org/{protocol}"))
        assert problem_report.parse(answer).code == "e.p.msg.unsupported"
