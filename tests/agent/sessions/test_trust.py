"""Programs that are trusted: by hash, perhaps by proposer and arguments; kept for the owner's eyes."""

import json
import stat
from pathlib import Path

import pytest

from didmpc.agent.sessions.trust import Trust
from didmpc.protocols.errors import LocalMisuse
from didmpc.protocols.identity import Identity

HASH, OTHER = "ab" * 32, "cd" * 32
ALICE, MALLORY = Identity.peer4().did, Identity.peer4().did


def test_what_is_trusted_survives_a_restart_and_is_read_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "trusted.json"
    Trust(path).add(HASH, entry="sum.py", given=["-n", "3"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = Trust(path)
    assert again.covers(HASH, MALLORY, ["-n", "3"])
    assert not again.covers(HASH, MALLORY, ["-n", "4"])
    assert not again.covers(OTHER, MALLORY, ["-n", "3"])
    again.forget(HASH[:8])
    assert not Trust(path).covers(HASH, MALLORY, ["-n", "3"])


def test_trust_in_what_one_contact_proposes_is_not_for_others(tmp_path: Path) -> None:
    trust = Trust(tmp_path / "trusted.json")
    trust.add(HASH, contact=(ALICE, "alice"))
    assert trust.covers(HASH, ALICE, []) and trust.covers(HASH, ALICE.split(":z")[0], ["-x"])
    assert not trust.covers(HASH, MALLORY, [])


@pytest.mark.parametrize("content", ["", "{}", "[1]", '[{"sha256": "zz"}]', '[{"sha256": null}]'])
def test_a_file_that_cannot_be_read_trusts_nothing_and_says_so(tmp_path: Path, content: str) -> None:
    path = tmp_path / "trusted.json"
    path.write_text(content)
    trust = Trust(path)
    assert trust.problem or content == "{}"
    assert not trust.covers(HASH, ALICE, [])


def test_a_hash_is_named_by_so_many_digits_that_it_is_clear(tmp_path: Path) -> None:
    trust = Trust(tmp_path / "trusted.json")
    with pytest.raises(LocalMisuse, match="not the hash"):
        trust.add("ab")
    trust.add(HASH)
    trust.add(HASH[:-1] + "c")
    for beginning in ("", "abab", HASH[:12], "0" * 64):
        with pytest.raises(LocalMisuse):
            trust.forget(beginning)
    assert len(json.loads((tmp_path / "trusted.json").read_text())) == 2
