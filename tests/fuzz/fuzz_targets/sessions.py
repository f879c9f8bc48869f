"""The session extension: handshake, packets, frames, records and whole links."""

import contextlib
import hashlib
import json
import struct
from collections.abc import Iterator
from functools import cache
from typing import Any

from didmpc.protocols.crypto.encoding import b64url, unb64url
from didmpc.protocols.errors import SessionError
from didmpc.protocols.session import frames
from didmpc.protocols.session.handshake import CLASSICAL, Established, Initiation, Party, respond
from didmpc.protocols.session.hello import HelloI, HelloR
from didmpc.protocols.session.link import Link, LinkLimits
from didmpc.protocols.session.packet import EpochLimits, PacketOpener, PacketSealer
from didmpc.protocols.session.packet_json import JsonOpener, JsonSealer, parse, sid_of
from didmpc.protocols.session.records import Inbox, Outbox
from fuzz_targets.target import ALICE, BOB, Target, from_json, to_json

SECRET, SID = bytes(range(32)), b"sessions"
WINDOW_RECORDS, WINDOW_BYTES = 64, 4096
A, B = Party.of(ALICE), Party.of(BOB)


class Reader:
    """Takes an input apart into small numbers and pieces, as far as it goes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def byte(self) -> int:
        return self.take(1)[0] if self else 0

    def take(self, size: int) -> bytes:
        part = self._data[self._at : self._at + size]
        self._at += len(part)
        return part

    def piece(self) -> bytes:
        return self.take(int.from_bytes(self.take(2), "big"))


def packet(data: bytes) -> None:
    limits = EpochLimits(packets=3)
    _wire(data, PacketSealer(SECRET, SID, limits=limits, ordered=True), PacketOpener(SECRET, SID))


def packet_json(data: bytes) -> None:
    """The JSON form: commands as for `packet`, or the JSON of one packet, its header readable."""
    value = from_json(data)
    if not isinstance(value, dict):
        limits = EpochLimits(packets=3)
        _wire(data, JsonSealer(SECRET, SID, limits=limits, ordered=True), JsonOpener(SECRET, SID))
        return
    sid_of(value)
    if isinstance(header := value.get("protected"), dict):
        value["protected"] = b64url(to_json(header))
    written = to_json(value)
    try:
        opened = JsonOpener(SECRET, SID).open(written)
    except SessionError:
        return
    original = JsonSealer(SECRET, SID).seal(b"0")
    assert opened == b"0" and parse(written) == parse(original), "what nobody sealed was opened"


def _wire(data: bytes, sealer: PacketSealer, opener: PacketOpener) -> None:
    """A wire that the input commands: packets arrive in order, again, late, changed, or made up.

    Each plaintext is opened at most once, and as it was sealed; what is refused changes nothing.
    """
    reader = Reader(data)
    sent: list[bytes] = []
    opened: set[int] = set()

    def arrives(raw: bytes) -> None:
        before = (opener.epoch, opener.highest)
        try:
            plaintext = opener.open(raw)
        except SessionError:
            assert (opener.epoch, opener.highest) == before
            return
        number = int(plaintext)
        assert _same(sent[number], raw), "what nobody sealed was opened"
        assert number not in opened, "a packet was opened twice"
        opened.add(number)

    while reader:
        command = reader.byte()
        if command < 0x40:  # so many are sealed, and the last of them arrives
            for _ in range(1 + command % 8):
                sent.append(sealer.seal(b"%d" % sealer.number))
            arrives(sent[-1])
        elif command < 0x80 and sent:  # an earlier one arrives
            arrives(sent[-1 - reader.byte() % len(sent)])
        elif command < 0xC0 and sent:  # and one with something changed in it
            raw = bytearray(sent[-1 - reader.byte() % len(sent)])
            raw[reader.byte() % len(raw)] ^= reader.byte()
            arrives(bytes(raw))
        else:
            arrives(reader.piece())


def _same(one: bytes, other: bytes) -> bool:
    """Equal, or JSON that says the same."""
    return one == other or parse(one) == parse(other)


def record(data: bytes) -> None:
    """The plaintexts of packets from an authentic peer: frames, and what they do to both ends' records."""
    reader = Reader(data)
    inbox = Inbox(window_records=WINDOW_RECORDS, window_bytes=WINDOW_BYTES)
    outbox = Outbox(window_records=WINDOW_RECORDS, window_bytes=WINDOW_BYTES, queue_bytes=1 << 16)
    for number in range(8):
        outbox.put(1, b"%d" % number)
    outbox.fill([], 0, 1 << 16, 1 << 16, 0.0)
    now, delivered = 0.0, 0
    while reader:
        now += 0.01
        try:
            records, control = frames.decode(reader.piece())
            inbox.check(records, control.close if control else None)
            if control is not None and control.ack is not None:
                outbox.check(control.ack)
        except SessionError:
            continue
        for number, _, _ in inbox.accept(records, now):
            assert number == delivered, "a record came twice, or before its turn"
            delivered += 1
        if control is not None:
            _say_again(control)
            if control.ack is not None:
                outbox.acknowledge(control.ack)
            if control.close is not None:
                inbox.close(control.close, now)
        assert 0 <= outbox.unacknowledged <= 8
        assert len(inbox.ack(0).ranges) <= frames.MAX_RANGES
        assert inbox.total is None or delivered <= inbox.total


def _say_again(control: frames.Control) -> None:
    """Each control frame that was read can be written, and reads the same."""
    written = []
    if control.ack is not None:
        written.append(frames.encode_ack(control.ack))
    if control.close is not None:
        written.append(frames.encode_close(control.close))
    _, again = frames.decode(b"".join(written)) if written else ([], None)
    assert again is None or (again.ack, again.close) == (control.ack, control.close)


def link(data: bytes) -> None:
    """A whole link under an authentic peer who says whatever it likes, and a path that comes and goes."""
    reader = Reader(data)
    near, far = established()
    ours = Link(near, now=0.0, limits=LinkLimits(window_records=WINDOW_RECORDS, window_bytes=WINDOW_BYTES))
    peer = PacketSealer(far.secret_send, far.sid_out, limits=EpochLimits(packets=3), ordered=True)
    now, sent = 0.0, 0
    try:
        while reader:
            command = reader.byte()
            now += command / 64
            if command & 1:
                ours.path_up(now)
            if command & 2 and sent < 64:
                ours.send(1, bytes(command))
                sent += 1
            with contextlib.suppress(SessionError):
                ours.receive(peer.seal(reader.piece()), now)
            written = ours.packets(now, budget=1 << 16)
            assert sum(map(len, written)) <= 1 << 16
            assert ours.unacknowledged <= sent
            ours.deadline()
    except SessionError as over:
        assert over.code == "e.p.session.over"


@cache
def established() -> tuple[Established, Established]:
    """One session of the two, the same in every run."""
    opening = Initiation(A, B, "1", suites=(CLASSICAL,), random=_random("a"))
    body, far = respond(B, A, "1", opening.body, suites=(CLASSICAL,), random=_random("b"))
    return opening.finish(body), far


def _random(name: str) -> Any:
    return lambda size: hashlib.shake_256(f"{name} {size}".encode()).digest(size)


@cache
def _opening() -> Initiation:
    return Initiation(A, B, "1", random=_random("a"))


def hello(data: bytes) -> None:
    """An `hs` as text, or as the JSON in it: of an `open` to answer, and of an `accept` to finish with."""
    value = from_json(data)
    text = data.decode("utf-8", "replace") if value is None else b64url(data)
    confirm = b64url(bytes(32))
    if isinstance(value, dict) and isinstance(value.get("hs"), str):
        text, confirm = value["hs"], value.get("confirm", confirm)
    try:
        body, session = respond(B, A, "1", {"hs": text}, random=_random("b"))
    except SessionError:
        pass
    else:
        assert len(session.secret_send) == 32 and HelloR.decode(body["hs"]).suite == session.suite
    try:
        _opening().finish({"hs": text, "confirm": confirm})
    except SessionError:
        return
    raise AssertionError("a handshake was finished with an answer that nobody made")


def _packet_seeds() -> Iterator[bytes]:
    yield bytes([0, 0, 7, 0x40, 3, 0x80, 0, 5, 1, 0, 7, 7, 7, 7])
    raw = PacketSealer(bytes(32), SID).seal(b"0")  # not under the keys of the wire
    yield bytes([0xC0]) + struct.pack(">H", len(raw)) + raw + bytes([0x40, 0])


def _packet_json_seeds() -> Iterator[bytes]:
    yield from _packet_seeds()
    value = json.loads(JsonSealer(SECRET, SID).seal(b"0"))
    value["protected"] = json.loads(unb64url(value["protected"]))
    yield to_json(value)


def _plaintexts() -> Iterator[bytes]:
    head = frames.RECORD_HEADER.pack(frames.RECORD, 0, 1, 3) + b"abc"
    later = frames.RECORD_HEADER.pack(frames.RECORD, 2, 1, 1) + b"x"
    yield head + bytes(9)
    yield later + frames.encode_ready() + frames.encode_ack(frames.Ack(False, 0, 2, ((3, 5), (6, 7))))
    yield frames.encode_ping(1, b'{"a":1}') + frames.encode_pong(1, b"{}") + frames.encode_close(3)
    yield frames.encode_abort(b'{"kind":"failed"}')


def _pieces() -> list[bytes]:
    return [struct.pack(">H", len(plain)) + plain for plain in _plaintexts()]


def _record_seeds() -> Iterator[bytes]:
    yield b"".join(_pieces())
    yield from _pieces()


def _link_seeds() -> Iterator[bytes]:
    for command in (1, 3, 0x42, 0xFF):
        yield b"".join(bytes([command]) + piece for piece in _pieces())


def _hello_seeds() -> Iterator[bytes]:
    opening = Initiation(A, B, "1", link={"pid_i": 0, "pid_r": 1}, caps=[{}], random=_random("c"))
    classical = Initiation(A, B, "1", suites=(CLASSICAL,), random=_random("c"))
    for one in (opening, classical):
        body, _ = respond(B, A, "1", one.body, random=_random("d"))
        yield to_json(body)
        for hs in (one.body["hs"], body["hs"]):
            yield _unb64(hs)
    yield opening.body["hs"].encode()
    HelloI.decode(opening.body["hs"])


def _unb64(text: str) -> bytes:
    return json.dumps(json.loads(unb64url(text)), separators=(",", ":")).encode()


TARGETS = (
    Target("packet", packet, _packet_seeds, is_json=False),
    Target("packet-json", packet_json, _packet_json_seeds),
    Target("record", record, _record_seeds, is_json=False),
    Target("link", link, _link_seeds, is_json=False),
    Target("hello", hello, _hello_seeds),
)
