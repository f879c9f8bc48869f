"""Tracebacks as the program's author knows them: without the frames of this package, which ran it."""

import sys
import traceback
from pathlib import Path
from types import FrameType

_OURS = (str(Path(__file__).parent), "<frozen runpy>")


def show(error: BaseException, enclosing: FrameType | None = None) -> None:
    """Print `error` to stderr, and for one in a coroutine of MPyC the call of that coroutine."""
    report = traceback.TracebackException.from_exception(error)
    _clean(report)
    print("".join(report.format()), end="", file=sys.stderr)
    if enclosing is not None:
        stack = traceback.StackSummary.extract(traceback.walk_stack(enclosing))
        stack.reverse()
        print("Traceback (enclosing MPyC coroutine call):", file=sys.stderr)
        print("".join(_without_ours(stack).format()), end="", file=sys.stderr)


def _clean(report: traceback.TracebackException) -> None:
    report.stack = _without_ours(report.stack)
    for inner in (report.__cause__, report.__context__, *(report.exceptions or ())):
        if inner is not None:
            _clean(inner)


def _without_ours(stack: traceback.StackSummary) -> traceback.StackSummary:
    return traceback.StackSummary.from_list(
        [frame for frame in stack if not frame.filename.startswith(_OURS)]
    )
