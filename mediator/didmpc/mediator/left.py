"""A home whose store was moved to elsewhere: no mediator may write to what was left behind."""

import json
import time
from pathlib import Path

from didmpc.local.private_files import sync_folder, write_private
from didmpc.protocols.errors import LocalMisuse

FILE = "mediator.moved"


def leave(root: Path, target: str) -> None:
    """Say so, durably."""
    write_private(root / FILE, json.dumps({"to": target, "at": time.time()}).encode())


def return_to(root: Path) -> None:
    """It is in use again: everything was moved back."""
    (root / FILE).unlink(missing_ok=True)
    sync_folder(root)


def left_for(root: Path) -> str | None:
    """Where everything was moved to; None where it was not."""
    try:
        content = json.loads((root / FILE).read_text("utf-8"))
        return str(content["to"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return "another store"


def check_not_left(root: Path) -> None:
    """Raises `LocalMisuse`."""
    target = left_for(root)
    if target is not None:
        raise LocalMisuse(
            f"The mail of this mediator was moved to {target}.",
            why="What comes in here would never get there.",
            fix=f"Start it there:  didmpc mediator start --store {target}\n"
            f"Only if no mediator ever ran there, delete {root / FILE} to use this store again.",
        )
