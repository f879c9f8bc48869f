"""`didmpc.agent.sandbox.trial SECRET`, run locked in: whether that holds."""

import contextlib
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path


def main() -> int:
    """0 where the output can be written, and all that must fail fails."""
    _, secret = sys.argv
    try:
        Path("output").write_text("mine")
    except OSError as error:
        print(f"the output cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    holes: dict[str, Callable[[], object]] = {
        "files stay readable": Path(secret).read_bytes,
        "sockets can be opened": socket.socket,
        "processes can be started": _fork,
    }
    for words, leak in holes.items():
        with contextlib.suppress(OSError):
            leak()
            print(words, file=sys.stderr)
            return 1
    return 0


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
