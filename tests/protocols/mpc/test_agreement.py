"""Parties sign one manifest, and read the same words only if nobody told them different things."""

import itertools

import pytest

from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.errors import DidmpcError, LocalMisuse, MessageError
from didmpc.protocols.identity import Identity
from didmpc.protocols.mpc.agreement import Agreement
from didmpc.protocols.mpc.manifest import Manifest
from didmpc.protocols.mpc.messages import Join, arguments, text
from didmpc.protocols.mpc.proposal import check_program
from didmpc.protocols.mpc.terms import OPTIONS
from didmpc.protocols.mpc.words import WORDS, words_of

HASH = "ab" * 32
PROGRAM = {
    "sha256": HASH,
    "entry": "salaries.py",
    "title": "Average salary",
    "lines": 41,
    "imports": ["mpyc", "sys"],
    "files": [{"path": "salaries.py", "sha256": HASH, "size": 900, "lines": 41}],
}


def identities(m: int) -> list[Identity]:
    return [Identity.peer4() for _ in range(m)]


def party(identity: Identity, name: str, mpyc: str = "0.11") -> Join:
    return Join(identity.did, name, "mediator.example", True, {"mpyc": mpyc, "python": "3.11.7"})


def manifest_of(people: list[Identity], **changes: object) -> Manifest:
    fields: dict[str, object] = {
        "attempt": "a1" * 16,
        "program": PROGRAM,
        "arguments": ("--rounds", "3"),
        "threshold": (len(people) - 1) // 2,
        "free_threshold": False,
        "mode": "session",
        "options": OPTIONS,
        "roster": tuple(party(person, f"party {pid}") for pid, person in enumerate(people)),
        "expires": 2_000_000_000,
    }
    return Manifest(**{**fields, **changes})  # type: ignore[arg-type]


def exchange_signatures(parties: list[Agreement]) -> None:
    for sender, receiver in itertools.permutations(parties, 2):
        receiver.take_signature(sender.pid, sender.signature())


def test_all_parties_end_with_the_same_words() -> None:
    people = identities(3)
    manifest = manifest_of(people)
    parties = [Agreement(manifest, pid, person) for pid, person in enumerate(people)]
    exchange_signatures(parties)
    reveals = [one.reveal() for one in parties]
    for sender, receiver in itertools.permutations(range(3), 2):
        parties[receiver].take_reveal(sender, reveals[sender])
    words = {one.words for one in parties}
    assert len(words) == 1
    (only,) = words
    assert only is not None and len(only) == 5


def test_nobody_reveals_before_all_have_signed() -> None:
    people = identities(3)
    one = Agreement(manifest_of(people), 0, people[0])
    with pytest.raises(LocalMisuse):
        one.reveal()


def test_a_reveal_that_overtakes_a_signature_waits_for_it() -> None:
    people = identities(2)
    manifest = manifest_of(people)
    a, b = (Agreement(manifest, pid, person) for pid, person in enumerate(people))
    b.take_signature(0, a.signature())
    reveal = b.reveal()
    a.take_reveal(1, reveal)
    assert a.words is None
    a.take_signature(1, b.signature())
    a.reveal()
    assert a.words is not None


def test_another_value_than_the_committed_one_is_refused() -> None:
    people = identities(2)
    manifest = manifest_of(people)
    a, b = (Agreement(manifest, pid, person) for pid, person in enumerate(people))
    exchange_signatures([a, b])
    forged = {**b.reveal(), "r": "A" * 43}
    with pytest.raises(MessageError, match="another value"):
        a.take_reveal(1, forged)


def test_a_party_that_commits_differently_to_two_others_is_caught() -> None:
    people = identities(3)
    manifest = manifest_of(people)
    honest = [Agreement(manifest, pid, people[pid]) for pid in (0, 1)]
    faces = [Agreement(manifest, 2, people[2]) for _ in honest]
    for one, face in zip(honest, faces, strict=True):
        one.take_signature(2, face.signature())
    honest[0].take_signature(1, honest[1].signature())
    honest[1].take_signature(0, honest[0].signature())
    honest[0].reveal()
    with pytest.raises(DidmpcError, match="other signatures"):
        honest[0].take_reveal(1, honest[1].reveal())


def test_a_host_that_puts_itself_between_two_guests_cannot_give_both_the_same_words() -> None:
    """It plays Carol to Bob and Bob to Carol. All signatures hold; what the guests read out differs."""
    host, bob, carol, false_carol, false_bob = identities(5)
    to_bob, to_carol = manifest_of([host, bob, false_carol]), manifest_of([host, false_bob, carol])
    honest = [Agreement(to_bob, 1, bob), Agreement(to_carol, 2, carol)]
    groups = [
        [Agreement(to_bob, 0, host), honest[0], Agreement(to_bob, 2, false_carol)],
        [Agreement(to_carol, 0, host), Agreement(to_carol, 1, false_bob), honest[1]],
    ]
    for group in groups:
        exchange_signatures(group)
        for sender, receiver in itertools.permutations(group, 2):
            receiver.take_reveal(sender.pid, sender.reveal())
        assert all(one.words is not None for one in group)
    assert honest[0].words != honest[1].words


def test_whoever_plays_a_party_cannot_search_for_a_value_that_makes_the_words_match() -> None:
    """Once Bob has revealed, every value but the committed one is refused, whatever words it would give."""
    host, bob, false_carol = identities(3)
    manifest = manifest_of([host, bob, false_carol])
    parties = [Agreement(manifest, pid, each) for pid, each in enumerate((host, bob, false_carol))]
    exchange_signatures(parties)
    guest = parties[1]
    guest.reveal()
    guest.take_reveal(0, parties[0].reveal())
    sound = parties[2].reveal()
    for attempt in range(50):
        searched = b64url(attempt.to_bytes(32, "big"))
        with pytest.raises(MessageError, match="party 2 revealed another value"):
            guest.take_reveal(2, {**sound, "r": searched})
    assert guest.words is None and guest.unrevealed == [2]


def test_a_reveal_before_its_sender_held_all_signatures_ends_the_agreement_by_name() -> None:
    people = identities(3)
    manifest = manifest_of(people)
    a, b, eager = (Agreement(manifest, pid, person) for pid, person in enumerate(people))
    a.take_signature(2, eager.signature())
    # What an eager party can say without b's signature: its true value, and a hash of what it has.
    a.take_reveal(2, {"r": b64url(eager._r), "signatures_sha256": b64url(b"\1" * 32)})
    assert a.words is None
    with pytest.raises(DidmpcError, match=r"party 2 .* revealed before it had all of them"):
        a.take_signature(1, b.signature())


def test_a_reveal_that_is_withheld_leaves_no_words_and_names_who_owes_it() -> None:
    people = identities(3)
    manifest = manifest_of(people)
    a, b, silent = (Agreement(manifest, pid, person) for pid, person in enumerate(people))
    exchange_signatures([a, b, silent])
    a.reveal()
    a.take_reveal(1, b.reveal())
    assert a.words is None and a.record is None
    assert a.unrevealed == [2]


def test_a_signature_of_another_manifest_or_key_is_refused_and_changes_nothing() -> None:
    people = identities(2)
    manifest = manifest_of(people)
    a = Agreement(manifest, 0, people[0])
    other = Agreement(manifest_of(people, threshold=0, arguments=("--rounds", "4")), 1, people[1])
    with pytest.raises(MessageError, match="another manifest"):
        a.take_signature(1, other.signature())
    stranger = Agreement(manifest, 1, Identity.peer4())
    with pytest.raises(MessageError, match="does not hold"):
        a.take_signature(1, stranger.signature())
    assert a.unsigned == [1]


def test_a_manifest_survives_its_encoding_and_no_other_encoding_is_accepted() -> None:
    manifest = manifest_of(identities(3))
    assert Manifest.decode(manifest.encode()) == manifest
    with pytest.raises(MessageError, match="canonical"):
        Manifest.decode(manifest.encode() + b" ")


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"version":"didmpc manifest/1.0"}', b"[" * 100_000])
def test_a_damaged_manifest_is_a_message_error(raw: bytes) -> None:
    with pytest.raises(MessageError):
        Manifest.decode(raw)


def test_a_party_that_is_listed_twice_is_refused() -> None:
    (one,) = identities(1)
    with pytest.raises(MessageError, match="each party once"):
        Manifest.decode(manifest_of([one, one]).encode())


@pytest.mark.parametrize("value", ["two\nlines", "\x1b[31mred", 7, None, "x" * 501])
def test_text_of_a_peer_that_could_disturb_a_terminal_is_refused(value: object) -> None:
    with pytest.raises(MessageError):
        text({"comment": value}, "comment")


def test_arguments_and_programs_are_bounded() -> None:
    assert arguments({"arguments": ["-n", "3 4", "é"]}) == ("-n", "3 4", "é")
    for bad in (None, "x", [1], ["a\0b"], ["a\nb"], ["\x1b[2J"], ["\ud800"], ["x"] * 257, ["x" * 20_000]):
        with pytest.raises(MessageError):
            arguments({"arguments": bad})
    for change in ({"sha256": "00"}, {"files": []}, {"files": [1]}, {"entry": "a\nb"}, {"lines": -1}):
        with pytest.raises(MessageError):
            check_program({**PROGRAM, **change})


def test_there_are_256_different_words_so_a_byte_chooses_one() -> None:
    assert len(WORDS) == len(set(WORDS)) == 256
    assert words_of(bytes(32)) != words_of(bytes([1]) + bytes(31))
