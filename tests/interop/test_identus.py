"""npm `@hyperledger/identus-sdk` as a whole agent, and what it does that a mediator has to know.

That it obtains mediation, updates its key list (without a return_route, so that the answer is an empty
body) and picks up mail by polling and live, from and to everybody, is in `test_between_peers`.
"""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue

import pytest
from interop_parts import PATIENCE, Agent, Drivers, Json, Peer, PeerRefused
from mediated import BASIC, AgentMailbox, OurMailbox

from didmpc.protocols import did as dids
from didmpc.protocols.did import Service
from didmpc.protocols.envelope import pack_anoncrypt, pack_authcrypt, unpack
from didmpc.protocols.identity import Identities, Identity
from didmpc.protocols.message import Message
from didmpc.protocols.messages.routing import FORWARD

BODY = {"content": "Grüße, 多方计算"}


@pytest.fixture
def client(identus: Agent, mediator: Json) -> Iterator[str]:
    """An agent that polls, by name."""
    started = identus.start("client", mediator["did"], live=False)
    assert started == {"routing": mediator["did"], "live": False}
    yield "client"
    identus.stop("client")


def test_envelopes_go_both_ways(identus: Agent, client: str) -> None:
    them = dids.resolve(identus.mailbox(client))
    we = Identity.peer2([Service("https://we.example")])
    message = Message(type=BASIC, body=BODY, from_=we.did, to=(them.did,))
    anonymous = Message(type=BASIC, body=BODY, to=(them.did,))
    envelopes = [pack_authcrypt(message, we, them)]
    envelopes += [pack_anoncrypt(anonymous, them, enc) for enc in ("A256CBC-HS512", "A256GCM", "XC20P")]
    for envelope, sender in zip(envelopes, [we.did, None, None, None], strict=True):
        opened = identus.do("unpack", client=client, envelope=envelope.decode())
        assert (opened["body"], opened["from"]) == (BODY, sender)

    for sender in (them.did, None):
        theirs = {"id": "1", "type": BASIC, "body": BODY, "to": we.did, "from": sender}
        packed = identus.do("pack", client=client, message=theirs).encode()
        got = unpack(packed, Identities(we))
        assert (got.message.body, got.sender) == (BODY, sender)


@pytest.mark.parametrize("live", [False, True], ids=["polling", "live"])
def test_each_of_several_messages_arrives_once(identus: Agent, mediator: Json, live: bool) -> None:
    """In any order: the SDK says what it got when its acknowledgement was answered."""
    ours, theirs = OurMailbox(mediator["did"]), AgentMailbox(identus, mediator["did"], live)
    for n in range(5):
        ours.write(theirs.did, str(n))
    arrived = [theirs.read()["body"]["content"] for _ in range(5)]
    ours.write(theirs.did, "last")
    assert (sorted(arrived), theirs.read()["body"]) == (list("01234"), {"content": "last"})
    theirs.stop()


def test_mail_that_came_while_it_was_away_is_there_when_it_is_back(
    identus: Agent, client: str, mediator: Json
) -> None:
    did = identus.mailbox(client)
    identus.stop(client)
    OurMailbox(mediator["did"]).write(did, "hi")
    assert identus.resume(client) == {"routing": mediator["did"], "live": False}
    assert identus.next(client)["body"] == {"content": "hi"}


def test_its_service_says_not_what_it_accepts_which_one_peer_insists_on(
    identus: Agent, client: str, mediator: Json, drivers: Drivers
) -> None:
    """We write to it all the same; PyPI `didcomm-messaging` cannot, unless the agent is told what to say."""
    silent, explicit = identus.mailbox(client), identus.mailbox(client, accept=["didcomm/v2"])
    assert [dids.resolve(did).services[0].accept for did in (silent, explicit)] == [(), ("didcomm/v2",)]
    OurMailbox(mediator["did"]).write(silent, "hi")
    assert identus.next(client)["body"] == {"content": "hi"}

    peer = Peer(drivers.child("pypi_didcomm_messaging"))
    message = {"id": "1", "type": BASIC, "body": BODY, "to": [silent]}
    with pytest.raises(PeerRefused, match="IndexError"):
        peer.pack(message, silent, forward=True)
    assert peer.pack({**message, "to": [explicit]}, explicit, forward=True)


def test_it_refuses_a_did_that_holds_a_key_of_another_curve(identus: Agent, mediator: Json) -> None:
    """So a mediator's own DID has X25519 and Ed25519 alone, and a second one has the NIST curves."""
    with pytest.raises(PeerRefused, match="could resolve the DID"):
        identus.start("refusing", mediator["nist_did"], live=False)


def test_it_neither_writes_to_a_did_peer_4_nor_reads_what_one_wrote(identus: Agent, client: str) -> None:
    them, we = dids.resolve(identus.mailbox(client)), Identity.peer4([Service("https://we.example")])
    with pytest.raises(PeerRefused, match="could resolve the DID"):
        identus.send(client, them.did, we.did, "hi")
    message = Message(type=BASIC, body=BODY, from_=we.did, to=(them.did,))
    with pytest.raises(PeerRefused):
        identus.do("unpack", client=client, envelope=pack_authcrypt(message, we, them).decode())


def test_it_tells_the_recipients_mediator_who_sends(identus: Agent, client: str) -> None:
    """Its forwards are authcrypt, where the specification has anoncrypt. Our mediator takes them."""
    with capturing() as (url, taken):
        hop = Identity.peer2([Service(url)])
        recipient = Identity.peer2([Service(hop.did)])
        sender = identus.mailbox(client)
        identus.send(client, sender, recipient.did, "hi")
        opened = unpack(taken.get(timeout=PATIENCE), Identities(hop))
    assert opened.message.type == FORWARD
    assert opened.sender == sender


class capturing:
    """An HTTP server that keeps what is posted to it."""

    def __enter__(self) -> tuple[str, "Queue[bytes]"]:
        taken: Queue[bytes] = Queue()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                taken.put(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_port}", taken

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
