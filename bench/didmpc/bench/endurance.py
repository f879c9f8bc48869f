"""The program of the fault tests and of the soak, and what it has to print."""

import hashlib
from pathlib import Path

ENDURANCE = Path(__file__).with_name("programs") / "endurance.py"


def expected(steps: int, size: int, parties: int) -> str:
    """Its output, computed in the open and without a network."""
    total, shares, digest = 0, sum(range(1, parties + 1)), hashlib.sha256()
    lines = []
    for step in range(1, steps + 1):
        total = total - 997 if total > 1000 else total * 3 + shares + step
        for pid in range(parties):
            digest.update(hashlib.shake_128(b"%d %d" % (pid, step)).digest(size))
        lines.append(f"step {step} {total}\n")
    return "".join([*lines, f"all {digest.hexdigest()}\n"])
