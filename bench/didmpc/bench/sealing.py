"""What sealing costs: `python -m didmpc.bench.sealing` prints microseconds per seal and open.

Two measures per payload size. "seal+open": one record framed, padded, sealed, opened and read, which is the
cryptography of a message end to end. "link": the same through two `Link`s, with queue, window, order and
acknowledgements.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from didmpc.protocols.identity import Identity
from didmpc.protocols.session import frames
from didmpc.protocols.session.handshake import Established, Initiation, Party, respond
from didmpc.protocols.session.link import Link
from didmpc.protocols.session.packet import PacketOpener, PacketSealer

PAYLOADS = (64, 1024, 16 * 1024, 200_000)
_BATCH = 64


def established_pair() -> tuple[Established, Established]:
    """A session between two fresh identities: the initiator's side and the responder's."""
    one, other = Party.of(Identity.peer4()), Party.of(Identity.peer4())
    initiation = Initiation(one, other, "bench")
    accept, responder = respond(other, one, "bench", initiation.body)
    return initiation.finish(accept), responder


def seal_open_us(payload: int, seconds: float) -> float:
    """Microseconds of CPU to seal a record of `payload` bytes and to open it again."""
    initiator, responder = established_pair()
    sealer = PacketSealer(initiator.secret_send, initiator.sid_out)
    opener = PacketOpener(responder.secret_receive, responder.sid_in)
    data = bytes(payload)

    def one() -> None:
        header = frames.RECORD_HEADER.pack(frames.RECORD, sealer.number, 1, payload)
        used = len(header) + payload
        padding = bytes(frames.padded_length(used) - used)
        records, _ = frames.decode(opener.open(sealer.seal(b"".join((header, data, padding)))))
        assert len(records[0][2]) == payload

    return _measure(one, seconds)


def link_us(payload: int, seconds: float) -> float:
    """Microseconds of CPU for one record from `send` to its delivery, acknowledgements included."""
    initiator, responder = established_pair()
    near, far = Link(initiator, now=0.0), Link(responder, now=0.0)
    near.path_up(0.0)
    far.path_up(0.0)
    data = bytes(payload)

    def one() -> None:
        near.send(1, data)
        for packet in near.packets(0.0):
            far.receive(packet, 0.0)
        if near.unacknowledged >= 32:
            for packet in far.packets(0.2):
                near.receive(packet, 0.0)

    one()
    return _measure(one, seconds)


def _measure(one: Callable[[], None], seconds: float) -> float:
    """CPU microseconds per call, batch by batch; the median batch, so that a busy machine counts little."""
    batches: list[float] = []
    stop = time.perf_counter() + seconds
    while not batches or time.perf_counter() < stop:
        started = time.process_time_ns()
        for _ in range(_BATCH):
            one()
        batches.append((time.process_time_ns() - started) / _BATCH / 1000)
    return sorted(batches)[len(batches) // 2]


def main() -> None:
    print(f"{'payload':>9} {'seal+open us':>13} {'link us':>9} {'records/s':>10} {'MB/s':>8}")
    for payload in PAYLOADS:
        sealing, link = seal_open_us(payload, 0.5), link_us(payload, 0.5)
        rate = 1e6 / link
        print(f"{payload:>9} {sealing:>13.2f} {link:>9.2f} {rate:>10.0f} {payload * rate / 1e6:>8.0f}")


if __name__ == "__main__":
    main()
