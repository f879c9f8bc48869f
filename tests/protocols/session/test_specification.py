"""The numbers and names of docs/session-extension.md are those of the code: neither drifts from the other."""

import re
from pathlib import Path

import pytest

from didmpc.protocols.messages import relay_control
from didmpc.protocols.relay import hop
from didmpc.protocols.session import frames, handshake, hello, link, packet, packet_json, records

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "session-extension.md").read_text("utf-8")
SOURCES = [
    *(ROOT / "protocols/didmpc/protocols/session").glob("*.py"),
    *(ROOT / "protocols/didmpc/protocols/relay").glob("*.py"),
]


def section(number: int) -> str:
    found = re.search(rf"^## {number}\. .*?(?=^## |\Z)", TEXT, re.S | re.M)
    assert found is not None
    return found[0]


def limit(name: str) -> str:
    """The right-hand side of a row of section 18."""
    (bound,) = re.findall(rf"^\| {re.escape(name)} \| (.*) \|$", section(18), re.M)
    return str(bound)


def thousands(number: int) -> str:
    return f"{number:,}"


@pytest.mark.parametrize(
    ("name", "stated"),
    [
        ("`hs`", [thousands(hello.MAX_HELLO), f"lists {hello.MAX_ITEMS}", f"objects {hello.MAX_ITEMS}"]),
        ("key id", [thousands(hello.MAX_TEXT)]),
        ("packet", [f"{packet.MAX_PACKET_BYTES >> 20} MiB"]),
        ("record", [thousands(frames.MAX_RECORD_DATA)]),
        (
            "window",
            [thousands(link.LinkLimits().window_records), f"{link.LinkLimits().window_bytes >> 20} MiB"],
        ),
        ("ACK ranges", [str(frames.MAX_RANGES)]),
        ("state, cause", [thousands(frames.MAX_STATE), thousands(frames.MAX_CAUSE)]),
        ("CONTACT", [thousands(frames.PROOF_COUNTS[-1])]),
        ("replay window", [thousands(packet.REPLAY_WINDOW)]),
        ("failed packets", [f"2^{packet.MAX_FAILED_OPENS.bit_length() - 1}"]),
        (
            "epoch",
            [
                f"2^{packet.EpochLimits().packets.bit_length() - 1} packets",
                f"{packet.EpochLimits().bytes >> 30} GiB",
                f"{packet.EpochLimits().seconds / 60:.0f} minutes",
                f"2^{packet._EPOCH_CEILING.bit_length() - 1}",
            ],
        ),
        (
            "session",
            [
                f"{link.LinkLimits().idle_seconds / 60:.0f} minutes idle",
                f"{link.LinkLimits().lifetime_seconds / 3600:.0f} hours",
                f"{link.LinkLimits().renew_seconds / 60:.0f} minutes",
                f"2^{link.LinkLimits().renew_packets.bit_length() - 1} packets",
            ],
        ),
        ("channels", [f"{relay_control.MAX_CHANNELS} per request"]),
    ],
)
def test_a_limit_is_the_one_that_is_kept(name: str, stated: list[str]) -> None:
    for number in stated:
        assert number in limit(name)


def test_timers_are_the_ones_that_are_kept() -> None:
    text = section(9)
    assert f"Due after {records.ACK_EVERY} records or {records.ACK_DELAY * 1000:.0f} ms" in text
    stored = link.STORED_RETRANSMIT_AFTER
    assert f"after max({link.RETRANSMIT_AFTER:.0f} s, 4 RTT + {records.ACK_DELAY * 1000:.0f} ms)" in text
    assert f"stored path max({stored:.0f} s, 4 RTT" in text
    assert f"up to {link.MAX_BACK_OFF} times" in text
    assert link.PING_EVERY == 1 and "**PING** each second" in text
    slow, slowest = link.STORED_PING_EVERY, link.STORED_PING_EVERY_IN_SILENCE
    assert f"every {slow:.0f} s, and every {slowest:.0f} s after {link.SILENCE:.0f} s" in text
    assert f"the opening keys {link.RETIRED_SECONDS:.0f} s later" in text


def test_every_code_that_the_code_uses_stands_in_the_table_of_errors() -> None:
    listed = set(re.findall(r"`(e\.[a-z.-]+)`", section(15)))
    used = set()
    for source in SOURCES:
        used |= set(re.findall(r'"(e\.p\.[a-z.-]+)"', source.read_text("utf-8")))
    assert len(used) > 10
    assert used <= listed


def test_frames_have_the_numbers_of_the_registry() -> None:
    listed = dict(re.findall(r"^([A-Z]+) +(\d)(?:  |$)", section(8), re.M))
    assert listed == {
        name: str(getattr(frames, name))
        for name in ("PADDING", "RECORD", "READY", "ACK", "PING", "PONG", "CLOSE", "ABORT", "CONTACT")
    }
    assert ", ".join(map(str, frames.PROOF_COUNTS[:-1])) in section(8)


def test_hop_frames_and_their_reasons_have_the_numbers_of_the_registry() -> None:
    text = section(13)
    listed = dict(re.findall(r"^([A-Z]+) +(\d)  ", text, re.M))
    assert listed == {kind.name: str(kind.value) for kind in hop.FrameType}
    for code in hop.ErrorCode:
        assert f"| {code.value} {code.name.lower().replace('_', ' ')} |" in text
    unwrapped = " ".join(text.split())
    for reason in hop.UnboundReason:
        assert re.search(rf"\b{reason.value} {reason.name.lower()}\b", unwrapped), reason


def test_suites_and_forms_are_those_of_the_registry() -> None:
    assert re.findall(r"^\| `(X25519[^`]+)` \|", section(16), re.M) == [hello.CLASSICAL, hello.HYBRID]
    for wire in handshake.WIRES:
        assert f"`{wire}` (section" in section(16)
    for code in ("suite", "policy", "busy", "roster"):
        assert f"| `{code}` |" in section(5)


def test_a_packet_in_json_is_not_larger_than_is_said() -> None:
    assert f"4/3 n + {packet_json.OVERHEAD} bytes" in section(11)
