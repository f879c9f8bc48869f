"""How a run goes wrong, and what it cost."""

import errno
import time
from dataclasses import dataclass
from typing import Any, Self

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_TYPE_LIMIT = 100


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the program cannot go on, in the words of the FAILED frame.

    `kind` is "raised", "out-of-memory", "disk-full" (the program's), "peer" (what party `pid` sent), "left"
    (party `pid` has ended), "threshold", or "channel". `why` is for the person whose program it is; the other
    parties are told `told`.
    """

    kind: str
    what: str
    why: str = ""
    pid: int | None = None
    told: str = ""

    @classmethod
    def raised(cls, error: BaseException, why: str) -> Self:
        """The program raised `error`. The text of an exception may hold the input: others learn its type."""
        kind, what = "raised", "The program raised an exception."
        if isinstance(error, MemoryError):
            kind, what = "out-of-memory", "The program ran out of memory."
        elif isinstance(error, OSError) and error.errno in _NO_ROOM:
            kind, what = "disk-full", "The program could not write a file: there is no room left."
        return cls(kind, what, why, told=f"{type(error).__name__[:_TYPE_LIMIT]}.")

    def to_json(self) -> dict[str, Any]:
        """The payload of FAILED."""
        return {"kind": self.kind, "what": self.what, "why": self.why, "pid": self.pid, "told": self.told}


class PeerFault(Exception):
    """Party `pid` sent what no party of this run may send, or too much of it."""

    def __init__(self, pid: int, what: str) -> None:
        super().__init__(what)
        self.pid = pid
        self.what = what


class Stats:
    """What the program sent to the other parties."""

    __slots__ = ("first_round", "last_round", "messages", "octets", "progressed", "rounds", "unpickled")

    def __init__(self) -> None:
        self.messages = 0
        self.octets = 0
        self.rounds = 0
        self.unpickled = 0
        self.first_round: float | None = None
        self.last_round: float | None = None  # when bytes of MPyC came in
        self.progressed = True  # something was received since the last send: the next send is a new round

    def sent(self, octets: int) -> None:
        """Count one message of MPyC. A round is a burst of sends after a receive on which it depends."""
        self.messages += 1
        self.octets += octets
        if self.progressed:
            self.progressed = False
            self.rounds += 1
            if self.first_round is None:
                self.first_round = time.monotonic()

    def to_json(self) -> dict[str, Any]:
        """The payload of STATS."""
        return {
            "rounds": self.rounds,
            "messages": self.messages,
            "bytes": self.octets,
            "first_round": self.first_round,
            "last_round": self.last_round,
            "unpickled": self.unpickled,
        }
