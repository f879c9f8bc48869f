"""Every example of the DIDComm Messaging specification's appendix opens, and says what it should."""

import json
from pathlib import Path
from typing import Any

import pytest

from didmpc.protocols.crypto.encoding import b64url, unb64url
from didmpc.protocols.crypto.keys import PrivateKey
from didmpc.protocols.did import DIDDocument
from didmpc.protocols.did.document import from_json
from didmpc.protocols.envelope import unpack
from didmpc.protocols.errors import DidError, EnvelopeError
from didmpc.protocols.identity import Identities, Identity

EXAMPLES = Path(__file__).parent.parent / "vectors" / "appendix"
ENVELOPES = sorted(path for path in EXAMPLES.glob("*crypt*.json")) + sorted(EXAMPLES.glob("signed_*.json"))
ALICE, BOB = "did:example:alice", "did:example:bob"


def read(name: str) -> Any:
    return json.loads((EXAMPLES / name).read_text())


DOCUMENTS = {document["id"]: from_json(document["id"], document) for document in read("documents.json")}
SECRETS = {secret["kid"]: PrivateKey.from_jwk(secret) for secret in read("secrets.json")}


def resolve(did: str) -> DIDDocument:
    if did not in DOCUMENTS:
        raise DidError("No such DID.")
    return DOCUMENTS[did]


def held(*names: str) -> Identities:
    """Bob with these keys of his, with all of them where none is named."""
    kids = [kid for kid in SECRETS if kid.startswith(BOB) and (not names or kid.partition("#")[2] in names)]
    return Identities(Identity(BOB, {kid: SECRETS[kid] for kid in kids}))


def test_the_examples_are_there() -> None:
    assert [path.stem for path in ENVELOPES] == [
        "anoncrypt-authcrypt-signed_P-521_XC20P",
        "anoncrypt_P-384_A256CBC-HS512",
        "anoncrypt_P-521_A256GCM",
        "anoncrypt_X25519_XC20P",
        "authcrypt-signed_P-256_A256CBC-HS512",
        "authcrypt_X25519_A256CBC-HS512",
        "signed_ES256",
        "signed_ES256K",
        "signed_EdDSA",
    ]


def test_the_documents_give_the_keys_whose_secrets_the_appendix_has() -> None:
    for document in DOCUMENTS.values():
        for method in (*document.key_agreement, *document.authentication):
            assert SECRETS[method.kid].public == method.public
    listed = {m.kid for d in DOCUMENTS.values() for m in (*d.key_agreement, *d.authentication)}
    assert listed == set(SECRETS)


@pytest.mark.parametrize("path", ENVELOPES, ids=lambda path: path.stem)
def test_an_example_opens(path: Path) -> None:
    opened = unpack(path.read_bytes(), held(), resolve)
    expected = read("plaintext.json")
    message = opened.message.to_json()
    assert message.pop("typ") == "application/didcomm-plain+json"
    # Inside the envelopes the specification has http where its plaintext has https.
    assert message == {**expected, "type": expected["type"].replace("https:", "http:")}
    assert opened.authenticated == ("authcrypt" in path.stem)
    assert opened.sender == (ALICE if "authcrypt" in path.stem else None)
    assert opened.signer == (ALICE if "signed" in path.stem else None)
    assert opened.encrypted == ("crypt" in path.stem)


@pytest.mark.parametrize("path", [path for path in ENVELOPES if "crypt" in path.stem], ids=lambda p: p.stem)
def test_each_of_its_recipients_opens_it_with_one_key(path: Path) -> None:
    recipients = [
        item["header"]["kid"].partition("#")[2] for item in json.loads(path.read_text())["recipients"]
    ]
    assert len(recipients) >= 2
    for name in recipients:
        opened = unpack(path.read_bytes(), held(name), resolve)
        assert opened.message.body == {"messagespecificattribute": "and its value"}
        assert opened.recipient_kid == f"{BOB}#{name}"


@pytest.mark.parametrize("path", ENVELOPES, ids=lambda path: path.stem)
def test_an_example_does_not_open_after_a_change(path: Path) -> None:
    value = json.loads(path.read_text())
    target, name = (value, "ciphertext") if "crypt" in path.stem else (value["signatures"][0], "signature")
    raw = unb64url(target[name])
    target[name] = b64url(bytes([raw[0] ^ 1]) + raw[1:])
    with pytest.raises(EnvelopeError):
        unpack(json.dumps(value).encode(), held(), resolve)
