"""Take over what the fuzzer found:  python tests/fuzz/merge.py TARGET [DIRECTORY]

Of the inputs in DIRECTORY (.cache/fuzz/TARGET) those that lead where no input of the corpus leads go into
tests/fuzz/corpus/TARGET, the smallest first. "Where" is a step from one line of didmpc to another.
"""

import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LARGEST = 4096
"""Bytes of an input that is taken over."""

for path in (HERE, *(ROOT / name for name in ("agent", "local", "mediator", "protocols"))):
    sys.path.insert(0, str(path))

Step = tuple[str, int, int]


def steps_of(run: Callable[[bytes], None], data: bytes) -> set[Step]:
    """Every step from line to line that an input leads to."""
    steps: set[Step] = set()

    def enter(frame: FrameType, event: str, _: Any) -> Any:
        name = frame.f_code.co_filename
        if "/didmpc/" not in name:
            return None
        last = 0

        def line(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal last
            steps.add((name, last, frame.f_lineno))
            last = frame.f_lineno
            return line

        return line

    sys.settrace(enter)
    try:
        run(data)
    finally:
        sys.settrace(None)
    return steps


def main() -> None:
    name, *where = sys.argv[1:]
    sys.argv[1:] = []  # MPyC reads the command line when it is imported
    logging.disable(logging.ERROR)
    from fuzz_targets import TARGETS, service

    corpus = HERE / "corpus" / name
    found = Path(where[0]) if where else ROOT / ".cache" / "fuzz" / name
    run, reached, taken = TARGETS[name].run, set[Step](), 0
    for path in corpus.iterdir():
        reached |= steps_of(run, path.read_bytes())
    for path in sorted(found.iterdir(), key=lambda each: (each.stat().st_size, each.name)):
        if path.stat().st_size > LARGEST:
            break
        steps = steps_of(run, path.read_bytes())
        if not steps <= reached:
            reached |= steps
            taken += 1
            shutil.copy(path, corpus / path.name)
    if service.mediator.cache_info().currsize:
        service.mediator().close()
    print(f"{name}: {taken} inputs taken over, {len(reached)} steps reached")


if __name__ == "__main__":
    main()
