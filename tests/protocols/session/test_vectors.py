"""The implementation against the vectors of the specification (tests/vectors/session-1.0)."""

import json
from pathlib import Path
from typing import Any

import pytest

from didmpc.protocols.crypto.keys import PrivateKey
from didmpc.protocols.did import canonical, resolve
from didmpc.protocols.errors import SessionError
from didmpc.protocols.relay import hop
from didmpc.protocols.session import frames, handshake
from didmpc.protocols.session.exports import contact_proof, export
from didmpc.protocols.session.frames import Control
from didmpc.protocols.session.handshake import WIRE_JSON, WIRES, Established, Initiation, Party, respond
from didmpc.protocols.session.hello import exact_b64
from didmpc.protocols.session.link import Aborted, Closed, Contacts, Data, Link, LinkLimits
from didmpc.protocols.session.packet import EpochLimits, PacketOpener, PacketSealer
from didmpc.protocols.session.packet_json import JsonOpener, JsonSealer
from didmpc.protocols.session.schedule import epoch_key

VECTORS = Path(__file__).parents[2] / "vectors" / "session-1.0"


def load(name: str) -> Any:
    return json.loads((VECTORS / name).read_text("utf-8"))


HANDSHAKES = {
    case["name"]: case
    for name in ("handshake-x25519.json", "handshake-x25519mlkem768.json")
    for case in load(name)["handshakes"]
}
SEQUENCES = [
    pytest.param(case, wire, id=f"{wire}: {case['name']}")
    for wire in ("binary", "json")
    for case in load(f"packets-{wire}.json")["sequences"]
]


def named(cases: list[Any]) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in cases]


def parties(case: Any) -> tuple[Party, Party]:
    return Party.of(resolve(case["initiator"]["did"])), Party.of(resolve(case["responder"]["did"]))


def draws(*values: str | None) -> Any:
    """A random source that gives these values (hex) in turn."""
    left = [bytes.fromhex(value) for value in values if value]

    def take(size: int) -> bytes:
        assert len(left[0]) == size
        return left.pop(0)

    return take


def exporter_before(case: Any) -> bytes | None:
    return bytes.fromhex(HANDSHAKES[case["continues"]]["labels"]["exp"]) if case["continues"] else None


def initiation(case: Any) -> Initiation:
    """The initiator of a vector, from its seeds."""
    me, peer = parties(case)
    stated, hello = case["initiator"], case["hs_i"]
    made = Initiation(
        me,
        peer,
        case["open"]["id"],
        link=hello["link"],
        caps=hello["caps"],
        suites=hello["suites"],
        wires=hello["wire"],
        continues=exporter_before(case),
        random=draws(stated["e"], stated["kem_seed"], stated["k"], stated["sid"]),
    )
    if case["name"] == "x25519-unusual-text":  # nobody has to write JSON as we do
        made._hs = case["open"]["body"]["hs"]
    return made


def answer(case: Any, body: Any, refusal: Any = None, monkeypatch: Any = None) -> Any:
    """What the responder of a vector answers to the body of an `open`."""
    peer, me = parties(case)
    stated, before = case["responder"], exporter_before(case)
    if monkeypatch is not None and case["kem_secret"]:
        encapsulated = bytes.fromhex(case["kem_secret"]), exact_b64(case["hs_r"]["kem_ct"])
        monkeypatch.setattr(handshake, "_encapsulate", lambda public: encapsulated)
    return respond(
        me,
        peer,
        case["open"]["id"],
        body,
        link=refusal["expects"] if refusal else case["hs_i"]["link"],
        caps=case["hs_r"]["caps"],
        suites=[case["suite"]] if monkeypatch else handshake.SUITES,
        wires=refusal["wires"] if refusal else WIRES,
        continues=[before] if before else [],
        random=draws(stated["e"], stated["k"], stated["sid"]),
    )


@pytest.mark.parametrize("name", HANDSHAKES)
def test_both_sides_of_a_handshake(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = HANDSHAKES[name]
    begun = initiation(case)
    assert begun.body == case["open"]["body"]
    accept, responder = answer(case, case["open"]["body"], monkeypatch=monkeypatch)
    assert accept == case["accept"]["body"]
    initiator = begun.finish(case["accept"]["body"])
    prefix = "json " if case["wire"] == "json" else ""
    labels = {label: bytes.fromhex(output) for label, output in case["labels"].items()}
    for side, sends, receives in ((initiator, "i2r", "r2i"), (responder, "r2i", "i2r")):
        assert (side.suite, side.wire) == (case["suite"], case["wire"])
        assert side.transcript.hex() == case["th"]
        assert side.exporter == labels["exp"]
        assert side.secret_send == labels[prefix + sends]
        assert side.secret_receive == labels[prefix + receives]
    assert initiator.sid_in.hex() == responder.sid_out.hex() == case["initiator"]["sid"]
    assert initiator.sid_out.hex() == responder.sid_in.hex() == case["responder"]["sid"]
    for item in case["exports"]:
        assert export(initiator.exporter, item["label"], item["size"]).hex() == item["output"]
    assert canonical(case["initiator"]["did"]) == case["initiator"]["canonical"]
    packets_of(case, initiator, responder)


def packets_of(case: Any, initiator: Established, responder: Established) -> None:
    """The stated packets come out of a sealer that steps where the vector does, and open over there."""
    kinds = (JsonSealer, JsonOpener) if case["wire"] == WIRE_JSON else (PacketSealer, PacketOpener)
    for label, sender, receiver in (("i2r", initiator, responder), ("r2i", responder, initiator)):
        stated = case["directions"][label]
        sealer = kinds[0](
            sender.secret_send, sender.sid_out, ordered=True, limits=EpochLimits(packets=1 << 40)
        )
        opener = kinds[1](receiver.secret_receive, receiver.sid_in)
        secret = sender.secret_send
        for epoch in stated["epochs"]:
            assert secret.hex() == epoch["secret"]
            key, iv, secret = epoch_key(secret)
            assert (key.hex(), iv.hex()) == (epoch["key"], epoch["iv"])
        for packet in stated["packets"]:
            if packet["epoch"] > sealer.epoch:
                sealer._step()
            plaintext = bytes.fromhex(packet["plaintext"])
            sealed = sealer.seal(plaintext)
            assert as_bytes(packet["packet"], case["wire"]) == sealed
            assert opener.open(sealed) == plaintext


def as_bytes(packet: str, wire: str) -> bytes:
    return bytes.fromhex(packet) if wire == "binary" else packet.encode()


@pytest.mark.parametrize("refusal", named(load("refusals.json")["open"]))
def test_an_open_is_refused(refusal: Any) -> None:
    with pytest.raises(SessionError) as caught:
        answer(HANDSHAKES[refusal["handshake"]], refusal["body"], refusal)
    assert caught.value.code == refusal["error"]


@pytest.mark.parametrize("refusal", named(load("refusals.json")["accept"]))
def test_an_accept_is_refused_and_changes_nothing(refusal: Any) -> None:
    case = HANDSHAKES[refusal["handshake"]]
    begun = initiation(case)
    with pytest.raises(SessionError) as caught:
        begun.finish(refusal["body"])
    assert caught.value.code == refusal["error"]
    assert begun.finish(case["accept"]["body"]).transcript.hex() == case["th"]


@pytest.mark.parametrize(("case", "wire"), SEQUENCES)
def test_packets_as_they_come(case: Any, wire: str) -> None:
    kind = PacketOpener if wire == "binary" else JsonOpener
    opener = kind(bytes.fromhex(case["secret"]), bytes.fromhex(case["sid"]))
    for index, step in enumerate(case["steps"]):
        packet = as_bytes(step["packet"], wire) + bytes(step.get("zeros", 0)) + b" " * step.get("spaces", 0)
        if "opens" in step:
            assert opener.open(packet).hex() == step["opens"], index
        else:
            with pytest.raises(SessionError) as caught:
                opener.open(packet)
            assert caught.value.code == step["error"], index


@pytest.mark.parametrize("case", named(load("frames.json")["frames"]))
def test_frames_are_read(case: Any) -> None:
    records, control = frames.decode(bytes.fromhex(case["plaintext"]))
    stated = [frame for frame in case["frames"] if frame["type"] == "RECORD"]
    assert [(str(number), start, data.hex()) for number, start, data in records] == [
        (frame["number"], frame["start"], frame["data"]) for frame in stated
    ]
    others = {frame["type"]: frame for frame in case["frames"] if frame["type"] != "RECORD"}
    control = control or Control()
    assert (control.ack is not None, control.ping is not None, control.pong is not None) == (
        "ACK" in others,
        "PING" in others,
        "PONG" in others,
    )
    if control.ack is not None:
        ack = others["ACK"]
        assert (control.ack.closed, control.ack.contacts) == (ack["closed"], ack["contacts"])
        assert (str(control.ack.packet), str(control.ack.next)) == (ack["packet"], ack["next"])
        assert [[str(first), str(end)] for first, end in control.ack.ranges] == ack["ranges"]
    for ping, kind in ((control.ping, "PING"), (control.pong, "PONG")):
        if ping is not None:
            assert (ping.id, ping.state) == (others[kind]["id"], others[kind]["state"])
    closes = None if control.close is None else str(control.close)
    assert closes == others.get("CLOSE", {}).get("records")
    assert control.abort == others.get("ABORT", {}).get("cause")
    proofs = None if control.contact is None else [proof.hex() for proof in control.contact]
    assert proofs == others.get("CONTACT", {}).get("proofs")


@pytest.mark.parametrize("case", named(load("frames.json")["refused"]))
def test_frames_are_refused(case: Any) -> None:
    with pytest.raises(frames.PeerViolation) as caught:
        frames.decode(bytes.fromhex(case["plaintext"]) + bytes(case.get("zeros", 0)))
    assert caught.value.code == case["error"]


@pytest.mark.parametrize("case", named(load("link.json")["links"]))
def test_what_a_link_delivers_and_acknowledges(case: Any) -> None:
    """The link is that of a responder; each second it sends a PING, and an ACK with it."""
    ours, theirs, sid_in, sid_out = b"\1" * 32, b"\2" * 32, b"\3" * 8, b"\4" * 8
    established = Established(
        role="responder",
        suite=handshake.CLASSICAL,
        wire="binary",
        sid_in=sid_in,
        sid_out=sid_out,
        secret_send=ours,
        secret_receive=theirs,
        exporter=bytes(32),
        peer_hs={},
        transcript=bytes(32),
    )
    link = Link(established, now=0.0, limits=LinkLimits(**case["limits"]))
    link.path_up(0.0)
    sealer, opener = PacketSealer(theirs, sid_in), PacketOpener(ours, sid_out)
    for now, step in enumerate(case["steps"], start=1):
        packet = sealer.seal(bytes.fromhex(step["plaintext"]))
        if "error" in step:
            with pytest.raises(frames.PeerViolation) as caught:
                link.receive(packet, now)
            assert caught.value.code == step["error"]
            continue
        events = link.receive(packet, now)
        delivered = [event for event in events if isinstance(event, Data)]
        assert [{"start": data.start, "data": data.data.hex()} for data in delivered] == step["delivers"]
        assert any(isinstance(event, Closed) for event in events) == step.get("ends", False)
        proofs = [event.proofs[0].hex() for event in events if isinstance(event, Contacts)]
        assert proofs == step.get("proofs", [])
        causes = [event.cause for event in events if isinstance(event, Aborted)]
        assert causes == ([step["aborts"]] if "aborts" in step else [])
        (answer,) = link.packets(now + 0.5) or link.packets(now + 0.999)
        ack = frames.decode(opener.open(answer))[1].ack  # type: ignore[union-attr]
        assert ack is not None
        assert {
            "next": str(ack.next),
            "ranges": [[str(first), str(end)] for first, end in ack.ranges],
            "closed": ack.closed,
            "contacts": ack.contacts,
        } == step["ack"]


def test_padding() -> None:
    for item in load("padding.json")["padding"]:
        assert frames.padded_length(item["frames"]) == item["plaintext"]


def test_contact_proofs() -> None:
    stated = load("contact.json")
    exporter = bytes.fromhex(stated["exporter"])
    for secret, of_i, of_r in zip(stated["pair_secrets"], stated["i"], stated["r"], strict=True):
        assert contact_proof(bytes.fromhex(secret), "i", exporter).hex() == of_i
        assert contact_proof(bytes.fromhex(secret), "r", exporter).hex() == of_r


def test_a_bind() -> None:
    stated = load("hop.json")
    exporter, frame = bytes.fromhex(stated["exporter"]), bytes.fromhex(stated["bind"]["frame"])
    read = hop.decode(frame)
    assert isinstance(read, hop.Bind)
    hop.verify_bind(read, exporter)
    rebind_key = PrivateKey("Ed25519", bytes.fromhex(stated["rebind_private"]))
    assert hop.encode_bind(hop.bind(read.channel, read.capability, rebind_key, exporter)) == frame
    for refusal in stated["bind_refused"]:
        wrong = hop.decode(bytes.fromhex(refusal["frame"]))
        assert isinstance(wrong, hop.Bind)
        with pytest.raises(SessionError) as caught:
            hop.verify_bind(wrong, exporter)
        assert caught.value.code == refusal["error"]


@pytest.mark.parametrize("case", named(load("hop.json")["frames"]))
def test_hop_frames_are_read(case: Any) -> None:
    read = hop.decode(bytes.fromhex(case["frame"]))
    assert type(read).__name__.upper() == case["type"]
    for name, value in read._asdict().items():
        assert (value.hex() if isinstance(value, bytes) else value) == case[name], name


@pytest.mark.parametrize("case", named(load("hop.json")["refused"]))
def test_hop_frames_are_refused(case: Any) -> None:
    with pytest.raises(SessionError) as caught:
        hop.decode(bytes.fromhex(case["frame"]))
    assert caught.value.code == case["error"]
