"""session/1.0 with a second implementation: JavaScript on WebCrypto, in a process of its own.

Both sides shake hands in authcrypt, each with its own; then packets go through a network that loses, doubles
and reorders them, under a clock of the test.
"""

import json
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from interop_parts import Child, Json
from js_session_parts import JS, blocks, find_node, run

from didmpc.protocols.did import resolve
from didmpc.protocols.envelope import Unpacked, pack_authcrypt, unpack
from didmpc.protocols.errors import SessionError
from didmpc.protocols.identity import Identities, Identity
from didmpc.protocols.message import Message
from didmpc.protocols.session.exports import contact_proof
from didmpc.protocols.session.handshake import (
    ACCEPT,
    OPEN,
    WIRE_BINARY,
    WIRE_JSON,
    Established,
    Initiation,
    Party,
    respond,
)
from didmpc.protocols.session.link import Aborted, Closed, Contacts, Data, Link, LinkLimits, Ready, Renewed
from didmpc.protocols.session.packet import EpochLimits

VECTORS = Path(__file__).parents[1] / "vectors" / "session-1.0"
CHAT = {"id": "AAAAAAAAAAAAAAAAAAAAAA", "protocol": "https://example.org/chat/1.0"}
EPOCH_PACKETS = 16
STEP = 0.05  # seconds of the test's clock


node = pytest.fixture(scope="session")(find_node)


@pytest.fixture
def start(node: str, tmp_path: Path) -> Iterator[Callable[..., "Pair"]]:
    """Makes pairs of our link and one of JavaScript, after a handshake."""
    with Child([node, "--no-warnings", "peer.mjs"], tmp_path / "log", JS) as child:
        yield lambda **options: Pair(child, **options)


class Pair:
    """Our link and theirs, and the network between them."""

    def __init__(self, child: Child, *, ours_opens: bool, wire: str, seed: int = 0) -> None:
        self._child = child
        self._ours_opens = ours_opens
        self._random = random.Random(seed)
        self.faults = False
        self.now = 1000.0
        self.me = Identity.peer4()
        self.peer = resolve(self.ask("identity")["did"])
        self.exporters: list[bytes] = []
        self.data: dict[str, bytearray] = {"ours": bytearray(), "theirs": bytearray()}
        self.events: dict[str, list[Any]] = {"ours": [], "theirs": []}
        self._on_the_way: list[tuple[float, str, bytes]] = []
        established = self.shake_hands(wire)
        limits = LinkLimits(epoch=EpochLimits(packets=EPOCH_PACKETS))
        self.link = Link(established, now=self.now, limits=limits)
        self.path_up(wire)

    def ask(self, command: str, **options: Any) -> Json:
        self._child.tell({"do": command, **options})
        answer = self._child.hear()
        assert "failed" not in answer, answer["failed"]
        return answer

    # --- handshakes

    def shake_hands(self, wire: str) -> Established:
        ours = self._ours_open(wire) if self._ours_opens else self._theirs_opens(wire)
        assert ours.wire == wire
        self.exporters.append(ours.exporter)
        return ours

    def _ours_open(self, wire: str) -> Established:
        message = Message(type=OPEN, body={}, expires_time=int(time.time()) + 60)
        initiation = Initiation(
            Party.of(self.me),
            Party.of(self.peer),
            message.id,
            link=CHAT,
            wires=[wire],
            continues=self.exporters[-1] if self.exporters else None,
        )
        message.body.update(initiation.body)
        answers = [self._tell(self._packed(message), wire) for _ in range(2)]
        accepts = [self._open(answer["envelope"]).message for answer in answers]
        assert accepts[0].type == ACCEPT and accepts[0].thid == message.id
        assert accepts[0].body == accepts[1].body, "an open that comes again gets the same answer"
        established = initiation.finish(accepts[0].body)
        assert established.exporter.hex() == answers[0]["exporter"]
        return established

    def _theirs_opens(self, wire: str) -> Established:
        expires = int(time.time()) + 60
        asked = self.ask("open", peer=self.me.did, wires=[wire], link=CHAT, expires_time=expires)
        opened = self._open(asked["envelope"])
        assert opened.message.type == OPEN and opened.message.expires_time == expires
        accept, established = respond(
            Party.of(self.me),
            Party.of(self.peer, opened.sender_kid),
            opened.message.id,
            opened.message.body,
            link=CHAT,
            wires=[WIRE_BINARY, WIRE_JSON],
            continues=self.exporters,
        )
        told = self._tell(self._packed(opened.message.reply(ACCEPT, accept)), wire)
        assert established.exporter.hex() == told["exporter"]
        assert established.transcript.hex() == told["th"]
        return established

    def _packed(self, message: Message) -> Json:
        addressed = Message.from_json({**message.to_json(), "from": self.me.did, "to": [self.peer.did]})
        return json.loads(pack_authcrypt(addressed, self.me, self.peer))

    def _open(self, envelope: Json) -> Unpacked:
        opened = unpack(json.dumps(envelope).encode(), Identities(self.me))
        assert opened.sender == self.peer.did
        return opened

    def _tell(self, envelope: Json, wire: str) -> Json:
        return self.ask(
            "message",
            envelope=envelope,
            peer=self.me.did,
            wires=[wire],
            link=CHAT,
            now=self.now,
            epoch_packets=EPOCH_PACKETS,
        )

    def renew(self, wire: str) -> None:
        self.link.renew(self.shake_hands(wire), self.now)

    # --- the network

    def path_up(self, wire: str) -> None:
        self.link.path_up(self.now, wire)
        self.ask("path_up", wire=wire, now=self.now)

    def path_down(self, wire: str) -> None:
        self._on_the_way.clear()
        self.link.path_down(self.now, wire)
        self.ask("path_down", wire=wire)

    def step(self) -> None:
        """Both say what they have to say; what has arrived is taken."""
        self.now += STEP
        ours = self.link.packets(self.now)
        if (proposal := self.link.proposal(self.now)) is not None:
            ours.append(proposal)
        for packet in ours:
            self._post("theirs", packet)
        for packet in self.ask("packets", now=self.now)["packets"]:
            self._post("ours", bytes.fromhex(packet))
        arrived = [item for item in self._on_the_way if item[0] <= self.now]
        self._on_the_way = [item for item in self._on_the_way if item[0] > self.now]
        for _, whom, packet in sorted(arrived, key=lambda item: item[0]):
            self._deliver(whom, packet)

    def _post(self, whom: str, packet: bytes) -> None:
        luck = self._random.random() if self.faults else 1.0
        if luck < 0.15:
            return
        copies = 2 if luck < 0.3 else 1
        for _ in range(copies):
            delay = self._random.uniform(0, 4 * STEP) if self.faults else 0.0
            self._on_the_way.append((self.now + delay, whom, packet))

    def _deliver(self, whom: str, packet: bytes) -> None:
        if whom == "ours":
            try:
                events = self.link.receive(packet, self.now)
            except SessionError as error:
                assert error.code == "e.p.session.replay" or "epoch" in error.code, error
                return
            for event in events:
                if isinstance(event, Data):
                    self.data["ours"] += event.data
                else:
                    self.events["ours"].append(event)
        else:
            answer = self.ask("receive", packet=packet.hex(), now=self.now)
            assert answer.get("refused") in (None, "e.p.session.replay", "e.p.session.epoch"), answer
            for event in answer.get("events", ()):
                if event["type"] == "data":
                    self.data["theirs"] += bytes.fromhex(event["data"])
                else:
                    self.events["theirs"].append(event)

    def until(self, condition: Callable[[], bool], seconds: float = 120.0) -> None:
        """Let the test's clock run, for so many of its seconds at most."""
        end = self.now + seconds
        while not condition():
            assert self.now < end, f"not within {seconds} s of the test's clock: {self.link.stats}"
            self.step()

    def named(self, whom: str) -> set[str]:
        if whom == "theirs":
            return {event["type"] for event in self.events["theirs"]}
        return {type(event).__name__.lower() for event in self.events["ours"]}


def test_it_agrees_with_every_vector_of_its_suite(node):
    checked = run(node, "--no-warnings", "verify.mjs", str(VECTORS))
    assert checked.returncode == 0, checked.stderr
    assert int(checked.stdout.split()[0]) > 700


def test_it_notices_an_altered_vector(node, tmp_path):
    shutil.copytree(VECTORS, tmp_path / "vectors")
    path = tmp_path / "vectors" / "handshake-x25519.json"
    content = json.loads(path.read_text("utf-8"))
    secret = content["handshakes"][1]["labels"]["json i2r"]
    content["handshakes"][1]["labels"]["json i2r"] = ("0" if secret[0] != "0" else "1") + secret[1:]
    path.write_text(json.dumps(content), "utf-8")
    checked = run(node, "--no-warnings", "verify.mjs", str(path.parent))
    assert checked.returncode == 1
    assert "x25519-json json i2r" in checked.stderr


MORE = [
    pytest.param(ours_opens, wire, seed, marks=pytest.mark.soak)
    for seed in range(2, 12)
    for ours_opens in (True, False)
    for wire in (WIRE_BINARY, WIRE_JSON)
]


@pytest.mark.parametrize(
    ("ours_opens", "wire", "seed"), [(True, WIRE_BINARY, 1), (False, WIRE_JSON, 1), *MORE]
)
def test_bytes_go_both_ways_over_a_bad_network_in_order_and_once(start, ours_opens, wire, seed):
    pair = start(ours_opens=ours_opens, wire=wire, seed=seed)
    pair.faults = True
    out, back = blocks("out", 60), blocks("back", 60)
    for sent, (ours, theirs) in enumerate(zip(out, back, strict=True)):
        pair.link.send(1, ours)
        pair.ask("send", start=1, data=theirs.hex())
        pair.step()
        if sent == 30:  # everything that is on its way is lost
            pair.path_down(wire)
            pair.step()
            pair.path_up(wire)
    pair.link.close()
    pair.ask("close")
    pair.until(lambda: not pair.link.unacknowledged and pair.ask("status")["settled"])
    assert pair.data["theirs"] == b"".join(out)
    assert pair.data["ours"] == b"".join(back)
    assert {"ready", "closed", "state"} <= pair.named("theirs")
    assert Ready() in pair.events["ours"] and Closed() in pair.events["ours"]
    status = pair.ask("status")
    assert status["wire"] == wire
    assert min(status["epochs"]) >= 2, "several epochs were crossed in both directions"
    assert status["resent"] > 0 and pair.link.stats.records_sent_again > 0


@pytest.mark.parametrize(
    ("ours_opens", "first", "second"), [(True, WIRE_JSON, WIRE_BINARY), (False, WIRE_BINARY, WIRE_JSON)]
)
def test_a_link_goes_on_in_a_new_session_and_another_form(start, ours_opens, first, second):
    pair = start(ours_opens=ours_opens, wire=first, seed=2)
    pair.until(lambda: "ready" in pair.named("ours") & pair.named("theirs"))
    pair.faults = True
    out, back = blocks("out", 30), blocks("back", 30)
    for sent, (ours, theirs) in enumerate(zip(out, back, strict=True)):
        pair.link.send(1, ours)
        pair.ask("send", start=1, data=theirs.hex())
        pair.step()
        if sent == 10:  # new keys, in the same form
            pair.renew(first)
            pair.until(lambda: "renewed" in pair.named("ours") & pair.named("theirs"))
        if sent == 20:
            pair.path_up(second)
            pair.renew(second)
            pair.until(lambda: pair.link.wire == second == pair.ask("status")["wire"])
            pair.path_down(first)
    pair.link.close()
    pair.ask("close")
    pair.until(lambda: not pair.link.unacknowledged and pair.ask("status")["settled"])
    assert pair.data["theirs"] == b"".join(out)
    assert pair.data["ours"] == b"".join(back)
    assert pair.ask("status")["sessions"] == pair.link.stats.sessions == 3
    assert pair.events["ours"].count(Renewed()) == 2


@pytest.mark.parametrize("ours_opens", [True, False])
def test_contacts_recognise_each_other(start, ours_opens):
    pair = start(ours_opens=ours_opens, wire=WIRE_BINARY)
    secret, exporter = b"p" * 32, pair.exporters[0]
    ours, theirs = ("i", "r") if ours_opens else ("r", "i")
    others = [contact_proof(bytes([number]) * 32, ours, exporter) for number in range(15)]
    pair.link.offer_contacts([*others, contact_proof(secret, ours, exporter)])
    pair.ask("contacts", pair_secrets=[secret.hex(), (b"q" * 32).hex()])
    pair.until(lambda: "contacts" in pair.named("ours") & pair.named("theirs"))
    (came,) = [event for event in pair.events["ours"] if isinstance(event, Contacts)]
    assert len(came.proofs) == 16
    assert contact_proof(secret, theirs, exporter) in came.proofs
    assert contact_proof(secret, ours, exporter) not in came.proofs, "nothing is sent back"
    (there,) = [event for event in pair.events["theirs"] if event["type"] == "contacts"]
    assert contact_proof(secret, ours, exporter).hex() in there["proofs"]


@pytest.mark.parametrize("ours_aborts", [True, False])
def test_an_abort_arrives_with_its_cause(start, ours_aborts):
    pair = start(ours_opens=True, wire=WIRE_BINARY)
    pair.until(lambda: "ready" in pair.named("ours") & pair.named("theirs"))
    cause = {"kind": "interrupted", "what": "Stopped by hand."}
    if ours_aborts:
        pair.link.abort(cause)
        pair.until(lambda: "aborted" in pair.named("theirs"))
        assert {"type": "aborted", "cause": cause} in pair.events["theirs"]
    else:
        pair.ask("abort", cause=cause)
        pair.until(lambda: "aborted" in pair.named("ours"))
        assert Aborted(cause) in pair.events["ours"]


def test_each_refuses_the_others_packets_altered_and_goes_on(start):
    pair = start(ours_opens=True, wire=WIRE_BINARY)
    pair.until(lambda: "ready" in pair.named("ours") & pair.named("theirs"))
    pair.link.send(1, b"whole")
    (packet,) = pair.link.packets(pair.now)
    forged = packet[:-1] + bytes([packet[-1] ^ 1])
    assert pair.ask("receive", packet=forged.hex(), now=pair.now) == {"refused": "e.p.trust.crypto"}
    stranger = packet[:1] + bytes(8) + packet[9:]
    assert pair.ask("receive", packet=stranger.hex(), now=pair.now) == {"refused": "e.p.session.unknown"}
    assert "events" in pair.ask("receive", packet=packet.hex(), now=pair.now)
    again = pair.ask("receive", packet=packet.hex(), now=pair.now)
    assert again == {"refused": "e.p.session.replay"}

    pair.ask("send", start=1, data=b"whole".hex())
    (theirs,) = [bytes.fromhex(packet) for packet in pair.ask("packets", now=pair.now)["packets"]]
    with pytest.raises(SessionError, match="not authentic"):
        pair.link.receive(theirs[:-1] + bytes([theirs[-1] ^ 1]), pair.now)
    assert Data(1, b"whole") in pair.link.receive(theirs, pair.now)


def test_a_link_is_taken_over_by_nobody_who_lacks_its_session(start):
    """Not even by who has both static keys: here JavaScript, whose `continues` is of another session."""
    pair = start(ours_opens=False, wire=WIRE_BINARY)
    asked = pair.ask(
        "open", peer=pair.me.did, wires=[WIRE_BINARY], link=CHAT, expires_time=int(time.time()) + 60
    )
    opened = pair._open(asked["envelope"])
    with pytest.raises(SessionError) as refused:
        respond(
            Party.of(pair.me),
            Party.of(pair.peer),
            opened.message.id,
            opened.message.body,
            link=CHAT,
            continues=[bytes(32)],
        )
    assert refused.value.code == "e.p.session.policy"
