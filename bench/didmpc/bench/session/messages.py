"""What one small message costs in cryptography and in bytes: CPU of all who take part, without sockets.

bare         AES-256-GCM of the library, seal and open: the least that anything could cost
binary       a record framed, padded, sealed in a packet and opened (`session/1.0`), once for each suite
relayed      the same with the hop frames: sender, mediator and recipient together (`relay/1.0`)
json         a packet of the JSON form, sealed and opened
json-forward the same inside a forward, with the mediator's part: what `--wire json` sends
didcomm      an ordinary DIDComm message: authcrypt, forward, the mediator's unwrap, unpack
pypi         the same with `didcomm` and `peerdid` of the Python Package Index, in an environment of their own

The ways take turns, many times in each leg, so that a busy machine slows all of them; what is compared was
measured within one leg. What every way does only once (first imports, first use of a key) is not counted.
"""

import itertools
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from didmpc.protocols.did import Service
from didmpc.protocols.envelope import pack_authcrypt, unpack
from didmpc.protocols.errors import DidmpcError
from didmpc.protocols.identity import Identities, Identity
from didmpc.protocols.message import Attachment, Message
from didmpc.protocols.messages.routing import parse_forward, route
from didmpc.protocols.mpc.messages import FRAME
from didmpc.protocols.relay import hop
from didmpc.protocols.session import frames
from didmpc.protocols.session.handshake import (
    SUITES,
    WIRE_BINARY,
    WIRE_JSON,
    Established,
    Initiation,
    Party,
    respond,
)
from didmpc.protocols.session.packet import PacketOpener, PacketSealer
from didmpc.protocols.session.packet_json import JsonOpener, JsonSealer

ROOT = Path(__file__).resolve().parents[4]
PYPI_PYTHON = ROOT / ".cache" / "interop" / "pypi_didcomm" / "bin" / "python"
PYPI_SCRIPT = ROOT / "bench" / "pypi_didcomm.py"
NO_PYPI = "PyPI didcomm is not installed here: `make bench` in a checkout does that."

RECORD = 64
_BATCH = 64
_SLOW_BATCH = 5
_TURNS = 5  # of each way in a leg
_FEWEST_PYPI = 30  # of its messages in a leg; the first third warms it up

Result = dict[str, Any]


class Way(NamedTuple):
    """One way to carry a record. `carry` returns what was opened, and the bytes that the sender wrote."""

    carry: Callable[[bytes], tuple[bytes, int]]
    batch: int


class PypiFailed(DidmpcError):
    """PyPI didcomm is there, but could not be measured."""


def measure(*, legs: int, seconds: float) -> Result:
    """Microseconds and bytes of each way; the median of `legs` legs of `seconds` each."""
    ways = _ways()
    us: dict[str, list[float]] = {name: [] for name in ways}
    sizes: dict[str, int] = {}
    with_pypi = PYPI_PYTHON.exists()
    for way in ways.values():
        _batches(way, seconds / _TURNS)
    for _ in range(legs):
        batches: dict[str, list[float]] = {name: [] for name in ways}
        for _, (name, way) in itertools.product(range(_TURNS), ways.items()):
            took, sizes[name] = _batches(way, seconds / _TURNS)
            batches[name] += took
        for name, each in batches.items():
            us[name].append(statistics.median(each))
        if with_pypi:
            cost, sizes["pypi"] = _pypi(max(_FEWEST_PYPI, int(100 * seconds)))
            us.setdefault("pypi", []).append(cost)
    found = {
        name: {
            "us": statistics.median(each),
            "times_relayed": statistics.median(
                one / relayed for one, relayed in zip(each, us["relayed"], strict=True)
            ),
            "bytes": sizes[name],
        }
        for name, each in us.items()
    }
    return {
        "record_bytes": RECORD,
        "ways": found,
        "skipped": [] if with_pypi else [NO_PYPI],
    }


def established_pair(suite: str = SUITES[0], wire: str = WIRE_BINARY) -> tuple[Established, Established]:
    """A session between two fresh identities: the initiator's side and the responder's."""
    one, other = Party.of(Identity.peer4()), Party.of(Identity.peer4())
    initiation = Initiation(one, other, "bench", suites=(suite,), wires=(wire,))
    accept, responder = respond(other, one, "bench", initiation.body, wires=(wire,))
    return initiation.finish(accept), responder


# --- the ways


def _ways() -> dict[str, Way]:
    json_form = _JsonForm()
    return {
        "bare": Way(_bare(), _BATCH),
        **{f"binary {suite.partition('-')[0]}": Way(_binary(suite), _BATCH) for suite in reversed(SUITES)},
        "relayed": Way(_Relayed().carry, _BATCH),
        "json": Way(json_form.carry, _BATCH),
        "json-forward": Way(json_form.carry_forwarded, _SLOW_BATCH),
        "didcomm": Way(_Didcomm().carry, _SLOW_BATCH),
    }


def _bare() -> Callable[[bytes], tuple[bytes, int]]:
    aead = AESGCM(AESGCM.generate_key(256))
    numbers = itertools.count()

    def carry(record: bytes) -> tuple[bytes, int]:
        nonce = next(numbers).to_bytes(12, "big")
        sealed = aead.encrypt(nonce, record, b"")
        return aead.decrypt(nonce, sealed, b""), len(nonce) + len(sealed)

    return carry


_PADDING = [bytes(length) for length in range(64)]


def _plaintext(number: int, record: bytes) -> bytes:
    """A packet's plaintext with one record, as a link makes it."""
    frame = frames.RECORD_HEADER.pack(frames.RECORD, number, 1, len(record)) + record
    return frame + _PADDING[-len(frame) & 63]


def _binary(suite: str) -> Callable[[bytes], tuple[bytes, int]]:
    initiator, responder = established_pair(suite)
    sealer = PacketSealer(initiator.secret_send, initiator.sid_out)
    opener = PacketOpener(responder.secret_receive, responder.sid_in)

    def carry(record: bytes) -> tuple[bytes, int]:
        packet = sealer.seal(_plaintext(sealer.number, record))
        records, _ = frames.decode(opener.open(packet))
        return records[0][2], len(packet)

    return carry


class _Relayed:
    """Two parties, and the mediator's two hop sessions between them."""

    def __init__(self) -> None:
        self._sealer, self._opener = _direction()
        self._near, self._arrived = _direction(ordered=True)
        self._far, self._delivered = _direction(ordered=True)

    def carry(self, record: bytes) -> tuple[bytes, int]:
        """Sender: packet and hop. Mediator: open, another channel number, seal. Recipient: hop and packet."""
        packet = self._sealer.seal(_plaintext(self._sealer.number, record))
        sent = self._near.seal(hop.encode_data(1, packet))
        passed = bytearray(sent)  # as the mediator has it, from the memory that it reads to
        hop.readdress(self._arrived.open_in_place(passed), 2)
        self._far.seal_in_place(passed)
        number, delivered = hop.split_data(self._delivered.open(bytes(passed)))
        assert number == 2
        records, _ = frames.decode(self._opener.open(delivered))
        return records[0][2], len(sent)


def _direction(*, ordered: bool = False) -> tuple[PacketSealer, PacketOpener]:
    initiator, responder = established_pair()
    sealer = PacketSealer(initiator.secret_send, initiator.sid_out, ordered=ordered)
    return sealer, PacketOpener(responder.secret_receive, responder.sid_in)


class _Parties:
    """Alice, her mediator's colleague and Bob, each an identity."""

    def __init__(self) -> None:
        self.mediator = Identity.peer2(
            [Service("https://mediator.example"), Service("wss://mediator.example/ws", id="#service-1")]
        )
        behind = [Service(self.mediator.did)]
        self.alice, self.bob = Identity.peer4(behind), Identity.peer4(behind)
        self.mediators_keys, self.bobs_keys = Identities(self.mediator), Identities(self.bob)

    def forwarded(self, envelope: bytes) -> tuple[bytes, int]:
        """Wrap it for Bob and have the mediator unwrap it: what Bob gets, and what Alice wrote."""
        outbound = route(envelope, self.bob.document)
        forward = parse_forward(unpack(outbound.envelope, self.mediators_keys).message)
        return forward.envelopes[0], len(outbound.envelope)


class _JsonForm:
    def __init__(self) -> None:
        initiator, responder = established_pair(wire=WIRE_JSON)
        self._sealer = JsonSealer(initiator.secret_send, initiator.sid_out)
        self._opener = JsonOpener(responder.secret_receive, responder.sid_in)
        self._parties = _Parties()

    def carry(self, record: bytes) -> tuple[bytes, int]:
        packet = self._seal(record)
        return self._open(packet), len(packet)

    def carry_forwarded(self, record: bytes) -> tuple[bytes, int]:
        packet, size = self._parties.forwarded(self._seal(record))
        return self._open(packet), size

    def _seal(self, record: bytes) -> bytes:
        return self._sealer.seal(_plaintext(self._sealer.number, record))

    def _open(self, packet: bytes) -> bytes:
        records, _ = frames.decode(self._opener.open(packet))
        return records[0][2]


class _Didcomm:
    """A message of its own for each record, as `--mode didcomm` sends it."""

    def __init__(self) -> None:
        self._parties = _Parties()
        self._numbers = itertools.count()

    def carry(self, record: bytes) -> tuple[bytes, int]:
        parties = self._parties
        frame = Message(
            type=FRAME,
            from_=parties.alice.did,
            to=(parties.bob.did,),
            body={"n": next(self._numbers), "start": 1},
            attachments=(Attachment(id="0", data_base64=record),),
        )
        envelope = pack_authcrypt(frame, parties.alice, parties.bob.document)
        arrived, size = parties.forwarded(envelope)
        opened = unpack(arrived, parties.bobs_keys)
        assert opened.authenticated
        data = opened.message.attachments[0].data_base64
        assert data is not None
        return data, size


def _pypi(samples: int) -> tuple[float, int]:
    done = subprocess.run(
        [PYPI_PYTHON, "-W", "ignore", PYPI_SCRIPT, str(RECORD), str(samples)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode != 0:
        raise PypiFailed("PyPI didcomm could not be measured.", why=done.stderr.strip().rpartition("\n")[2])
    found = json.loads(done.stdout)
    return float(found["us"]), int(found["bytes"])


# --- the clock


def _batches(way: Way, seconds: float) -> tuple[list[float], int]:
    """CPU microseconds of one record, in each batch, and its bytes."""
    batches: list[float] = []
    size = 0
    stop = time.perf_counter() + seconds
    while len(batches) < 2 or time.perf_counter() < stop:
        records = [os.urandom(RECORD) for _ in range(way.batch)]
        carried = []
        started = time.process_time_ns()
        for record in records:
            carried.append(way.carry(record))
        batches.append((time.process_time_ns() - started) / way.batch / 1000)
        # What was opened must be what was sealed.
        assert [opened for opened, _ in carried] == records
        size = max(written for _, written in carried)
    return batches, size
