"""People compare words: what a host in the middle cannot hide, and what is remembered of whom."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from didmpc.agent.contacts.contacts import Contact
from didmpc.agent.program.bundle import Bundle
from didmpc.agent.sessions import attempt as attempt_module
from didmpc.agent.sessions import bundles
from didmpc.agent.sessions.comparison import Comparison
from didmpc.agent.sessions.history import History
from didmpc.agent.sessions.parties import versions
from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.did import canonical
from didmpc.protocols.envelope import Unpacked
from didmpc.protocols.errors import DidmpcError, LocalMisuse
from didmpc.protocols.identity import Identity
from didmpc.protocols.message import Message
from didmpc.protocols.mpc import messages
from didmpc.protocols.mpc.agreement import Agreement
from didmpc.protocols.mpc.manifest import Manifest
from didmpc.protocols.mpc.messages import Join
from didmpc.protocols.mpc.proposal import Proposal
from didmpc.protocols.mpc.terms import OPTIONS

from .conftest import PATIENCE, Agent, People, Terminal

Agents = dict[str, Agent]
ATTEMPT = "ab" * 16
WORDS = ["amber", "falcon", "walnut", "arrow", "42"]


class BadHost:
    """Speaks as alice, in place of her agent: it may sit between the guests, or reveal as it likes."""

    def __init__(self, alice: Agent, steps: Path, *, between: bool = False) -> None:
        self._alice = alice
        self._between = between
        self._bundle = Bundle.collect(steps)
        self._joins: dict[str, Join] = {}
        self._faces: list[Agreement] = []
        self._speaks: dict[str, tuple[Agreement, Identity]] = {}
        self._taken: dict[int, set[int]] = {}
        alice.mail.handlers[:] = [("", self._take)]

    def reveals(self, agreement: Agreement, to: int) -> Sequence[Mapping[str, Any]]:
        """What a face of the host reveals to party `to`, once it holds all signatures."""
        return [agreement.reveal()]

    def early(self, agreement: Agreement) -> Sequence[Mapping[str, Any]]:
        """What it reveals before."""
        return []

    async def propose(self) -> None:
        parties = ("alice", "bob", "carol")
        terms = (self._bundle.describe(), ("2", "0"), parties, 1, False, "didcomm", 1 << 39)
        self._proposal = Proposal(ATTEMPT, *terms)
        for guest in ("bob", "carol"):
            await self._say(guest, Message(type=messages.PROPOSE, body=self._proposal.body()))

    async def _say(self, guest: str, message: Message) -> None:
        await self._alice.mail.send_to_contact(self._alice.people.find(guest), message)

    async def _take(self, unpacked: Unpacked) -> None:
        message, sender = unpacked.message, unpacked.sender or ""
        contact = self._alice.people.by_did(sender)
        if contact is not None and message.type == messages.BUNDLE_REQUEST:
            for part in bundles.parts(self._bundle, ATTEMPT):
                await self._say(contact.name, part)
        elif contact is not None and message.type == messages.JOIN:
            self._joins[contact.name] = replace(Join.of(message.body), name=contact.name)
            if len(self._joins) == 2:
                await self._write_manifests()
        elif message.type in (messages.SIGNATURE, messages.REVEAL):
            await self._answer(message, sender, (message.to or ("",))[0])

    async def _write_manifests(self) -> None:
        """One for all; or, between them, one for each guest, with a face of ours as the other guest."""
        for honest in (("bob",), ("carol",)) if self._between else (("bob", "carol"),):
            faces = {}
            roster = []
            for pid, name in enumerate(self._proposal.parties):
                if name in honest:
                    roster.append(self._joins[name])
                    continue
                faces[pid] = await self._alice.mail.new_identity(keep=False)
                roster.append(Join(faces[pid].did, name, "mediator.example", True, versions()))
            terms = (self._proposal.arguments, 1, False, "didcomm", OPTIONS, tuple(roster), 1 << 39)
            manifest = Manifest(ATTEMPT, self._proposal.program, *terms)
            group = [Agreement(manifest, pid, identity) for pid, identity in faces.items()]
            for agreement in group:
                self._speaks[canonical(faces[agreement.pid].did)] = (agreement, faces[agreement.pid])
                for other in group:
                    if other is not agreement:
                        other.take_signature(agreement.pid, agreement.signature())
            for name in honest:
                body = {"manifest": b64url(manifest.encode())}
                await self._say(name, Message(type=messages.MANIFEST, pthid=ATTEMPT, body=body))

    async def _answer(self, message: Message, sender: str, to: str) -> None:
        agreement, identity = self._speaks[canonical(to)]
        pid = agreement.manifest.pid_of(sender)
        if pid is None or message.type != messages.SIGNATURE:
            return
        agreement.take_signature(pid, message.body)
        await self._mail(identity, sender, messages.SIGNATURE, agreement.signature())
        for body in self.early(agreement):
            await self._mail(identity, sender, messages.REVEAL, body)
        if not agreement.signed:
            return
        for other, party in enumerate(agreement.manifest.roster):
            if canonical(party.did) not in self._speaks:
                for body in self.reveals(agreement, other):
                    await self._mail(identity, party.did, messages.REVEAL, body)

    async def _mail(self, identity: Identity, to: str, kind: str, body: Mapping[str, Any]) -> None:
        await self._alice.mail.send(Message(type=kind, pthid=ATTEMPT, body=dict(body)), identity, to)


class Changes(BadHost):
    def reveals(self, agreement: Agreement, to: int) -> Sequence[Mapping[str, Any]]:
        return [{**agreement.reveal(), "r": b64url(b"\1" * 32)}]


class Withholds(BadHost):
    def reveals(self, agreement: Agreement, to: int) -> Sequence[Mapping[str, Any]]:
        agreement.reveal()
        return []


class ComesTooEarly(BadHost):
    """Reveals its true value to whoever signed first, before all have signed."""

    def early(self, agreement: Agreement) -> Sequence[Mapping[str, Any]]:
        if agreement.signed:
            return []
        return [{"r": b64url(agreement._r), "signatures_sha256": b64url(bytes(32))}]

    def reveals(self, agreement: Agreement, to: int) -> Sequence[Mapping[str, Any]]:
        return [{**agreement.reveal(), "signatures_sha256": b64url(bytes(32))}]


async def test_guests_whose_host_sits_between_them_read_different_words_to_each_other(
    agents: Agents, steps: Path
) -> None:
    await BadHost(agents["alice"], steps, between=True).propose()
    guests = [agents[name] for name in ("bob", "carol")]
    await asyncio.gather(*(guest.join(Terminal()) for guest in guests))
    shown = [await guest.sessions.words({"session": None}, Terminal()) for guest in guests]
    assert shown[0]["words"] != shown[1]["words"]
    for guest, seen in zip(guests, shown, strict=True):
        assert {party["how"] for party in seen["parties"]} == {"you", "unproven"}
        said = {"session": seen["attempt"], "matched": False}
        answer = await guest.sessions.compared(said, Terminal())
        assert answer["ended"] and answer["matched"] is False
        async with asyncio.timeout(PATIENCE):
            while guest.sessions.list()[0]["state"] == "running":
                await asyncio.sleep(0.05)
        assert "words" in guest.sessions.list()[0]["cause"] and not guest.people.find("alice").verified


@pytest.mark.parametrize(
    ("host", "said"),
    [
        (Changes, r"alice revealed another value than it had committed to"),
        (ComesTooEarly, r"alice saw other signatures than we did, or revealed before it had all"),
        (Withholds, r"alice did not reveal what the words to compare are made of"),
    ],
)
async def test_reveals_that_are_changed_early_or_withheld_end_it_for_every_honest_party(
    agents: Agents, steps: Path, host: type[BadHost], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if host is Withholds:
        monkeypatch.setattr(attempt_module, "CONNECT_WITHIN", 5.0)
    await host(agents["alice"], steps).propose()
    joins = [agents[name].join(Terminal()) for name in ("bob", "carol")]
    for join in joins:
        with pytest.raises(DidmpcError, match=said):
            await join


# --- what is remembered


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Comparison, People, History]:
    """A session of ours (bob) with alice and carol, in which alice has proven to be our contact."""
    people, history = People(), History(tmp_path / "sessions.json")
    for name in ("alice", "dan"):
        people.add(name, Identity.peer4().did, Identity.peer4().did)
    comparison = Comparison(history, people)  # type: ignore[arg-type]
    history.begin(ATTEMPT, {"title": "Three"})
    comparison.keep(ATTEMPT, WORDS, me=1, names=["alice", "bob", "carol"], without_session=[])
    comparison.proven(ATTEMPT, 0, people.find("alice"))
    return comparison, people, history


def how(shown: Mapping[str, Any]) -> dict[str, str]:
    return {party["name"]: party["how"] for party in shown["parties"]}


async def test_a_contact_that_proved_itself_is_verified_and_a_stranger_for_the_session_alone(
    kept: tuple[Comparison, People, History],
) -> None:
    comparison, people, _ = kept
    before = comparison.shown(None)
    assert before["words"] == WORDS and before["matched"] is None
    assert how(before) == {"alice": "contact", "bob": "you", "carol": "unproven"}
    after = await comparison.record(ATTEMPT[:8], matched=True)
    assert how(after) == {"alice": "words", "bob": "you", "carol": "words"}
    assert people.find("alice").verified_at == after["compared_at"]
    assert not people.find("dan").verified


async def test_a_party_with_a_contacts_name_that_does_not_prove_itself_is_in_doubt_and_never_verified(
    kept: tuple[Comparison, People, History],
) -> None:
    comparison, people, _ = kept
    people.add("Carol", Identity.peer4().did, Identity.peer4().did)
    shown = await comparison.record(ATTEMPT, matched=True)
    assert [party["doubt"] for party in shown["parties"]] == [False, False, True]
    assert not people.find("Carol").verified


async def test_words_are_there_after_a_restart_and_until_the_session_is_forgotten(
    kept: tuple[Comparison, People, History], tmp_path: Path
) -> None:
    again = Comparison(History(tmp_path / "sessions.json"), kept[1])  # type: ignore[arg-type]
    assert again.shown(ATTEMPT[:6])["words"] == WORDS
    with pytest.raises(LocalMisuse, match="No session with words begins with 99"):
        again.shown("99")


def test_without_any_words_the_next_step_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalMisuse, match="No session has words") as refused:
        Comparison(History(tmp_path / "none.json"), People()).shown(None)  # type: ignore[arg-type]
    assert "didmpc sessions" in refused.value.fix


def test_of_several_running_sessions_one_must_be_named(kept: tuple[Comparison, People, History]) -> None:
    comparison, _, history = kept
    other = "cd" * 16
    history.begin(other, {})
    comparison.keep(other, WORDS, me=0, names=["bob", "dan"], without_session=[])
    with pytest.raises(LocalMisuse, match="2 sessions run now"):
        comparison.shown(None)
    history.end(other, ok=True, cause=None, stats=None)
    assert comparison.shown(None)["attempt"] == ATTEMPT


def test_a_contact_shows_since_when_it_is_verified() -> None:
    contact = Contact("Bob", "did:x", "did:y", "Bob", b"s" * 32, 0, "i", verified_at=1_700_000_000)
    assert contact.public()["verified"] is True and contact.public()["verified_at"] == 1_700_000_000
    assert Contact.from_json(contact.to_json()) == contact
