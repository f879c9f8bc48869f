"""A DIDComm peer that shares no code with ours: PyPI `didcomm-messaging`, with `did-peer-2` and `did-peer-4`.

Each line on stdin is a request as JSON, `{"do": NAME, ...arguments}`; each line on stdout is its answer,
`{"result": ...}` or `{"error": TEXT}`. The private keys of the DIDs it makes stay in here.

It has two cryptographic backends, each with DIDs of its own: `authlib` and `askar`. Its `quickstart`
helpers, which need askar, are run as they are.
"""

import asyncio
import json
import sys
import traceback
import urllib.request
from urllib.error import HTTPError

from aries_askar import Key, KeyAlg
from authlib.jose import OKPKey
from did_peer_2 import KeySpec, generate
from did_peer_4 import encode as encode_peer4
from didcomm_messaging import DIDCommMessaging, quickstart
from didcomm_messaging.crypto.backend.askar import AskarCryptoService, AskarSecretKey
from didcomm_messaging.crypto.backend.authlib import AuthlibCryptoService, AuthlibSecretKey
from didcomm_messaging.crypto.backend.basic import InMemorySecretsManager
from didcomm_messaging.multiformats import multibase, multicodec
from didcomm_messaging.packaging import PackagingService
from didcomm_messaging.resolver import PrefixResolver
from didcomm_messaging.resolver.peer import Peer2, Peer4
from didcomm_messaging.routing import RoutingService

MEDIA_TYPE = "application/didcomm-encrypted+json"
PLAIN = "application/didcomm-plain+json"
RELATIONSHIPS = {"authentication": "ed25519-pub", "keyAgreement": "x25519-pub"}


class Askar:
    crypto = AskarCryptoService()
    Secret = AskarSecretKey

    @staticmethod
    def keys():
        return [Key.generate(KeyAlg.ED25519), Key.generate(KeyAlg.X25519)]

    @staticmethod
    def raw(key):
        return key.get_public_bytes()


class Authlib:
    crypto = AuthlibCryptoService()
    Secret = AuthlibSecretKey

    @staticmethod
    def keys():
        return [OKPKey.generate_key(curve, is_private=True) for curve in ("Ed25519", "X25519")]

    @staticmethod
    def raw(key):
        return key.get_public_key().public_bytes_raw()


BACKENDS = {"askar": Askar, "authlib": Authlib}


def multikeys(backend, keys):
    """The signing key and the agreement key as multikeys."""
    pairs = zip(RELATIONSHIPS.values(), keys, strict=True)
    return [multibase.encode(multicodec.wrap(name, backend.raw(key)), "base58btc") for name, key in pairs]


def create_peer2(signing, agreement, services):
    return generate([KeySpec.verification(signing), KeySpec.key_agreement(agreement)], services)


def create_peer4(signing, agreement, services):
    methods = {"#key-1": signing, "#key-2": agreement}
    return encode_peer4(
        {
            "@context": ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"],
            "verificationMethod": [
                {"id": name, "type": "Multikey", "publicKeyMultibase": key} for name, key in methods.items()
            ],
            **{name: [kid] for name, kid in zip(RELATIONSHIPS, methods, strict=True)},
            "service": [{"id": f"#service-{n}", **service} for n, service in enumerate(services)],
        }
    )


class Peer:
    def __init__(self):
        resolver = PrefixResolver({"did:peer:2": Peer2(), "did:peer:4": Peer4()})
        self._sides = {
            name: DIDCommMessaging(
                backend.crypto, InMemorySecretsManager(), resolver, PackagingService(), RoutingService()
            )
            for name, backend in BACKENDS.items()
        }
        self._backend = {}  # of each DID that was made here
        self._quickstart = {}  # of each DID that its helpers made: with what they work

    def _side(self, did):
        return self._sides[self._backend.get(did.partition("#")[0], "authlib")]

    async def create(self, method, curve="X25519", services=(), backend="authlib"):
        """A new DID, with the keys `#key-1` to sign and `#key-2` to agree."""
        kind = BACKENDS[backend]
        keys = kind.keys()
        shaped = [{"type": "DIDCommMessaging", "serviceEndpoint": service} for service in services]
        did = (create_peer2 if method == "peer2" else create_peer4)(*multikeys(kind, keys), shaped)
        self._backend[did] = backend
        for number, key in enumerate(keys, 1):
            await self._sides[backend].secrets.add_secret(kind.Secret(key, f"{did}#key-{number}"))
        return did

    async def pack(self, message, to, sender=None, forward=False, backend="authlib"):
        """Encrypt; authcrypt where there is a `sender`. `forward`: for the routing keys of `to`."""
        side = self._side(sender) if sender else self._sides[backend]
        message = {"typ": PLAIN, **message}
        if forward:
            return (await side.pack(message, to, sender)).message.decode()
        plaintext = json.dumps(message).encode()
        packed = await side.packaging.pack(side.crypto, side.resolver, side.secrets, plaintext, [to], sender)
        return packed.decode()

    async def unpack(self, envelope):
        recipient = json.loads(envelope)["recipients"][0]["header"]["kid"]
        opened = await self._side(recipient).unpack(envelope.encode())
        return {
            "message": opened.message,
            "authenticated": opened.authenticated,
            "sender": opened.sender_kid,
            "recipients": [opened.recipient_kid],
        }

    async def endpoints(self, did):
        document = await self._sides["authlib"].resolver.resolve_and_parse(did)
        return [service.service_endpoint.uri for service in document.service]

    async def post(self, url, envelope):
        return await asyncio.to_thread(post, url, envelope)

    # --- its own helpers for beginners, unchanged

    async def quickstart(self, mediator):
        """A DID behind the mediator, as `quickstart` makes it: coordinate-mediation 3.0."""
        did, keys = quickstart.generate_did()
        side = await quickstart.setup_default(did, keys)
        relayed = await quickstart.setup_relay(side, did, mediator, *keys)
        self._quickstart[relayed] = (side, did, mediator)
        return relayed

    async def quickstart_fetch(self, relayed):
        """The messages that wait for a DID of `quickstart`, by messagepickup 3.0."""
        found = []

        async def take(message):
            found.append(message)

        await quickstart.fetch_relayed_messages(*self._quickstart[relayed], take)
        return found


def post(url, envelope):
    request = urllib.request.Request(url, envelope.encode(), {"Content-Type": MEDIA_TYPE})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return {"status": response.status, "body": response.read().decode()}
    except HTTPError as error:
        return {"status": error.code, "body": error.read().decode()}


async def main():
    peer = Peer()
    while line := await asyncio.to_thread(sys.stdin.readline):
        request = json.loads(line)
        try:
            answer = {"result": await getattr(peer, request.pop("do"))(**request)}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
