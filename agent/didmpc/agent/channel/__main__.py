"""`python -m didmpc.agent.channel FD`: FD is the socket to the daemon that this process inherited."""

import asyncio
import gc
import logging
import signal
import socket
import sys

from didmpc.agent.channel.process import Channel
from didmpc.agent.channel.witness import close_to_others, keep_memory
from didmpc.protocols.one_line import OneLine


async def _run(daemon: socket.socket) -> None:
    await Channel().run(daemon)


def main() -> int:
    if len(sys.argv) != 2 or not sys.argv[1].isdecimal():
        print("didmpc.agent.channel is started by the agent.", file=sys.stderr)
        return 2
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C comes through the user interface, with a word
    log_handler = logging.StreamHandler(sys.stderr)
    log_handler.setFormatter(OneLine("%(asctime)s %(name)s %(levelname)s %(message)s"))
    logging.basicConfig(handlers=[log_handler])
    close_to_others()
    keep_memory()
    daemon = socket.socket(fileno=int(sys.argv[1]))
    daemon.set_inheritable(False)
    gc.collect()
    gc.freeze()  # what was imported need never be walked again (performance.md)
    try:
        import uvloop  # noqa: PLC0415  absent on some platforms
    except ImportError:
        asyncio.run(_run(daemon))
    else:
        uvloop.run(_run(daemon))
    return 0


if __name__ == "__main__":
    sys.exit(main())
