"""What somebody on the path can see, from packets that were really captured.

Two places: all links of the test Internet (an eavesdropper; also what counts as bytes on the wire), and
inside a public server, on all its devices (who runs the relay). Kept of each frame: when, how long, between
whom, and whether it holds the marker that the bulk benchmark sends.
"""

import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from didmpc.bench.compare import linux
from didmpc.bench.compare.programs import MARKER

_MARKER = MARKER.encode()
_ALL = 0x0003
_FRAGMENT_OFFSET = 0x1FFF
_OUTGOING = 4
_NO_HARDWARE = 65534
_IPV4, _IPV6 = 0x0800, 0x86DD
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 50: "esp"}
_BUFFER = 64 * 1024 * 1024
_FORCE_BUFFER = 33
_TIMESTAMPS = 35
_STATISTICS = 6
_PACKET = 263


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame on one device."""

    time: float
    device: str
    length: int
    """Octets with the Ethernet header."""
    protocol: str
    source: str
    source_port: int
    target: str
    target_port: int
    opens: bool
    """Whether it asks for a TCP connection."""
    marked: bool
    """Whether what the program sent can be read in it."""
    is_rest: bool = False
    """Whether it is a fragment of a packet, and not the first."""


def parse(data: bytes, when: float, device: str) -> Frame | None:
    """Of an Ethernet frame with IPv4 in it; None of others."""
    if len(data) < 34 or int.from_bytes(data[12:14], "big") != _IPV4:
        return None
    header = 14 + 4 * (data[14] & 15)
    protocol = _PROTOCOLS.get(data[23], str(data[23]))
    ports = (0, 0)
    opens = False
    # Only the first fragment of a packet has ports in it.
    is_first = int.from_bytes(data[20:22], "big") & _FRAGMENT_OFFSET == 0
    if protocol in ("tcp", "udp") and is_first and len(data) >= header + 4:
        ports = struct.unpack_from("!HH", data, header)
        opens = protocol == "tcp" and len(data) > header + 13 and data[header + 13] & 0x12 == 0x02
    source, target = (socket.inet_ntoa(data[at : at + 4]) for at in (26, 30))
    return Frame(
        time=when,
        device=device,
        length=len(data),
        protocol=protocol,
        source=source,
        source_port=ports[0],
        target=target,
        target_port=ports[1],
        opens=opens,
        is_rest=not is_first,
        marked=_MARKER in data,
    )


@dataclass
class Capture:
    """Use as a context manager. `devices`: prefix of those to listen to; `netns`: None = ours."""

    devices: str = ""
    netns: Path | None = None
    frames: list[Frame] = field(default_factory=list)
    missed: int = 0
    """Frames that came too fast to be looked at."""

    def __enter__(self) -> Self:
        self._socket = _in_network(
            self.netns, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
        )
        self._socket.setsockopt(socket.SOL_SOCKET, _FORCE_BUFFER, _BUFFER)
        # The thread may look at a frame long after it passed.
        self._socket.setsockopt(socket.SOL_SOCKET, _TIMESTAMPS, 1)
        self._ended, self._end = os.pipe()
        self._thread = threading.Thread(target=self._listen, name="capture", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._end)
        self._thread.join()
        statistics = self._socket.getsockopt(_PACKET, _STATISTICS, 8)
        self.missed = int(struct.unpack("II", statistics)[1])
        self._socket.close()
        os.close(self._ended)

    def _listen(self) -> None:
        while True:
            readable, _, _ = select.select([self._socket.fileno(), self._ended], (), ())
            if self._socket.fileno() not in readable:
                return
            data, told, _, (device, protocol, kind, hardware, *_) = self._socket.recvmsg(70_000, 64)
            if hardware == _NO_HARDWARE:  # the device of a tunnel: packets without an Ethernet header
                data = bytes(12) + int(protocol).to_bytes(2, "big") + data
            # Each frame once: where it comes from a host, not where it leaves for the next one.
            if device.startswith(self.devices) and kind != _OUTGOING:
                frame = parse(data, _kernel_time(told), device)
                if frame is not None:
                    self.frames.append(frame)


def _kernel_time(told: list[tuple[int, int, bytes]]) -> float:
    seconds, nanoseconds = struct.unpack("qq", told[0][2])
    return float(seconds + nanoseconds / 1e9)


def _in_network(netns: Path | None, make: Callable[[], socket.socket]) -> socket.socket:
    """A socket stays in the network that it was made in."""
    if netns is None:
        return make()
    home, there = os.open("/proc/thread-self/ns/net", os.O_RDONLY), os.open(netns, os.O_RDONLY)
    try:
        linux.enter_network(there)
        return make()
    finally:
        linux.enter_network(home)
        os.close(home)
        os.close(there)


def openings(frames: Iterable[Frame], names: dict[str, str]) -> dict[str, list[str]]:
    """Which ports of which hosts were opened from outside: by connecting, or the first packet of a flow."""
    seen: set[tuple[Any, ...]] = set()
    found: dict[str, set[str]] = {}
    for frame in frames:
        # What has no ports says nothing of them: later fragments, and messages about other packets.
        if frame.target not in names or frame.protocol == "icmp" or frame.is_rest:
            continue
        flow = frozenset({(frame.source, frame.source_port), (frame.target, frame.target_port)})
        if frame.protocol == "tcp":
            if not frame.opens:
                continue
        elif (frame.protocol, flow) in seen:
            continue
        seen.add((frame.protocol, flow))
        port = f"/{frame.target_port}" if frame.target_port else ""
        found.setdefault(names[frame.target], set()).add(f"{frame.protocol}{port}")
    return {name: sorted(ports) for name, ports in sorted(found.items())}


def sight(frames: list[Frame], names: dict[str, str]) -> dict[str, Any]:
    """What these frames tell: who talks with whom, sizes, times, contents."""
    pairs = {
        tuple(sorted((names.get(frame.source, frame.source), names.get(frame.target, frame.target))))
        for frame in frames
    }
    lengths = sorted(frame.length for frame in frames)
    gaps = sorted(after - before for before, after in pairwise(sorted(frame.time for frame in frames)))
    return {
        "pairs": sorted(" - ".join(pair) for pair in pairs if pair[0] != pair[1]),
        "frames": len(frames),
        "sizes": len(set(lengths)),
        "largest": lengths[-1] if lengths else 0,
        "median_gap_ms": round(1000 * gaps[len(gaps) // 2], 3) if gaps else None,
        "contents_readable": any(frame.marked for frame in frames),
    }
