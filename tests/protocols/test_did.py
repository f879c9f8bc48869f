"""DIDs: written and read back, in the forms that others write, and refused when they are broken."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from didmpc.protocols import did
from didmpc.protocols.crypto.encoding import b64url, multibase, varint
from didmpc.protocols.crypto.keys import CURVES, Curve, PrivateKey, PublicKey
from didmpc.protocols.did import (
    DIDDocument,
    Service,
    canonical,
    did_of,
    names,
    peer2,
    peer4,
    resolve,
    same_party,
)
from didmpc.protocols.errors import DidError

X, ED, P256, P384 = (PrivateKey.generate(curve).public for curve in ("X25519", "Ed25519", "P-256", "P-384"))
HTTP = Service("https://mediator.example", routing_keys=("did:key:z6MkRoute#z6MkRoute",))
WS = Service("wss://mediator.example/ws", id="#service-1")


def keys_of(document: DIDDocument) -> dict[str, PublicKey]:
    methods = (*document.key_agreement, *document.authentication)
    return {method.kid.removeprefix(document.did): method.public for method in methods}


# --- did:peer:2


def test_a_peer2_did_resolves_to_what_it_was_made_of() -> None:
    document = resolve(peer2.create([ED, X], [HTTP, WS]))
    assert keys_of(document) == {"#key-1": ED, "#key-2": X}
    assert [method.public for method in document.authentication] == [ED]
    assert document.services == (HTTP, WS)


def test_peer2_keys_are_numbered_in_the_order_of_the_text() -> None:
    assert keys_of(resolve(peer2.create([X, ED, P256, P384]))) == {
        "#key-1": X,
        "#key-2": ED,
        "#key-3": P256,
        "#key-4": P384,
    }


def test_two_peer2_services_are_two_segments() -> None:
    written = peer2.create([X], [HTTP, WS])
    assert written.count(".S") == 2


def service_segment(value: Any) -> str:
    return ".S" + b64url(json.dumps(value).encode())


@pytest.mark.parametrize(
    "value",
    [
        {"t": "dm", "s": {"uri": "http://x", "a": ["didcomm/v2"], "r": ["did:key:a"]}},
        {"t": "dm", "s": "http://x", "a": ["didcomm/v2"], "r": ["did:key:a"]},
        [{"t": "dm", "s": {"uri": "http://x", "accept": ["didcomm/v2"], "routingKeys": ["did:key:a"]}}],
        {
            "type": "DIDCommMessaging",
            "serviceEndpoint": {"uri": "http://x", "a": ["didcomm/v2"], "r": ["did:key:a"]},
        },
        {"t": "dm", "s": [{"uri": "http://x", "a": ["didcomm/v2"], "r": ["did:key:a"]}]},
    ],
)
def test_every_way_to_write_a_peer2_service_is_read(value: Any) -> None:
    document = resolve(peer2.create([X]) + service_segment(value))
    assert document.services == (Service("http://x", routing_keys=("did:key:a",)),)


def test_services_that_all_carry_one_id_are_all_kept() -> None:
    segment = {"id": "#DIDCommMessaging-0", "t": "dm", "s": {"uri": "http://x", "a": []}}
    twice = [segment, {**segment, "s": {"uri": "ws://x", "a": []}}]
    found = resolve(peer2.create([X]) + "".join(map(service_segment, twice))).services
    assert [service.uri for service in found] == ["http://x", "ws://x"]


def test_services_of_other_kinds_are_left_out() -> None:
    other = service_segment({"t": "LinkedDomains", "s": {"uri": "https://example.com"}})
    assert resolve(peer2.create([X]) + other).services == ()


@pytest.mark.parametrize(
    "broken",
    [
        "did:peer:2",
        "did:peer:2.",
        "did:peer:2.Xz6Mk",
        "did:peer:2.Ez6LS0OIl",
        "did:peer:2..S",
        "did:peer:2.S!!!!",
        "did:peer:2.S" + b64url(b"not json"),
        "did:peer:2" + service_segment(7),
        "did:peer:2" + service_segment({"t": "dm"}),
        "did:peer:2" + service_segment({"t": "dm", "s": {"uri": 7}}),
        "did:peer:2" + service_segment({"t": "dm", "s": {"uri": "http://x", "r": "x"}}),
        "did:peer:2" + service_segment({"t": "dm", "s": {"uri": "http://x", "r": [7]}}),
        "did:peer:2" + (".E" + X.multikey()) * 33,
        "did:peer:2" + service_segment({"t": "dm", "s": {"uri": "http://x"}}) * 17,
    ],
)
def test_a_broken_peer2_did_is_the_peers_fault(broken: str) -> None:
    with pytest.raises(DidError):
        resolve(broken)


# --- did:peer:4


@pytest.mark.parametrize("keys", [(X, ED), (P256, ED), (P384,), (X, P256, P384, ED)])
def test_a_peer4_did_resolves_to_what_it_was_made_of(keys: tuple[PublicKey, ...]) -> None:
    long = peer4.create(keys, [HTTP, WS])
    document = resolve(long)
    assert document.did == long
    assert keys_of(document) == {f"#key-{n}": key for n, key in enumerate(keys, start=1)}
    assert document.services == (HTTP, WS)
    assert document.also_known_as == (canonical(long),)


def test_the_peer4_forms_of_another_implementation_resolve(foreign_keys: dict[str, Any]) -> None:
    for person in foreign_keys.values():
        long, short = person["peer4_long"], person["peer4_short"]
        assert canonical(long) == short
        document = resolve(long)
        assert document.key(f"{long}#key-1").public == PublicKey.from_jwk(person["x"])
        assert [service.uri for service in document.services] == [person["uri"]]


def test_the_short_form_resolves_once_the_long_one_is_known() -> None:
    long = peer4.create([X, ED])
    short = canonical(long)
    with pytest.raises(DidError, match="never seen"):
        resolve(short)
    with pytest.raises(DidError, match="never seen"):
        resolve(short, lambda _: None)
    document = resolve(short, {short: long}.get)
    assert document.did == short
    assert document.also_known_as == (long,)
    assert document.key(f"{short}#key-1").public == X


def test_a_key_is_found_under_either_form_of_its_peer4_did() -> None:
    long = peer4.create([X, ED])
    short = canonical(long)
    for document in (resolve(long), resolve(short, {short: long}.get)):
        assert document.key(f"{long}#key-1").public == X
        assert document.key(f"{short}#key-2").public == ED
        assert document.agreement_key(f"{short}#key-1").public == X
        for absent in (f"{short}#key-3", f"{short}", f"{peer4.create([X])}#key-1", "did:key:zX#key-1"):
            with pytest.raises(DidError):
                document.key(absent)
        with pytest.raises(DidError):
            document.authentication_key(f"{short}#key-1")


def test_a_known_long_form_of_somebody_else_is_refused() -> None:
    mine, other = peer4.create([X]), peer4.create([ED])
    with pytest.raises(DidError, match="another"):
        resolve(canonical(mine), lambda _: other)


def test_a_peer4_document_is_bound_by_its_hash() -> None:
    victim, document = canonical(peer4.create([X])), peer4.create([P256]).rpartition(":")[2]
    forged = f"{victim}:{document}"
    with pytest.raises(DidError, match="hash"):
        resolve(forged)
    assert not same_party(forged, victim)


@pytest.mark.parametrize(
    "document",
    [
        {"id": "did:peer:4zQm", "verificationMethod": []},
        {"verificationMethod": 7},
        {"verificationMethod": [7]},
        {"verificationMethod": [{}]},
        {"verificationMethod": [{"id": 7, "type": "Multikey", "publicKeyMultibase": X.multikey()}]},
        {"verificationMethod": [{"id": "#k", "type": "Multikey"}], "keyAgreement": ["#k"]},
        {"verificationMethod": [{"id": "#k", "type": 7, "publicKeyMultibase": "z"}], "keyAgreement": ["#k"]},
        {"keyAgreement": ["#absent"]},
        {"keyAgreement": [7]},
        {"keyAgreement": "#key-1"},
        {"service": [7]},
        {"service": [{"id": "#s", "type": "DIDCommMessaging", "serviceEndpoint": 7}]},
        {"service": [{"id": 7, "type": "DIDCommMessaging", "serviceEndpoint": {"uri": "http://x"}}]},
        {"alsoKnownAs": 7},
        {"alsoKnownAs": [7]},
        {"@context": 7},
        {"controller": {"a": 1}},
    ],
)
def test_a_malformed_peer4_document_is_the_peers_fault(document: dict[str, Any]) -> None:
    with pytest.raises(DidError):
        resolve(peer4.encode(document))


NAMES = ["id", "type", "controller", "publicKeyMultibase", "publicKeyJwk", "uri", "serviceEndpoint"]
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=12) | st.sampled_from(["#k", X.multikey()])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=8,
)
MEMBERS = [
    "@context",
    "verificationMethod",
    "keyAgreement",
    "authentication",
    "service",
    "alsoKnownAs",
    "controller",
]


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(MEMBERS), JSON))
def test_any_peer4_document_resolves_or_is_the_peers_fault(document: dict[str, Any]) -> None:
    with contextlib.suppress(DidError):
        resolve(peer4.encode(document))


def test_a_peer4_document_of_another_codec_is_refused() -> None:
    encoded = multibase(varint(0x55) + b"{}")
    with pytest.raises(DidError):
        resolve(f"{did.names.short_peer4(encoded)}:{encoded}")


@pytest.mark.parametrize(
    "method",
    [
        {"type": "JsonWebKey2020", "publicKeyJwk": X.jwk()},
        {"type": "X25519KeyAgreementKey2020", "publicKeyMultibase": X.multikey()},
        {"type": "X25519KeyAgreementKey2019", "publicKeyBase58": multibase(X.raw)[1:]},
    ],
)
def test_a_key_is_read_in_each_of_its_verification_method_types(method: dict[str, Any]) -> None:
    for document in (
        {"verificationMethod": [{"id": "#k", **method}], "keyAgreement": ["#k"]},
        {"keyAgreement": [{"id": "#k", **method}]},
    ):
        assert [found.public for found in resolve(peer4.encode(document)).key_agreement] == [X]


def test_keys_that_are_not_supported_are_left_out_and_the_rest_is_used() -> None:
    sm2 = multibase(b"\x86\x24" + b"\x02" + bytes(31) + b"\x01")
    document = {
        "verificationMethod": [
            {"id": "#a", "type": "Multikey", "publicKeyMultibase": sm2},
            {"id": "#b", "type": "JsonWebKey2020", "publicKeyJwk": {"kty": "OKP", "crv": "X448", "x": "AA"}},
            {"id": "#c", "type": "Multikey", "publicKeyMultibase": X.multikey()},
        ],
        "keyAgreement": ["#a", "#b", "#c"],
    }
    assert [found.public for found in resolve(peer4.encode(document)).key_agreement] == [X]


def test_a_key_under_another_did_is_refused() -> None:
    foreign = "did:key:z6MkSomebody#z6MkSomebody"
    method = {"id": foreign, "type": "Multikey", "publicKeyMultibase": X.multikey()}
    with pytest.raises(DidError):
        resolve(peer4.encode({"keyAgreement": [method]}))


# --- did:key


@pytest.mark.parametrize("curve", CURVES)
def test_a_did_key_is_its_key(curve: Curve) -> None:
    public = PrivateKey.generate(curve).public
    document = resolve(did.key.create(public))
    assert document.key(did.key.kid(public)).public == public


def test_an_ed25519_did_key_also_agrees_under_the_derived_key() -> None:
    # The example of the method's specification.
    document = resolve("did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK")
    assert [method.kid.partition("#")[2] for method in document.key_agreement] == [
        "z6LSj72tK8brWgZja8NLRwPigth2T9QRiG1uH9oKZuKjdh9p"
    ]


def test_a_did_key_with_a_second_spelling_is_refused() -> None:
    base64 = "did:key:u" + b64url(b"\xec\x01" + X.raw)
    with pytest.raises(DidError):
        resolve(base64)


# --- names


def test_the_two_forms_of_a_peer4_did_are_one_party_with_and_without_a_fragment() -> None:
    long = peer4.create([X])
    short = canonical(long)
    assert len(short) < 70
    assert same_party(long, short)
    assert same_party(f"{long}#key-1", short)
    assert canonical(short) == short
    assert did_of(f"{long}#key-1") == long
    assert not same_party(long, peer4.create([ED]))


@pytest.mark.parametrize(
    "text", ["", "did", "did:", "did:x:", "x:y:z", "did:peer:2 x", "did:peer:é", "#key-1"]
)
def test_what_is_no_did_is_refused(text: str) -> None:
    with pytest.raises(DidError):
        canonical(text)


def test_a_did_that_is_far_too_long_is_refused() -> None:
    with pytest.raises(DidError, match="long"):
        resolve("did:peer:2." + "E" * 100_000)


def test_a_did_of_another_method_is_named_as_such() -> None:
    with pytest.raises(DidError, match="not supported") as caught:
        resolve("did:web:example.com")
    assert caught.value.code == "e.p.did.unsupported"


@given(st.text(max_size=60))
def test_any_text_as_a_did_resolves_or_is_the_peers_fault(text: str) -> None:
    for prefix in (
        "",
        "did:",
        "did:key:z",
        "did:peer:2.",
        "did:peer:2.Ez6LS",
        "did:peer:4z",
        "did:peer:4zQm:z",
    ):
        with contextlib.suppress(DidError):
            resolve(prefix + text)


def test_a_document_reads_back_from_its_json() -> None:
    for made in (peer4.create([X, ED], [HTTP, WS]), peer2.create([P256, ED], [HTTP])):
        document = resolve(made)
        assert did.document.from_json(made, json.loads(json.dumps(document.to_json()))) == document


def test_the_did_of_a_long_did_url_is_found_and_the_url_not_kept() -> None:
    before = names._did_of.cache_info().currsize
    assert names.did_of("did:example:long#" + "x" * 100_000) == "did:example:long"
    assert names._did_of.cache_info().currsize == before
