"""Ping, features, problem reports, mediation, pickup and relay control: built, sent, read, or refused."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.errors import MessageError
from didmpc.protocols.message import Attachment, Message
from didmpc.protocols.messages import (
    basic_message,
    discover_features,
    empty,
    mediation,
    pickup,
    problem_report,
    relay_control,
    trust_ping,
)
from didmpc.protocols.messages.discover_features import Feature, Query
from didmpc.protocols.messages.mediation import Keylist, Page, Update, Updated
from didmpc.protocols.messages.pickup import Delivery, DeliveryRequest, Status
from didmpc.protocols.messages.problem_report import ProblemReport
from didmpc.protocols.messages.relay_control import Channel, ChannelRequest
from didmpc.protocols.namespace import NAMESPACE

A, M = "did:key:zAgent", "did:key:zMediator"


def sent(message: Message) -> Message:
    """The message after its way over the wire."""
    return Message.decode(message.encode())


def asked(type: str, body: dict[str, Any] | None = None) -> Message:
    return Message(type=type, id="1", body=body or {}, from_=A, to=(M,))


def answers(reply: Message, request: Message) -> bool:
    return (reply.thid, reply.from_, reply.to) == (request.id, M, (A,))


# --- empty, trust-ping


def test_an_empty_message_says_nothing() -> None:
    assert sent(empty.empty(thid="t")).to_json().keys() == {"typ", "id", "type", "thid", "body"}


def test_a_ping_is_answered_unless_no_answer_is_wanted() -> None:
    request = sent(trust_ping.ping(A, M))
    reply = trust_ping.respond(request)
    assert reply is not None
    assert answers(reply, request)
    assert reply.type == trust_ping.PING_RESPONSE
    assert trust_ping.respond(sent(trust_ping.ping(A, M, response_requested=False))) is None
    assert trust_ping.respond(Message(type=trust_ping.PING)) is None
    assert trust_ping.respond(asked(trust_ping.PING)) is not None


# --- discover-features

FEATURES = [
    Feature("protocol", "https://didcomm.org/trust-ping/2.0", roles=("receiver",)),
    Feature("protocol", f"{NAMESPACE}/session/1.0"),
    Feature("constraint", "max_receive_bytes", value="1048576"),
    Feature("goal-code", "connect"),
]


@pytest.mark.parametrize(
    ("queries", "found"),
    [
        ([Query("protocol")], FEATURES[:2]),
        ([Query("protocol", "https://didcomm.org/*")], FEATURES[:1]),
        ([Query("protocol", "*session*")], FEATURES[1:2]),
        ([Query("protocol", "https://didcomm.org/trust-ping/2.0")], FEATURES[:1]),
        ([Query("protocol", "https://didcomm.org/trust-ping/2")], []),
        (
            [Query("protocol"), Query("protocol", "*/session/*"), Query("goal-code")],
            [*FEATURES[:2], FEATURES[3]],
        ),
        ([Query("constraint", "max_*_bytes")], FEATURES[2:3]),
        ([Query("nothing")], []),
        ([], []),
    ],
)
def test_features_are_disclosed_to_who_asks(queries: list[Query], found: list[Feature]) -> None:
    request = sent(discover_features.queries(queries, from_=A, to=M))
    assert discover_features.parse_queries(request) == tuple(queries)
    reply = sent(discover_features.disclose(request, FEATURES))
    assert answers(reply, request)
    assert discover_features.parse_disclose(reply) == tuple(found)


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("*", "", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("a*b*c", "axbxc", True),
        ("a*b*c", "acb", False),
        ("**", "x", True),
        ("a.c", "abc", False),
        ("[a]", "a", False),
    ],
)
def test_only_the_star_is_special_in_a_pattern(pattern: str, name: str, fits: bool) -> None:
    assert Query("t", pattern).admits(Feature("t", name)) == fits


# --- problem reports


def test_a_problem_report_survives_the_wire() -> None:
    problem = ProblemReport(
        "e.p.xfer", "No {1} in {2}", ("money", "bank"), escalate_to="mailto:x@y", about="t"
    )
    message = sent(problem_report.report(problem, from_=A, to=(M,)))
    assert message.pthid == "t"
    assert message.body["escalate_to"] == "mailto:x@y"
    assert problem_report.parse(message) == problem


@pytest.mark.parametrize(
    ("comment", "args", "text"),
    [
        ("No {1} in {2}", ("money", "bank"), "No money in bank"),
        ("No {1} in {2}", ("money",), "No money in ?"),
        ("No {1}", ("money", "bank"), "No money bank"),
        ("{0} {x} {}", (), "? {x} {}"),
        ("{1}", ("{2}", "b"), "{2} b"),
        ("", (), "e.p.x"),
    ],
)
def test_the_words_of_a_problem_report_are_filled_in(comment: str, args: tuple[str, ...], text: str) -> None:
    assert ProblemReport("e.p.x", comment, args).text == text


def test_a_violation_is_reported_to_its_sender_below_its_thread() -> None:
    failed = Message(type="t", id="9", thid="thread", from_=A, to=(M,))
    message = problem_report.report_on(failed, MessageError("Wrong.", code="e.p.msg.unsupported"))
    assert (message.pthid, message.from_, message.to, message.ack) == ("thread", M, (A,), ("9",))
    assert problem_report.parse(sent(message)) == ProblemReport(
        "e.p.msg.unsupported", "Wrong.", about="thread"
    )


# --- mediation


def test_mediation_is_asked_for_and_granted() -> None:
    request = sent(mediation.mediate_request(A, M))
    grant = sent(mediation.mediate_grant(request, "did:peer:2.Ez6LS"))
    assert answers(grant, request)
    assert mediation.parse_mediate_grant(grant) == "did:peer:2.Ez6LS"
    as_in_3_0 = asked(mediation.MEDIATE_GRANT, {"routing_did": ["did:peer:2.Ez6LS"]})
    assert mediation.parse_mediate_grant(as_in_3_0) == "did:peer:2.Ez6LS"


def test_a_refused_mediation_is_an_error_that_says_so() -> None:
    with pytest.raises(MessageError, match="refused"):
        mediation.parse_mediate_grant(sent(mediation.mediate_deny(mediation.mediate_request(A, M))))


def test_key_list_changes_are_asked_for_and_answered() -> None:
    request = sent(mediation.keylist_update([("did:key:zX", "add"), ("did:key:zY", "remove")], A, M))
    updates = mediation.parse_keylist_update(request)
    assert updates == (Update("did:key:zX", "add"), Update("did:key:zY", "remove"))
    outcome = (Updated("did:key:zX", "add", "success"), Updated("did:key:zY", "remove", "no_change"))
    reply = sent(mediation.keylist_update_response(request, outcome))
    assert answers(reply, request)
    assert mediation.parse_keylist_update_response(reply) == outcome


def test_the_key_list_is_given_whole_or_by_the_page() -> None:
    dids = [f"did:key:z{number}" for number in range(7)]
    query = sent(mediation.keylist_query(from_=A, to=M))
    assert mediation.parse_keylist_query(query) is None
    whole = sent(mediation.keylist(query, dids))
    assert whole.body == {"keys": [{"recipient_did": name} for name in dids]}
    assert mediation.parse_keylist(whole) == Keylist(tuple(dids))
    query = sent(mediation.keylist_query(Page(3, 2), A, M))
    page = mediation.parse_keylist_query(query)
    assert page == Page(3, 2)
    assert mediation.parse_keylist(sent(mediation.keylist(query, dids, page))) == Keylist(tuple(dids[2:5]), 2)
    assert mediation.parse_keylist(sent(mediation.keylist(query, dids, Page(3, 99)))) == Keylist((), 0)


def test_version_3_says_the_same_in_its_own_words() -> None:
    request = sent(mediation.mediate_request(A, M, version=mediation.V3, pthid="invitation"))
    assert (request.type, request.pthid) == (
        "https://didcomm.org/coordinate-mediation/3.0/mediate-request",
        "invitation",
    )
    grant = sent(mediation.mediate_grant(request, M))
    assert (grant.type, grant.body) == (mediation.V3.grant, {"routing_did": [M]})
    assert mediation.parse_mediate_grant(grant) == M
    assert sent(mediation.mediate_deny(request)).type == mediation.V3.deny
    update = sent(mediation.keylist_update([Update(A, "add", "a.b.c")], A, M, version=mediation.V3))
    assert update.type == "https://didcomm.org/coordinate-mediation/3.0/recipient-update"
    assert mediation.parse_keylist_update(update) == (Update(A, "add", "a.b.c"),)
    response = sent(mediation.keylist_update_response(update, [Updated(A, "add", "success")]))
    assert response.type == "https://didcomm.org/coordinate-mediation/3.0/recipient-update-response"
    assert mediation.parse_keylist_update_response(response) == (Updated(A, "add", "success"),)
    query = sent(mediation.keylist_query(Page(1, 0), A, M, version=mediation.V3))
    assert query.type == "https://didcomm.org/coordinate-mediation/3.0/recipient-query"
    answer = sent(mediation.keylist(query, [A, M], mediation.parse_keylist_query(query)))
    assert answer.type == "https://didcomm.org/coordinate-mediation/3.0/recipient"
    assert answer.body["dids"] == [{"recipient_did": A}]
    assert mediation.parse_keylist(answer) == Keylist((A,), 1)


# --- pickup


def test_a_status_is_asked_for_and_given() -> None:
    request = sent(pickup.status_request("did:key:zX", from_=A, to=M))
    assert request.return_route == "all"
    assert pickup.parse_status_request(request) == "did:key:zX"
    assert pickup.parse_status_request(pickup.status_request()) is None
    for state in (Status(0), Status(3, "did:key:zX", True, 1, 2, 3, 4)):
        reply = sent(pickup.status(request, state))
        assert answers(reply, request)
        assert pickup.parse_status(reply) == state


def test_messages_are_delivered_by_their_ids_oldest_first() -> None:
    request = sent(pickup.delivery_request(10, "did:key:zX", from_=A, to=M))
    assert pickup.parse_delivery_request(request) == DeliveryRequest(10, "did:key:zX")
    messages = (("1", b'{"a":1}'), ("2", b"\x00\xff"))
    reply = sent(pickup.delivery(messages, request=request, recipient_did="did:key:zX"))
    assert answers(reply, request)
    assert pickup.parse_delivery(reply) == Delivery(messages, "did:key:zX")


def test_a_live_push_has_no_thread_of_a_request() -> None:
    push = sent(pickup.delivery([("1", b"{}")], from_=M, to=A))
    assert (push.thid, push.from_, push.to) == (None, M, (A,))


def test_a_delivery_with_json_attachments_is_read_too() -> None:
    message = Message(type=pickup.DELIVERY, attachments=(Attachment(id="1", data_json={"a": [1]}),))
    assert pickup.parse_delivery(message).messages == (("1", b'{"a":[1]}'),)


def test_receipts_and_live_mode() -> None:
    assert pickup.parse_messages_received(sent(pickup.messages_received(["1", "2"], from_=A, to=M))) == (
        "1",
        "2",
    )
    for live in (True, False):
        assert pickup.parse_live_delivery_change(sent(pickup.live_delivery_change(live))) is live
        text = asked(pickup.LIVE_DELIVERY_CHANGE, {"live_delivery": str(live).lower()})
        assert pickup.parse_live_delivery_change(text) is live


def test_version_4_counts_milliseconds_and_names_the_count() -> None:
    request = sent(pickup.status_request(from_=A, to=M, version=pickup.V4))
    assert request.type == "https://didcomm.org/message-pickup/4.0/status-request"
    state = Status(2, None, False, 5, newest_received_time=12.345, oldest_received_time=12.0, total_bytes=9)
    reply = sent(pickup.status(request, state))
    assert reply.type == "https://didcomm.org/message-pickup/4.0/status"
    assert reply.body == {
        "message_count": 2,
        "live_delivery": False,
        "newest_received_time": 12345,
        "oldest_received_time": 12000,
        "total_bytes": 9,
    }
    assert pickup.parse_status(reply) == Status(2, None, False, None, 12.345, 12.0, 9)
    wanted = sent(pickup.delivery_request(7, version=pickup.V4))
    assert wanted.body == {"message_count_limit": 7}
    assert pickup.parse_delivery_request(wanted) == DeliveryRequest(7)
    draft = asked(pickup.V4.delivery_request, {"limit": 3})
    assert pickup.parse_delivery_request(draft) == DeliveryRequest(3)


def test_version_4_delivers_an_empty_list_where_there_is_nothing() -> None:
    request = sent(pickup.delivery_request(7, from_=A, to=M, version=pickup.V4))
    nothing = json.loads(pickup.delivery([], request=request).encode())
    assert (nothing["type"], nothing["attachments"]) == (
        "https://didcomm.org/message-pickup/4.0/delivery",
        [],
    )
    push = sent(pickup.delivery([("1", b"{}")], from_=M, to=A, version=pickup.V4))
    assert (push.type, push.thid) == (pickup.V4.delivery, None)
    assert pickup.parse_delivery(push).messages == (("1", b"{}"),)


# --- basic messages


def test_words_of_a_person_are_read() -> None:
    received = sent(basic_message.message("Hello.", 1_700_000_000, from_=A, to=M))
    assert basic_message.parse(received) == "Hello."


# --- relay control


def test_relay_channels_are_asked_for_and_granted() -> None:
    request = sent(relay_control.channel_create(2, 1000, from_=A, to=M))
    assert relay_control.parse_channel_create(request) == ChannelRequest(2, 1000)
    limited = sent(relay_control.channel_create(2, 1000, rate=5000, from_=A, to=M))
    assert relay_control.parse_channel_create(limited) == ChannelRequest(2, 1000, 5000)
    channels = (Channel("c1", bytes(32), b"\x01" * 32), Channel("c2", b"\x02" * 32, b"\x03" * 32))
    reply = sent(relay_control.channel_created(request, channels, 900))
    assert answers(reply, request)
    assert relay_control.parse_channel_created(reply) == channels
    assert relay_control.parse_channel_revoke(sent(relay_control.channel_revoke(["c1"]))) == ("c1",)


def test_a_channel_does_not_show_its_capabilities() -> None:
    shown = repr(Channel("c", b"n" * 32, b"f" * 32))
    assert "nnn" not in shown
    assert "fff" not in shown


# --- wrong ones

PARSERS: dict[str, Callable[[Message], Any]] = {
    discover_features.QUERIES: discover_features.parse_queries,
    discover_features.DISCLOSE: discover_features.parse_disclose,
    problem_report.PROBLEM_REPORT: problem_report.parse,
    mediation.MEDIATE_GRANT: mediation.parse_mediate_grant,
    mediation.KEYLIST_UPDATE: mediation.parse_keylist_update,
    mediation.KEYLIST_UPDATE_RESPONSE: mediation.parse_keylist_update_response,
    mediation.KEYLIST_QUERY: mediation.parse_keylist_query,
    mediation.KEYLIST: mediation.parse_keylist,
    pickup.STATUS_REQUEST: pickup.parse_status_request,
    pickup.STATUS: pickup.parse_status,
    pickup.DELIVERY_REQUEST: pickup.parse_delivery_request,
    pickup.DELIVERY: pickup.parse_delivery,
    pickup.MESSAGES_RECEIVED: pickup.parse_messages_received,
    pickup.LIVE_DELIVERY_CHANGE: pickup.parse_live_delivery_change,
    basic_message.MESSAGE: basic_message.parse,
    mediation.V3.update: mediation.parse_keylist_update,
    mediation.V3.update_response: mediation.parse_keylist_update_response,
    mediation.V3.listing: mediation.parse_keylist,
    pickup.V4.delivery_request: pickup.parse_delivery_request,
    pickup.V4.status: pickup.parse_status,
    relay_control.CHANNEL_CREATE: relay_control.parse_channel_create,
    relay_control.CHANNEL_CREATED: relay_control.parse_channel_created,
    relay_control.CHANNEL_REVOKE: relay_control.parse_channel_revoke,
    trust_ping.PING: trust_ping.respond,
}


@pytest.mark.parametrize("parse", PARSERS.values(), ids=PARSERS.keys())
def test_a_message_of_another_type_is_named_as_unsupported(parse: Callable[[Message], Any]) -> None:
    with pytest.raises(MessageError) as caught:
        parse(asked("https://didcomm.org/other/1.0/thing"))
    assert caught.value.code == "e.p.msg.unsupported"


@pytest.mark.parametrize(
    ("type", "body"),
    [
        (trust_ping.PING, {"response_requested": "perhaps"}),
        (discover_features.QUERIES, {}),
        (discover_features.QUERIES, {"queries": "x"}),
        (discover_features.QUERIES, {"queries": [7]}),
        (discover_features.QUERIES, {"queries": [{"match": "*"}]}),
        (discover_features.QUERIES, {"queries": [{"feature-type": "p", "match": "*" * 1000}]}),
        (discover_features.QUERIES, {"queries": [{"feature-type": "p"}] * 33}),
        (discover_features.DISCLOSE, {"disclosures": [{"feature-type": "p"}]}),
        (problem_report.PROBLEM_REPORT, {}),
        (problem_report.PROBLEM_REPORT, {"code": 7}),
        (problem_report.PROBLEM_REPORT, {"code": "e.p", "args": "x"}),
        (problem_report.PROBLEM_REPORT, {"code": "e.p", "args": ["x"] * 17}),
        (problem_report.PROBLEM_REPORT, {"code": "e.p", "comment": "x" * 10_000}),
        (mediation.MEDIATE_GRANT, {}),
        (mediation.MEDIATE_GRANT, {"routing_did": "x"}),
        (mediation.MEDIATE_GRANT, {"routing_did": [A, M]}),
        (mediation.KEYLIST_UPDATE, {"updates": [{"recipient_did": A}]}),
        (mediation.KEYLIST_UPDATE, {"updates": [{"recipient_did": A, "action": "rename"}]}),
        (mediation.KEYLIST_UPDATE, {"updates": [{"recipient_did": "x", "action": "add"}]}),
        (mediation.KEYLIST_UPDATE, {"updates": [{"recipient_did": A, "action": "add"}] * 257}),
        (
            mediation.KEYLIST_UPDATE_RESPONSE,
            {"updated": [{"recipient_did": A, "action": "add", "result": "ok"}]},
        ),
        (mediation.KEYLIST_QUERY, {"paginate": {"limit": -1}}),
        (mediation.KEYLIST_QUERY, {"paginate": 3}),
        (mediation.KEYLIST, {"keys": [{}]}),
        (mediation.KEYLIST, {"keys": [], "pagination": {"remaining": "x"}}),
        (pickup.STATUS, {}),
        (pickup.STATUS, {"message_count": -1}),
        (pickup.STATUS, {"message_count": True}),
        (pickup.DELIVERY_REQUEST, {}),
        (pickup.DELIVERY_REQUEST, {"limit": 0}),
        (pickup.DELIVERY_REQUEST, {"limit": "10"}),
        (pickup.MESSAGES_RECEIVED, {"message_id_list": "1"}),
        (pickup.MESSAGES_RECEIVED, {"message_id_list": [1]}),
        (pickup.MESSAGES_RECEIVED, {"message_id_list": ["1"] * 1025}),
        (pickup.LIVE_DELIVERY_CHANGE, {}),
        (pickup.LIVE_DELIVERY_CHANGE, {"live_delivery": 1}),
        (pickup.V4.delivery_request, {"message_count_limit": 0}),
        (pickup.V4.delivery_request, {"message_count_limit": "2", "limit": 2}),
        (mediation.V3.update, {"updates": [{"recipient_did": A, "action": "add", "proof": 7}]}),
        (mediation.V3.update, {"updates": ["x"]}),
        (mediation.V3.update_response, {"updated": ["x"]}),
        (mediation.V3.listing, {"keys": []}),
        (basic_message.MESSAGE, {}),
        (basic_message.MESSAGE, {"content": "x" * 10_000}),
        (relay_control.CHANNEL_CREATE, {"count": 0, "expires": 1}),
        (relay_control.CHANNEL_CREATE, {"count": 65, "expires": 1}),
        (relay_control.CHANNEL_CREATE, {"count": 1}),
        (relay_control.CHANNEL_CREATE, {"count": 1, "expires": 1, "rate": 0}),
        (relay_control.CHANNEL_CREATE, {"count": 1, "expires": 1, "rate": "fast"}),
        (relay_control.CHANNEL_CREATED, {"channels": [{"id": "c", "near": b64url(bytes(32)), "far": "AA"}]}),
        (relay_control.CHANNEL_CREATED, {"channels": [{"id": "c", "near": "*", "far": "*"}]}),
        (relay_control.CHANNEL_REVOKE, {"ids": [7]}),
    ],
)
def test_a_wrong_body_is_the_peers_fault(type: str, body: dict[str, Any]) -> None:
    with pytest.raises(MessageError) as caught:
        PARSERS[type](sent(asked(type, body)))
    assert caught.value.code == "e.p.msg.bad-body"
    assert json.dumps(caught.value.what)


FIELDS = (
    "queries disclosures code comment args routing_did updates updated paginate keys message_count limit "
    "message_id_list live_delivery recipient_did count expires channels ids action result match feature-type "
    "near far id response_requested pagination remaining dids proof message_count_limit content"
).split()
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=10)
    | st.sampled_from([A, "add", "success", "AA"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(PARSERS)), st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=6))
def test_any_body_is_read_or_the_peers_fault(type: str, body: dict[str, Any]) -> None:
    try:
        PARSERS[type](asked(type, body))
    except MessageError:
        return
