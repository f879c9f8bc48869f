"""What any DIDComm agent answers: pings, and the question which protocols it speaks."""

from collections.abc import Callable

from didmpc.agent.contacts import contact_exchange
from didmpc.agent.mailbox.mailbox import Mailbox, Standing
from didmpc.protocols.envelope import Unpacked
from didmpc.protocols.messages import discover_features, empty, problem_report, trust_ping
from didmpc.protocols.messages.discover_features import Feature
from didmpc.protocols.session import handshake

PROTOCOLS = (
    trust_ping.PROTOCOL,
    discover_features.PROTOCOL,
    problem_report.PROTOCOL,
    contact_exchange.PROTOCOL,
)


class Courtesies:
    """Only those whom we know get an answer: to anyone else we do not exist."""

    def __init__(
        self, mailbox: Mailbox, *, takes_sessions: Callable[[Unpacked], bool] = lambda unpacked: False
    ) -> None:
        """`takes_sessions`: whether an `open` of the sender of this message would be answered."""
        self._mailbox = mailbox
        self._takes_sessions = takes_sessions
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
        features = list(self._features)
        if self._takes_sessions(unpacked):
            features.append(Feature("protocol", handshake.PROTOCOL))
        self._mailbox.answer(unpacked, discover_features.disclose(unpacked.message, features))

    async def _on_empty(self, unpacked: Unpacked) -> None:
        """It says nothing; its headers were read before."""
