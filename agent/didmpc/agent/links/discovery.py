"""Whether a contact would answer an `open`: it is asked, by discover-features 2.0, before it gets one."""

import asyncio

from didmpc.agent.contacts.contacts import Contact
from didmpc.agent.mailbox.mailbox import Mailbox
from didmpc.protocols.did import same_party
from didmpc.protocols.envelope import Unpacked
from didmpc.protocols.messages import discover_features
from didmpc.protocols.session import handshake

_SESSIONS = discover_features.Query("protocol", handshake.PROTOCOL)
ASK_AGAIN = 5.0
TRIES = 12


class Discovery:
    """Asks contacts; those who want to know the same at the same time share one question."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._waiting: dict[str, tuple[str, asyncio.Future[bool]]] = {}
        self._asking: dict[str, asyncio.Task[bool]] = {}
        mailbox.on(discover_features.DISCLOSE, self._on_disclose)

    async def takes_sessions(self, contact: Contact) -> bool:
        """Whether the contact discloses sessions to us. TimeoutError after a minute without an answer."""
        asking = self._asking.get(contact.did)
        if asking is None:
            asking = self._asking[contact.did] = asyncio.create_task(self._ask(contact))
            asking.add_done_callback(lambda asked: self._asked(contact, asked))
        return await asyncio.shield(asking)

    def _asked(self, contact: Contact, asked: "asyncio.Task[bool]") -> None:
        del self._asking[contact.did]
        if not asked.cancelled():
            asked.exception()  # told to those who waited; perhaps nobody did any more

    async def _ask(self, contact: Contact) -> bool:
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        asked: list[str] = []
        try:
            for _ in range(TRIES):  # each time another message: agents drop repetitions
                question = discover_features.queries([_SESSIONS])
                asked.append(question.id)
                self._waiting[question.id] = contact.did, answer
                await self._mailbox.send_to_contact(contact, question)
                if (await asyncio.wait({answer}, timeout=ASK_AGAIN))[0]:
                    return answer.result()
        finally:
            for question_id in asked:
                del self._waiting[question_id]
        raise TimeoutError

    def close(self) -> None:
        for asking in self._asking.values():
            asking.cancel()

    async def _on_disclose(self, unpacked: Unpacked) -> None:
        did, answer = self._waiting.get(unpacked.message.thread, (None, None))
        if did is None or answer is None or unpacked.sender is None or not same_party(unpacked.sender, did):
            return
        disclosed = discover_features.parse_disclose(unpacked.message)
        if not answer.done():
            answer.set_result(any(feature.id == handshake.PROTOCOL for feature in disclosed))
