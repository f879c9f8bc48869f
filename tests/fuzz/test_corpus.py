"""Every input that a fuzzer found worth keeping is read again: refused by the errors of ours, or right.

The fuzzer itself is atheris (`make fuzz`); this needs nothing but the targets.
"""

from pathlib import Path

import pytest
from fuzz_targets import TARGETS
from json_mutator import mutate

CORPUS = Path(__file__).parent / "corpus"
ENOUGH = 1_000_000
"""Bytes of all corpora together."""


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_found_once_is_read_or_refused(name: str) -> None:
    inputs = sorted((CORPUS / name).iterdir())
    assert inputs, "a target without a corpus is not replayed"
    for path in inputs:
        try:
            TARGETS[name].run(path.read_bytes())
        except Exception as error:
            raise AssertionError(f"{path.relative_to(CORPUS)} is neither read nor refused") from error


@pytest.mark.parametrize("cases", [100, pytest.param(20_000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.is_json])
def test_sound_inputs_with_other_values_in_them_are_read_or_refused(name: str, cases: int) -> None:
    inputs = [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]
    for seed in range(cases):
        changed = mutate(inputs[seed % len(inputs)], 16_384, seed)
        if changed is not None:
            try:
                TARGETS[name].run(changed)
            except Exception as error:
                raise AssertionError(f"{changed!r} is neither read nor refused") from error


def test_the_corpora_are_small_and_of_targets_that_exist() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < ENOUGH


def test_a_reader_that_lets_another_error_out_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(_: bytes) -> None:
        raise KeyError("ours")

    monkeypatch.setattr("didmpc.protocols.message.Message.decode", breaks)
    with pytest.raises(AssertionError, match="neither read nor refused"):
        test_what_was_found_once_is_read_or_refused("message")


def test_changes_of_json_reach_what_lies_inside() -> None:
    changed = {mutate(b'{"id":"1","type":"t","body":{"a":[1,{"b":"c"}]}}', 4096, seed) for seed in range(300)}
    assert any(b'"type":"t"' in one and b'"b":"c"' not in one for one in changed if one)
    assert mutate(b"no JSON", 4096, 1) is None
