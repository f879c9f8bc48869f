"""Clients of our mediator: libraries, whose requests are written here, a whole agent, and our own core.

Each kind is a `Mailbox`: it has a DID behind the mediator, writes to others, and reads what arrived.
"""

import json
import urllib.request
import uuid
from base64 import urlsafe_b64decode
from dataclasses import replace
from typing import Protocol

from interop_parts import PATIENCE, Agent, Json, Peer

from didmpc.protocols import did as dids
from didmpc.protocols.did import Service
from didmpc.protocols.envelope import pack_authcrypt, unpack
from didmpc.protocols.identity import Identities, Identity
from didmpc.protocols.message import ENCRYPTED, Message
from didmpc.protocols.messages import mediation, pickup
from didmpc.protocols.messages.mediation import V2, Version
from didmpc.protocols.messages.routing import route

BASIC = "https://didcomm.org/basicmessage/2.0/message"


class Mailbox(Protocol):
    did: str

    def write(self, to: str, content: str) -> None:
        """Send a basic message, by forwards of its own making."""

    def read(self) -> Json:
        """The next message that arrived: its `from`, `body` and more. Waits for it where it has to."""


class Account:
    """A DID of a library that asks a mediator over HTTP; every answer is wanted on the same connection."""

    def __init__(self, peer: Peer, mediator: str, version: Version = V2, **form: object) -> None:
        self.peer = peer
        self.mediator = mediator
        self.did = peer.create(**form)
        self._version = version
        self._form = form
        self.url, self.ws_url = peer.endpoints(mediator)

    def message(self, type: str, body: Json, **headers: object) -> Json:
        addressed = {"id": uuid.uuid4().hex, "type": type, "body": body, "to": [self.mediator]}
        return {**addressed, "return_route": "all", **headers}

    def ask(self, type: str, **body: object) -> Json:
        """The body of the answer, which the mediator must prove to be its own, in our thread."""
        return self.ask_whole(type, **body)["body"]

    def ask_whole(self, type: str, **body: object) -> Json:
        request = self.message(type, body, **{"from": self.did})
        status, envelope = self.peer.post(self.url, self.peer.pack(request, self.mediator, sender=self.did))
        assert status == 200, envelope
        opened = self.peer.unpack(envelope)
        assert opened["sender"].partition("#")[0] == self.mediator
        message = opened["message"]
        assert (message["from"], message["to"]) == (self.mediator, [self.did])
        assert request["id"] in (message.get("thid"), message.get("pthid"))
        return message

    def mailbox(self, method: str = "peer2") -> str:
        """A new DID of the peer at which mail arrives over the mediator."""
        routing = self.ask(self._version.request)["routing_did"]
        assert isinstance(routing, list) == self._version.lists_routing_dids
        (routing_did,) = routing if isinstance(routing, list) else [routing]
        service = {"uri": routing_did, "accept": ["didcomm/v2"]}
        did = self.peer.create(**{**self._form, "method": method}, services=[service])
        change = {"recipient_did": did, "action": "add"}
        answer = self.ask(self._version.update, updates=[change])
        assert answer == {"updated": [{**change, "result": "success"}]}
        return did

    def keys(self) -> list[str]:
        listing = self.ask(self._version.query)[self._version.entries]
        assert all(set(entry) == {"recipient_did"} for entry in listing)
        return [entry["recipient_did"] for entry in listing]

    def fetch(self, limit: int = 10) -> list[Json]:
        """What waits, opened, and acknowledged."""
        delivery = self.ask_whole(pickup.DELIVERY_REQUEST, limit=limit)
        if delivery["type"] == pickup.STATUS:
            return []
        opened = [self.peer.unpack(carried(attachment)) for attachment in delivery["attachments"]]
        names = [attachment["id"] for attachment in delivery["attachments"]]
        self.ask(pickup.MESSAGES_RECEIVED, message_id_list=names)
        return opened


def carried(attachment: Json) -> bytes:
    """The envelope in an attachment, as a client reads it that knows `base64` and `json`."""
    data = attachment["data"]
    if "json" in data:
        return json.dumps(data["json"]).encode()
    return urlsafe_b64decode(data["base64"] + "=" * (-len(data["base64"]) % 4))


class LibraryMailbox(Mailbox):
    """A DID of a library behind the mediator, picked up from by requests."""

    def __init__(self, peer: Peer, mediator: str, **form: object) -> None:
        self._account = Account(peer, mediator, **form)
        self.did = self._account.mailbox()

    def write(self, to: str, content: str) -> None:
        account = self._account
        message = account.message(BASIC, {"content": content}, **{"from": self.did, "to": [to]})
        del message["return_route"]
        envelope = account.peer.pack(message, to, sender=self.did, forward=True)
        assert account.peer.post(account.url, envelope) == (202, b"")

    def read(self) -> Json:
        """The next message. Forwards are durable before they are answered, so it is there already."""
        opened, *others = self._account.fetch()
        assert others == []
        assert opened["sender"].partition("#")[0] == opened["message"]["from"]
        return opened["message"]


class OurMailbox(Mailbox):
    """A DID of our own core behind the mediator."""

    def __init__(self, mediator: str) -> None:
        self._mediator = dids.resolve(mediator)
        self._me = Identity.peer2([Service(mediator)])
        self.did = self._me.did
        assert mediation.parse_mediate_grant(self._ask(mediation.mediate_request())) == mediator
        change = mediation.keylist_update([(self.did, "add")])
        (updated,) = mediation.parse_keylist_update_response(self._ask(change))
        assert updated.result == "success"

    def write(self, to: str, content: str) -> None:
        message = Message(type=BASIC, body={"content": content}, from_=self.did, to=(to,))
        outbound = route(pack_authcrypt(message, self._me, dids.resolve(to)), dids.resolve(to))
        assert post(outbound.uri, outbound.envelope) == (202, b"")

    def read(self) -> Json:
        delivery = pickup.parse_delivery(self._ask(pickup.delivery_request(10)))
        ((name, envelope),) = delivery.messages
        opened = unpack(envelope, Identities(self._me))
        assert opened.sender == opened.message.from_
        self._ask(pickup.messages_received([name]))
        return opened.message.to_json()

    def _ask(self, request: Message) -> Message:
        """The mediator's answer."""
        addressed = replace(request, from_=self.did, to=(self._mediator.did,), return_route="all")
        envelope = pack_authcrypt(addressed, self._me, self._mediator)
        status, answer = post(self._mediator.services[0].uri, envelope)
        assert status == 200, answer
        return unpack(answer, Identities(self._me)).message


def post(url: str, envelope: bytes) -> tuple[int, bytes]:
    request = urllib.request.Request(url, envelope, {"Content-Type": ENCRYPTED})
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        return response.status, response.read()


class AgentMailbox(Mailbox):
    """A DID of the whole agent, which polls or has its mail pushed."""

    def __init__(self, agent: Agent, mediator: str, live: bool) -> None:
        self._agent = agent
        self._client = uuid.uuid4().hex
        started = agent.start(self._client, mediator, live)
        assert started == {"routing": mediator, "live": live}
        self.did = agent.mailbox(self._client, accept=["didcomm/v2"])

    def write(self, to: str, content: str) -> None:
        self._agent.send(self._client, self.did, to, content)

    def read(self) -> Json:
        return self._agent.next(self._client)

    def stop(self) -> None:
        self._agent.stop(self._client)
