"""A whole mediator without its sockets: what is sealed properly for it gets one of the documented answers.

An input is a plaintext message, in which `did:example:mediator` stands for the DID of this mediator. A text
`how` in it says how it is sealed and where it comes in: "n" anoncrypt, "s" signed, "w" on a WebSocket.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from aiohttp.abc import AbstractResolver

from didmpc.mediator import app
from didmpc.mediator.host.home import Home
from didmpc.mediator.limits import Limits
from didmpc.mediator.relay.relay import Relay
from didmpc.mediator.resolving.dialing import Outside
from didmpc.mediator.service.service import Answer, Service
from didmpc.protocols import did as dids
from didmpc.protocols.envelope import pack_anoncrypt, pack_authcrypt, pack_signed, unpack
from didmpc.protocols.errors import MessageError
from didmpc.protocols.identity import Identities
from didmpc.protocols.message import Message
from didmpc.protocols.messages import mediation, pickup, relay_control
from didmpc.protocols.messages.problem_report import PROBLEM_REPORT, parse
from didmpc.protocols.messages.routing import forward
from didmpc.protocols.session.handshake import CLASSICAL, OPEN, Initiation, Party
from fuzz_targets.messages import _message_seeds
from fuzz_targets.target import ALICE, BOB, Target, from_json, to_json

MEDIATOR = b"did:example:mediator"
STATUSES = {200, 202, 400, 401, 403, 404, 409, 413, 415, 429}
OVERLOAD = {"e.p.me.res.storage", "e.p.me.res.storage.mailbox_full"}
"""What is full stays so for a while, and is said with 429, 503 or 507."""


class NoNames(AbstractResolver):
    """Nothing is looked up, and nobody outside is reached."""

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> Any:
        raise OSError("there is no outside")

    async def close(self) -> None:
        pass


class Line:
    """A WebSocket, as far as protocols care."""

    def wants(self, thread: str) -> bool:
        return True

    def set_route(self, message: Message, mediator: str | None) -> None:
        pass

    async def send(self, message: Message, to: str) -> None:
        assert message.encode()

    def start_hop(self, established: Any) -> None:
        assert established.role == "responder"


class Mediator:
    """One that was started with all its parts, and is spoken to in this process."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._stack = contextlib.AsyncExitStack()
        folder = tempfile.TemporaryDirectory(prefix="didmpc-fuzz-")
        self._stack.callback(folder.cleanup)
        made: dict[type, Any] = {}

        def kept(kind: type) -> Any:
            def make(*args: Any, **options: Any) -> Any:
                made[kind] = kind(*args, **options)
                return made[kind]

            return mock.patch.object(app, kind.__name__, make)

        with kept(Service), kept(Relay):
            running = app.running(
                Home(Path(folder.name) / "m"),
                port=0,
                public_url="https://mediator.example",
                limits=Limits.off(),
                outside=Outside(names=NoNames()),
            )
            self.did = self.loop.run_until_complete(self._stack.enter_async_context(running)).did
        self._service: Service = made[Service]
        self.relay: Relay = made[Relay]
        self._line = Line()
        self.document = dids.resolve(self.did)
        self.ask(mediation.mediate_request())

    def send(self, envelope: bytes, *, on_websocket: bool = False) -> Answer:
        line = self._line if on_websocket else None
        answer = self.loop.run_until_complete(
            self._service.handle(envelope, connection=line, address="127.0.0.1")  # type: ignore[arg-type]
        )
        if answer.then is not None:
            self.loop.call_soon(answer.then)
        return answer

    def ask(self, message: Message) -> Message:
        """The reply to a request of Alice's account."""
        answer = self.send(pack_authcrypt(_to(message, self.did), ALICE, self.document))
        assert answer.reply is not None, answer.problem
        return unpack(answer.reply, Identities(ALICE)).message

    def close(self) -> None:
        quiet = _to(pickup.live_delivery_change(False), self.did)
        self.send(pack_authcrypt(quiet, ALICE, self.document), on_websocket=True)
        self.loop.run_until_complete(self._stack.aclose())
        self.loop.close()


@cache
def mediator() -> Mediator:
    """The one of this process. Close it in the end, where there is one."""
    return Mediator()


def _to(message: Message, did: str) -> Message:
    return Message.from_json({**message.to_json(), "from": ALICE.did, "to": [did], "return_route": "all"})


def service(data: bytes) -> None:
    there = mediator()
    value = from_json(data)
    how = value.pop("how", "") if isinstance(value, dict) else ""
    how = how if isinstance(how, str) else ""
    content = (to_json(value) if isinstance(value, dict) else data).replace(MEDIATOR, there.did.encode())
    if "n" in how:
        envelope = pack_anoncrypt(content, there.document)
    elif "s" in how and (message := _message(content)) is not None:
        envelope = pack_authcrypt(pack_signed(message, ALICE), ALICE, there.document)
    else:
        envelope = pack_authcrypt(content, ALICE, there.document)
    _check(there.send(envelope, on_websocket="w" in how))


def _message(content: bytes) -> Message | None:
    try:
        return replace(Message.decode(content), from_=ALICE.did)
    except MessageError:
        return None


def _check(answer: Answer) -> None:
    """One of the answers of docs/mediator-answers.md, and nothing that says the mediator is at fault."""
    problem = answer.problem
    if problem is not None:
        assert problem.code.startswith("e."), problem.code
        assert problem.what
    assert answer.status in STATUSES or (problem is not None and problem.code in OVERLOAD), problem
    if answer.reply is None:
        return
    opened = unpack(answer.reply, Identities(ALICE))
    assert opened.sender or opened.signer
    if problem is not None and opened.message.type == PROBLEM_REPORT:
        assert parse(opened.message).code == problem.code


def _seeds() -> Iterator[bytes]:
    did = MEDIATOR.decode()
    me = {"from": ALICE.did, "to": [did], "return_route": "all", "id": "1"}
    hello = Initiation(Party.of(ALICE), Party.of(BOB), "1", suites=(CLASSICAL,)).body
    messages: Sequence[Message] = (
        mediation.keylist_update([(ALICE.did, "add"), (BOB.did, "remove")]),
        relay_control.channel_create(2, 2**33),
        pickup.messages_received(["1", "2"]),
        pickup.live_delivery_change(True),
        Message(type=OPEN, body=hello),
    )
    for message in messages:
        yield to_json({**message.to_json(), **me, "how": "w"})
    for seed in _message_seeds():
        value = from_json(seed)
        yield to_json({**value, **me})
    mail = forward(ALICE.did, [b'{"a":1}'], did).to_json()
    yield to_json({**mail, "id": "2", "how": "n"})
    yield to_json({**mail, **me, "how": "s"})


TARGETS = (Target("service", service, _seeds),)
