"""The entry of the program process: `python -u -m didmpc.agent.program FD`, started by the channel process.

FD is our end of the socket pair. The working directory is the bundle's, stdin, stdout and stderr are the
program's.
"""

import runpy
import socket
import sys
from pathlib import Path
from typing import Any

from didmpc.agent.program.bridge import Bridge
from didmpc.agent.program.config import Config
from didmpc.agent.program.outcome import Stats
from didmpc.agent.program.wire import HEADER, Frame, FrameType, WireError, check_header
from didmpc.protocols.errors import DidmpcError

INTERRUPTED = 130


def main() -> int:
    """Run the program that CONFIG names; the exit code is the program's."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)  # what the program starts must not speak to the parties, nor keep it open
    stats = Stats()
    _count_unpickling(stats)
    try:
        config = _read_config(channel)
    except DidmpcError as error:
        print(error, file=sys.stderr)
        return 1
    bridge = Bridge(config, channel, stats)
    code = _run(config, bridge)
    bridge.finished(code)
    return code


def _run(config: Config, bridge: Bridge) -> int:
    entry = Path(config.entry)
    sys.argv = [config.entry, *config.arguments]
    folder = str(entry.resolve().parent)
    if sys.flags.safe_path:  # python -P: then path[0] is not the working directory
        sys.path.insert(0, folder)
    else:
        sys.path[0] = folder
    try:
        runpy.run_path(config.entry, run_name="__main__")
    except SystemExit as ending:
        return _exit_code(ending)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BaseException as error:
        bridge.raised(error)
    finally:
        sys.stdout.flush()
    return 0


def _exit_code(ending: SystemExit) -> int:
    """What the interpreter makes of `sys.exit(...)`."""
    if ending.code is None:
        return 0
    if isinstance(ending.code, int):
        return ending.code & 0xFF
    print(ending.code, file=sys.stderr)
    return 1


def _read_config(channel: socket.socket) -> Config:
    """The first frame, and not a byte more. Raises WireError."""
    kind, pid, start, length = HEADER.unpack(_read_exactly(channel, HEADER.size))
    if check_header(kind, pid, start, length) is not FrameType.CONFIG:
        raise WireError("The first frame is not CONFIG.")
    return Config.from_json(Frame(FrameType.CONFIG, 0, 0, _read_exactly(channel, length)).json())


def _read_exactly(channel: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = channel.recv(size - len(data))
        if not part:
            raise WireError("The channel process ended before it said what to run.")
        data += part
    return bytes(data)


def _count_unpickling(stats: Stats) -> None:
    """Count each class or function that any pickle looks up: no peer's bytes may ever cause one."""

    def hook(event: str, _arguments: tuple[Any, ...]) -> None:
        if event == "pickle.find_class":
            stats.unpickled += 1

    sys.addaudithook(hook)


if __name__ == "__main__":
    sys.exit(main())
