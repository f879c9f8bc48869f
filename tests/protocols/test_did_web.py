"""did:web without a network: where a document lies, and which document it may be."""

import json
from typing import Any

import pytest

from didmpc.protocols.crypto.keys import PrivateKey
from didmpc.protocols.did import web
from didmpc.protocols.errors import DidError, RemoteViolation

DID = "did:web:example.com"


@pytest.mark.parametrize(
    ("did", "url"),
    [  # the first three are the examples of the method specification
        ("did:web:w3c-ccg.github.io", "https://w3c-ccg.github.io/.well-known/did.json"),
        ("did:web:w3c-ccg.github.io:user:alice", "https://w3c-ccg.github.io/user/alice/did.json"),
        ("did:web:example.com%3A3000:user:alice", "https://example.com:3000/user/alice/did.json"),
        ("did:web:example.com%3a3000", "https://example.com:3000/.well-known/did.json"),
        ("did:web:localhost%3A8443", "https://localhost:8443/.well-known/did.json"),
        ("did:web:xn--bcher-kva.example:a%20b", "https://xn--bcher-kva.example/a%20b/did.json"),
        ("did:web:example.com#key-1", "https://example.com/.well-known/did.json"),
    ],
)
def test_a_did_says_where_its_document_lies(did: str, url: str) -> None:
    assert web.url_of(did) == url


@pytest.mark.parametrize(
    "name",
    [
        *(
            "127.0.0.1 127.1 0x7f.1 2130706433 1.1.1.1%3A443 %5B%3A%3A1%5D example.com%3A example.com%3A0"
            " example.com%3A65536 example.com%3A80%3A80 example..com -example.com a@b.com user%40example.com"
            " example.com%2Fpath example.com%23 example.com:.. example.com:%2e%2e example.com:a%2Fb"
            " example.com:%5C example.com:a::b example.com: example.com:%00 example.com:%zz .example.com"
        ).split(),
        "a." * 130 + "com",
        "example.com:" + "a" * 1300,
    ],
)
def test_a_did_that_does_not(name: str) -> None:
    with pytest.raises(DidError):
        web.url_of(f"did:web:{name}")


def test_another_method_is_none() -> None:
    with pytest.raises(DidError):
        web.url_of("did:key:example.com")


def document(**members: Any) -> dict[str, Any]:
    agreement = PrivateKey.generate("X25519").public
    return {
        "@context": ["https://www.w3.org/ns/did/v1"],
        "id": DID,
        "verificationMethod": [
            {
                "id": f"{DID}#key-1",
                "type": "JsonWebKey2020",
                "controller": DID,
                "publicKeyJwk": agreement.jwk(),
            }
        ],
        "keyAgreement": [f"{DID}#key-1"],
        **members,
    }


def parse(value: Any) -> web.DIDDocument:
    return web.parse(DID, json.dumps(value).encode())


def test_the_document_is_read() -> None:
    service = {"id": "#a", "type": "DIDCommMessaging", "serviceEndpoint": {"uri": "https://example.com/"}}
    found = parse(document(service=[service]))
    assert found.did == DID and found.key_agreement[0].kid == f"{DID}#key-1"
    assert found.services[0].uri == "https://example.com/"


@pytest.mark.parametrize("id", ["did:web:example.org", f"{DID}:bob", "DID:WEB:EXAMPLE.COM", None, 7])
def test_the_document_of_another_is_refused(id: Any) -> None:
    with pytest.raises(DidError):
        parse(document(id=id))


@pytest.mark.parametrize("embedded", [True, False])
def test_a_key_of_another_is_not_used(embedded: bool) -> None:
    value = document()
    method = value["verificationMethod"][0] | {"id": "did:web:example.org#key-1"}
    value["verificationMethod"].append(method)
    value["keyAgreement"].insert(0, method if embedded else method["id"])
    assert [each.kid for each in parse(value).key_agreement] == [f"{DID}#key-1"]


@pytest.mark.parametrize(
    "method",
    [
        {"type": "EcdsaSecp256k1RecoveryMethod2020", "blockchainAccountId": "eip155:1:0xab16a96d"},
        {"type": "Bls12381G2Key2020", "publicKeyBase58": "25ETdUZDVnME6yYuAMjFRCnCPcDmYQcoZDcZuX"},
        {"type": "SomethingNew2030", "publicKeyThing": {"a": 1}},
        {"type": "JsonWebKey2020", "publicKeyJwk": {"kty": "EC", "crv": "brainpoolP256r1", "x": "AA"}},
    ],
)
def test_keys_of_other_kinds_are_passed_over(method: dict[str, Any]) -> None:
    value = document()
    value["verificationMethod"].append({"id": f"{DID}#other", "controller": DID, **method})
    value["keyAgreement"].insert(0, f"{DID}#other")
    value["authentication"] = [f"{DID}#other"]
    found = parse(value)
    assert [each.kid for each in found.key_agreement] == [f"{DID}#key-1"] and not found.authentication


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", b"[]", b"null", b'"x"', b"\xff", b"[" * 70_000, b'{"id":' * 9000, b" " * 65_537],
)
def test_what_is_no_document_is_refused(content: bytes) -> None:
    with pytest.raises(RemoteViolation):
        web.parse(DID, content)
