"""The limits of one run: how much of anything is held, and how long anything is waited for."""

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes, counts and seconds. Crossing a limit of the first group ends the run."""

    line: int = 16 * MIB
    """One line from the daemon or from the user interface."""
    stdin: int = 64 * MIB
    """Typed or piped input that the program has not read yet."""
    program_backlog: int = 512 * MIB
    """Peers' bytes that the program has not read: MPyC cannot be slowed down, and may compute for long."""
    daemon_backlog: int = 64 * MIB
    """Lines that the daemon has not read yet."""
    reorder_frames: int = 8192
    reorder_bytes: int = 64 * MIB
    """Frames of mode didcomm that came before their turn, per peer."""

    ui_output: int = 8 * MIB
    """Output that a slow or stopped user interface has not read; beyond it the program's pipe waits."""
    relay_frame: int = 1 * MIB
    """One WebSocket message: a record of 256 KiB, padded and sealed twice, with room to spare."""
    relay_buffer: int = 1 * MIB
    """What a relay's socket may hold back before its links wait."""

    unreachable: float = 5.0
    """Silence after which a peer is shown as unreachable."""
    hint_wait: float = 1.0
    """How long a peer's word about a third party waits for that party's own word."""
    left_grace: float = 5.0
    """How long a program may wait for a party that has properly ended, until nothing can come any more."""
    sign_wait: float = 0.5
    """How long our agent may take to sign an abort, before it goes out without."""
    abort_wait: float = 1.0
    """How long an abort may take to be written before we end without it."""
    kill_grace: float = 1.0
    """Between SIGTERM and SIGKILL."""
    pipe_grace: float = 1.0
    """For the last output of a program that has exited."""
    close_wait: float = 10.0
    """For the last acknowledgements after a program that ended well."""
    ui_wait: float = 2.0
    """For the user interface to take the last output, before the daemon is told that all is over."""
    daemon_wait: float = 5.0
    """For the daemon to read the last line and hang up."""
    ui_drain: float = 600.0
    """For a stopped user interface to take the last output, once all else is done."""
