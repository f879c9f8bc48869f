"""Receipts: what the parties claim and sign, that any change shows, and that nobody hangs on anybody."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.errors import LocalMisuse, MessageError
from didmpc.protocols.identity import Identity
from didmpc.protocols.mpc.receipt import MAX_RECEIPT, Exchange, Opening, Receipt, output_hash

from .test_agreement import Agreement, exchange_signatures, identities, manifest_of

OUTPUT = b"Average: 3412\n"
SALT = bytes(range(32))


def committed(output: bytes = OUTPUT, salt: bytes = SALT) -> bytes:
    hashed = output_hash(salt)
    hashed.update(output)
    return hashed.digest()


def exchanges_of(people: list[Identity]) -> list[Exchange]:
    """All parties have agreed and run."""
    manifest = manifest_of(people)
    parties = [Agreement(manifest, pid, person) for pid, person in enumerate(people)]
    exchange_signatures(parties)
    reveals = [party.reveal() for party in parties]
    for receiver in parties:
        for pid, reveal in enumerate(reveals):
            if pid != receiver.pid:
                receiver.take_reveal(pid, reveal)
    return [
        Exchange(manifest, party.record, party.pid, person)
        for party, person in zip(parties, people, strict=True)
        if party.record is not None
    ]


def everything_said(parties: list[Exchange]) -> None:
    claims = [party.claim(committed(), 1_700_000_000 + pid) for pid, party in enumerate(parties)]
    for pid, party in enumerate(parties):
        for other, claim in enumerate(claims):
            if other != pid:
                party.take_claim(other, claim)
    signed = [party.endorse() for party in parties]
    for pid, party in enumerate(parties):
        for other, body in enumerate(signed):
            if other != pid:
                party.take_endorsement(other, body)


@pytest.fixture(scope="module")
def whole() -> Receipt:
    parties = exchanges_of(identities(2))
    everything_said(parties)
    assert all(party.complete for party in parties)
    return parties[1].receipt(Opening(1, SALT))


def test_a_receipt_that_all_signed_holds_and_says_the_words(whole: Receipt) -> None:
    read = Receipt.decode(whole.encode())
    assert read == whole
    verdict = read.verify()
    assert verdict.holds and verdict.complete
    assert verdict.claimed == verdict.signed == (0, 1)
    assert verdict.words is not None and len(verdict.words) == 5


def test_the_owners_copy_opens_its_commitment_and_what_is_given_away_does_not(whole: Receipt) -> None:
    assert whole.opens(OUTPUT)
    assert not whole.opens(OUTPUT + b" ")
    given_away = Receipt.decode(whole.public().encode())
    assert b64url(SALT).encode() not in given_away.encode()
    assert "salt" not in repr(whole.opening)
    with pytest.raises(LocalMisuse, match="no salt"):
        given_away.opens(OUTPUT)


@given(st.data())
@settings(max_examples=120, deadline=None)
def test_a_changed_byte_anywhere_is_named(whole: Receipt, data: st.DataObject) -> None:
    raw = bytearray(whole.encode())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    try:
        verdict = Receipt.decode(bytes(raw)).verify()
    except MessageError as error:
        assert error.what
    else:
        assert not verdict.holds and all(fault.what for fault in verdict.faults)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            lambda value: value["manifest"].update(threshold=value["manifest"]["threshold"], expires=7),
            "manifest",
        ),
        (lambda value: value.update(manifest_sha256="0" * 64), "manifest"),
        (
            lambda value: value["parties"][0].update(signature=b64url(bytes(64))),
            "party 0's signature of the m",
        ),
        (lambda value: value["parties"][1].update(r=b64url(bytes(32))), "party 1's value r"),
        (lambda value: value["parties"][1]["output"].update(at=7), "party 1's claim"),
        (lambda value: value["parties"][0]["output"].update(commitment=b64url(bytes(32))), "party 0's claim"),
        (
            lambda value: value["parties"][0]["list"].update(signature=b64url(bytes(64))),
            "party 0's signature of the l",
        ),
    ],
)
def test_what_was_changed_is_named_by_party_and_kind(whole: Receipt, change, named: str) -> None:  # type: ignore[no-untyped-def]
    value = json.loads(whole.encode())
    change(value)
    raw = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"
    verdict = Receipt.decode(raw).verify()
    assert any(named in fault.what for fault in verdict.faults), verdict.faults
    assert verdict.words is None


def test_another_layout_of_the_same_content_is_named_by_its_line(whole: Receipt) -> None:
    with pytest.raises(MessageError, match="line 3 is not as it was written"):
        Receipt.decode(whole.encode().replace(b'\n  "arguments"', b'\n   "arguments"', 1))
    with pytest.raises(MessageError, match="salt or its party"):
        Receipt.decode(whole.encode().replace(b'"salt": "AA', b'"salt": "AB', 1))


@pytest.mark.parametrize(
    "raw", [b"", b"\xff", b"[]", b"{}", b"[" * 100_000, b'{"manifest": {}}', b" " * (MAX_RECEIPT + 1)]
)
def test_what_is_no_receipt_is_refused(raw: bytes) -> None:
    with pytest.raises(MessageError):
        Receipt.decode(raw)


# --- how it comes about


@given(st.permutations(range(12)), st.sets(st.integers(0, 11)))
@settings(max_examples=25, deadline=None)
def test_in_whatever_order_messages_come_and_whichever_are_lost_no_party_gets_a_false_receipt(
    order: list[int], lost: set[int]
) -> None:
    """Three parties; each of the 12 messages between them (6 claims, 6 signatures) may be late or lost."""
    parties = exchanges_of(identities(3))
    pairs = [(a, b) for a in range(3) for b in range(3) if a != b]
    claims = [party.claim(committed(bytes([pid])), 7) for pid, party in enumerate(parties)]
    for a, b in pairs:  # who signs has what the others claim, unless it was lost
        if pairs.index((a, b)) not in lost:
            parties[b].take_claim(a, claims[a])
    signed = [party.endorse() for party in parties]
    for number in order:
        a, b = pairs[number % 6]
        if number in lost:
            continue
        if number < 6:
            parties[b].take_claim(a, claims[a])
        else:
            parties[b].take_endorsement(a, signed[a])
    for pid, party in enumerate(parties):
        receipt = Receipt.decode(party.receipt().encode())
        verdict = receipt.verify()
        assert verdict.holds
        assert pid in verdict.signed
        if not lost:
            assert verdict.complete
        assert {*verdict.signed, *verdict.missing} == {0, 1, 2}
        assert not party.problems


def test_a_signature_that_overtakes_the_claims_it_covers_waits_for_them() -> None:
    a, b, c = exchanges_of(identities(3))
    claims = [party.claim(committed(), 7) for party in (a, b, c)]
    b.take_claim(0, claims[0])
    b.take_claim(2, claims[2])
    a.take_claim(1, claims[1])
    a.take_endorsement(1, b.endorse())
    assert 1 not in a.receipt().endorsements
    a.take_claim(2, claims[2])
    assert a.receipt().endorsements[1].covers == (0, 1, 2)


def test_a_party_that_vanished_is_listed_and_the_others_still_sign() -> None:
    a, b, _ = exchanges_of(identities(3))
    claims = [party.claim(committed(), 7) for party in (a, b)]
    a.take_claim(1, claims[1])
    b.take_claim(0, claims[0])
    a.take_endorsement(1, b.endorse())
    a.endorse()
    verdict = a.receipt().verify()
    assert verdict.holds and not verdict.complete
    assert verdict.signed == (0, 1) and a.unclaimed == [2]
    assert verdict.missing == (2,) and verdict.partial == (0, 1)


def test_a_party_that_claims_two_things_is_caught_by_name_and_counts_as_missing() -> None:
    a, b, liar = exchanges_of(identities(3))
    first = liar.claim(committed(b"one"), 7)
    second = liar.claim(committed(b"two"), 7)
    claims = [party.claim(committed(), 7) for party in (a, b)]
    a.take_claim(2, first)
    b.take_claim(2, second)
    a.take_claim(1, claims[1])
    b.take_claim(0, claims[0])
    with pytest.raises(MessageError, match="party 2 claimed two different outputs"):
        a.take_claim(2, second)
    with pytest.raises(MessageError, match="party 1 signed another list"):
        a.take_endorsement(1, b.endorse())
    a.endorse()
    assert set(a.problems) == {1, 2}
    assert a.receipt().verify().holds


def test_nobody_speaks_for_another_party() -> None:
    a, b, c = exchanges_of(identities(3))
    with pytest.raises(MessageError, match="not signed by it"):
        a.take_claim(1, c.claim(committed(), 7))
    with pytest.raises(LocalMisuse):
        b.endorse()


@pytest.mark.parametrize("covers", [None, [], [0, 0], [1, 0], [0, 3], [True], ["0"], list(range(4))])
def test_a_signature_of_no_list_is_refused(covers: object) -> None:
    a, *_ = exchanges_of(identities(3))
    with pytest.raises(MessageError):
        a.take_endorsement(1, {"covers": covers, "signature": b64url(bytes(64))})
