"""A delay box in user space, for kernels without netem: each link is a pair of TAP devices.

Frames that one end sends come out of the other one later, in order: after the time that the link's rate takes
to send them, its delay and a random part of its jitter. Some are lost; so are those that find more than
`QUEUE` seconds of frames waiting. Without loss, TCP segments of up to 64 KB pass in one piece (vnet headers),
as they do on a veth pair.

    python -m didmpc.bench.compare.delay     reads one JSON object from stdin, prints "ready", and runs on
    {"links": [{"near": [NETNS, NAME], "far": [NETNS, NAME], "delay": s, "jitter": s, "loss": 0-1,
                "rate": bit/s}]}
    NETNS is the path of a network namespace, or null for the one it was started in.
"""

import fcntl
import json
import os
import random
import select
import struct
import sys
import time
from collections import deque
from dataclasses import dataclass, field

from didmpc.bench.compare import linux

QUEUE = 0.1
"""Seconds: the longest that a frame waits for those before it, as in a router; where there is a rate."""
BATCH = 32
_TAP, _NO_INFO, _VNET_HEADER = 0x0002, 0x1000, 0x4000
_SET_INTERFACE, _SET_OFFLOAD = 0x400454CA, 0x400454D0
_OFFLOADS = 0x01 | 0x02 | 0x04  # checksums, TSO of IPv4 and IPv6
_VNET_HEADER_SIZE = 10
_LARGEST = 65536 + 64


@dataclass(slots=True)
class Direction:
    """Frames from one device to another."""

    source: int
    target: int
    delay: float
    jitter: float
    loss: float
    rate: float
    header: int
    frames: deque[tuple[float, bytes]] = field(default_factory=deque)
    free_at: float = 0.0
    """When the link has sent what was accepted so far."""
    last_due: float = 0.0

    def accept(self, frame: bytes, now: float) -> None:
        """Queue a frame, or lose it."""
        if self.loss and random.random() < self.loss:  # noqa: S311  (no secret)
            return
        sent = now
        if self.rate:
            if self.free_at - now > QUEUE:
                return
            sent = max(now, self.free_at) + 8 * (len(frame) - self.header) / self.rate
            self.free_at = sent
        due = sent + self.delay + (random.uniform(0, self.jitter) if self.jitter else 0)  # noqa: S311
        self.last_due = due = max(due, self.last_due)
        self.frames.append((due, frame))


def open_tap(netns: str | None, name: str, *, large: bool) -> int:
    """A TAP device in a network namespace; it goes with its descriptor."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        if netns is not None:
            there = os.open(netns, os.O_RDONLY)
            try:
                linux.enter_network(there)
            finally:
                os.close(there)
        tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        flags = _TAP | _NO_INFO | (_VNET_HEADER if large else 0)
        fcntl.ioctl(tap, _SET_INTERFACE, struct.pack("16sH22x", name.encode(), flags))
        if large:
            fcntl.ioctl(tap, _SET_OFFLOAD, _OFFLOADS)
        return tap
    finally:
        linux.enter_network(home)
        os.close(home)


def directions(links: list[dict[str, object]]) -> list[Direction]:
    """Open all devices."""
    made = []
    for link in links:
        delay, jitter, loss, rate = (float(str(link[name])) for name in ("delay", "jitter", "loss", "rate"))
        large = loss == 0
        ends = [open_tap(*end, large=large) for end in (link["near"], link["far"])]  # type: ignore[misc]
        header = _VNET_HEADER_SIZE if large else 0
        made += [
            Direction(source, target, delay, jitter, loss, rate, header)
            for source, target in (ends, reversed(ends))
        ]
    return made


def forward(all_directions: list[Direction]) -> None:
    """Runs until the process is killed."""
    by_source = {direction.source: direction for direction in all_directions}
    sources = list(by_source)
    clock = time.monotonic
    while True:
        due = min((each.frames[0][0] for each in all_directions if each.frames), default=None)
        # Not poll or epoll: their time-outs are whole milliseconds.
        readable, _, _ = select.select(sources, (), (), None if due is None else max(0.0, due - clock()))
        for source in readable:
            direction = by_source[source]
            try:
                for _ in range(BATCH):
                    frame = os.read(source, _LARGEST)
                    direction.accept(frame, clock())
            except BlockingIOError:
                pass
            except OSError:  # the device is down: not yet up, or its namespace is being taken down
                time.sleep(0.001)
        now = clock()
        for direction in all_directions:
            frames = direction.frames
            while frames and frames[0][0] <= now:
                try:
                    os.write(direction.target, frames.popleft()[1])
                except OSError:  # full or down: lost, as on any wire
                    continue


if __name__ == "__main__":
    linux.die_with_parent()
    found = directions(json.loads(sys.stdin.readline())["links"])
    print("ready", flush=True)
    forward(found)
