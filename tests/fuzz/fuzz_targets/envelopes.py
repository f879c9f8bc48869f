"""Envelopes: JWE and JWS of strangers, and whatever a peer seals properly."""

import contextlib
import json
from collections.abc import Iterator
from functools import cache

from didmpc.protocols import binding_proof, from_prior
from didmpc.protocols import did as dids
from didmpc.protocols.crypto import jose
from didmpc.protocols.crypto.encoding import b64url, unb64url
from didmpc.protocols.envelope import (
    envelope_recipients,
    pack_anoncrypt,
    pack_authcrypt,
    pack_signed,
    unpack,
)
from didmpc.protocols.errors import DidError, EnvelopeError, MessageError
from didmpc.protocols.identity import Identities
from didmpc.protocols.message import Message
from fuzz_targets.target import ALICE, BOB, ERIN, Target, from_json, to_json

HELD = Identities(BOB, ERIN)
NOW = 2e9
REFUSALS = (EnvelopeError, MessageError, DidError)
MESSAGE = Message(
    type="https://didcomm.org/empty/1.0/empty", id="1" * 32, body={"a": [1]}, from_=ALICE.did, to=(BOB.did,)
)


def _opens(envelope: bytes) -> Message | None:
    """The message, when it opens; then what was proven must be what it says."""
    try:
        unpacked = unpack(envelope, HELD, max_size=1 << 20)
    except REFUSALS:
        return None
    message = unpacked.message
    for proven in (unpacked.sender, unpacked.signer):
        assert proven is None or dids.same_party(proven, message.from_ or "")
    if unpacked.recipient_kid is not None:
        assert not message.to or any(dids.same_party(to, unpacked.recipient_kid) for to in _dids(message.to))
    assert unpacked.encrypted or unpacked.signer
    return message


def _dids(names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        try:
            yield dids.did_of(name)
        except DidError:
            continue


def _readable(envelope: bytes) -> bytes:
    """The protected headers and the payload as JSON values in place of base64url: so they can be mutated."""
    value = json.loads(envelope)
    for holder in (value, *value.get("signatures", ())):
        for name in ("protected", "payload"):
            if name in holder:
                holder[name] = json.loads(unb64url(holder[name]))
    return to_json(value)


def _written(value: object) -> object:
    """The reverse of `_readable`; an `apv` of "right" becomes the right one."""
    if isinstance(value, dict):
        for holder in (value, *(item for item in _list(value.get("signatures")) if isinstance(item, dict))):
            for name in ("protected", "payload"):
                inner = holder.get(name)
                if isinstance(inner, dict):
                    if inner.get("apv") == "right":
                        inner["apv"] = jose.apv_of(_kids(value))
                    holder[name] = b64url(to_json(inner))
    return value


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _kids(value: dict[str, object]) -> list[str]:
    headers = [item.get("header") for item in _list(value.get("recipients")) if isinstance(item, dict)]
    kids = [header.get("kid") for header in headers if isinstance(header, dict)]
    # A lone surrogate has no UTF-8, so a hash over it is nothing that anyone could state.
    return [kid for kid in kids if isinstance(kid, str) and kid.isascii()]


@cache
def _samples() -> tuple[bytes, ...]:
    signed, authenticated = pack_signed(MESSAGE, ALICE), pack_authcrypt(MESSAGE, ALICE, BOB.document)
    return (
        signed,
        authenticated,
        *(pack_anoncrypt(MESSAGE, BOB.document, enc) for enc in ("A256CBC-HS512", "A256GCM", "XC20P")),
        pack_anoncrypt(authenticated, BOB.document),
        pack_authcrypt(signed, ALICE, BOB.document),
        pack_anoncrypt(Message(type="t", id="1", to=(ERIN.did,)), ERIN.document),
    )


def envelope(data: bytes) -> None:
    value = from_json(data)
    written = data if value is None else to_json(_written(value))
    with contextlib.suppress(REFUSALS):
        assert all(isinstance(kid, str) for kid in envelope_recipients(written, max_size=1 << 20))
    _opens(written)


def sealed(data: bytes) -> None:
    """The first byte says how the rest is packed: always properly, whatever it holds."""
    how, content = data[:1], data[1:]
    match how:
        case b"a":
            _opens(pack_authcrypt(content, ALICE, BOB.document))
        case b"n":
            _opens(pack_anoncrypt(content, BOB.document))
        case b"s":
            _opens(_sign(content))
        case b"A":
            _opens(pack_anoncrypt(pack_authcrypt(content, ALICE, BOB.document), BOB.document))
        case b"S":
            _opens(pack_authcrypt(_sign(content), ALICE, BOB.document))
        case b"N":
            _opens(pack_anoncrypt(_sign(content), BOB.document))


def _sign(content: bytes) -> bytes:
    kid, key = ALICE.signing_key
    protected, payload, signature = jose.sign({}, content, key).split(".")
    return to_json(
        {
            "payload": payload,
            "signatures": [{"protected": protected, "signature": signature, "header": {"kid": kid}}],
        }
    )


def rotation(data: bytes) -> None:
    """A `from_prior` or proof of a key binding: any text, or the {header, claims} of a JWT that is signed."""
    value = from_json(data)
    jwt = data.decode("utf-8", "replace")
    if isinstance(value, dict) and isinstance(header := value.get("header"), dict):
        signed = f"{b64url(to_json({'alg': 'EdDSA', **header}))}.{b64url(to_json(value.get('claims')))}"
        jwt = f"{signed}.{b64url(ALICE.signing_key[1].sign(signed.encode()))}"
    with contextlib.suppress(*REFUSALS):
        assert dids.same_party(from_prior.verify(jwt, BOB.did), ALICE.did)
    with contextlib.suppress(*REFUSALS):
        assert binding_proof.verify(jwt, ALICE.did, BOB.did, ERIN.did, NOW) <= NOW + 1000


def _envelope_seeds() -> Iterator[bytes]:
    yield from (b"", b"{}", b"[]", b'{"ciphertext":1}', b'{"payload":"","signatures":[]}')
    for sample in _samples():
        yield sample
        yield _readable(sample)
    unbound = json.loads(_readable(_samples()[2]))
    unbound["protected"]["apv"] = "right"
    yield to_json(unbound)


def _sealed_seeds() -> Iterator[bytes]:
    for how in "ansASN":
        yield how.encode() + MESSAGE.encode()
    yield b"a" + pack_authcrypt(MESSAGE, ALICE, BOB.document)


def _rotation_seeds() -> Iterator[bytes]:
    kid, _ = ALICE.signing_key
    yield to_json(
        {"header": {"typ": "JWT", "kid": kid}, "claims": {"iss": ALICE.did, "sub": BOB.did, "iat": 1}}
    )
    yield to_json(
        {
            "header": {"kid": f"{dids.canonical(ALICE.did)}#key-2"},
            "claims": {"iss": ALICE.did, "sub": BOB.did, "aud": ERIN.did, "iat": 1, "exp": 2**40, "nbf": 1},
        }
    )
    yield binding_proof.create(ALICE, BOB.did, ERIN.did, 1).encode()
    yield from_prior.create(ALICE, BOB.did, 1).encode()


TARGETS = (
    Target("envelope", envelope, _envelope_seeds),
    Target("sealed", sealed, _sealed_seeds, is_json=False),
    Target("rotation", rotation, _rotation_seeds),
)
