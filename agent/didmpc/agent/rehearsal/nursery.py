"""Agents for a rehearsal, forked from one process: `python -m didmpc.agent.rehearsal.nursery`.

    <- {"folder": str, "names": [str, ...]}      the one line that it reads
    -> {"ready": [home, ...]}                    every agent is ready
    -> {"failed": {"what", "why", "fix"}}        in place of that
    -> {"died": name}                            an agent has ended by itself

It lives as long as its standard input is open. Then all agents and the mediator end, and the folder goes.
"""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from didmpc.agent import daemon
from didmpc.agent.channel.witness import _dies_with
from didmpc.protocols.errors import DidmpcError

READY_WITHIN = 60.0
STOP_WITHIN = 5.0
POLL = 0.05

Facts = dict[str, Any]


def main() -> int:
    """Start everything, say so, and end with whoever started us."""
    spec = json.loads(sys.stdin.readline())
    folder = Path(spec["folder"])
    children: dict[int, str] = {}
    mediator: subprocess.Popen[bytes] | None = None
    try:
        mediator = _start_mediator(folder / "mediator")
        did = _first_line(mediator)["did"]
        homes = _start_agents(folder, spec["names"], did, children)
        _say({"ready": [str(home) for home in homes]})
        _watch(children)
    except DidmpcError as error:
        _say({"failed": {"what": error.what, "why": error.why, "fix": error.fix}})
    finally:
        _stop(children)
        if mediator is not None:
            assert mediator.stdin is not None
            mediator.stdin.close()  # which ends it
            with suppress(subprocess.TimeoutExpired):
                mediator.wait(STOP_WITHIN)
            mediator.kill()
            mediator.wait()
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _start_mediator(home: Path) -> "subprocess.Popen[bytes]":
    home.mkdir(mode=0o700)
    command = (sys.executable, "-m", "didmpc.agent.embedded_child", "start")
    return subprocess.Popen(
        # the limits are against strangers, and here is none
        [*command, "--json", "--home", str(home), "--port", "0", "--limits", "off"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(home / "log").open("wb"),
        start_new_session=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("DIDMPC_")},
    )


def _first_line(mediator: "subprocess.Popen[bytes]") -> Facts:
    assert mediator.stdout is not None
    if select.select([mediator.stdout], [], [], READY_WITHIN)[0]:
        with suppress(ValueError):
            facts: Facts = json.loads(mediator.stdout.readline())
            if "did" in facts:
                return facts
    raise DidmpcError("The mediator of the rehearsal did not start.", fix="didmpc doctor")


def _start_agents(folder: Path, names: Sequence[str], mediator: str, children: dict[int, str]) -> list[Path]:
    waiting: dict[int, str] = {}
    for name in names:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            _be_agent(daemon.StartOptions(home=folder / name, label=name, mediator=mediator), write)
        os.close(write)
        children[pid] = name
        waiting[read] = name
    _await_all(waiting)
    return [folder / name for name in names]


def _await_all(waiting: dict[int, str]) -> None:
    """Until each agent has said that it is ready. Raises what one says in place of that."""
    until = time.monotonic() + READY_WITHIN
    try:
        while waiting:
            for end in select.select([*waiting], [], [], max(0.0, until - time.monotonic()))[0]:
                line = os.read(end, 65536)
                problem = json.loads(line or b'{"what": "It ended without a word."}')
                if problem:
                    why = f"{problem['what']} {problem.get('why', '')}".strip()
                    raise DidmpcError(f"The agent of {waiting[end]} did not start.", why=why)
                del waiting[end]
                os.close(end)
            if time.monotonic() > until:
                raise DidmpcError(f"The agent of {' and '.join(waiting.values())} was not ready in time.")
    finally:
        for end in waiting:
            os.close(end)


def _be_agent(options: daemon.StartOptions, ready: int) -> NoReturn:
    """The rest of a child's life."""
    nursery = os.getppid()
    dies: Callable[[], None] | None = _dies_with(nursery)
    if dies is not None:
        dies()
    os.setsid()
    with open(os.devnull, "r+b") as null:
        for number in (0, 1, 2):
            os.dup2(null.fileno(), number)
    told: list[bool] = []

    def say(problem: Facts) -> None:
        if not told:
            told.append(True)
            os.write(ready, json.dumps(problem).encode())
            os.close(ready)

    status = 1
    try:
        daemon.run(options, on_ready=lambda facts: say({}), on_notice=lambda text: None)
        status = 0
    except DidmpcError as error:
        say({"what": error.what, "why": error.why})
    except BaseException as error:
        say({"what": f"{type(error).__name__}: {error}"})
    os._exit(status)


def _watch(children: dict[int, str]) -> None:
    """Until whoever started us hangs up, or an agent ends."""
    while not select.select([sys.stdin], [], [], POLL)[0]:
        pid, _ = os.waitpid(-1, os.WNOHANG) if children else (0, 0)
        if pid in children:
            _say({"died": children.pop(pid)})


def _stop(children: dict[int, str]) -> None:
    """Politely, then for certain."""
    for number, patience in ((signal.SIGTERM, STOP_WITHIN), (signal.SIGKILL, STOP_WITHIN)):
        for pid in children:
            os.kill(pid, number)
        until = time.monotonic() + patience
        while children and time.monotonic() < until:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            children.pop(pid, None)
            if pid == 0:
                time.sleep(POLL)


def _say(line: Facts) -> None:
    with suppress(BrokenPipeError):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    sys.exit(main())
