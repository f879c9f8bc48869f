"""A DIDComm peer that shares no code with ours: PyPI `didcomm` and `peerdid`.

Run inside their own environment (`make test` makes it). Each line on stdin is a request as JSON,
`{"do": NAME, ...arguments}`; each line on stdout is its answer, `{"result": ...}` or `{"error": TEXT}`.
The private keys of the DIDs it makes stay in here.

What the libraries lack for today's DIDs is added here from the text of the DID methods: key ids
`#key-N` and several services in a did:peer:2, the NIST curves, and did:peer:4.
"""

import asyncio
import hashlib
import json
import sys
import traceback
import urllib.request
from base64 import urlsafe_b64encode
from urllib.error import HTTPError

import base58
from authlib.common.encoding import urlsafe_b64decode
from authlib.jose import ECKey, OKPKey
from cryptography.hazmat.primitives.asymmetric import ec
from didcomm.common.algorithms import AnonCryptAlg
from didcomm.common.resolvers import ResolversConfig
from didcomm.common.types import VerificationMaterial, VerificationMaterialFormat, VerificationMethodType
from didcomm.did_doc.did_doc import DIDCommService, DIDDoc
from didcomm.did_doc.did_resolver import DIDResolver
from didcomm.message import FromPrior, Message
from didcomm.pack_encrypted import PackEncryptedConfig, pack_encrypted
from didcomm.pack_plaintext import pack_plaintext
from didcomm.pack_signed import pack_signed
from didcomm.protocols.routing.forward import unpack_forward, wrap_in_forward
from didcomm.secrets.secrets_resolver import Secret
from didcomm.secrets.secrets_resolver_in_memory import SecretsResolverInMemory
from didcomm.unpack import unpack
from peerdid import dids
from peerdid.core.peer_did_helper import decode_service
from peerdid.keys import BaseKey, Ed25519VerificationKey, X25519KeyAgreementKey

MEDIA_TYPE = "application/didcomm-encrypted+json"
MULTICODEC = {
    "Ed25519": b"\xed\x01",
    "X25519": b"\xec\x01",
    "P-256": b"\x80\x24",
    "P-384": b"\x81\x24",
    "P-521": b"\x82\x24",
}
NIST = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
JSON_DOCUMENT = b"\x80\x04"  # multicodec: json
SHA2_256 = b"\x12\x20"  # multihash
AS_PEERDID_NAMES_KEYS = set()  # DIDs of its own whose keys have the names that `peerdid` gives them
ENC = {algorithm.value.enc: algorithm for algorithm in AnonCryptAlg}


def b64url(data):
    return urlsafe_b64encode(data).decode().rstrip("=")


def multibase(data):
    return "z" + base58.b58encode(data).decode()


# --- DID documents


class Resolver(DIDResolver):
    async def resolve(self, did):
        if did in AS_PEERDID_NAMES_KEYS:
            return as_peerdid_resolves(did)
        if did.startswith("did:peer:2"):
            return peer2_document(did)
        if did.startswith("did:peer:4"):
            return peer4_document(did)
        return None


def as_peerdid_resolves(did):
    """`#` and the first characters of the key; relative, where `didcomm` looks for absolute ones."""
    resolved = json.dumps(dids.resolve_peer_did(did).serialize())
    return DIDDoc.deserialize(json.loads(resolved.replace('"#', f'"{did}#')))


def peer2_document(did):
    keys, services = [], []
    for segment in did.split(".")[1:]:
        if segment[0] == "S":
            services += [service.serialize() for service in decode_service(segment[1:])]
        else:
            keys.append((segment[0], segment[1:]))
    methods = {f"{did}#key-{n}": text for n, (_, text) in enumerate(keys, 1)}
    purposes = [purpose for purpose, _ in keys]
    named = {letter: [k for k, p in zip(methods, purposes, strict=True) if p == letter] for letter in "EV"}
    return document(did, methods, named["V"], named["E"], services)


def peer4_document(did):
    _, _, name, encoded = did.split(":")
    if name != "4" + multibase(SHA2_256 + hashlib.sha256(encoded.encode()).digest()):
        raise ValueError("the hash of a did:peer:4 is wrong")
    data = base58.b58decode(encoded[1:])
    if data[:2] != JSON_DOCUMENT:
        raise ValueError("a did:peer:4 holds no JSON")
    value = json.loads(data[2:])
    methods = {did + item["id"]: item["publicKeyMultibase"] for item in value["verificationMethod"]}
    authentication, agreement = ([did + ref for ref in value[name]] for name in RELATIONSHIPS)
    return document(did, methods, authentication, agreement, value.get("service", []))


RELATIONSHIPS = ("authentication", "keyAgreement")


def document(did, methods, authentication, agreement, services):
    value = {
        "id": did,
        "verificationMethod": [verification_method(did, kid, text) for kid, text in methods.items()],
        "authentication": authentication,
        "keyAgreement": agreement,
    }
    # `didcomm` reads a service only in the flat shape of this class of the older `pydid`.
    flat = [flat_service(did, n, service) for n, service in enumerate(services)]
    return DIDDoc.deserialize(value).copy(update={"service": flat})


def verification_method(did, kid, text):
    data = base58.b58decode(text[1:])
    curve = next(curve for curve, prefix in MULTICODEC.items() if data.startswith(prefix))
    if curve not in NIST:
        return BaseKey.from_multibase(text, ident=kid).verification_method(did).method.serialize()
    public = ec.EllipticCurvePublicKey.from_encoded_point(NIST[curve], data[2:]).public_numbers()
    size = (NIST[curve].key_size + 7) // 8
    coordinates = {name: b64url(getattr(public, name).to_bytes(size, "big")) for name in "xy"}
    return {
        "id": kid,
        "type": VerificationMethodType.JSON_WEB_KEY_2020,
        "controller": did,
        "publicKeyJwk": {"kty": "EC", "crv": curve, **coordinates},
    }


def flat_service(did, number, service):
    endpoint = service["serviceEndpoint"]
    fields = endpoint if isinstance(endpoint, dict) else {**service, "uri": endpoint}
    return DIDCommService(
        id=f"{did}#service-{number}",
        type="DIDCommMessaging",
        service_endpoint=fields["uri"],
        accept=fields.get("accept", fields.get("a", [])),
        recipient_keys=[],
        routing_keys=fields.get("routingKeys", fields.get("r", [])),
    )


# --- DIDs of its own


def new_key(curve):
    return (ECKey if curve in NIST else OKPKey).generate_key(curve, is_private=True)


def multikey(key):
    jwk = key.as_dict()
    point = urlsafe_b64decode(jwk["x"].encode())
    if jwk["kty"] == "EC":  # compressed; and `authlib` leaves out leading zeros
        point = point.rjust((NIST[jwk["crv"]].key_size + 7) // 8, b"\0")
        point = bytes([2 + urlsafe_b64decode(jwk["y"].encode())[-1] % 2]) + point
    return multibase(MULTICODEC[jwk["crv"]] + point)


def create_peer2(agreement, signing, services, flat):
    if flat and agreement.as_dict()["crv"] == "X25519" and len(services) < 2:
        keys = [
            X25519KeyAgreementKey(urlsafe_b64decode(agreement.as_dict()["x"].encode())),
            Ed25519VerificationKey(urlsafe_b64decode(signing.as_dict()["x"].encode())),
        ]
        # As the documentation of `peerdid` shows it: the flat shape from before September 2023.
        flat = [{"type": "DIDCommMessaging", **s, "serviceEndpoint": s["uri"]} for s in services]
        for service in flat:
            del service["uri"]
        return str(dids.create_peer_did_numalgo_2(keys[:1], keys[1:], flat[0] if flat else None))
    segments = [f".E{multikey(agreement)}", f".V{multikey(signing)}"]
    for service in services:
        endpoint = {"uri": service["uri"], "a": service["accept"], "r": service.get("routingKeys", [])}
        segments.append(".S" + b64url(json.dumps({"t": "dm", "s": endpoint}).encode()))
    return "did:peer:2" + "".join(segments)


def create_peer4(agreement, signing, services):
    value = {
        "@context": ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"],
        "verificationMethod": [
            {"id": f"#key-{n}", "type": "Multikey", "publicKeyMultibase": multikey(key)}
            for n, key in enumerate([agreement, signing], 1)
        ],
        "keyAgreement": ["#key-1"],
        "authentication": ["#key-2"],
        "service": [
            {"id": f"#service-{n}", "type": "DIDCommMessaging", "serviceEndpoint": service}
            for n, service in enumerate(services)
        ],
    }
    encoded = multibase(JSON_DOCUMENT + json.dumps(value).encode())
    return f"did:peer:4{multibase(SHA2_256 + hashlib.sha256(encoded.encode()).digest())}:{encoded}"


# --- requests


class Peer:
    def __init__(self):
        self._secrets = []

    @property
    def config(self):
        return ResolversConfig(SecretsResolverInMemory(self._secrets), Resolver())

    async def create(self, method, curve, signing="Ed25519", services=(), flat=True, peerdid_key_names=False):
        """A new DID, with the keys `#key-1` to agree and `#key-2` to sign.

        `flat`: with a service in the shape that `peerdid` writes, from before September 2023.
        """
        keys = [new_key(curve), new_key(signing)]
        did = create_peer2(*keys, services, flat) if method == "peer2" else create_peer4(*keys, services)
        if peerdid_key_names:
            AS_PEERDID_NAMES_KEYS.add(did)
        for number, key in enumerate(keys, 1):
            name = multikey(key)[1:9] if peerdid_key_names else f"key-{number}"
            jwk = json.dumps(key.as_dict(is_private=True))
            material = VerificationMaterial(VerificationMaterialFormat.JWK, jwk)
            secret = Secret(f"{did}#{name}", VerificationMethodType.JSON_WEB_KEY_2020, material)
            self._secrets.append(secret)
        return did

    async def pack(
        self,
        message,
        to,
        sender=None,
        signer=None,
        enc="XC20P",
        hide_sender=False,
        forward=False,
        wrap_for_did=True,
    ):
        """Encrypt; authcrypt where there is a `sender`. `forward`: for the routing keys of `to`.

        `didcomm` forgets the forward where the endpoint is a DID and there are no other routing keys:
        `wrap_for_did` has it wrapped all the same, as a caller must.
        """
        config = PackEncryptedConfig(enc_alg_anon=ENC[enc], protect_sender_id=hide_sender, forward=forward)
        packed = await pack_encrypted(
            self.config, read(message), to=to, frm=sender, sign_frm=signer, pack_config=config
        )
        service = next(iter((await Resolver().resolve(to)).service), None)
        if forward and wrap_for_did and service and not service.routing_keys:
            endpoint = str(service.service_endpoint)
            if endpoint.startswith("did:"):
                return await self.wrap(packed.packed_msg, to, [endpoint], enc)
        return packed.packed_msg

    async def plain(self, message):
        return (await pack_plaintext(self.config, read(message))).packed_msg

    async def sign(self, message, signer):
        return (await pack_signed(self.config, read(message), sign_frm=signer)).packed_msg

    async def wrap(self, envelope, to, hops, enc="XC20P"):
        """Put forwards around an envelope, `hops` in the order in which it travels."""
        wrapped = await wrap_in_forward(self.config, json.loads(envelope), to, hops, enc_alg_anon=ENC[enc])
        return json.dumps(wrapped.msg_encrypted.msg)

    async def unpack(self, envelope):
        opened = await unpack(self.config, envelope)
        proven, message = opened.metadata, opened.message.as_dict()
        return {
            "prior": message.pop("from_prior", None),
            "prior_signer": proven.from_prior_issuer_kid,
            "message": message,
            "authenticated": proven.authenticated,
            "anonymous_sender": proven.anonymous_sender,
            "sender": proven.encrypted_from,
            "recipients": proven.encrypted_to,
            "signer": proven.sign_from,
            "enc": proven.enc_alg_anon.value.enc if proven.enc_alg_anon else None,
        }

    async def unwrap(self, envelope):
        """Open a forward as a mediator does."""
        opened = await unpack_forward(self.config, envelope, False)
        return {"next": opened.forward_msg.body.next, "forwarded": json.dumps(opened.forwarded_msg)}

    async def endpoints(self, did):
        return [str(service.service_endpoint) for service in (await Resolver().resolve(did)).service]

    async def post(self, url, envelope):
        request = urllib.request.Request(url, envelope.encode(), {"Content-Type": MEDIA_TYPE})
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return {"status": response.status, "body": response.read().decode()}
        except HTTPError as error:
            return {"status": error.code, "body": error.read().decode()}


def read(value):
    if "from_prior" in value:
        value = {**value, "from_prior": FromPrior(**value["from_prior"])}
    headers = {"frm" if name == "from" else name: item for name, item in value.items()}
    custom = {name: headers.pop(name) for name in ("return_route",) if name in headers}
    return Message(**headers, custom_headers=custom or None)


async def main():
    peer = Peer()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"result": await getattr(peer, request.pop("do"))(**request)}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
