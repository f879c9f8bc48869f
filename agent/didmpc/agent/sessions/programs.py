"""The programs of attempts: fetched from their host by content hash, before anybody agrees to anything.

They are data here. Whoever considers a proposal can read its program; it runs only after the person's yes.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from didmpc.agent.contacts.contacts import Contact
from didmpc.agent.mailbox.mailbox import Mailbox
from didmpc.agent.program.bundle import Bundle
from didmpc.agent.sessions import bundles
from didmpc.agent.sessions.parties import LinkPeer
from didmpc.protocols.did import canonical
from didmpc.protocols.envelope import Unpacked
from didmpc.protocols.errors import DidmpcError, RemoteViolation
from didmpc.protocols.message import Message
from didmpc.protocols.mpc import messages
from didmpc.protocols.mpc.proposal import Proposal

ASK_AGAIN = 20.0
SEND_PATIENCE = 15.0

Peer = Contact | LinkPeer


@dataclass(slots=True)
class Known:
    """One attempt's program. `host` is None where we are the host."""

    proposal: Proposal
    host: Peer | None
    bundle: Bundle | None = None
    users: int = 0
    came: asyncio.Event = field(default_factory=asyncio.Event)
    assembly: bundles.Assembly | None = None
    problem: DidmpcError | None = None


class Programs:
    """What is known of the programs of attempts that are proposed or run now."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._known: dict[tuple[str, str], Known] = {}  # by attempt and host

    @contextlib.contextmanager
    def about(self, proposal: Proposal, host: Peer | None, bundle: Bundle | None = None) -> Iterator[Known]:
        """Know this attempt's program for a while, once however often that is asked for at a time."""
        key = (proposal.attempt, "" if host is None else canonical(host.did))
        known = self._known.setdefault(key, Known(proposal, host, bundle))
        known.users += 1
        try:
            yield known
        finally:
            known.users -= 1
            if not known.users:
                del self._known[key]

    def newest(self, beginning: str) -> Known | None:
        """The newest attempt whose name begins so."""
        found = (known for key, known in reversed(self._known.items()) if key[0].startswith(beginning))
        return next(found, None)

    async def fetch(self, known: Known) -> Bundle:
        """The program, asked of its host until it is here; raises `DidmpcError` where it is another one."""
        while known.bundle is None:
            if known.problem is not None:
                raise known.problem
            assert known.host is not None
            if known.assembly is None:
                known.assembly = bundles.Assembly(known.proposal.program)
            ask = Message(
                type=messages.BUNDLE_REQUEST,
                pthid=known.proposal.attempt,
                body={"sha256": known.proposal.program["sha256"]},
            )
            await self._mailbox.send_to_contact(known.host, ask, timeout=SEND_PATIENCE)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ASK_AGAIN):
                    await known.came.wait()
        return known.bundle

    def take(self, unpacked: Unpacked) -> bool:
        """Take a part of a program; False where nobody here waits for it from this sender."""
        known = self._known.get((unpacked.message.pthid or "", canonical(unpacked.sender or "")))
        if known is None or known.host is None or known.assembly is None:
            return False
        try:
            known.bundle = known.assembly.take(unpacked.message)
        except RemoteViolation as error:
            known.assembly = None
            known.problem = DidmpcError(
                f"{known.host.name} does not keep to the proposal: {error.what}",
                why=error.why,
                fix=error.fix or "Nothing of it was run. Ask the host to propose again.",
            )
        if known.bundle is not None or known.problem is not None:
            known.assembly = None
            known.came.set()
        return True
