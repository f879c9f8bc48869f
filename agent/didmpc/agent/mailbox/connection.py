"""One live WebSocket to the mediator, under the account of this agent.

Requests are authcrypted from the account's DID and ask for `return_route: all`, so everything comes back
on this socket. A reply finds its request by its thread; anything else from the mediator goes to `on_push`.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

import aiohttp

from didmpc.agent.mailbox.meter import Meter
from didmpc.protocols.did import DIDDocument, same_party
from didmpc.protocols.envelope import Unpacked, pack_authcrypt, unpack
from didmpc.protocols.errors import DidmpcError, MessageError, RemoteViolation
from didmpc.protocols.identity import Identities, Identity
from didmpc.protocols.message import Message
from didmpc.protocols.messages import problem_report

MAX_FRAME = 32 * 1024 * 1024
MAX_WAITING = 1024  # requests of ours without an answer

log = logging.getLogger(__name__)


class Connection:
    """Asks and is told, until the socket ends."""

    def __init__(
        self,
        socket: aiohttp.ClientWebSocketResponse,
        account: Identity,
        mediator: DIDDocument,
        *,
        meter: Meter,
        on_push: Callable[[Message], None],
        on_other: Callable[[bytes], None],
    ) -> None:
        self._socket = socket
        self._account = account
        self._secrets = Identities(account)
        self._mediator = mediator
        self._meter = meter
        self._on_push = on_push
        self._on_other = on_other
        self._waiting: dict[str, asyncio.Future[Message]] = {}

    async def tell(self, message: Message) -> None:
        """Send a request whose answer nobody waits for. Raises ConnectionError."""
        addressed = replace(
            message,
            from_=self._account.did,
            to=(self._mediator.did,),
            # A mediator remembers for a limited time what it has acted on; older messages it refuses.
            created_time=int(time.time()),
            return_route="all",
        )
        with self._meter:
            envelope = pack_authcrypt(addressed, self._account, self._mediator)
        await self._socket.send_str(envelope.decode())

    async def ask(self, message: Message, timeout: float) -> Message:
        """Send a request and wait for its reply.

        Raises `DidmpcError` when the mediator reports a problem, ConnectionError when the socket ends
        first, TimeoutError when nothing comes.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise DidmpcError("Too many requests wait for the mediator.", fix="Try again in a moment.")
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[message.id] = answer
        try:
            async with asyncio.timeout(timeout):
                await self.tell(message)
                return await answer
        finally:
            del self._waiting[message.id]

    async def read(self) -> None:
        """Take in frames until the socket ends."""
        try:
            async for frame in self._socket:
                if frame.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                    data = frame.data
                    self._take(data.encode() if isinstance(data, str) else data)
        finally:
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(ConnectionResetError("the connection to the mediator ended"))

    def _take(self, envelope: bytes) -> None:
        try:
            with self._meter:
                unpacked = unpack(envelope, self._secrets)
        except RemoteViolation:
            # Not for the account: some mediators push the stored envelopes as they are.
            self._on_other(envelope)
            return
        if not self._from_mediator(unpacked):
            log.warning("a message for the mediator account that is not from the mediator was dropped")
            return
        self._dispatch(unpacked.message)

    def _from_mediator(self, unpacked: Unpacked) -> bool:
        author = unpacked.sender or unpacked.signer
        return author is not None and same_party(author, self._mediator.did)

    def _dispatch(self, message: Message) -> None:
        if message.type == problem_report.PROBLEM_REPORT:
            self._problem(message)
            return
        answer = self._waiting.get(message.thread)
        if answer is not None and not answer.done():
            answer.set_result(message)
        else:
            self._on_push(message)

    def _problem(self, message: Message) -> None:
        try:
            problem = problem_report.parse(message)
        except MessageError:
            return
        answer = self._waiting.get(message.pthid or "") or self._waiting.get(message.thread)
        if answer is not None and not answer.done():
            answer.set_exception(DidmpcError("The mediator refused a request.", why=problem.text[:300]))
        else:
            log.warning("the mediator reports a problem: %s (%s)", problem.text[:300], problem.code[:80])
