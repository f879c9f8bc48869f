"""Handshakes between contacts: whose `open` is answered, in memory."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from didmpc.protocols.did import canonical
from didmpc.protocols.errors import SessionError
from didmpc.protocols.identity import Identity
from didmpc.protocols.session import contact_handshakes
from didmpc.protocols.session.contact_handshakes import Again, Answer, ContactHandshakes, Decline, Wish
from didmpc.protocols.session.handshake import Party

NOTES = "https://example.org/notes/1.0"
NOW = 1_000_000.0


@dataclass
class Side:
    """An agent that knows one contact, and listens for some protocols."""

    identity: Identity = field(default_factory=Identity.peer4)
    listens: set[str] = field(default_factory=lambda: {NOTES})
    handshakes: ContactHandshakes = field(default_factory=ContactHandshakes)
    opens: int = 0

    def __post_init__(self) -> None:
        self.me = Party.of(self.identity)

    def pair(self, other: "Side") -> tuple[str, str]:
        return canonical(self.me.did), canonical(other.me.did)

    def wish(self, other: "Side", protocol: str = NOTES) -> Wish:
        return self.handshakes.wish(self.pair(other), protocol)

    def open(self, wish: Wish, other: "Side", now: float = NOW) -> tuple[str, Any]:
        self.opens += 1
        name = f"{self.me.did[-8:]}-{self.opens}"
        return name, self.handshakes.open(
            wish, self.me, other.me, name, wires=("binary", "json"), limits={}, now=now
        )

    def hear(
        self, other: "Side", opened: tuple[str, Any], now: float = NOW, expires: float | None = None
    ) -> Any:
        return self.handshakes.take_open(
            self.pair(other),
            *opened,
            expires=NOW + 120 if expires is None else expires,
            now=now,
            listens=self.listens.__contains__,
        )

    def answer(self, other: "Side", incoming: Any, now: float = NOW) -> Any:
        return self.handshakes.answer(incoming, self.me, other.me, wire="json", limits={}, now=now)


@pytest.fixture
def pair() -> tuple[Side, Side]:
    """Two contacts, the one of the lower DID first."""
    low, high = sorted((Side(), Side()), key=lambda side: canonical(side.me.did).encode())
    return low, high


def link(a: Side, b: Side, now: float = NOW) -> tuple[Any, Any]:
    """A link that `a` opened and both confirmed."""
    opened = a.open(a.wish(b), b, now)
    _, incoming = b.hear(a, opened, now)
    assert b.handshakes.next_waiting(NOTES, now) is incoming
    body, theirs, _ = b.answer(a, incoming, now)
    known, _ = a.handshakes.take_accept(a.pair(b), opened[0], body)
    for side, kept in ((a, known), (b, theirs)):
        kept.confirmed()
        side.handshakes.confirmed(side.pair(b if side is a else a), opened[0])
    return known, theirs


def test_an_open_waits_for_a_program_that_takes_it(pair):
    a, b = pair
    opened = a.open(a.wish(b), b)
    assert b.handshakes.next_waiting(NOTES, NOW) is None
    verdict, incoming = b.hear(a, opened)
    assert verdict is Answer.WAITS
    body, _, theirs = b.answer(a, b.handshakes.next_waiting(NOTES, NOW))
    assert b.handshakes.next_waiting(NOTES, NOW) is None
    known, ours = a.handshakes.take_accept(a.pair(b), opened[0], body)
    assert ours.secret_send == theirs.secret_receive
    assert known.link["protocol"] == NOTES
    assert incoming.protocol == NOTES


def test_the_same_open_gets_the_same_answer(pair):
    a, b = pair
    opened = a.open(a.wish(b), b)
    b.hear(a, opened)
    assert b.hear(a, opened) == (Answer.IGNORE, None), "it waits already"
    body, _, _ = b.answer(a, b.handshakes.next_waiting(NOTES, NOW))
    assert b.hear(a, opened) == (Again(body), None)
    assert b.hear(a, opened, NOW + 179) == (Again(body), None)
    assert b.hear(a, opened, NOW + 181) == (Answer.IGNORE, None), "60 s after its expiry it is forgotten"


def test_nobody_listens_for_this_protocol(pair):
    a, b = pair
    b.listens.clear()
    assert b.hear(a, a.open(a.wish(b), b)) == (Decline("policy"), None)


@pytest.mark.parametrize(
    "change, code",
    [
        (lambda body: {}, "policy"),
        (lambda body: {"hs": "e30"}, "policy"),
    ],
)
def test_a_malformed_open_is_declined(pair, change: Callable[[Any], Any], code: str):
    a, b = pair
    name, body = a.open(a.wish(b), b)
    assert b.hear(a, (name, change(body))) == (Decline(code), None)


def test_an_open_that_is_valid_for_too_long_or_no_more(pair):
    a, b = pair
    opened = a.open(a.wish(b), b)
    assert b.hear(a, opened, expires=NOW + 700) == (Decline("policy"), None)
    assert b.hear(a, opened, expires=NOW - 1) == (Answer.IGNORE, None)


def test_of_crossing_opens_that_of_the_lower_did_stays(pair):
    low, high = pair
    low.listens, high.listens = set(), set()
    low_wish, high_wish = low.wish(high), high.wish(low)
    from_low, from_high = low.open(low_wish, high), high.open(high_wish, low)
    assert low.hear(high, from_high) == (Decline("busy"), None)
    verdict, incoming = high.hear(low, from_low)
    assert verdict is Answer.CROSSED
    assert incoming.wish is high_wish
    assert high.handshakes.take_decline(high.pair(low), from_high[0], {"code": "busy"}) is None
    body, _, theirs = high.answer(low, incoming)
    _, ours = low.handshakes.take_accept(low.pair(high), from_low[0], body)
    assert ours.exporter == theirs.exporter
    assert (ours.role, theirs.role) == ("initiator", "responder")


def test_opens_for_different_protocols_do_not_cross(pair):
    low, high = pair
    low.open(low.wish(high), high)
    other = high.open(high.wish(low, "https://example.org/other/1.0"), low)
    low.listens.add("https://example.org/other/1.0")
    assert low.hear(high, other)[0] is Answer.WAITS


def test_an_open_that_came_before_the_wish_is_what_is_wished(pair):
    low, high = pair
    _, incoming = low.hear(high, high.open(high.wish(low), low))
    assert low.handshakes.waiting_for(low.wish(high)) is incoming
    assert low.handshakes.next_waiting(NOTES, NOW) is None


def test_an_answer_counts_only_from_whom_was_asked(pair):
    a, b = pair
    stranger = Side()
    opened = a.open(a.wish(b), b)
    _, incoming = b.hear(a, opened)
    body, _, _ = b.answer(a, incoming)
    assert a.handshakes.take_accept(a.pair(stranger), opened[0], body) is None
    assert a.handshakes.take_decline(a.pair(stranger), opened[0], {"code": "policy"}) is None
    with pytest.raises(SessionError):
        a.handshakes.take_accept(a.pair(b), opened[0], {**body, "confirm": "A" * 43})
    assert a.handshakes.take_accept(a.pair(b), opened[0], body) is not None
    assert a.handshakes.take_accept(a.pair(b), opened[0], body) is None, "only once"


def test_a_decline_is_final_and_has_a_known_code(pair):
    a, b = pair
    opened = a.open(a.wish(b), b)
    assert a.handshakes.take_decline(a.pair(b), opened[0], {"code": ["busy"]}) is None
    assert a.handshakes.take_decline(a.pair(b), opened[0], {"code": "policy"}) == "policy"
    assert a.handshakes.take_decline(a.pair(b), opened[0], {"code": "policy"}) is None


def test_one_half_open_session_at_a_time_with_a_contact(pair):
    a, b = pair
    first, second = a.open(a.wish(b), b), a.open(a.wish(b), b)
    b.hear(a, first)
    b.hear(a, second)
    b.answer(a, b.handshakes.next_waiting(NOTES, NOW))
    assert b.handshakes.next_waiting(NOTES, NOW) is None
    b.handshakes.confirmed(b.pair(a), first[0])
    assert b.handshakes.next_waiting(NOTES, NOW) is not None


def test_a_half_open_session_that_is_never_confirmed_makes_way(pair):
    a, b = pair
    b.hear(a, a.open(a.wish(b), b))
    b.hear(a, a.open(a.wish(b), b))
    b.answer(a, b.handshakes.next_waiting(NOTES, NOW))
    assert b.handshakes.next_waiting(NOTES, NOW + contact_handshakes.STALE_SECONDS) is not None


def test_what_waits_is_bounded_for_a_contact_and_for_a_protocol(pair):
    _, b = pair
    verdicts = []
    for _ in range(5):
        a = Side()
        verdicts.append([b.hear(a, a.open(a.wish(b), b))[0] for _ in range(17)])
    waits, busy = Answer.WAITS, Decline("busy")
    assert verdicts[:4] == [[waits] * 16 + [busy]] * 4
    assert verdicts[4] == [busy] * 17
    assert len(b.handshakes.stop_listening(NOTES)) == 64


def test_a_link_gets_a_new_session_from_its_initiator_alone(pair):
    a, b = pair
    known, theirs = link(a, b)
    body = a.handshakes.renew(known, a.me, b.me, "again", NOW)
    verdict, incoming = b.hear(a, ("again", body))
    assert verdict is Answer.CONTINUES
    assert incoming.link is theirs
    accept, _, new = b.handshakes.answer(incoming, b.me, a.me, wire=theirs.wire, limits={}, now=NOW)
    same, ours = a.handshakes.take_accept(a.pair(b), "again", accept)
    assert same is known
    assert ours.exporter == new.exporter
    with pytest.raises(Exception, match="Only the initiator"):
        b.handshakes.renew(theirs, b.me, a.me, "other way", NOW)


def test_a_link_that_is_over_cannot_be_continued(pair):
    a, b = pair
    known, theirs = link(a, b)
    b.handshakes.forget(theirs)
    body = a.handshakes.renew(known, a.me, b.me, "again", NOW)
    assert b.hear(a, ("again", body)) == (Decline("roster"), None)


def test_a_third_party_cannot_continue_a_link(pair):
    a, b = pair
    known, _ = link(a, b)
    mallory = Side()
    body = a.handshakes.renew(known, a.me, b.me, "again", NOW)
    assert b.hear(mallory, ("again", body)) == (Decline("roster"), None)


def test_many_half_open_sessions_leave_no_room_for_more(monkeypatch, pair):
    a, b = pair
    monkeypatch.setattr(contact_handshakes, "HALF_OPEN", 1)
    assert b.hear(a, a.open(a.wish(b), b))[0] is Answer.WAITS
    other = Side()
    assert b.hear(other, other.open(other.wish(b), b))[0] == Decline("busy")
