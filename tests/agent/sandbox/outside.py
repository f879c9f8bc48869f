"""Plays the agent, as whoever runs it: makes what can be harmed, and runs a hostile program beside it.

outside.py MECHANISM FOLDER     prints what the program said, as one line of JSON
"""

import json
import os
import pty
import socket
import subprocess
import sys
import time
from pathlib import Path

from didmpc.agent.sandbox.choice import policy_for
from didmpc.agent.sandbox.policy import MIB, Limits, Mechanism
from didmpc.agent.sandbox.start import lay_out, start

LIMITS = Limits(memory=2048 * MIB, file=MIB, threads=64)


def main() -> None:
    mechanism, folder = Mechanism(sys.argv[1]), Path(sys.argv[2])
    home, bundle, output, outside = (
        folder / name for name in ("home", "run/bundle", "run/output", "outside")
    )
    for made in (home, bundle, outside):
        made.mkdir(parents=True, mode=0o700)
    for path in (home / "wallet.key", folder / "input.txt", outside / "scratch", bundle / "program.py"):
        path.write_text("private")
        path.chmod(0o600)
    os.link(home / "wallet.key", outside / "hardlink")
    lay_out(bundle, output)
    victim = subprocess.Popen(["/bin/sleep", "600"], cwd=home, start_new_session=True)
    mediator = socket.create_server(("127.0.0.1", 0))
    control = socket.socket(socket.AF_UNIX)
    control.bind(str(folder / "agent.sock"))
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0didmpc-test-{os.getpid()}")
    datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    datagrams.bind(f"\0didmpc-test-datagrams-{os.getpid()}")
    for each in (control, abstract):
        each.listen()
    stray = os.open(home / "wallet.key", os.O_RDONLY)
    os.set_inheritable(stray, True)
    _terminal, slave = pty.openpty()
    temporary = [Path(place, f"didmpc-hostile-{os.getpid()}") for place in ("/tmp", "/dev/shm")]
    targets = {
        "key": str(home / "wallet.key"),
        "home": str(home),
        "input": str(folder / "input.txt"),
        "outside": str(outside),
        "scratch": str(outside / "scratch"),
        "hardlink": str(outside / "hardlink"),
        "bundle": str(bundle),
        "own_in_bundle": str(bundle / "program.py"),
        "victim": victim.pid,
        "group": os.getpgrp(),
        "port": mediator.getsockname()[1],
        "control": str(folder / "agent.sock"),
        "abstract": f"didmpc-test-{os.getpid()}",
        "datagrams": f"didmpc-test-datagrams-{os.getpid()}",
        "temporary": [str(path) for path in temporary],
        "memory": LIMITS.memory,
        "file": LIMITS.file,
        "threads": LIMITS.threads,
    }
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ["PYTHONPATH"],
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if mechanism is Mechanism.NONE:
        environment["DIDMPC_HOME"] = str(home)
    began = time.perf_counter()
    with start(
        policy_for(mechanism, bundle, output, LIMITS),
        "hostile",
        [json.dumps(targets)],
        environment=environment,
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as program:
        said, errors = program.communicate(timeout=120)
    found = (
        json.loads(said)
        if program.returncode == 0
        else {"died": program.returncode, "errors": errors.decode()}
    )
    found["victim_lives"] = victim.poll() is None
    victim.kill()
    victim.wait()
    found["planted"] = [str(path) for path in temporary if path.exists()]
    for path in temporary:
        path.unlink(missing_ok=True)
    found["seconds"] = time.perf_counter() - began
    found["result"] = (output / "result.txt").read_text() if (output / "result.txt").exists() else None
    found["scratch"] = (outside / "scratch").exists() and (outside / "scratch").read_text()
    found["mode"] = (outside / "scratch").exists() and (outside / "scratch").stat().st_mode & 0o777
    print(json.dumps(found))


main()
