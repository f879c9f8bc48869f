"""The embedded mediator as a process of its own: `python -m didmpc.agent.embedded_child start ...`.

The arguments are those of `didmpc mediator`; the command is found by its entry point, so that the agent
does not depend on the mediator's code. The process must not outlive its agent, however that one ends:
the agent holds the other end of our stdin, and its end of file is our signal.
"""

import os
import signal
import sys
import threading
from importlib.metadata import entry_points


def main() -> None:
    threading.Thread(target=_stop_with_parent, name="parent", daemon=True).start()
    (entry,) = entry_points(group="didmpc.commands", name="mediator")
    entry.load()(prog_name="didmpc mediator")


def _stop_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
