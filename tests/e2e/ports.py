"""Ports for MPyC's own network, on which its parties want neighbours."""

import random
import socket


def free_ports(count: int) -> int:
    """The first of `count` free ports in a row, none of those that the kernel hands out by itself."""
    while True:
        base = random.randrange(12_000, 20_000)
        if all(_is_free(base + i) for i in range(count)):
            return base


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
