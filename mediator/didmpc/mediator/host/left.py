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


def begin(root: Path, source: str) -> None:
    """Say that a store is being moved into this home, and has only part of it so far."""
    write_private(root / FILE, json.dumps({"to": source, "at": time.time(), "half": True}).encode())


def return_to(root: Path) -> None:
    """It is in use again: everything was moved back."""
    (root / FILE).unlink(missing_ok=True)
    sync_folder(root)


def left_for(root: Path) -> str | None:
    """Where everything is; None where that is this home."""
    found = _read(root)
    return found[0] if found else None


def _read(root: Path) -> tuple[str, bool] | None:
    """Where everything is, and whether some of it is here already."""
    try:
        content = json.loads((root / FILE).read_text("utf-8"))
        return str(content["to"]), content.get("half") is True
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "another store", False


def check_not_left(root: Path) -> None:
    """Raises `LocalMisuse`."""
    found = _read(root)
    if found is None:
        return
    place, half = found
    if half:
        raise LocalMisuse(
            f"{root} holds only half of a mediator.",
            why=f"Its migration from {place} is not finished.",
            fix=f"Go on with it:  didmpc mediator migrate --from {place} --to sqlite://{root}",
        )
    raise LocalMisuse(
        f"The mail of this mediator was moved to {place}.",
        why="What comes in here would never get there. (Only if no mediator ever ran there, delete"
        f" {root / FILE} to use this store again.)",
        fix=f"Start it there:  didmpc mediator start --store {place}",
    )
