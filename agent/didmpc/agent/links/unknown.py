"""Sessions that ended here without their peer's knowledge: it is told when it still uses them.

docs/session-extension.md, section 10: a hint, which the peer tests for itself.
"""

import base64
import binascii
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.errors import DidmpcError
from didmpc.protocols.message import Message
from didmpc.protocols.messages import problem_report
from didmpc.protocols.messages.problem_report import ProblemReport

CODE = "e.p.session.unknown"
AT_MOST_EVERY = 60.0
REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class Ended:
    """A session of ours with a contact, without its keys."""

    sid: bytes  # by which its packets come here
    open_id: str
    contact: str  # the DID


class Graveyard:
    """Remembers so many sessions, and says when their peer may be told. Time comes in as an argument."""

    def __init__(self, forget: Callable[[bytes], None]) -> None:
        self._forget = forget
        self._ended: OrderedDict[bytes, Ended] = OrderedDict()
        self._told: dict[bytes, float] = {}

    def bury(self, ended: Ended) -> None:
        self._ended[ended.sid] = ended
        while len(self._ended) > REMEMBERED:
            sid, _ = self._ended.popitem(last=False)
            self._told.pop(sid, None)
            self._forget(sid)

    def due(self, sid: bytes, now: float) -> Ended | None:
        """The session of this sid if its peer is to be told now; it counts as told then."""
        ended = self._ended.get(sid)
        if ended is None or now < self._told.get(sid, 0.0) + AT_MOST_EVERY:
            return None
        self._told[sid] = now
        return ended


def report(ended: Ended) -> Message:
    """What its peer is told."""
    args = (b64url(ended.sid),)
    problem = ProblemReport(CODE, "The session {1} is not known here.", args, about=ended.open_id)
    return problem_report.report(problem)


def reported(message: Message) -> tuple[str, bytes] | None:
    """The id of the open and the sid that a problem report calls unknown; None if it says something else."""
    try:
        problem = problem_report.parse(message)
        if problem.code != CODE or problem.about is None or not problem.args:
            return None
        sid = base64.urlsafe_b64decode(problem.args[0] + "=")
    except (DidmpcError, ValueError, binascii.Error):
        return None
    return (problem.about, sid) if len(sid) == 8 else None
