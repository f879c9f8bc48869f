"""One envelope of each kind that a mediator must refuse, made with the keys of a client."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mediator_parts import Client

from didmpc.protocols import did as dids
from didmpc.protocols.crypto import jose
from didmpc.protocols.crypto.encoding import b64url, unb64url
from didmpc.protocols.crypto.keys import PrivateKey
from didmpc.protocols.envelope import pack_anoncrypt, pack_authcrypt, pack_signed
from didmpc.protocols.identity import Identity
from didmpc.protocols.message import MAX_BRACKETS, Message
from didmpc.protocols.messages import mediation, pickup, trust_ping
from didmpc.protocols.messages.routing import FORWARD

STRANGER = Identity.peer4()

Make = Callable[[Client], bytes]
CASES: dict[str, Make] = {}


def case(name: str) -> Callable[[Make], Make]:
    def add(make: Make) -> Make:
        assert name not in CASES
        CASES[name] = make
        return make

    return add


def ping(client: Client, **headers: Any) -> Message:
    return replace(trust_ping.ping(client.identity.did, client.mediator.did), **headers)


def sealed(client: Client, plaintext: Any) -> bytes:
    """Whatever it is, in a proper authcrypt envelope."""
    content = plaintext if isinstance(plaintext, bytes) else json.dumps(plaintext).encode()
    return pack_authcrypt(content, client.identity, client.mediator)


def by_stranger(client: Client, message: Message) -> bytes:
    """From somebody who has no account."""
    addressed = replace(message, from_=STRANGER.did, to=(client.mediator.did,), return_route=None)
    return pack_authcrypt(addressed, STRANGER, client.mediator)


def anonymous(client: Client, plaintext: Any) -> bytes:
    return pack_anoncrypt(json.dumps(plaintext).encode(), client.mediator)


def plain(client: Client, **headers: Any) -> dict[str, Any]:
    return {**ping(client).to_json(), **headers}


def without(client: Client, name: str) -> dict[str, Any]:
    value = plain(client)
    del value[name]
    return value


def changed(envelope: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """An envelope after a change of its JSON."""
    value = json.loads(envelope)
    change(value)
    return json.dumps(value).encode()


def header_changed(envelope: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """An envelope after a change of its protected header."""

    def reseal(value: dict[str, Any]) -> None:
        holder = value if "protected" in value else value["signatures"][0]
        header = json.loads(unb64url(holder["protected"]))
        change(header)
        holder["protected"] = b64url(json.dumps(header).encode())

    return changed(envelope, reseal)


def flipped(text: str) -> str:
    """The base64url of other bytes of the same number."""
    raw = bytearray(unb64url(text))
    raw[0] ^= 1
    return b64url(bytes(raw))


def asked(client: Client) -> bytes:
    return client.pack(ping(client))


def flip(name: str) -> Make:
    return lambda client: changed(asked(client), lambda value: value.update({name: flipped(value[name])}))


def header(**members: Any) -> Make:
    return lambda client: header_changed(asked(client), lambda value: value.update(members))


# What is no envelope

CASES |= {
    "empty": lambda client: b"",
    "not-json": lambda client: b"hello",
    "cut-off": lambda client: asked(client)[:-10],
    "invalid-utf8": lambda client: b'{"ciphertext":"\xff"}',
    "not-object": lambda client: b"[]",
    "not-envelope": lambda client: b"{}",
    "in-the-clear": lambda client: ping(client).encode(),
    "nested-deep": lambda client: b'{"a":' * 30_000 + b"1" + b"}" * 30_000,
    "many-values": lambda client: b'{"ciphertext":[' + b"[]," * MAX_BRACKETS + b"1]}",
    "nested-65": lambda client: b'{"ciphertext":' + b"[" * 65 + b"]" * 65 + b"}",
}

# Envelopes that are not sound

CASES |= {
    "wrong-apv": header(apv=jose.apv_of(["did:example:other#key-1"])),
    "no-apv": lambda client: header_changed(asked(client), lambda value: value.pop("apv")),
    "tampered-header": header(typ="application/json"),
    "tampered-iv": flip("iv"),
    "tampered-ciphertext": flip("ciphertext"),
    "tampered-tag": flip("tag"),
    "alg-none-encrypted": header(alg="none"),
    "alg-dir": header(alg="dir"),
    "unknown-enc": header(enc="A128GCM"),
    "authcrypt-gcm": header(enc="A256GCM"),
    "critical-extension": header(crit=["exp"], exp=1),
    "zip": header(zip="DEF"),
    "unsupported-curve": header(epk={"kty": "EC", "crv": "secp256k1", "x": b64url(bytes(32)), "y": "AA"}),
    "other-curve": header(epk=PrivateKey.generate("P-256").public.jwk()),
    "not-on-curve": header(
        epk={"kty": "EC", "crv": "P-256", "x": b64url(b"\1" * 32), "y": b64url(b"\1" * 32)}
    ),
    "signing-curve": header(epk=PrivateKey.generate("Ed25519").public.jwk()),
    "low-order-point": header(epk={"kty": "OKP", "crv": "X25519", "x": b64url(bytes(32))}),
    "skid-not-apu": header(apu=b64url(b"did:example:other#key-1")),
}


@case("tampered-key")
def _(client: Client) -> bytes:
    def change(value: dict[str, Any]) -> None:
        value["recipients"][0]["encrypted_key"] = flipped(value["recipients"][0]["encrypted_key"])

    return changed(asked(client), change)


@case("epk-unprotected")
def _(client: Client) -> bytes:
    """As `didcomm-messaging` 0.1.1 writes it."""
    envelope = asked(client)
    epk = json.loads(unb64url(json.loads(envelope)["protected"]))["epk"]
    moved = header_changed(envelope, lambda value: value.pop("epk"))
    return changed(moved, lambda value: value["recipients"][0]["header"].update(epk=epk))


@case("unknown-kid")
def _(client: Client) -> bytes:
    return pack_authcrypt(replace(ping(client), to=()), client.identity, Identity.peer4().document)


@case("no-recipients")
def _(client: Client) -> bytes:
    return changed(asked(client), lambda value: value.update(recipients=[]))


@case("skid-unresolvable")
def _(client: Client) -> bytes:
    name = f"{dids.canonical(Identity.peer4().did)}#key-1"
    return header_changed(asked(client), lambda value: value.update(skid=name, apu=b64url(name.encode())))


@case("skid-method-unknown")
def _(client: Client) -> bytes:
    name = "did:example:alice#key-1"
    return header_changed(asked(client), lambda value: value.update(skid=name, apu=b64url(name.encode())))


@case("skid-document-broken")
def _(client: Client) -> bytes:
    method = {"id": "#key-1", "type": [], "publicKeyMultibase": "z6LS"}
    name = dids.peer4.encode({"verificationMethod": [method], "keyAgreement": ["#key-1"]}) + "#key-1"
    return header_changed(asked(client), lambda value: value.update(skid=name, apu=b64url(name.encode())))


@case("skid-not-on-curve")
def _(client: Client) -> bytes:
    off = {"kty": "EC", "crv": "P-256", "x": b64url(b"\1" * 32), "y": b64url(b"\1" * 32)}
    method = {"id": "#key-1", "type": "JsonWebKey2020", "publicKeyJwk": off}
    name = dids.peer4.encode({"verificationMethod": [method], "keyAgreement": ["#key-1"]}) + "#key-1"
    return header_changed(asked(client), lambda value: value.update(skid=name, apu=b64url(name.encode())))


@case("from-not-skid")
def _(client: Client) -> bytes:
    return sealed(client, plain(client, **{"from": Identity.peer4().did}))


@case("no-from")
def _(client: Client) -> bytes:
    return sealed(client, without(client, "from"))


@case("to-without-recipient")
def _(client: Client) -> bytes:
    return sealed(client, plain(client, to=[client.identity.did]))


@case("signature-alg-none")
def _(client: Client) -> bytes:
    signed = pack_signed(ping(client), client.identity)
    bare = header_changed(signed, lambda value: value.update(alg="none"))
    return changed(bare, lambda value: value["signatures"][0].update(signature=""))


@case("signature-wrong")
def _(client: Client) -> bytes:
    def change(value: dict[str, Any]) -> None:
        value["signatures"][0]["signature"] = flipped(value["signatures"][0]["signature"])

    return changed(pack_signed(ping(client), client.identity), change)


@case("two-signatures")
def _(client: Client) -> bytes:
    signed = pack_signed(ping(client), client.identity)
    return changed(signed, lambda value: value["signatures"].append(value["signatures"][0]))


@case("signed-then-encrypted-without-to")
def _(client: Client) -> bytes:
    return sealed(client, pack_signed(ping(client, to=()), client.identity))


@case("nested-envelopes")
def _(client: Client) -> bytes:
    return sealed(client, sealed(client, plain(client)))


@case("sealed-not-json")
def _(client: Client) -> bytes:
    return sealed(client, b"hello")


@case("sealed-nested-deep")
def _(client: Client) -> bytes:
    return sealed(client, b'{"a":' * 10_000 + b"1" + b"}" * 10_000)


# Messages that are sealed properly, and say what no protocol says

CASES |= {
    "no-type": lambda client: sealed(client, without(client, "type")),
    "no-id": lambda client: sealed(client, without(client, "id")),
    "header-ill-typed": lambda client: sealed(client, plain(client, thid=7)),
    "body-ill-typed": lambda client: sealed(client, plain(client, body=[])),
    "time-huge": lambda client: sealed(client, plain(client, expires_time=10**400)),
    "time-not-whole": lambda client: sealed(client, plain(client, expires_time=1e300)),
    "unknown-protocol": lambda client: client.pack(ping(client, type="https://example.org/x/1.0/y")),
    "unknown-type": lambda client: client.pack(ping(client, type=f"{trust_ping.PROTOCOL}/pong")),
    "unknown-major": lambda client: client.pack(ping(client, type="https://didcomm.org/trust-ping/3.0/ping")),
    "unknown-minor": lambda client: client.pack(
        ping(client, type="https://didcomm.org/trust-ping/2.9/ping"), return_route="all"
    ),
    "expired": lambda client: client.pack(ping(client, expires_time=int(time.time()) - 1)),
    "created-long-ago": lambda client: client.pack(ping(client, created_time=1)),
    "attachment-not-base64": lambda client: sealed(
        client, plain(client, attachments=[{"data": {"base64": "!"}}])
    ),
    "anonymous": lambda client: anonymous(client, {"id": "1", "type": mediation.MEDIATE_REQUEST, "body": {}}),
    "no-account": lambda client: by_stranger(client, pickup.status_request()),
    "next-unknown": lambda client: client.forward(Identity.peer4().did, b"{}"),
    "forward-empty": lambda client: anonymous(
        client, {"id": "1", "type": FORWARD, "body": {"next": client.identity.did}}
    ),
    "forward-by-link": lambda client: anonymous(
        client,
        {
            "id": "1",
            "type": FORWARD,
            "body": {"next": client.identity.did},
            "attachments": [{"id": "1", "data": {"links": ["https://example.org"], "hash": "x"}}],
        },
    ),
}


@case("type-twice")
def _(client: Client) -> bytes:
    """Names twice in one object: the last one counts."""
    text = json.dumps(plain(client, return_route="all")).encode()
    return sealed(client, text.replace(b"{", b'{"type":"https://example.org/x/1.0/y",', 1))
