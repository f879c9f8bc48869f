"""Running the agent: here, or in a process of its own that outlives this terminal.

The background process is `python -m didmpc.agent.cli.background`. It gets its options, with the passphrase,
as one line of JSON through a pipe (a command line or an environment could be read by others), and reports
`{"notice"}`, `{"ready"}` or `{"error"}` lines through another.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from didmpc.agent.wallet.home import Home
from didmpc.protocols.errors import DidmpcError

READY_WITHIN = 60.0
LONGEST_LINE = 1024 * 1024

Facts = dict[str, Any]


def serve(options: Facts, *, on_ready: Callable[[Facts], None], on_notice: Callable[[str], None]) -> int:
    """Be the agent until it is told to stop; returns the exit status."""
    from didmpc.agent.daemon import StartOptions, run

    ended_by = run(
        StartOptions(
            home=Path(options["home"]),
            label=options["label"],
            mediator=options["mediator"],
            passphrase=options["passphrase"],
            link=options.get("link"),
        ),
        on_ready=on_ready,
        on_notice=on_notice,
    )
    return 130 if ended_by is signal.SIGINT else 0


def start(
    options: Facts, home: Home, *, on_ready: Callable[[Facts], None], on_notice: Callable[[str], None]
) -> None:
    """Start an agent in the background and return when it is ready."""
    home.prepare()
    log = os.open(home.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "didmpc.agent.cli.background"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(log)
    assert process.stdin is not None and process.stdout is not None
    try:
        with process.stdin as pipe:
            pipe.write(json.dumps(options).encode() + b"\n")
        with process.stdout as reports:
            _follow(reports.fileno(), home, on_ready, on_notice)
    except BaseException:
        process.terminate()  # also when this command is interrupted: nothing half started is left behind
        raise


def _follow(
    reports: int, home: Home, on_ready: Callable[[Facts], None], on_notice: Callable[[str], None]
) -> None:
    """Pass on what the background process says until it is ready."""
    import select
    import time

    deadline = time.monotonic() + READY_WITHIN
    buffer = b""
    while True:
        while b"\n" in buffer:
            line, buffer = buffer.split(b"\n", 1)
            report = json.loads(line)
            if "notice" in report:
                on_notice(report["notice"])
            elif "error" in report:
                error = DidmpcError(**report["error"])
                error.exit_code = report.get("exit", 1)  # type: ignore[attr-defined]
                raise error
            else:
                on_ready(report["ready"])
                return
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([reports], [], [], left)[0]:
            raise DidmpcError(
                f"The agent was not ready within {READY_WITHIN:.0f} s and was stopped.", fix=f"See {home.log}"
            )
        received = os.read(reports, 65536)
        if not received or len(buffer) > LONGEST_LINE:
            raise DidmpcError("The agent ended before it was ready.", fix=f"See {home.log}")
        buffer += received


def main() -> int:
    """The background process."""
    options = json.loads(sys.stdin.buffer.readline())
    reports = os.dup(1)
    os.set_inheritable(reports, False)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(null, stream)
    listening = True

    def report(content: Facts) -> None:
        nonlocal listening
        if not listening:
            return
        try:
            os.write(reports, json.dumps(content).encode() + b"\n")
        except BrokenPipeError:
            listening = False

    def ready(facts: Facts) -> None:
        nonlocal listening
        report({"ready": facts})
        listening = False
        os.close(reports)

    try:
        return serve(options, on_ready=ready, on_notice=lambda text: report({"notice": text}))
    except DidmpcError as error:
        from didmpc.agent.cli.errors import described, exit_status

        report({"error": described(error), "exit": exit_status(error)})
        return exit_status(error)


if __name__ == "__main__":
    sys.exit(main())
