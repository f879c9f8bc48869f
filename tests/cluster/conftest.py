"""Several nodes of one mediator, and PostgreSQL with standbys: real processes, and what breaks them."""

import sys
from pathlib import Path

for folder in (Path(__file__).parent, Path(__file__).parents[1] / "mediator"):
    sys.path.insert(0, str(folder))
