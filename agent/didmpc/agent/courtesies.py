"""What any DIDComm agent answers: pings, and the question which protocols it speaks."""

from didmpc.agent import contact_exchange
from didmpc.agent.mailbox import Mailbox, Standing
from didmpc.protocols import discover_features, empty, problem_report, trust_ping
from didmpc.protocols.discover_features import Feature
from didmpc.protocols.envelope import Unpacked
from didmpc.protocols.namespace import NAMESPACE

PROTOCOLS = (
    trust_ping.PROTOCOL,
    discover_features.PROTOCOL,
    problem_report.PROTOCOL,
    contact_exchange.PROTOCOL,
    f"{NAMESPACE}/session/1.0",
)


class Courtesies:
    """Only those whom we know get an answer: to anyone else we do not exist."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._features = [Feature("protocol", protocol) for protocol in PROTOCOLS]
        mailbox.on(trust_ping.PING, self._on_ping)
        mailbox.on(discover_features.QUERIES, self._on_queries)
        mailbox.on(empty.EMPTY, self._on_empty)

    async def _on_ping(self, unpacked: Unpacked) -> None:
        # The type of a response starts like that of a ping.
        if unpacked.message.type != trust_ping.PING:
            return
        answer = trust_ping.respond(unpacked.message)
        # Whether we are there is for contacts alone.
        if answer is not None and self._mailbox.standing(unpacked) is Standing.CONTACT:
            self._mailbox.answer(unpacked, answer)

    async def _on_queries(self, unpacked: Unpacked) -> None:
        self._mailbox.answer(unpacked, discover_features.disclose(unpacked.message, self._features))

    async def _on_empty(self, unpacked: Unpacked) -> None:
        """It says nothing; its headers were read before."""
