"""How a result was measured, and what is not in it: sentences for readers of a report."""

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]
_PARTS = {"runs": "times", "exposure": "captures", "cut": "the 10 s cut", "nat": "NATs and firewalls"}


def method(result: Json) -> list[str]:
    """How it was measured."""
    said = [*_where(result), *_work(result)]
    if result["runs"]:
        said.append(
            "Each contender is set up from nothing (no keys, no processes) with the software named below, "
            "does the work, and is taken down. What people would do is done and kept as its steps."
        )
        said.append(
            "Each run is paired with the same work over plain TCP, and if it passes through a server with "
            "the same work over a raw TCP relay on that server, right before it. Ratios are of such pairs: "
            "median (least-largest). The slowest party counts."
        )
    if result["exposure"]:
        said.append(
            "What can be seen is from packets captured on every link and inside every server, without added "
            "distance, while 50 rounds and 512 KiB to each other party were sent in blocks of a known word."
        )
    if result["cut"]:
        said.append(
            "The cut: at 20 ms round trip nothing passes to or from one party for 10 s, in the midst of "
            "some 15 s of rounds."
        )
    if result["nat"]:
        said.append(
            "NATs and firewalls are rules of nftables on a gateway before each party; all drop what nobody "
            "inside has asked for. Symmetric: each peer sees another port. Only-443: nothing but TCP to "
            "port 443 gets out."
        )
    return said


def not_measured(result: Json) -> list[str]:
    """Who took no part in what, and why."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for part, shown in _PARTS.items():
        for entry in result[part]:
            if "skipped" in entry:
                parts = reasons.setdefault((entry["title"], entry["skipped"]), [])
                if shown not in parts:
                    parts.append(shown)
    said = [f"{title} ({', '.join(parts)}): skipped, {reason}." for (title, reason), parts in reasons.items()]
    titles = {entry["contender"]: entry["title"] for part in _PARTS for entry in result[part]}
    for part, shown in _PARTS.items():
        missing = titles.keys() - {entry["contender"] for entry in result[part]}
        if result[part] and missing:
            names = ", ".join(title for name, title in titles.items() if name in missing)
            said.append(f"Not asked for in this result ({shown}): {names}.")
    if {"wireguard", "strongswan"} & titles.keys():
        said.append(
            "WireGuard and IPsec inside the kernel: wireguard-go and libipsec are measured, which run on "
            "any kernel. They use more CPU time, which is seen without distance and in bulk."
        )
    if "tor" in titles:
        said.append(
            "Tor on the Internet: its authorities and relays stand on one server here, so distances and who"
            " sees what are those of this test network."
        )
    if any(name.startswith("didmpc") for name in titles):
        said.append("TLS around the connections to mediators, which a public mediator has besides.")
    if titles:
        said.append(
            "ZeroTier, Tailscale, Headscale and NetBird, which are no packages of Debian; WebRTC data "
            "channels, which MPyC does not speak without a bridge."
        )
    return said


def _where(result: Json) -> Iterator[str]:
    if result.get("hosts"):
        yield "Parties and servers are machines of their own, reached over SSH; the network is as it is."
        return
    if {entry["network"] for entry in result["runs"]} == {"loopback"} and not result["exposure"]:
        yield "All parties and servers are this machine, without distance and without root."
        return
    delays = {entry["delayed_by"] for entry in result["runs"] if entry.get("delayed_by")}
    delayed = f" Distance, rate and loss are added by {' or '.join(sorted(delays))}." if delays else ""
    yield (
        "Parties and servers are network namespaces of one machine, whose cores they share, joined by a "
        "bridge. Half of the distance lies on the link of each: what passes through a server goes twice as"
        f" far.{delayed}"
    )


def _work(result: Json) -> Iterator[str]:
    asked = [entry["work"] for entry in result["runs"] if entry.get("work")]
    if not asked:
        return
    rounds, size, times = (
        _range([work[name] for work in asked]) for name in ("rounds", "block_bytes", "blocks")
    )
    yield (
        f"Rounds: {rounds} products of two secrets, opened one after the other. Bulk: each party sends every"
        f" other {times} blocks of {size} bytes. Programs are unmodified, and timed from when the "
        "parties are connected."
    )


def _range(values: list[int]) -> str:
    least, largest = min(values), max(values)
    return str(least) if least == largest else f"{least} to {largest}"
