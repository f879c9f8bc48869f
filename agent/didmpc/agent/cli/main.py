"""Where the `didmpc` command starts: runs it, and turns whatever happens into words and an exit status.

    0 done    1 failed, with a message    2 wrong usage    130 interrupted

Nothing leaves this module as a traceback.
"""

import contextlib
import os
import sys
from collections.abc import Sequence

from didmpc.agent.cli import errors
from didmpc.agent.cli.screen import Screen
from didmpc.protocols.errors import DidmpcError

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status."""
    _open_standard_streams()
    screen = Screen.standard()
    try:
        status = _run(list(sys.argv[1:] if arguments is None else arguments), screen)
        sys.stdout.flush()
    except BrokenPipeError:
        status = FAILED  # whoever read our output has gone; there is nobody to tell
    except KeyboardInterrupt:
        screen.line("Stopped: you pressed Ctrl-C.")
        status = INTERRUPTED
    finally:
        _let_go_of_stdout()
    return status


def _run(arguments: list[str], screen: Screen) -> int:
    try:
        import typer

        from didmpc.agent.cli.app import command

        result = command().main(arguments, prog_name="didmpc", standalone_mode=False)
    except DidmpcError as error:
        errors.report(error, screen, as_json=_wants_json(arguments))
        return errors.exit_status(error)
    except (KeyboardInterrupt, BrokenPipeError):
        raise
    except Exception as problem:
        if errors.is_usage_problem(problem):
            errors.report_usage(problem, screen)
            return USAGE
        if isinstance(problem, typer.Abort):
            raise KeyboardInterrupt from problem
        errors.report_crash(problem, screen, as_json=_wants_json(arguments))
        return FAILED
    if result == INTERRUPTED:
        raise KeyboardInterrupt  # a command that says more about it leaves by SystemExit
    return result if isinstance(result, int) else DONE


def _wants_json(arguments: list[str]) -> bool:
    """Whether `--json` or `--json-lines` was given to us (what follows `--` belongs to a program)."""
    ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in ours or "--json-lines" in ours


def _open_standard_streams() -> None:
    """Fill closed standard streams with the null device, so that no socket of ours takes their number."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, that is this one
            os.set_inheritable(number, True)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def _let_go_of_stdout() -> None:
    """Keep the interpreter from complaining at its end that nobody reads stdout any more."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.close(null)


if __name__ == "__main__":
    sys.exit(main())
