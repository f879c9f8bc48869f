"""The targets are a package of their own, which the fuzzer imports too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
