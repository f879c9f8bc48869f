import sys
from pathlib import Path

from .verify import Mismatch, Verifier

VECTORS = Path(__file__).parents[2] / "vectors" / "session-1.0"

try:
    count = Verifier(Path(sys.argv[1]) if len(sys.argv) > 1 else VECTORS).run()
except Mismatch as error:
    sys.exit(f"A vector does not hold: {error}")
print(f"{count} values compared, all as the specification has them.")
