"""The book of a lobby: places are taken, kept, freed and refused; nothing begins with one who is away."""

import random

import pytest

from didmpc.protocols.errors import MessageError, RemoteViolation
from didmpc.protocols.mpc import lobby as rules
from didmpc.protocols.mpc.lobby import AWAY_AFTER, KEPT, Change, Lobby, Picture, Row, State
from didmpc.protocols.mpc.messages import Join


def lobby(places: int = 2, *named: str, least: int = 0, confirm: bool = False) -> Lobby:
    contacts = [(f"did:{name}", name) for name in named]
    return Lobby(
        host="Alice",
        contacts=contacts,
        places=places,
        least=least or 1 + len(named) + places,
        confirm=confirm,
        now=0.0,
    )


def join(name: str) -> Join:
    return Join(f"did:session:{name}", name, "mediator.example", session=True, versions={})


def knock(book: Lobby, name: str, now: float = 0.0) -> list[Change]:
    return book.knock(f"did:{name}", name, "mediator.example", now)


def enter(book: Lobby, name: str, now: float = 0.0) -> None:
    knock(book, name, now)
    book.join(f"did:{name}", join(name), now)


def states(book: Lobby) -> dict[str, str]:
    return {guest.name: guest.state.value for guest in book.guests}


def code_of(attempt: pytest.ExceptionInfo[RemoteViolation]) -> str:
    return attempt.value.code


def test_it_is_complete_when_every_place_has_agreed() -> None:
    book = lobby(2)
    enter(book, "bob")
    knock(book, "carol")
    assert not book.complete
    book.join("did:carol", join("carol"), 1.0)
    assert book.complete
    assert [guest.name for guest in book.joined] == ["bob", "carol"]


@pytest.mark.parametrize("m", [2, 3, 13, 25])
def test_any_number_that_can_compute_together_can_gather(m: int) -> None:
    book = lobby(m - 1)
    for number in range(m - 1):
        assert not book.complete
        enter(book, f"guest {number}")
    assert book.complete


def test_one_more_than_there_are_places_is_told_that_it_is_full() -> None:
    book = lobby(1)
    knock(book, "bob")
    with pytest.raises(RemoteViolation) as refused:
        knock(book, "carol")
    assert code_of(refused) == rules.FULL
    assert states(book) == {"bob": "deciding"}


def test_a_guest_that_leaves_frees_its_place() -> None:
    book = lobby(1)
    enter(book, "bob")
    assert [change.what for change in book.leave("did:bob")] == ["left"]
    enter(book, "carol")
    assert states(book) == {"carol": "joined"}


def test_one_that_comes_back_has_its_place_still_and_is_to_agree_anew() -> None:
    book = lobby(1)
    enter(book, "bob")
    assert [change.what for change in book.tick(AWAY_AFTER)] == ["away"]
    assert not book.complete
    assert [change.what for change in knock(book, "bob", AWAY_AFTER + 1)] == ["deciding"]
    assert states(book) == {"bob": "deciding"}
    book.join("did:bob", join("bob"), AWAY_AFTER + 2)
    assert book.complete


def test_the_place_of_one_who_is_away_is_kept_for_a_while_and_then_given_to_who_wants_it() -> None:
    book = lobby(1)
    enter(book, "bob")
    book.tick(AWAY_AFTER)
    with pytest.raises(RemoteViolation):
        knock(book, "carol", KEPT - 0.1)
    assert [change.what for change in knock(book, "carol", KEPT)] == ["replaced", "deciding"]
    with pytest.raises(RemoteViolation) as refused:
        knock(book, "bob", KEPT + 1)
    assert code_of(refused) == rules.FULL


def test_a_sign_of_life_brings_back_and_keeps_what_was_agreed() -> None:
    book = lobby(1)
    enter(book, "bob")
    book.tick(AWAY_AFTER)
    assert [change.what for change in book.heard("did:bob", AWAY_AFTER + 1, ready=True)] == ["back"]
    assert book.complete
    assert [c.what for c in book.heard("did:bob", AWAY_AFTER + 2, ready=False)] == ["deciding"]
    assert not book.complete


def test_nobody_is_away_because_of_a_time_when_the_host_could_hear_nobody() -> None:
    book = lobby(2)
    enter(book, "bob")
    book.deaf_until(100.0)
    assert book.tick(100.0 + AWAY_AFTER / 2) == []
    assert [change.what for change in book.tick(100.0 + AWAY_AFTER)] == ["away"]


def test_nobody_is_ready_without_having_joined() -> None:
    book = lobby(1)
    knock(book, "bob")
    book.heard("did:bob", 1.0, ready=True)
    assert states(book) == {"bob": "deciding"}


def test_who_knocks_waits_for_the_hosts_word_where_the_host_wants_to_be_asked() -> None:
    book = lobby(1, confirm=True)
    assert [change.what for change in knock(book, "bob")] == ["knocking"]
    assert book.join("did:bob", join("bob"), 1.0) == []
    knock(book, "carol", 1.0)
    book.admit("did:carol", 2.0)
    with pytest.raises(RemoteViolation):
        book.admit("did:bob", 2.0)
    assert states(book) == {"bob": "knocking", "carol": "deciding"}
    assert [change.what for change in book.tick(AWAY_AFTER)] == ["left"]  # bob; carol was heard of later


def test_one_who_was_sent_away_stays_away() -> None:
    book = lobby(2)
    enter(book, "mallory")
    assert [change.what for change in book.refuse("did:mallory")] == ["refused"]
    with pytest.raises(RemoteViolation) as refused:
        knock(book, "mallory", 10.0)
    assert code_of(refused) == rules.REFUSED
    assert book.guests == ()


def test_a_contact_is_not_sent_away_by_name_and_may_come_back_after_leaving() -> None:
    book = lobby(0, "bob", "carol")
    assert book.refuse("did:bob") == []
    book.join("did:bob", join("bob"), 1.0)
    book.leave("did:bob")
    assert states(book) == {"bob": "asked", "carol": "asked"}
    book.join("did:bob", join("bob"), 2.0)
    book.join("did:carol", join("carol"), 2.0)
    assert book.complete


def test_contacts_come_before_those_of_the_link_whoever_was_first() -> None:
    book = lobby(1, "carol")
    enter(book, "bob")
    book.join("did:carol", join("Carol's own name"), 1.0)
    assert [each.join.name for each in book.joined if each.join] == ["carol", "bob"]


def test_names_are_unique_whatever_their_case_and_nobody_is_called_like_the_host() -> None:
    book = lobby(4)
    for number, name in enumerate(["Bob", "bob", "ALICE", ""]):
        book.knock(f"did:{number}", name, "", 0.0)
    assert [guest.name for guest in book.guests] == ["Bob", "bob-2", "ALICE-2", "somebody"]


def test_long_names_stay_within_their_limit_when_they_are_told_apart() -> None:
    book = lobby(2)
    for number in range(2):
        book.knock(f"did:{number}", "x" * 64, "", 0.0)
    assert [len(guest.name) for guest in book.guests] == [64, 64]
    assert len({guest.name for guest in book.guests}) == 2


def test_it_may_begin_with_fewer_when_that_was_proposed() -> None:
    book = lobby(3, least=3)
    enter(book, "bob")
    assert not book.enough
    enter(book, "carol")
    knock(book, "dan")
    assert book.enough
    assert not book.complete
    assert [guest.name for guest in book.begin()] == ["dan"]
    assert [guest.name for guest in book.joined] == ["bob", "carol"]


def test_one_who_says_no_is_done_without_only_where_fewer_are_enough() -> None:
    book = lobby(0, "bob", "carol", least=2)
    book.decline("did:bob")
    assert book.can_be_enough
    book.join("did:carol", join("carol"), 1.0)
    assert book.complete
    strict = lobby(0, "bob", "carol")
    strict.decline("did:bob")
    assert not strict.can_be_enough


def test_whoever_has_the_link_cannot_keep_a_host_busy() -> None:
    book = lobby(1)
    codes = []
    for number in range(200):
        try:
            book.knock(f"did:{number}", "mallory", "", 0.0)
        except RemoteViolation as refused:
            codes.append(refused.code)
        book.leave(f"did:{number}")
    assert codes.count(rules.BUSY) == 200 - 1 - rules.NEWCOMERS
    assert book.may_answer_knock("did:bob", 0.0)
    assert not book.may_answer_knock("did:bob", 0.5)
    assert book.may_answer_knock("did:bob", 1.6)


def test_whatever_happens_there_are_never_more_guests_than_places() -> None:
    chance = random.Random(20)
    for _ in range(200):
        book, now = lobby(3, "named", confirm=chance.random() < 0.5), 0.0
        for _ in range(60):
            now += chance.choice([0.0, 1.0, 4.0, 40.0])
            who = f"did:{chance.choice(['a', 'b', 'c', 'd', 'e', 'named'])}"
            what = chance.randrange(8)
            try:
                if what == 0 and who != "did:named":
                    book.knock(who, who[4:], "", now)
                elif what == 1:
                    book.join(who, join(who), now)
                elif what == 2:
                    book.admit(who, now)
                elif what == 3:
                    book.leave(who)
                elif what == 4:
                    book.heard(who, now, ready=chance.random() < 0.5)
                elif what == 5:
                    book.refuse(who)
                else:
                    book.tick(now)
            except RemoteViolation as refused:
                assert refused.code in (rules.FULL, rules.REFUSED)
            placed = [guest for guest in book.guests if guest.by_link and guest.present]
            assert len(placed) == 3 - book.free <= 3
            assert len({guest.name for guest in book.guests}) == len(book.guests)
            assert all(guest.join for guest in book.guests if guest.state is State.JOINED)
            if book.complete:
                assert len(book.joined) == 4
                assert not any(guest.away for guest in book.joined)


def test_the_picture_that_guests_get_survives_its_way() -> None:
    rows = (Row("Alice", "here", "m.example"), Row("Bob", "joined", "n.example", 31.5, True))
    picture = Picture(rows, 7, "Bob")
    assert Picture.of(picture.body()) == picture


@pytest.mark.parametrize(
    "change",
    [
        {"parties": 3},
        {"parties": [{}] * 65},
        {"parties": [{"name": "\x1b[2J", "state": "here", "mediator": "", "rtt_ms": None, "away": False}]},
        {"parties": [{"name": "Bob", "state": "here", "mediator": "", "rtt_ms": "1", "away": False}]},
        {"beat": -1},
        {"you": "x" * 65},
        {"pausing": 1},
    ],
)
def test_a_malformed_picture_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(MessageError):
        Picture.of({**Picture((), 0, "Bob").body(), **change})
