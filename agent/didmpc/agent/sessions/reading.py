"""A program for a person to read, before it runs or while it does."""

import base64
from typing import Any

from didmpc.agent.program.bundle import Bundle

LARGEST = 1024 * 1024
"""Bytes of a file that are shown."""
MOST = 2 * 1024 * 1024
"""Bytes of all files together: what one answer of the agent may hold, in base64."""


def contents(bundle: Bundle) -> list[dict[str, Any]]:
    """Its files, the one it starts with first: `path`, `size`, and `text`, or `base64` of what is no text.

    What is too large has neither.
    """
    shown, left = [], MOST
    for path in sorted(bundle.contents, key=lambda each: (each != bundle.entry, each)):
        data = bundle.contents[path]
        entry: dict[str, Any] = {"path": path, "size": len(data)}
        if len(data) <= min(LARGEST, left):
            left -= len(data)
            try:
                entry["text"] = data.decode()
            except UnicodeDecodeError:
                entry["base64"] = base64.b64encode(data).decode()
        shown.append(entry)
    return shown
