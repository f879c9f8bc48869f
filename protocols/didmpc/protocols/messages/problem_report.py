"""report-problem/2.0: telling a peer what went wrong (DIDComm Messaging 2.1, "Problem Reports")."""

import re
from dataclasses import dataclass
from typing import Any

from didmpc.protocols.errors import RemoteViolation
from didmpc.protocols.message import Message
from didmpc.protocols.messages.body import expect, many, optional, required, text

PROTOCOL = "https://didcomm.org/report-problem/2.0"
PROBLEM_REPORT = f"{PROTOCOL}/problem-report"

MAX_ARGS = 16

_PLACEHOLDER = re.compile(r"\{(\d{1,3})\}")


@dataclass(frozen=True, slots=True)
class ProblemReport:
    """A problem: its code (`e.*` is an error, `w.*` a warning), words for people, and what fills them in."""

    code: str
    comment: str = ""
    args: tuple[str, ...] = ()
    escalate_to: str | None = None
    about: str | None = None
    """The thread of the message that failed (`pthid`)."""

    @property
    def text(self) -> str:
        """The comment with `{1}`, `{2}`... replaced; arguments it does not use stand at its end."""
        used = {int(match) for match in _PLACEHOLDER.findall(self.comment)}
        filled = _PLACEHOLDER.sub(lambda match: self._argument(int(match[1])), self.comment)
        rest = [argument for number, argument in enumerate(self.args, start=1) if number not in used]
        return " ".join([filled, *rest]).strip() or self.code

    def _argument(self, number: int) -> str:
        return self.args[number - 1] if 0 < number <= len(self.args) else "?"


def report(problem: ProblemReport, **headers: Any) -> Message:
    """The message that carries a problem; `headers` are those of `Message` (`from_`, `to`, `ack`...)."""
    body: dict[str, Any] = {"code": problem.code}
    if problem.comment:
        body["comment"] = problem.comment
    if problem.args:
        body["args"] = list(problem.args)
    if problem.escalate_to:
        body["escalate_to"] = problem.escalate_to
    return Message(type=PROBLEM_REPORT, body=body, **{"pthid": problem.about, **headers})


def report_on(failed: Message, error: RemoteViolation) -> Message:
    """The report to the sender of a message that violated a protocol, in a thread below its own."""
    problem = ProblemReport(error.code, error.what, about=failed.thread)
    own = failed.to[0] if failed.to else None
    return report(problem, from_=own, to=(failed.from_,) if failed.from_ else (), ack=(failed.id,))


def parse(message: Message) -> ProblemReport:
    expect(message, PROBLEM_REPORT)
    return ProblemReport(
        code=required(message, "code", text),
        comment=optional(message, "comment", text, ""),
        args=optional(message, "args", many(_argument, MAX_ARGS), ()),
        escalate_to=optional(message, "escalate_to", text, "") or None,
        about=message.pthid,
    )


def _argument(value: Any) -> str:
    return text(value if isinstance(value, str) else str(value))
