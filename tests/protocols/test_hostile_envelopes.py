"""Whatever arrives, unpacking returns a message or says that the peer violated the protocol: nothing else."""

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from didmpc.protocols.crypto.encoding import b64url, unb64url
from didmpc.protocols.envelope import (
    envelope_recipients,
    pack_anoncrypt,
    pack_authcrypt,
    pack_signed,
    unpack,
)
from didmpc.protocols.errors import RemoteViolation
from didmpc.protocols.identity import Identities, Identity
from didmpc.protocols.message import Attachment, Message

ALICE, BOB = Identity.peer2(), Identity.peer2()
HELD = Identities(BOB)
MESSAGE = Message(type="t", body={"a": [1]}, from_=ALICE.did, to=(BOB.did,))
SIGNED = pack_signed(MESSAGE, ALICE)
AUTHENTICATED = pack_authcrypt(MESSAGE, ALICE, BOB.document)
ENVELOPES = [
    SIGNED,
    AUTHENTICATED,
    *(pack_anoncrypt(MESSAGE, BOB.document, enc) for enc in ("A256CBC-HS512", "A256GCM", "XC20P")),
    pack_anoncrypt(AUTHENTICATED, BOB.document),
    pack_authcrypt(SIGNED, ALICE, BOB.document),
]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.sampled_from(
        ["", "AA", b64url(b"{}"), ALICE.did, f"{BOB.did}#key-1", "did:peer:4zQm", "dir", "none"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
many = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def opens_or_is_refused(envelope: bytes) -> Message | None:
    for read in (envelope_recipients, lambda data: unpack(data, HELD)):
        try:
            result = read(envelope)
        except RemoteViolation:
            result = None
    return None if result is None else result.message


def spots(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [path, *(spot for key, item in inner for spot in spots(item, (*path, key)))]


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    place = value
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = new
    return value


@many
@given(st.sampled_from(ENVELOPES), st.data())
def test_any_change_of_the_json_is_refused(envelope: bytes, data: st.DataObject) -> None:
    value = json.loads(envelope)
    new = data.draw(json_values)
    path = data.draw(st.sampled_from(spots(value)))
    changed = json.dumps(put(value, path, new)).encode()
    opened = opens_or_is_refused(changed)
    assert opened is None or json.loads(changed) == json.loads(envelope)


@many
@given(st.sampled_from(ENVELOPES), st.data())
def test_any_change_inside_the_protected_header_is_refused(envelope: bytes, data: st.DataObject) -> None:
    value = json.loads(envelope)
    holder = value if "protected" in value else value["signatures"][0]
    header = json.loads(unb64url(holder["protected"]))
    path = data.draw(st.sampled_from(spots(header)))
    changed = put(header, path, data.draw(json_values))
    if changed == json.loads(unb64url(holder["protected"])):
        return
    holder["protected"] = b64url(json.dumps(changed).encode())
    assert opens_or_is_refused(json.dumps(value).encode()) is None


@many
@given(st.sampled_from(ENVELOPES), st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_any_changed_byte_is_refused_or_says_the_same(envelope: bytes, place: int, flip: int) -> None:
    changed = bytearray(envelope)
    changed[place % len(changed)] ^= flip
    opened = opens_or_is_refused(bytes(changed))
    # A byte of the outer JSON that means nothing (a name that is not used) may change.
    assert opened is None or opened == MESSAGE


@many
@given(st.sampled_from(ENVELOPES), st.integers(min_value=0))
def test_a_cut_envelope_is_refused(envelope: bytes, size: int) -> None:
    assert opens_or_is_refused(envelope[: size % len(envelope)]) is None


@many
@given(st.binary(max_size=300) | json_values.map(lambda value: json.dumps(value).encode()))
def test_anything_at_all_is_refused(data: bytes) -> None:
    assert opens_or_is_refused(data) is None


@many
@given(json_values, st.booleans())
def test_any_content_of_a_sound_envelope_is_a_message_or_refused(content: Any, known: bool) -> None:
    """A peer can seal whatever it likes."""
    if known and isinstance(content, dict):
        content = {"id": "1", "type": "t", "from": ALICE.did, **content}
    plain = json.dumps(content).encode()
    for envelope in (pack_authcrypt(plain, ALICE, BOB.document), pack_anoncrypt(plain, BOB.document)):
        opens_or_is_refused(envelope)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.text(max_size=10), st.integers(-(2**53), 2**53) | st.text(max_size=30), max_size=5),
    st.lists(st.binary(max_size=500), max_size=3),
    st.sampled_from(["X25519", "P-256"]),
    st.sampled_from(["auth", "anon", "signed", "protected"]),
)
def test_any_message_survives_any_envelope(
    body: dict[str, Any], files: list[bytes], curve: Any, kind: str
) -> None:
    alice, bob = Identity.peer2(curves=(curve, "Ed25519")), Identity.peer4(curves=(curve, "Ed25519"))
    message = Message(
        type="t",
        body=body,
        from_=alice.did,
        to=(bob.did,),
        attachments=tuple(Attachment(data_base64=file) for file in files),
    )
    to = bob.document
    envelope = {
        "auth": lambda: pack_authcrypt(message, alice, to),
        "anon": lambda: pack_anoncrypt(message, to),
        "signed": lambda: pack_authcrypt(pack_signed(message, alice), alice, to),
        "protected": lambda: pack_anoncrypt(pack_authcrypt(message, alice, to), to),
    }[kind]()
    assert unpack(envelope, Identities(bob)).message == message
