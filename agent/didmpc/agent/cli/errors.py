"""How a failure is told: what happened, why, and the next command. Never a traceback."""

import contextlib
import json
import os
import sys
import traceback
from typing import Any

from didmpc.agent.cli import chosen_home
from didmpc.agent.cli.screen import Screen
from didmpc.protocols.errors import DidmpcError, LocalMisuse

CRASH_LOG_LIMIT = 1024 * 1024


class WrongUsage(LocalMisuse):
    """The command line itself cannot be followed."""

    exit_code = 2


def exit_status(error: DidmpcError) -> int:
    """1 unless the error says that the command line was wrong."""
    status = getattr(error, "exit_code", 1)
    return status if status in {1, 2, 130} else 1


def described(error: DidmpcError) -> dict[str, str]:
    """An error for programs to read."""
    return {"what": error.what, "why": error.why, "fix": error.fix}


def report(error: DidmpcError, screen: Screen, *, as_json: bool = False) -> None:
    """Tell a person on the screen and, where JSON was asked for, a program on stdout."""
    screen.error(error.what, error.why, error.fix)
    if as_json:
        write_json({"ok": False, "error": described(error)})


def write_json(value: dict[str, Any]) -> None:
    """The one JSON object of a command."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def write_json_line(value: dict[str, Any]) -> None:
    """One of many JSON objects. Whoever read them may have gone; that ends nothing."""
    with contextlib.suppress(OSError):
        write_json(value)


def is_usage_problem(problem: Exception) -> bool:
    """Whether the parser of the command line refused it."""
    import typer

    # UsageError is the parent of BadParameter; where it is defined differs between versions of typer.
    return isinstance(problem, typer.BadParameter.__mro__[1])


def report_usage(problem: Any, screen: Screen) -> None:
    """Tell what is wrong with the command line, and where its help is."""
    context = getattr(problem, "ctx", None)
    path = context.command_path if context is not None else "didmpc"
    text = problem.format_message()
    screen.error(text if text.endswith((".", "?", ")")) else f"{text}.", "", f"{path} --help")


def report_crash(problem: Exception, screen: Screen, *, as_json: bool = False) -> None:
    """Name an unexpected exception in one line, and keep the details in HOME/crash.log."""
    name = type(problem).__name__
    place = _record(problem)
    if place is None:
        last = traceback.extract_tb(problem.__traceback__)[-1:]
        where = f" in {os.path.basename(last[0].filename)}, line {last[0].lineno}" if last else ""
        error = DidmpcError(f"didmpc met an error of its own ({name}{where}).", fix="Please report it.")
    else:
        error = DidmpcError(
            f"didmpc met an error of its own ({name}).", fix=f"Please report it, with {place}"
        )
    report(error, screen, as_json=as_json)


def _record(problem: Exception) -> str | None:
    """Append the traceback to the crash log of the home this command used; None where that is impossible."""
    with contextlib.suppress(Exception):
        home = chosen_home.current()
        home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = home.root / "crash.log"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)
        with os.fdopen(descriptor, "a") as file:
            os.fchmod(file.fileno(), 0o600)
            if os.fstat(file.fileno()).st_size > CRASH_LOG_LIMIT:
                file.truncate(0)
            file.write("".join(traceback.format_exception(problem)) + "\n")
        return str(path)
    return None
