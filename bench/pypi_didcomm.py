"""CPU of one 64-byte record as a DIDComm message with PyPI `didcomm`: pack, forward, unpack twice.

Run by `didmpc bench session messages` in an environment of its own (`make bench` makes it): the library pins
old versions of what the product uses new ones of. Prints one JSON object.
"""

import asyncio
import base64
import json
import os
import statistics
import sys
import time

import base58
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from didcomm.common.resolvers import ResolversConfig
from didcomm.common.types import (
    VerificationMaterial,
    VerificationMaterialFormat,
    VerificationMethodType,
)
from didcomm.did_doc.did_doc import DIDCommService, DIDDoc
from didcomm.did_doc.did_resolver_in_memory import DIDResolverInMemory
from didcomm.message import Attachment, AttachmentDataBase64, Message
from didcomm.pack_encrypted import pack_encrypted
from didcomm.protocols.routing.forward import unpack_forward
from didcomm.secrets.secrets_resolver import Secret
from didcomm.secrets.secrets_resolver_in_memory import SecretsResolverInMemory
from didcomm.unpack import unpack
from peerdid import dids, keys

X25519_PRIVATE = bytes((0x82, 0x26))  # multicodec


class Peer:
    """A did:peer:2 and resolvers that know it and the others, so that no resolution is measured."""

    def __init__(self, routing_keys: list[str]) -> None:
        self._private = X25519PrivateKey.generate()
        agreement = keys.X25519KeyAgreementKey(self._private.public_key().public_bytes_raw())
        signing = keys.Ed25519VerificationKey(Ed25519PrivateKey.generate().public_key().public_bytes_raw())
        self.did = str(dids.create_peer_did_numalgo_2([agreement], [signing], None))
        # `didcomm` reads a service only in the shape that this class of the older `pydid` has.
        reachable = DIDCommService(
            id=f"{self.did}#service",
            type="DIDCommMessaging",
            service_endpoint="https://mediator.example",
            accept=["didcomm/v2"],
            recipient_keys=[],
            routing_keys=routing_keys,  # without any, `didcomm` wraps no forward
        )
        # `peerdid` writes key ids relative to the DID, `didcomm` looks for absolute ones.
        resolved = json.dumps(dids.resolve_peer_did(self.did).serialize())
        document = DIDDoc.deserialize(json.loads(resolved.replace('"#', f'"{self.did}#')))
        self.document = document.copy(update={"service": [reachable]})
        self.agreement_kid = str(document.key_agreement[0])
        self.config: ResolversConfig

    def knows(self, others: list["Peer"]) -> None:
        material = base58_multibase(X25519_PRIVATE + self._private.private_bytes_raw())
        secret = Secret(
            kid=self.agreement_kid,
            type=VerificationMethodType.X25519_KEY_AGREEMENT_KEY_2020,
            verification_material=VerificationMaterial(VerificationMaterialFormat.MULTIBASE, material),
        )
        self.config = ResolversConfig(
            SecretsResolverInMemory([secret]), DIDResolverInMemory([peer.document for peer in others])
        )


def base58_multibase(data: bytes) -> str:
    return "z" + base58.b58encode(data).decode()


async def measure(rounds: int, record: bytes) -> tuple[list[float], int]:
    """Microseconds of CPU for each record, and the bytes that its sender writes."""
    mediator = Peer([])
    alice, bob = Peer([mediator.agreement_kid]), Peer([mediator.agreement_kid])
    for peer in (mediator, alice, bob):
        peer.knows([mediator, alice, bob])
    spent, size = [], 0
    for number in range(rounds):
        started = time.process_time_ns()
        message = Message(
            id=f"{number:032x}",
            type="https://w3id.org/didmpc/mpc/1.0/frame",
            frm=alice.did,
            to=[bob.did],
            body={"n": number, "start": 1},
            attachments=[
                Attachment(id="0", data=AttachmentDataBase64(base64.urlsafe_b64encode(record).decode()))
            ],
        )
        packed = await pack_encrypted(alice.config, message, to=bob.did, frm=alice.did)
        forwarded = await unpack_forward(mediator.config, packed.packed_msg, False)
        opened = await unpack(bob.config, json.dumps(forwarded.forwarded_msg))
        spent.append((time.process_time_ns() - started) / 1000)
        data = opened.message.attachments[0].data.base64
        assert base64.urlsafe_b64decode(data) == record and opened.metadata.authenticated
        size = len(packed.packed_msg)
    return spent, size


if __name__ == "__main__":
    size, count = int(sys.argv[1]), int(sys.argv[2])
    samples, written = asyncio.run(measure(count, os.urandom(size)))
    samples = samples[len(samples) // 3 :]  # before that it warms up
    print(json.dumps({"us": statistics.median(samples), "samples": len(samples), "bytes": written}))
