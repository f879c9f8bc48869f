"""Handshakes between contacts: which `open` is answered, declined or crosses ours, and what is remembered.

Sans-I/O: messages and `now` (seconds since 1970) come in, decisions come out. One object holds all pairs of
an agent; a pair is (our DID, the contact's DID), both canonical (docs/session-extension.md, sections 4, 9 and
10).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, TypeAlias

from didmpc.protocols.crypto.encoding import b64url, unb64url
from didmpc.protocols.errors import DidmpcError, LocalMisuse, SessionError
from didmpc.protocols.session.handshake import (
    DeclineCode,
    Established,
    Initiation,
    Party,
    Request,
    read_open,
    respond,
)

OPEN_SECONDS = 120
LONGEST_OPEN = 600.0
AFTERWARDS = 60.0
"""How long after its expiry an `open` is still known."""
STALE_SECONDS = 10.0
"""A half-open session that is not confirmed for so long makes way for another one with the same contact."""
HALF_OPEN = 256
WAITING_FOR_ONE = 64
WAITING_OF_PAIR = 16
REMEMBERED = 1024
LONGEST_PROTOCOL = 512

Pair: TypeAlias = tuple[str, str]


class Answer(Enum):
    """What becomes of an `open`."""

    IGNORE = auto()
    WAITS = auto()  # for somebody here who takes it
    CROSSED = auto()  # our own was given up: whoever wanted that gets this
    CONTINUES = auto()  # a new session on a link that there is


@dataclass(frozen=True, slots=True)
class Again:
    """The same `open` once more: the same answer, byte for byte."""

    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Decline:
    code: DeclineCode


@dataclass(eq=False, slots=True)
class Wish:
    """Somebody here wants a link with a contact, and has perhaps sent an `open` for it."""

    pair: Pair
    protocol: str
    open_id: str | None = None


@dataclass(eq=False, slots=True)
class Incoming:
    """An `open` of a contact."""

    pair: Pair
    open_id: str
    body: Mapping[str, Any] = field(repr=False)
    request: Request
    until: float  # its expiry
    wish: Wish | None = None  # of ours, which it crosses
    link: KnownLink | None = None  # which it continues

    @property
    def protocol(self) -> str:
        return str(self.request.link["protocol"])


@dataclass(eq=False, slots=True)
class KnownLink:
    """A link of ours with a contact. `continuable` are the exporters that its next `open` may continue."""

    pair: Pair
    link: Mapping[str, Any]
    initiator: bool
    wire: str
    continuable: tuple[bytes, ...] = field(default=(), repr=False)
    heard: bytes | None = field(default=None, repr=False)  # of the newest session in which the peer was heard

    @property
    def id(self) -> str:
        return str(self.link["id"])

    def confirmed(self) -> None:
        """The peer was heard in the newest session."""
        self.heard = self.continuable[-1]


@dataclass(slots=True)
class _Opened:
    """An `open` of ours on its way."""

    pair: Pair
    initiation: Initiation
    link: Mapping[str, Any]
    until: float
    continues: KnownLink | None


@dataclass(slots=True)
class _Answered:
    """An `open` that was accepted: `half_open` until its initiator is confirmed."""

    pair: Pair
    body: Mapping[str, Any]
    until: float
    since: float
    half_open: bool


class ContactHandshakes:
    """All handshakes of one agent with its contacts."""

    def __init__(self) -> None:
        self._wishes: list[Wish] = []
        self._opened: dict[str, _Opened] = {}
        self._waiting: dict[str, list[Incoming]] = {}
        self._answered: dict[tuple[str, str], _Answered] = {}  # by the contact's DID and the id of the open
        self._links: dict[tuple[str, str], KnownLink] = {}  # by the contact's DID and the id of the link

    # --- what is wanted here

    def wish(self, pair: Pair, protocol: str) -> Wish:
        """Somebody wants a link; an `open` of the contact for the same is the answer to it, or crosses it."""
        wish = Wish(pair, protocol)
        self._wishes.append(wish)
        return wish

    def waiting_for(self, wish: Wish) -> Incoming | None:
        """An `open` that waited already and is what this wish wants; it waits no more."""
        for incoming in self._waiting.get(wish.protocol, []):
            if incoming.pair == wish.pair:
                self._waiting[wish.protocol].remove(incoming)
                return incoming
        return None

    def unwish(self, wish: Wish) -> None:
        """It came true, or is wanted no more."""
        if wish in self._wishes:
            self._wishes.remove(wish)
        if wish.open_id is not None:
            self._opened.pop(wish.open_id, None)

    def wished(self, wish: Wish) -> bool:
        """Whether it is still to come true: no `open` of the contact is being answered for it."""
        return wish in self._wishes

    def wishes(self, pair: Pair) -> bool:
        """Whether an `open` of this contact would be answered by a wish."""
        return any(wish.pair == pair for wish in self._wishes)

    # --- our opens

    def open(
        self,
        wish: Wish,
        me: Party,
        peer: Party,
        open_id: str,
        *,
        wires: Sequence[str],
        limits: Mapping[str, int],
        now: float,
    ) -> Mapping[str, Any]:
        """The body of an `open` for a new link; one that this wish has sent before is given up."""
        if wish.open_id is not None:
            self._opened.pop(wish.open_id, None)
        link = {"id": b64url(secrets.token_bytes(16)), "protocol": wish.protocol}
        initiation = Initiation(me, peer, open_id, link=link, wires=wires, limits=limits)
        self._opened[open_id] = _Opened(wish.pair, initiation, link, now + OPEN_SECONDS, None)
        wish.open_id = open_id
        return initiation.body

    def renew(self, known: KnownLink, me: Party, peer: Party, open_id: str, now: float) -> Mapping[str, Any]:
        """The body of an `open` for a new session of a link that is ours to renew."""
        if not known.initiator or known.heard is None:
            raise LocalMisuse("Only the initiator renews a link, once it has heard its peer.")
        initiation = Initiation(
            me, peer, open_id, link=known.link, wires=(known.wire,), continues=known.heard
        )
        self._opened[open_id] = _Opened(known.pair, initiation, known.link, now + OPEN_SECONDS, known)
        return initiation.body

    def take_accept(
        self, pair: Pair, open_id: str, body: Mapping[str, Any]
    ) -> tuple[KnownLink, Established] | None:
        """Complete an `open` of ours; None where none waits for this. SessionError: it goes on waiting."""
        opened = self._opened.get(open_id)
        if opened is None or opened.pair != pair:
            return None
        established = opened.initiation.finish(body)
        del self._opened[open_id]
        known = opened.continues or KnownLink(pair, opened.link, initiator=True, wire=established.wire)
        self._keep(known, established)
        return known, established

    def take_decline(self, pair: Pair, open_id: str, body: Mapping[str, Any]) -> DeclineCode | None:
        """Why an `open` of ours was declined; None where that means nothing."""
        opened = self._opened.get(open_id)
        if opened is None or opened.pair != pair:
            return None
        codes: tuple[DeclineCode, ...] = ("suite", "policy", "busy", "roster")
        for code in codes:
            if body.get("code") == code:
                del self._opened[open_id]
                return code
        return None

    # --- opens of contacts

    def take_open(
        self,
        pair: Pair,
        open_id: str,
        body: Mapping[str, Any],
        *,
        expires: float | None,
        now: float,
        listens: Callable[[str], bool],
    ) -> tuple[Answer | Again | Decline, Incoming | None]:
        """Decide on an `open`. With WAITS, CROSSED and CONTINUES comes what `answer` is to be called with."""
        self.expire(now)
        answered = self._answered.get((pair[1], open_id))
        if answered is not None:
            return (Again(answered.body) if answered.pair == pair else Answer.IGNORE), None
        if any(each.open_id == open_id and each.pair == pair for each in self._all_waiting()):
            return Answer.IGNORE, None  # it waits already
        until = now + LONGEST_OPEN if expires is None else expires
        if until <= now:
            return Answer.IGNORE, None
        if until > now + LONGEST_OPEN + AFTERWARDS:
            return Decline("policy"), None
        try:
            request = read_open(body)
        except SessionError:
            return Decline("policy"), None
        incoming = Incoming(pair, open_id, body, request, until)
        if request.continues:
            return self._continuation(incoming)
        if not _is_contact_link(request.link):
            return Decline("roster"), None
        if (pair[1], str(request.link["id"])) in self._links:
            return Decline("roster"), None
        return self._new_link(incoming, listens)

    def _continuation(self, incoming: Incoming) -> tuple[Answer | Decline, Incoming | None]:
        known = self._links.get((incoming.pair[1], str(incoming.request.link.get("id"))))
        if known is None or known.pair != incoming.pair or known.initiator:
            return Decline("roster"), None
        incoming.link = known
        return Answer.CONTINUES, incoming

    def _new_link(
        self, incoming: Incoming, listens: Callable[[str], bool]
    ) -> tuple[Answer | Decline, Incoming | None]:
        pair, protocol = incoming.pair, incoming.protocol
        for wish in self._wishes:
            if wish.pair == pair and wish.protocol == protocol:
                mine, theirs = (did.encode() for did in pair)
                if wish.open_id in self._opened and mine < theirs:
                    return Decline("busy"), None
                self.unwish(wish)
                incoming.wish = wish
                return Answer.CROSSED, incoming
        if not listens(protocol):
            return Decline("policy"), None
        waiting = self._waiting.setdefault(protocol, [])
        of_pair = sum(each.pair == pair for each in self._all_waiting())
        if len(waiting) >= WAITING_FOR_ONE or of_pair >= WAITING_OF_PAIR or self._half_open() >= HALF_OPEN:
            return Decline("busy"), None
        waiting.append(incoming)
        return Answer.WAITS, incoming

    def next_waiting(self, protocol: str, now: float) -> Incoming | None:
        """The next `open` for this protocol whose contact has no half-open session with us."""
        self.expire(now)
        waiting = self._waiting.get(protocol, [])
        for incoming in waiting:
            if not self._is_half_open(incoming.pair, now):
                waiting.remove(incoming)
                return incoming
        return None

    def stop_listening(self, protocol: str) -> list[Incoming]:
        """Nobody listens for this protocol any more: what waited for it is to be declined."""
        return self._waiting.pop(protocol, [])

    def answer(
        self,
        incoming: Incoming,
        me: Party,
        peer: Party,
        *,
        wire: str,
        caps: Sequence[Any] = (),
        limits: Mapping[str, int],
        now: float,
    ) -> tuple[Mapping[str, Any], KnownLink, Established]:
        """The body of the `accept`, kept for repetitions. SessionError: to be declined."""
        known = incoming.link
        body, established = respond(
            me,
            peer,
            incoming.open_id,
            incoming.body,
            link=incoming.request.link if known is None else known.link,
            caps=caps,
            limits=limits,
            wires=(wire,),
            continues=() if known is None else known.continuable,
        )
        if known is None:
            known = KnownLink(incoming.pair, incoming.request.link, initiator=False, wire=wire)
        self._keep(known, established)
        self._answered[incoming.pair[1], incoming.open_id] = _Answered(
            incoming.pair, body, incoming.until + AFTERWARDS, now, half_open=incoming.link is None
        )
        while len(self._answered) > REMEMBERED:
            del self._answered[next(iter(self._answered))]
        return body, known, established

    def confirmed(self, pair: Pair, open_id: str) -> None:
        """The initiator of this session was heard in it."""
        answered = self._answered.get((pair[1], open_id))
        if answered is not None:
            answered.half_open = False

    def unconfirmed(self, pair: Pair, open_id: str) -> None:
        """Its keys are gone, and with them the answer: the initiator has to begin anew."""
        self._answered.pop((pair[1], open_id), None)

    # --- links and time

    def _keep(self, known: KnownLink, established: Established) -> None:
        known.continuable = established.continuable
        self._links[known.pair[1], known.id] = known

    def forget(self, known: KnownLink) -> None:
        """The link is over: it cannot be continued."""
        self._links.pop((known.pair[1], known.id), None)

    def expire(self, now: float) -> None:
        """Forget what is too old. Whoever waits for an answer to an `open` has a time-out of its own."""
        for open_id in [open_id for open_id, opened in self._opened.items() if opened.until <= now]:
            del self._opened[open_id]
        for key in [key for key, answered in self._answered.items() if answered.until <= now]:
            del self._answered[key]
        for waiting in self._waiting.values():
            waiting[:] = [incoming for incoming in waiting if incoming.until > now]

    def _all_waiting(self) -> list[Incoming]:
        return [incoming for waiting in self._waiting.values() for incoming in waiting]

    def _half_open(self) -> int:
        return sum(answered.half_open for answered in self._answered.values()) + len(self._all_waiting())

    def _is_half_open(self, pair: Pair, now: float) -> bool:
        return any(
            answered.half_open and answered.pair == pair and now < answered.since + STALE_SECONDS
            for answered in self._answered.values()
        )


def _is_contact_link(link: Mapping[str, Any]) -> bool:
    name, protocol = link.get("id"), link.get("protocol")
    if (
        not isinstance(name, str)
        or not isinstance(protocol, str)
        or not 0 < len(protocol) <= LONGEST_PROTOCOL
    ):
        return False
    try:
        return len(unb64url(name)) == 16 and b64url(unb64url(name)) == name
    except (DidmpcError, ValueError):
        return False
