"""What a run cost, for its user and for the history."""

from collections.abc import Iterable, Mapping
from typing import Any

from didmpc.agent.channel.didcomm import FramePath
from didmpc.agent.channel.paths.relay import Relay
from didmpc.agent.channel.peer import Peer


def _number(report: Mapping[str, Any], name: str) -> float:
    value = report.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else 0


def collect(
    *,
    seconds: float,
    program: Mapping[str, Any],
    peers: Iterable[Peer],
    frame_paths: Iterable[FramePath],
    relays: Iterable[Relay],
    daemon_envelopes: int,
    daemon_seconds: float,
) -> dict[str, Any]:
    """All figures of one run. `program` is what the program process reported as it ended."""
    peers, frame_paths, relays = list(peers), list(frame_paths), list(relays)
    per_peer: dict[str, dict[str, Any]] = {}
    for peer in peers:
        link = peer.link.stats
        per_peer[str(peer.pid)] = {
            "records_sent": link.records_sent,
            "records_received": link.records_received,
            "packets_sent": link.packets_sent,
            "packets_received": link.packets_received,
            "bytes_sent": link.bytes_sent,
            "bytes_received": link.bytes_received,
            "sealed_bytes": link.sealed_bytes,
            "refused_packets": peer.refused_packets,
            "wire": peer.link.wire,
            "sessions": link.sessions,
        }
    for path in frame_paths:
        per_peer[str(path.pid)] = {"frames_sent": path.sent, "frames_received": path.received}
    crypto = daemon_seconds + sum(relay.crypto_seconds for relay in relays)
    crypto += sum(peer.link.stats.seal_seconds + peer.link.stats.open_seconds for peer in peers)
    messages = int(_number(program, "messages"))
    return {
        "seconds": round(seconds, 6),
        "first_to_last_round": max(0.0, _number(program, "last_round") - _number(program, "first_round")),
        "rounds": int(_number(program, "rounds")),
        "messages": messages,
        "bytes": int(_number(program, "bytes")),
        "packets": sum(peer.link.stats.packets_sent for peer in peers),
        "records": sum(peer.link.stats.records_sent for peer in peers),
        "sealed_bytes": sum(peer.link.stats.sealed_bytes for peer in peers),
        "crypto_us_per_message": round(crypto * 1e6 / messages, 2) if messages else 0.0,
        "envelopes": daemon_envelopes + sum(relay.envelopes for relay in relays),
        "per_peer": per_peer,
    }
