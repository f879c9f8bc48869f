"""Whether a contact would answer an `open`: it is asked, by discover-features 2.0, before it gets one."""

import asyncio

from didmpc.agent.contacts import Contact
from didmpc.agent.mailbox import Mailbox
from didmpc.protocols import discover_features
from didmpc.protocols.did import same_party
from didmpc.protocols.envelope import Unpacked
from didmpc.protocols.session import handshake

ASK_AGAIN = 10.0


class Discovery:
    """Asks contacts."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._waiting: dict[str, tuple[str, asyncio.Future[bool]]] = {}
        mailbox.on(discover_features.DISCLOSE, self._on_disclose)

    async def takes_sessions(self, contact: Contact) -> bool:
        """Whether the contact discloses sessions to us. Waits for its answer for as long as it takes."""
        question = discover_features.queries([discover_features.Query("protocol", handshake.PROTOCOL)])
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[question.id] = contact.did, answer
        try:
            while True:
                await self._mailbox.send_to_contact(contact, question)
                done, _ = await asyncio.wait({answer}, timeout=ASK_AGAIN)
                if done:
                    return answer.result()
        finally:
            del self._waiting[question.id]

    async def _on_disclose(self, unpacked: Unpacked) -> None:
        did, answer = self._waiting.get(unpacked.message.thread, (None, None))
        if did is None or answer is None or unpacked.sender is None or not same_party(unpacked.sender, did):
            return
        disclosed = discover_features.parse_disclose(unpacked.message)
        if not answer.done():
            answer.set_result(any(feature.id == handshake.PROTOCOL for feature in disclosed))
