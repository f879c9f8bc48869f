"""Messages: written as the specification says, read with its tolerance, bounded everywhere."""

import contextlib
import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.errors import LocalMisuse, MessageError
from didmpc.protocols.message import (
    MAX_ATTACHMENTS,
    MAX_BRACKETS,
    MAX_DEPTH,
    MAX_MESSAGE,
    Attachment,
    Message,
)

TYPE = "https://didcomm.org/basicmessage/2.0/message"


def decoded(**headers: Any) -> Message:
    return Message.decode(json.dumps({"id": "1", "type": TYPE, "body": {}, **headers}).encode())


texts = st.text(max_size=20)
names = st.text(min_size=1, max_size=20)
times = st.integers(min_value=0, max_value=2**60)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
attachments = st.builds(
    Attachment,
    id=names,
    data_json=json_values,
    data_base64=st.none() | st.binary(max_size=40),
    links=st.lists(texts, max_size=2).map(tuple),
    hash=st.none() | texts,
    media_type=st.none() | texts,
    filename=st.none() | texts,
    description=st.none() | texts,
    format=st.none() | texts,
)
messages = st.builds(
    Message,
    type=names,
    body=st.dictionaries(texts, json_values, max_size=4),
    id=names,
    from_=st.none() | texts,
    to=st.lists(texts, max_size=3).map(tuple),
    thid=st.none() | names,
    pthid=st.none() | names,
    created_time=st.none() | times,
    expires_time=st.none() | times,
    attachments=st.lists(attachments, max_size=2).map(tuple),
    return_route=st.sampled_from([None, "none", "all", "thread"]),
    please_ack=st.none() | st.lists(texts, max_size=2).map(tuple),
    ack=st.none() | st.lists(texts, max_size=2).map(tuple),
    from_prior=st.none() | texts,
)


@given(messages)
def test_a_message_survives_the_wire(message: Message) -> None:
    assert Message.decode(message.encode()) == message


def test_a_new_id_is_32_unreserved_characters() -> None:
    identifier = Message(type=TYPE).id
    assert len(identifier) == 32
    assert identifier.isalnum()


def test_ids_of_other_makers_are_taken() -> None:
    for identifier in (str(uuid.uuid4()), "urn:uuid:" + str(uuid.uuid4()), "x"):
        assert decoded(id=identifier).id == identifier


def test_headers_that_are_null_or_unknown_do_not_matter() -> None:
    message = decoded(thid=None, to=None, expires_time=None, body=None, lang="en", x=[1])
    assert message == Message(type=TYPE, id="1", body={})


@pytest.mark.parametrize(
    "headers",
    [
        {"id": None},
        {"id": 7},
        {"id": ""},
        {"id": "x" * 300},
        {"type": None},
        {"type": 7},
        {"type": "x" * 600},
        {"typ": "application/didcomm-encrypted+json"},
        {"body": []},
        {"body": "x"},
        {"from": 7},
        {"from": ["did:key:z"]},
        {"to": "did:key:z"},
        {"to": [7]},
        {"to": ["did:key:z"] * 100},
        {"thid": ""},
        {"created_time": "1"},
        {"created_time": True},
        {"created_time": -1},
        {"expires_time": 1.5},
        {"expires_time": 2**70},
        {"return_route": "some"},
        {"return_route": []},
        {"please_ack": "x"},
        {"attachments": {}},
        {"attachments": [7]},
        {"attachments": [{"data": 7}]},
        {"attachments": [{"data": {"base64": "*"}}]},
        {"attachments": [{"data": {"base64": 7}}]},
        {"attachments": [{"data": {"links": "x"}}]},
        {"attachments": [{"id": 7, "data": {}}]},
        {"attachments": [{}] * (MAX_ATTACHMENTS + 1)},
        {"from_prior": {}},
    ],
)
def test_a_wrong_header_is_the_peers_fault(headers: dict[str, Any]) -> None:
    with pytest.raises(MessageError):
        decoded(**headers)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"[]",
        b"1",
        b'"x"',
        b"null",
        b"\xff\xfe",
        b'{"id":"1","type":"t","body":{"a":NaN}}',
        b'{"id":"1","type":"\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_what_is_no_message_is_the_peers_fault(data: bytes) -> None:
    with pytest.raises(MessageError):
        Message.decode(data)


def test_nesting_is_bounded_whatever_the_size() -> None:
    def nested(depth: int) -> bytes:
        inner = b'{"a":' * depth + b"1" + b"}" * depth
        return b'{"id":"1","type":"t","body":' + inner + b"}"

    assert Message.decode(nested(MAX_DEPTH - 2))
    with pytest.raises(MessageError, match="deeper"):
        Message.decode(nested(MAX_DEPTH + 1))
    # Many brackets side by side are no depth.
    assert len(decoded(body={"a": [[]] * 5000}).body["a"]) == 5000
    assert decoded(body={"a": "[{" * 500}).body["a"]


def test_what_costs_many_objects_is_refused_before_they_are_made() -> None:
    text = b'{"id":"1","type":"t","body":{"a":[%s]}}'
    assert Message.decode(text % b",".join([b"[]"] * (MAX_BRACKETS - 3)))
    with pytest.raises(MessageError, match="brackets"):
        Message.decode(text % b",".join([b"[]"] * (MAX_BRACKETS - 2)))


def test_a_message_that_is_too_big_is_refused_by_its_own_code() -> None:
    with pytest.raises(MessageError) as caught:
        Message.decode(b" " * (MAX_MESSAGE + 1))
    assert caught.value.code == "e.p.me.res.storage.message_too_big"


@given(st.binary(max_size=100))
def test_any_bytes_are_a_message_or_the_peers_fault(data: bytes) -> None:
    with contextlib.suppress(MessageError):
        Message.decode(data)


def test_a_reply_goes_back_in_the_same_thread() -> None:
    asked = Message(type=TYPE, id="1", from_="did:key:a", to=("did:key:b",))
    reply = asked.reply("t/answer", {"x": 1})
    assert (reply.thid, reply.from_, reply.to, reply.body) == ("1", "did:key:b", ("did:key:a",), {"x": 1})
    assert reply.reply("t/again").thid == "1"
    assert asked.reply("t", pthid="p", from_="did:key:c").from_ == "did:key:c"


def test_attachments_are_read_in_every_kind_of_base64() -> None:
    content = bytes(range(250, 256)) + b"\xff"
    for text in (b64url(content), b64url(content) + "==", "+vv8/f7//w==", "+vv8/f7//w"):
        assert decoded(attachments=[{"data": {"base64": text}}]).attachments[0].content() == content


def test_an_attachment_by_reference_has_no_content_here() -> None:
    message = decoded(attachments=[{"id": "a", "data": {"links": ["https://x"], "hash": "z1"}}])
    assert message.attachments[0].links == ("https://x",)
    with pytest.raises(MessageError):
        message.attachments[0].content()


def test_a_message_that_json_cannot_carry_is_our_own_fault() -> None:
    for body in ({"x": object()}, {"x": "\ud800"}):
        with pytest.raises(LocalMisuse):
            Message(type=TYPE, body=body).encode()
