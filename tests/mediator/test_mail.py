"""Mail over HTTP: accounts, key lists, forwards and pickup."""

import asyncio
import json
import time
from pathlib import Path

import aiohttp
import pytest
from mediator_parts import PATIENCE, Client, code_of, in_short_form

from didmpc.mediator.app import Running, running
from didmpc.mediator.host.home import Home
from didmpc.mediator.limits import Limits
from didmpc.protocols.did import Service, canonical
from didmpc.protocols.envelope import pack_anoncrypt, pack_signed, unpack
from didmpc.protocols.identity import Identity
from didmpc.protocols.message import Attachment, Message
from didmpc.protocols.messages import discover_features, empty, mediation, pickup, problem_report, trust_ping
from didmpc.protocols.messages.routing import FORWARD, forward, route


async def test_a_grant_names_the_mediator_as_routing_did(alice: Client, mediator: Running) -> None:
    grant = await alice.ask(mediation.mediate_request())
    assert mediation.parse_mediate_grant(grant) == mediator.did


async def test_what_is_routed_to_a_registered_did_is_picked_up_byte_for_byte(
    alice: Client, bob: Client
) -> None:
    recipient = Identity.peer4((Service(alice.mediator.did),))
    await alice.register(recipient.did)
    envelope = pack_anoncrypt(trust_ping.ping(bob.identity.did, recipient.did), recipient.document)
    outbound = route(envelope, recipient.document)
    assert outbound.uri == alice.url
    assert await bob.post(outbound.envelope) == (202, b"")
    ((_, body),) = await alice.fetch()
    assert body == envelope


@pytest.mark.parametrize("spelling", ["long", "short", "kid"])
async def test_a_peer4_did_gets_its_mail_in_whichever_form_it_is_named(
    alice: Client, bob: Client, spelling: str
) -> None:
    did = await alice.new_did()
    name = {"long": did, "short": canonical(did), "kid": f"{canonical(did)}#key-1"}[spelling]
    assert await bob.send(name, b'{"n":1}') == 202
    assert [body for _, body in await alice.fetch()] == [b'{"n":1}']


async def test_several_attachments_are_kept_in_order(alice: Client, bob: Client) -> None:
    did = await alice.new_did()
    await bob.send(did, b'{"n":1}', b'{"n":2}')
    await bob.send(did, b'{"n":3}')
    assert [body for _, body in await alice.fetch()] == [b'{"n":1}', b'{"n":2}', b'{"n":3}']


async def test_a_base64_attachment_keeps_its_very_bytes(alice: Client, bob: Client) -> None:
    did, odd = await alice.new_did(), b' {"a" :1,\n"b": 1e2 } '
    message = Message(
        type=FORWARD,
        to=(bob.mediator.did,),
        body={"next": did},
        attachments=(Attachment(data_base64=odd),),
    )
    await bob.post(pack_anoncrypt(message, bob.mediator))
    assert [body for _, body in await alice.fetch()] == [odd]


async def test_mail_stays_until_it_is_acknowledged_and_is_then_gone(alice: Client, bob: Client) -> None:
    did = await alice.new_did()
    await bob.send(did, b'{"n":1}')
    ((name, _),) = await alice.fetch()
    assert await alice.fetch() == [(name, b'{"n":1}')]
    await alice.acknowledge(name, "not-an-id", "999999")
    assert await alice.waiting() == 0
    assert await alice.fetch() == []


async def test_the_same_envelope_twice_is_one_entry(alice: Client, bob: Client) -> None:
    did = await alice.new_did()
    envelope = bob.forward(did, b'{"n":1}')
    assert [(await bob.post(envelope))[0] for _ in range(2)] == [202, 202]
    assert await bob.send(did, b'{"n":1}') == 202  # wrapped anew, as a sender does that tries again
    assert await alice.waiting() == 1


async def test_a_forward_to_nobody_is_refused_and_says_why(bob: Client) -> None:
    status, body = await bob.post(bob.forward(Identity.peer4().did, b"{}"))
    assert status == 404
    assert json.loads(body)["code"] == "e.p.req.not_enroll"


async def test_an_anonymous_sender_that_asks_gets_a_signed_report(bob: Client) -> None:
    message = forward(Identity.peer4().did, [b"{}"], bob.mediator.did)
    asking = Message(**{**_fields(message), "return_route": "all"})
    status, body = await bob.post(pack_anoncrypt(asking, bob.mediator))
    assert status == 404
    unpacked = unpack(body, bob.secrets)
    assert unpacked.signer == bob.mediator.did
    assert code_of(unpacked.message) == "e.p.req.not_enroll"
    assert unpacked.message.pthid == asking.id


async def test_only_accounts_may_use_key_lists_and_mailboxes(
    mediator: Running, alice: Client, bob: Client
) -> None:
    stranger = Client(bob.http, mediator.did)
    for request in (
        mediation.keylist_update([(stranger.identity.did, "add")]),
        mediation.keylist_query(),
        pickup.status_request(),
        pickup.delivery_request(1),
        pickup.messages_received(["1"]),
    ):
        assert code_of(await stranger.ask(request)) == "e.p.req.not_enroll"


async def test_a_binding_is_exclusive_and_others_mail_is_out_of_reach(alice: Client, bob: Client) -> None:
    did = await alice.new_did()
    assert await bob.register(did) == ["client_error"]
    await bob.send(did, b'{"n":1}')
    ((name, _),) = await alice.fetch()
    await bob.acknowledge(name)
    stolen = await bob.ask(pickup.delivery_request(5, recipient_did=did))
    assert pickup.parse_status(stolen).message_count == 0
    removal = await bob.ask(mediation.keylist_update([(did, "remove")]))
    assert mediation.parse_keylist_update_response(removal)[0].result == "no_change"
    assert await alice.waiting() == 1


async def test_a_removed_key_takes_no_mail_any_more(alice: Client, bob: Client) -> None:
    did = await alice.new_did()
    await bob.send(did, b"{}")
    await alice.ask(mediation.keylist_update([(canonical(did), "remove")]))
    assert await bob.send(did, b"{}") == 404
    assert await alice.waiting() == 0
    assert await bob.register(did) == ["success"]  # free for others


async def test_the_key_list_comes_in_pages(alice: Client) -> None:
    dids = [await alice.new_did() for _ in range(3)]
    page = mediation.Page(limit=2, offset=1)
    keylist = mediation.parse_keylist(await alice.ask(mediation.keylist_query(page)))
    assert (list(keylist.recipient_dids), keylist.remaining) == (dids[1:], 0)


async def test_a_key_list_update_that_is_played_again_does_nothing(alice: Client, bob: Client) -> None:
    did = await alice.new_did()
    removal = alice.pack(mediation.keylist_update([(did, "remove")]), return_route="all")
    await alice.post(removal)
    assert await alice.register(did) == ["success"]
    _, body = await alice.post(removal)
    assert code_of(alice.unpack(body).message) == "e.p.crypto.message.dejavu"
    assert await bob.send(did, b"{}") == 202


async def test_status_and_delivery_for_one_did_leave_the_others_out(alice: Client, bob: Client) -> None:
    first, second = await alice.new_did(), await alice.new_did()
    await bob.send(first, b'{"n":1}')
    await bob.send(second, b'{"n":2}')
    delivery = await alice.ask(pickup.delivery_request(5, recipient_did=second))
    parsed = pickup.parse_delivery(delivery)
    assert parsed.recipient_did == second
    assert [body for _, body in parsed.messages] == [b'{"n":2}']
    status = pickup.parse_status(await alice.ask(pickup.status_request(recipient_did=first)))
    assert (status.message_count, status.total_bytes) == (1, 7)


async def test_expired_mail_and_expired_messages_are_not_delivered(alice: Client, bob: Client) -> None:
    did, now = await alice.new_did(), int(time.time())
    assert await bob.send(did, b"{}", expires_time=now - 1) == 400
    assert await bob.send(did, b"{}", expires_time=now + 3600) == 202
    old = trust_ping.ping("", "")
    assert code_of(await alice.ask(old, created_time=now - 40 * 24 * 3600)) == "e.p.msg.expired"
    assert await alice.waiting() == 1


async def test_a_full_mailbox_refuses_with_a_time_to_try_again(alice: Client, bob: Client) -> None:
    did, other = await alice.new_did(), await alice.new_did()
    for n in range(12):
        assert await bob.send(did, f'{{"n":{n}}}'.encode()) == 202
    async with bob.http.post(
        bob.url, data=bob.forward(did, b"{}"), headers={"Content-Type": "application/json"}
    ) as response:
        assert response.status == 429
        assert int(response.headers["Retry-After"]) > 0
    assert await bob.send(other, b"{}") == 202
    assert await alice.waiting() == 13


async def test_delayed_mail_is_not_there_before_its_time(alice: Client, bob: Client) -> None:
    did = await alice.new_did()
    assert await bob.send(did, b'{"n":1}', delay_milli=3_600_000) == 202
    assert await bob.send(did, b'{"n":2}', delay_milli=-1) == 202
    assert await bob.send(did, b'{"n":1}') == 202  # the same again: the first delay holds
    async with asyncio.timeout(PATIENCE):
        while not (mail := await alice.fetch()):
            await asyncio.sleep(0.01)
    assert [body for _, body in mail] == [b'{"n":2}']
    assert await alice.waiting() == 1


async def test_one_address_or_did_fills_its_share_of_a_mailbox_and_no_more(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with running(Home(tmp_path / "m"), port=0, limits=Limits(pair_messages=2)) as mediator:
        alice, bob, carol = [await Client(http, mediator.did).enrol() for _ in range(3)]
        did, other = await alice.new_did(), await alice.new_did()
        assert [await bob.send(did, b'{"n":%d}' % n) for n in range(3)] == [202, 202, 429]
        assert await carol.send(did, b'{"n":4}') == 429  # from the same address, and as anonymous
        status, body = await carol.post(carol.forward(did, b'{"n":4}'))
        assert (status, json.loads(body)["code"]) == (429, "e.p.me.res.storage.sender_quota")
        assert await bob.send(other, b'{"n":5}') == 202
        message = forward(did, [b'{"n":6}'], carol.mediator.did)
        assert (await carol.post(carol.pack(message)))[0] == 202  # by name, she has a share of her own
        await alice.fetch(1)
        assert await bob.send(did, b'{"n":7}') == 202  # delivered mail is no longer his
        assert await bob.send(did, b'{"n":8}') == 429


async def test_too_many_keys_are_refused(alice: Client) -> None:
    dids = [Identity.peer4().did for _ in range(5)]
    assert await alice.register(*dids) == ["success"] * 4 + ["client_error"]


@pytest.mark.parametrize("size", [150_000, 300_000])
async def test_what_is_too_large_is_refused_with_413(alice: Client, bob: Client, size: int) -> None:
    did = await alice.new_did()
    status, body = await bob.post(bob.forward(did, b'{"x":"' + b"x" * size + b'"}'))
    assert status == 413
    assert json.loads(body)["code"] == "e.p.me.res.storage.message_too_big"


async def test_live_mode_needs_a_websocket(alice: Client) -> None:
    answer = await alice.ask(pickup.live_delivery_change(True))
    assert code_of(answer) == "e.m.live-mode-not-supported"


async def test_without_return_route_there_is_no_reply(alice: Client) -> None:
    assert await alice.post(alice.pack(trust_ping.ping("", ""), return_route=None)) == (202, b"")


async def test_return_route_thread_brings_the_reply_of_this_thread(alice: Client) -> None:
    ping = trust_ping.ping(alice.identity.did, alice.mediator.did)
    status, body = await alice.post(alice.pack(ping, return_route="thread"))
    assert status == 200
    assert alice.unpack(body).message.thread == ping.id


async def test_features_are_disclosed(alice: Client) -> None:
    query = discover_features.queries(
        [discover_features.Query("protocol"), discover_features.Query("constraint")]
    )
    features = discover_features.parse_disclose(await alice.ask(query))
    found = {feature.id: feature.value for feature in features}
    assert "https://w3id.org/didmpc/relay/1.0" in found
    assert "https://w3id.org/didmpc/session/1.0" in found
    assert "https://didcomm.org/messagepickup/3.0" in found
    assert found["max_receive_bytes"] == str(256 * 1024)


async def test_a_higher_minor_version_is_understood(alice: Client) -> None:
    ping = Message(type="https://didcomm.org/trust-ping/2.7/ping")
    assert (await alice.ask(ping)).type == trust_ping.PING_RESPONSE


async def test_an_account_is_known_by_its_short_form_after_a_while(alice: Client, mediator: Running) -> None:
    fresh = Client(alice.http, mediator.did)
    fresh.identity = in_short_form(alice.identity)
    fresh.secrets.add(alice.identity)
    assert (await fresh.ask(pickup.status_request())).type == pickup.STATUS


async def test_an_unknown_message_type_is_refused_by_name(alice: Client) -> None:
    answer = await alice.ask(Message(type="https://example.org/chess/1.0/move"))
    assert code_of(answer) == "e.p.msg.unsupported"


async def test_empty_messages_and_problem_reports_are_taken_without_a_word(alice: Client) -> None:
    report = problem_report.report(problem_report.ProblemReport("e.p.msg"))
    for message in (empty.empty(), report):
        status, body = await alice.post(alice.pack(message, return_route="all"))
        assert body == b"", status


async def test_requests_of_nobody_are_refused(alice: Client, bob: Client) -> None:
    request = Message(type=pickup.STATUS_REQUEST, to=(alice.mediator.did,))
    status, body = await alice.post(pack_anoncrypt(request, alice.mediator))
    assert status == 401
    assert json.loads(body)["code"] == "e.p.trust.crypto.unauthenticated"
    signed = Message(
        type=pickup.STATUS_REQUEST, from_=alice.identity.did, to=(alice.mediator.did,), return_route="all"
    )
    status, _ = await alice.post(pack_signed(signed, alice.identity))
    assert status == 401  # a signature can be shown by anyone, at any time


@pytest.mark.parametrize(
    "envelope",
    [b"", b"{", b"[]", b"{}", b'{"type":"x"}', b"\xff\xfe", b'{"ciphertext":1}', b"[" * 100_000],
)
async def test_what_is_no_envelope_is_refused(alice: Client, envelope: bytes) -> None:
    status, body = await alice.post(envelope)
    assert status == 400
    assert json.loads(body)["code"].startswith("e.p.")


def _fields(message: Message) -> dict[str, object]:
    return {name: getattr(message, name) for name in Message.__dataclass_fields__}
