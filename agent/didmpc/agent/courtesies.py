"""What any DIDComm agent answers: pings, and the question which protocols it speaks."""

from didmpc.agent import contact_exchange
from didmpc.agent.mailbox import Mailbox
from didmpc.agent.wallet import Wallet
from didmpc.protocols import discover_features, empty, problem_report, trust_ping
from didmpc.protocols.did import did_of
from didmpc.protocols.discover_features import Feature
from didmpc.protocols.envelope import Unpacked
from didmpc.protocols.message import Message
from didmpc.protocols.namespace import NAMESPACE

ANSWER_WITHIN = 30.0

PROTOCOLS = (
    trust_ping.PROTOCOL,
    discover_features.PROTOCOL,
    problem_report.PROTOCOL,
    contact_exchange.PROTOCOL,
    f"{NAMESPACE}/session/1.0",
)


class Courtesies:
    """Only those who prove who they are get an answer: to anyone else we do not exist."""

    def __init__(self, wallet: Wallet, mailbox: Mailbox) -> None:
        self._wallet = wallet
        self._mailbox = mailbox
        self._features = [Feature("protocol", protocol) for protocol in PROTOCOLS]
        mailbox.on(trust_ping.PING, self._on_ping)
        mailbox.on(discover_features.QUERIES, self._on_queries)
        mailbox.on(empty.EMPTY, self._on_empty)

    async def _on_ping(self, unpacked: Unpacked) -> None:
        # The type of a response starts like that of a ping.
        if unpacked.message.type == trust_ping.PING:
            await self._answer(unpacked, trust_ping.respond(unpacked.message))

    async def _on_queries(self, unpacked: Unpacked) -> None:
        await self._answer(unpacked, discover_features.disclose(unpacked.message, self._features))

    async def _on_empty(self, unpacked: Unpacked) -> None:
        """It says nothing; its headers were read before."""

    async def _answer(self, unpacked: Unpacked, answer: Message | None) -> None:
        if answer is None or unpacked.sender is None or unpacked.recipient_kid is None:
            return
        mine = self._wallet.identities.identity(did_of(unpacked.recipient_kid))
        if mine is not None:
            await self._mailbox.send(answer, mine, unpacked.sender, timeout=ANSWER_WITHIN)
