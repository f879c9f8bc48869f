"""Programs that are locked in, beside what they could harm: as root where we are root, and as nobody."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from didmpc.agent.sandbox import choice
from didmpc.agent.sandbox.policy import Mechanism

HERE = Path(__file__).parent
NOBODY = 65534
Outside = Callable[[Mechanism], dict[str, Any]]


@cache
def problem_of(mechanism: Mechanism) -> str:
    return choice.problem_of(mechanism)


@pytest.fixture(params=[Mechanism.BUBBLEWRAP, Mechanism.LANDLOCK])
def mechanism(request: pytest.FixtureRequest) -> Mechanism:
    """Each of the two that works here."""
    if problem := problem_of(request.param):
        pytest.skip(problem)
    return request.param


def search_path() -> str:
    """Where modules are found: ours, and those that play the hostile program."""
    roots = [path for path in sys.path if (Path(path) / "didmpc").is_dir() or path.endswith("site-packages")]
    return os.pathsep.join([str(HERE / "inside"), *dict.fromkeys(roots)])


@pytest.fixture(params=["root", "nobody", "this user"])
def user(request: pytest.FixtureRequest) -> list[str]:
    """The beginning of a command line that runs Python as this user."""
    root = os.geteuid() == 0
    if root is (request.param == "this user"):
        pytest.skip("we are root" if root else "we are not root")
    if request.param == "nobody":
        return as_nobody()
    return [sys.executable]


def as_nobody() -> list[str]:
    """The same for somebody without any rights, where we are root."""
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    for python in (sys.executable, "/usr/bin/python3"):
        test = [
            *become,
            "env",
            f"PYTHONPATH={search_path()}",
            python,
            "-c",
            "import didmpc.agent.sandbox.start",
        ]
        if subprocess.run(test, capture_output=True, check=False, cwd="/").returncode == 0:
            return [*become, python]
    pytest.skip("no Python here that nobody may run")


@pytest.fixture
def unprivileged() -> list[str]:
    return as_nobody() if os.geteuid() == 0 else [sys.executable]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that whoever we become can reach; pytest's own is for us alone."""
    folder = Path(tempfile.mkdtemp(prefix="didmpc-hostile-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def run_outside(python: list[str], mechanism: Mechanism, place: Path) -> dict[str, Any]:
    """Run `outside.py` as that user."""
    if python[0] == "setpriv":
        os.chown(place, NOBODY, NOBODY)
    command = [*python, "-B", str(HERE / "outside.py"), mechanism.value, str(place)]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": search_path(), "HOME": str(place)}
    done = subprocess.run(
        command, env=environment, cwd="/", capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found
