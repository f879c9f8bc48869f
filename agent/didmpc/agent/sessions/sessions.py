"""All MPC sessions of this agent: sorts what arrives, and serves `run`, `join` and `sessions`."""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from didmpc.agent.contacts.contacts import Contact, Contacts
from didmpc.agent.contacts.invitations import Invitations
from didmpc.agent.mailbox.mailbox import Mailbox
from didmpc.agent.sandbox import disk
from didmpc.agent.sessions import consent, reading, sources
from didmpc.agent.sessions.comparison import DIFFER, Comparison
from didmpc.agent.sessions.confinement import Confinement
from didmpc.agent.sessions.door import Door
from didmpc.agent.sessions.gathering import Gathering, Stream, Workshop, socket_of
from didmpc.agent.sessions.guest import Guest
from didmpc.agent.sessions.history import History
from didmpc.agent.sessions.host import Host, Plan
from didmpc.agent.sessions.inbox import Inbox
from didmpc.agent.sessions.kept_programs import MOST, KeptPrograms
from didmpc.agent.sessions.programs import Known, Programs
from didmpc.agent.sessions.receipts import ReceiptBook
from didmpc.agent.sessions.reception import WAITING_EVERY
from didmpc.agent.sessions.trust import SHORTEST, Trust
from didmpc.agent.sessions.visit import Visits
from didmpc.agent.wallet.wallet import Wallet
from didmpc.local import unix_socket
from didmpc.protocols.envelope import Unpacked
from didmpc.protocols.errors import DidmpcError, LocalMisuse, MessageError
from didmpc.protocols.messages import problem_report
from didmpc.protocols.mpc import messages
from didmpc.protocols.mpc.proposal import Proposal
from didmpc.protocols.session import handshake

logger = logging.getLogger(__name__)

PROPOSALS_PER_CONTACT = 4
LONGEST_PROPOSAL = 24 * 3600
SOURCE_WITHIN = 60.0
GATHERINGS_END_WITHIN = 5.0
PROOFS_WITHIN = 3.0  # seconds until contacts have proven themselves in a session that just began


class Sessions:
    """The sessions of one agent. Wired to its mailbox by `start`."""

    def __init__(
        self, *, wallet: Wallet, mailbox: Mailbox, contacts: Contacts, invitations: Invitations, home: Path
    ) -> None:
        self._contacts = contacts
        self._invitations = invitations
        self._door = Door(invitations)
        self._visits = Visits(wallet, mailbox)
        self._hosts: set[Host] = set()
        self._gatherings: set[asyncio.Task[Any]] = set()
        self._stopping = False
        self._mailbox = mailbox
        history = History(home / "sessions.json")
        self._workshop = Workshop(
            mailbox,
            contacts,
            history,
            home,
            wallet.settings.label,
            Confinement(home),
            Programs(mailbox),
            KeptPrograms(home / "programs"),
            Trust(home / "trusted.json"),
            ReceiptBook(home / "receipts", history),
        )
        self._inboxes: dict[str, Inbox] = {}
        # By contact and attempt: nobody can take the place of another one's proposal.
        self._proposals: dict[tuple[str, str], tuple[Proposal, Contact]] = {}
        self._taken: set[str] = set()
        self._news = asyncio.Event()
        self._comparison = Comparison(self._workshop.history, contacts)
        self._running: dict[str, Gathering] = {}
        self._watches: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Take the messages of MPC sessions from the mailbox; clear what a killed agent left behind."""
        await asyncio.to_thread(_clear_leftovers, self._workshop.home)
        self._mailbox.on(messages.PREFIX, self._on_message)
        self._mailbox.on(f"{handshake.PROTOCOL}/", self._on_message)
        self._mailbox.on(problem_report.PROBLEM_REPORT, self._on_problem)

    async def close(self) -> None:
        """End all sessions of this agent, orderly: their parties are told.

        A lobby with a link stays open: whoever waits in it is told that the host will be back.
        """
        self._stopping = True
        await asyncio.gather(*(host.pause() for host in self._hosts), return_exceptions=True)
        for gathering in self._gatherings:
            gathering.cancel()
        if self._gatherings:
            await asyncio.wait(self._gatherings, timeout=GATHERINGS_END_WITHIN)
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)

    def list(self) -> list[dict[str, Any]]:
        """Running and past sessions, newest first."""
        return self._workshop.history.list()

    async def show(self, params: Mapping[str, Any], stream: Stream) -> dict[str, Any]:
        """One session: one that somebody decides on, a proposal that stands, one that runs or is over.

        By default the newest. With `source` also its program's files, fetched from the host if need be.
        """
        wanted, source = str(params.get("session") or ""), params.get("source") is True
        with contextlib.ExitStack() as stack:
            known = self._proposed(wanted, stack)
            if known is not None:
                proposal = known.proposal
                host = {} if known.host is None else consent.identity(known.host)
                part = consent.Part.of(
                    proposal, party=proposal.you or proposal.parties[0], wish="", gives=False
                )
                shown = {"state": "proposed", **consent.describe(proposal), **host, **part.facts()}
                if source:
                    async with asyncio.timeout(SOURCE_WITHIN):
                        shown["contents"] = reading.contents(await self._workshop.programs.fetch(known))
                return shown
        for entry in self.list():
            if str(entry["attempt"]).startswith(wanted):
                shown = self._workshop.history.find(str(entry["attempt"])) or entry
                return {**shown, "contents": await self._contents(shown)} if source else dict(shown)
        raise LocalMisuse(
            f"There is no session {wanted!r}." if wanted else "There is no session yet.",
            fix="See them:  didmpc sessions     Wait for a proposal:  didmpc join",
        )

    def _proposed(self, wanted: str, stack: contextlib.ExitStack) -> Known | None:
        programs = self._workshop.programs
        if (known := programs.newest(wanted)) is not None:
            return known
        for proposal, host in reversed(self._proposals.values()):
            if proposal.attempt.startswith(wanted) and proposal.expires > time.time():
                return stack.enter_context(programs.about(proposal, host))
        return None

    async def _contents(self, entry: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
        """The program of a session that runs or ran here; raises `LocalMisuse` where it is gone."""
        gathering = self._running.get(str(entry["attempt"]))
        seat = None if gathering is None else gathering.seat
        kept, sha256 = self._workshop.kept, str(entry.get("sha256"))
        bundle = seat.bundle if seat is not None else await asyncio.to_thread(kept.find, sha256)
        if bundle is None:
            raise LocalMisuse(
                "The program of this session is no longer here.",
                why=f"Of what ran, {MOST >> 20} MiB are kept, the newest; its hash is {sha256}.",
                fix="Whoever proposed it can tell you where it is; compare the hash:  didmpc session show",
            )
        return reading.contents(bundle)

    async def trusted(self, params: Mapping[str, Any], stream: Stream) -> dict[str, Any]:
        """The programs that are trusted."""
        trust = self._workshop.trust
        return {"trusted": list(trust.list()), "problem": trust.problem}

    async def trust(self, params: Mapping[str, Any], stream: Stream) -> dict[str, Any]:
        """Trust a program: by its hash, or the one that is at `program`."""
        contact = self._contacts.find(str(params["from"])) if params.get("from") else None
        given = params.get("arguments")
        program = str(params["program"])
        facts: dict[str, Any] = {"sha256": program}
        if params.get("hash") is not True:
            bundle = (await sources.find(program)).bundle
            facts = {"sha256": bundle.sha256, "entry": bundle.entry, "title": bundle.title}
        elif len(program) < 64:
            facts = self._named_by_hash(program)
        new = self._workshop.trust.add(
            **facts,
            contact=(contact.did, contact.name) if contact else None,
            given=None if given is None else messages.arguments({"arguments": given}),
        )
        return new.public()

    def _named_by_hash(self, beginning: str) -> dict[str, Any]:
        """A program that was proposed or has run here, by the beginning of its hash."""
        proposed = [proposal.program for proposal, _ in self._proposals.values()]
        ran = [{**entry, "entry": entry.get("program", "")} for entry in self.list()]
        found = {
            str(each["sha256"]): each
            for each in (*proposed, *ran)
            if str(each.get("sha256", "")).startswith(beginning)
        }
        if len(found) != 1 or len(beginning) < SHORTEST:
            raise LocalMisuse(
                f"{len(found)} programs that were proposed to you have a hash that begins with {beginning}.",
                fix="Give the whole hash:  didmpc session show",
            )
        (program,) = found.values()
        return {name: str(program[name]) for name in ("sha256", "entry", "title")}

    async def forget(self, params: Mapping[str, Any], stream: Stream) -> dict[str, Any]:
        """Trust a program no longer."""
        gone = self._workshop.trust.forget(str(params.get("hash") or ""))
        return {"forgotten": [each.public() for each in gone]}

    async def words(self, params: Mapping[str, Any], stream: Stream) -> dict[str, Any]:
        """The words that the people of a session compare, and how each of them is known."""
        deadline = time.monotonic() + PROOFS_WITHIN
        while True:
            shown = self._comparison.shown(params.get("session"))
            awaited = shown["state"] == "running" and any(party["doubt"] for party in shown["parties"])
            if not awaited or time.monotonic() > deadline:
                return shown
            await asyncio.sleep(0.1)

    async def receipt(self, params: Mapping[str, Any], stream: Stream) -> dict[str, Any]:
        """Where the receipt of a session is and who has not signed it; waits so many seconds for it."""
        entry = await self.show({"session": params.get("session")}, stream)
        found = await self._workshop.receipts.wait(str(entry["attempt"]), float(params.get("wait") or 0))
        return {"attempt": entry["attempt"], "state": entry["state"], "receipt": found}

    async def compared(self, params: Mapping[str, Any], stream: Stream) -> dict[str, Any]:
        """What the people found; words that differ end a session that still runs."""
        shown = await self._comparison.record(str(params["session"]), matched=params["matched"] is True)
        gathering = self._running.get(shown["attempt"])
        if gathering is not None and not shown["matched"]:
            gathering.channel.tell({"abort": {"pid": None, "cause": {"kind": "words", "what": DIFFER}}})
            shown["ended"] = True
        return shown

    async def run(self, params: Mapping[str, Any], stream: Stream) -> dict[str, Any]:
        """Propose a program to contacts and start it with them; returns once it runs."""
        plan = await Plan.of(params, self._contacts)
        place = await self._workshop.confinement.for_run(params)
        attempt = self._invitations.named(plan.reopen).attempt if plan.reopen else Host.new_attempt()
        if attempt in self._inboxes:
            raise LocalMisuse("Another command of yours gathers people by this link right now.")
        inbox = self._inboxes[attempt] = Inbox()
        host = Host(
            *(self._workshop, plan, place, inbox, attempt, stream),
            door=self._door,
            invitations=self._invitations,
        )
        self._hosts.add(host)
        try:
            with self._as_gathering():
                gathering, watch = await host.run()
        except BaseException:
            self._inboxes.pop(attempt, None)
            raise
        finally:
            self._hosts.discard(host)
        self._keep(gathering, watch)
        return {"attempt": attempt}

    @contextmanager
    def _as_gathering(self) -> Iterator[None]:
        """What runs in it ends when this agent stops."""
        task = asyncio.current_task()
        assert task is not None
        self._gatherings.add(task)
        try:
            yield
        finally:
            self._gatherings.discard(task)

    async def join(self, params: Mapping[str, Any], stream: Stream) -> dict[str, Any]:
        """Wait for a proposal, show it, and take part; returns once it runs."""
        with self._as_gathering():
            if params.get("invitation"):
                return await self._join_by_link(params, stream)
            return await self._join_a_contact(params, stream)

    async def _join_by_link(self, params: Mapping[str, Any], stream: Stream) -> dict[str, Any]:
        """Come to a lobby by its link; wait as long as the link holds, unless there is another wait."""
        place = await self._workshop.confinement.for_run(params)
        inbox = Inbox()
        visit = await self._visits.begin(str(params["invitation"]), inbox, stream)
        patience = min(float(params.get("wait") or math.inf), visit.visited.expires - time.time())
        forget, attempt = True, ""
        try:
            proposal = await visit.proposal(time.time() + patience)
            if proposal.attempt in self._inboxes:
                raise DidmpcError(f"{visit.host.name} proposes under the name of a session that runs here.")
            attempt = proposal.attempt
            self._inboxes[attempt] = inbox
            deadline = time.monotonic() + patience
            guest = Guest(self._workshop, proposal, visit.host, place, inbox, stream, params, deadline)
            gathering, watch = await guest.run()
        except BaseException:
            # A stop of this agent is no end of the visit: whoever comes again has its place still.
            forget = not self._stopping
            self._inboxes.pop(attempt, None)
            raise
        finally:
            await asyncio.shield(self._visits.end(visit, forget=forget))
        self._keep(gathering, watch)
        return {"attempt": attempt}

    async def _join_a_contact(self, params: Mapping[str, Any], stream: Stream) -> dict[str, Any]:
        wanted = self._contacts.find(str(params["from"])) if params.get("from") else None
        place = await self._workshop.confinement.for_run(params)
        deadline = time.monotonic() + float(params["wait"])
        proposal, host = await self._next_proposal(wanted, deadline, stream)
        attempt, key = proposal.attempt, (host.name, proposal.attempt)
        if attempt in self._inboxes:
            raise DidmpcError(f"{host.name} proposes under the name of a session that runs here already.")
        self._taken.add(attempt)
        inbox = self._inboxes[attempt] = Inbox()
        try:
            guest = Guest(self._workshop, proposal, host, place, inbox, stream, params, deadline)
            gathering, watch = await guest.run()
        except (asyncio.CancelledError, LocalMisuse):
            # The person may come back, with another input or role: the proposal still stands.
            self._inboxes.pop(attempt, None)
            raise
        except BaseException:
            self._inboxes.pop(attempt, None)
            self._proposals.pop(key, None)
            raise
        finally:
            self._taken.discard(attempt)
        self._proposals.pop(key, None)
        self._keep(gathering, watch)
        return {"attempt": attempt}

    async def _next_proposal(
        self, wanted: Contact | None, deadline: float, stream: Stream
    ) -> tuple[Proposal, Contact]:
        whom = wanted.name if wanted else None
        while True:
            self._news.clear()
            for proposal, host in reversed(self._proposals.values()):  # the newest first
                standing = proposal.expires > time.time() and proposal.attempt not in self._taken
                if standing and (wanted is None or host.name == wanted.name):
                    return proposal, host
            left = deadline - time.monotonic()
            if left <= 0:
                raise DidmpcError(
                    f"No proposal came{f' from {whom}' if whom else ''} before the wait was over.",
                    fix="Ask the host to start:  didmpc run PROGRAM     or wait longer with --wait SECONDS",
                )
            await stream.event({"event": "waiting", "for": [whom or "a proposal"], "seconds_left": int(left)})
            try:
                async with asyncio.timeout(min(left, WAITING_EVERY)):
                    await self._news.wait()
            except TimeoutError:
                continue

    def _keep(self, gathering: Gathering, watch: "asyncio.Task[None]") -> None:
        self._running[gathering.attempt] = gathering

        async def until_the_end() -> None:
            try:
                await watch
            except asyncio.CancelledError:
                watch.cancel()
                await asyncio.gather(watch, return_exceptions=True)
            except Exception:
                logger.exception("the watch over session %s failed", gathering.attempt)
            finally:
                self._inboxes.pop(gathering.attempt, None)
                self._running.pop(gathering.attempt, None)
                await gathering.forget_identity()

        task = asyncio.create_task(until_the_end())
        self._watches.add(task)
        task.add_done_callback(self._watches.discard)

    # -- what arrives -------------------------------------------------------------------------------

    async def _on_message(self, unpacked: Unpacked) -> None:
        message = unpacked.message
        if not unpacked.authenticated or unpacked.sender is None:
            raise MessageError("Messages of an MPC session must be authenticated.", code="e.p.trust.crypto")
        if message.type == messages.KNOCK or self._door.leads_from(unpacked):
            self._door.take(unpacked)
            return
        visit = self._visits.with_host(unpacked.sender)
        if message.type == messages.PROPOSE and visit is None:
            self._take_proposal(unpacked)
            return
        if message.type == messages.BUNDLE:
            self._workshop.programs.take(unpacked)
            return
        attempt = message.pthid or ""
        if not attempt and message.type.startswith(handshake.PROTOCOL):
            return  # between two contacts: see didmpc.agent.links
        if message.type == messages.CANCEL:
            self._cancel(attempt, unpacked.sender)
        # What a link's host says is for the visit, whatever it names.
        inbox = visit.inbox if visit is not None else self._inboxes.get(attempt)
        if inbox is None:
            logger.info("a %s for an attempt that is over or unknown", message.type)
            return
        inbox.put(unpacked)

    def _take_proposal(self, unpacked: Unpacked) -> None:
        contact = self._contacts.by_did(unpacked.sender or "")
        if contact is None:
            raise MessageError("Only contacts may propose a session.", code="e.p.req.not_enroll")
        proposal = Proposal.of(unpacked.message)
        expires = min(proposal.expires, int(time.time()) + LONGEST_PROPOSAL)
        self._forget_expired()
        standing = [key for key in self._proposals if key[0] == contact.name]
        key = (contact.name, proposal.attempt)
        if proposal.attempt in self._inboxes:
            self._inboxes[proposal.attempt].put(unpacked)  # its host wants to hear from us again
            return
        if key in standing:
            return  # a reminder
        for oldest in standing[: len(standing) - PROPOSALS_PER_CONTACT + 1]:
            del self._proposals[oldest]
        self._proposals[key] = (replace(proposal, expires=expires), contact)
        self._news.set()

    async def _on_problem(self, unpacked: Unpacked) -> None:
        if unpacked.sender is not None:
            self._visits.report(unpacked.sender, problem_report.parse(unpacked.message))

    def _forget_expired(self) -> None:
        now = time.time()
        for key in [key for key, (proposal, _) in self._proposals.items() if proposal.expires <= now]:
            del self._proposals[key]

    def _cancel(self, attempt: str, sender: str) -> None:
        contact = self._contacts.by_did(sender)
        if contact is not None:
            self._proposals.pop((contact.name, attempt), None)


def _clear_leftovers(home: Path) -> None:
    """Remove working copies whose session is over. One whose channel process answers still runs."""
    for directory in (home / "work").glob("*"):
        ui_socket = socket_of(home, directory.name)
        if not unix_socket.is_served(ui_socket):
            ui_socket.unlink(missing_ok=True)
            disk.remove(directory)
