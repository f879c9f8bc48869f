"""A client of the mediator under test: an account with one registered DID, and what it sends."""

import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from didmpc.bench.mediator.wire import HttpConnection, address_of, http_request
from didmpc.protocols import did as dids
from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.did import Service
from didmpc.protocols.envelope import pack_anoncrypt, pack_authcrypt, unpack
from didmpc.protocols.errors import DidmpcError
from didmpc.protocols.identity import Identities, Identity
from didmpc.protocols.message import Message, decode_json
from didmpc.protocols.messages import mediation, pickup
from didmpc.protocols.messages.routing import forward

MESSAGE = "https://didcomm.org/basicmessage/2.0/message"
_TAG_BYTES = 32


class Unexpected(DidmpcError):
    """The mediator answered otherwise than the measurement needs."""


@dataclass(frozen=True, slots=True)
class Account:
    """A throwaway wallet."""

    identity: Identity
    mediator: str
    """The mediator's DID."""

    @classmethod
    def new(cls, mediator: str) -> Self:
        """One that was not enrolled yet: a did:peer:4 whose service is the mediator."""
        return cls(Identity.peer4([Service(mediator)]), mediator)

    def to_json(self) -> dict[str, Any]:
        return {"identity": self.identity.to_json(), "mediator": self.mediator}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        return cls(Identity.from_json(value["identity"]), str(value["mediator"]))

    @property
    def did(self) -> str:
        return self.identity.did

    def pack(self, message: Message) -> bytes:
        """A message to the mediator, which is asked to answer on the same connection."""
        addressed = replace(
            message,
            from_=self.did,
            to=(self.mediator,),
            return_route="all",
            created_time=int(time.time()),
        )
        return pack_authcrypt(addressed, self.identity, dids.resolve(self.mediator))

    def unpack(self, envelope: bytes) -> Message:
        return unpack(envelope, Identities(self.identity)).message

    async def ask(self, connection: HttpConnection, message: Message) -> Message:
        """Raises `Unexpected` where there is no answer."""
        status, body = await connection.post(http_request(http_url(self.mediator), self.pack(message)))
        if status != 200:
            raise Unexpected(f"The mediator refused a request of the load: HTTP {status}.", why=body.decode())
        return self.unpack(body)

    async def enrol(self, connection: HttpConnection) -> None:
        """Open the account and register its DID."""
        await self.ask(connection, mediation.mediate_request())
        answer = await self.ask(connection, mediation.keylist_update([(self.did, "add")]))
        (updated,) = mediation.parse_keylist_update_response(answer)
        if updated.result != "success":
            raise Unexpected(f"The mediator did not register a DID: {updated.result}.")

    async def waiting(self, connection: HttpConnection) -> int:
        """How many messages the mediator holds for it."""
        return pickup.parse_status(await self.ask(connection, pickup.status_request())).message_count


def http_url(mediator: str) -> str:
    return next(s.uri for s in dids.resolve(mediator).services if s.uri.startswith("http"))


def ws_url(mediator: str) -> str:
    return next(s.uri for s in dids.resolve(mediator).services if s.uri.startswith("ws"))


async def connect(mediator: str) -> HttpConnection:
    return await HttpConnection.connect(*address_of(http_url(mediator)))


class Forwards:
    """Packs forwards to one recipient, each with another envelope in it.

    The envelope inside is packed once and then gets another tag for each forward: the mediator cannot
    open it, and takes the same one twice as one.
    """

    def __init__(self, recipient: str, mediator: str, size: int) -> None:
        self._recipient = recipient
        self._mediator = dids.resolve(mediator)
        content = secrets.token_urlsafe(size)[:size]
        message = Message(type=MESSAGE, to=(recipient,), body={"content": content})
        inner = pack_anoncrypt(message, dids.resolve(recipient))
        self._before, self._after = inner.split(str(decode_json(inner, len(inner))["tag"]).encode(), 1)

    def next(self) -> tuple[str, bytes]:
        """The tag of the envelope inside, and the packed forward."""
        tag = b64url(secrets.token_bytes(_TAG_BYTES))
        inner = self._before + tag.encode() + self._after
        wrapped = forward(self._recipient, [inner], self._mediator.did)
        return tag, pack_anoncrypt(wrapped, self._mediator)


def tag_of(envelope: bytes) -> str:
    """The tag by which a delivered envelope is known again."""
    return str(decode_json(envelope, len(envelope))["tag"])


def packed(files: Iterable[str]) -> list[tuple[str, bytes]]:
    """Tags and forwards from files that `load.pack_forwards` wrote."""
    lines = [line.partition(b" ") for file in files for line in Path(file).read_bytes().splitlines()]
    return [(tag.decode(), envelope) for tag, _, envelope in lines]
