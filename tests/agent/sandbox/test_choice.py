"""Which sandbox is used: the better one that works, and none only where a person has said so."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from didmpc.agent.sandbox import choice, landlock, readable
from didmpc.agent.sandbox.policy import Limits, Mechanism, Policy
from didmpc.agent.sessions.confinement import Confinement
from didmpc.protocols.errors import DidmpcError

from .conftest import problem_of


@pytest.fixture
def no_bubblewrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def no_sandbox(no_bubblewrap: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 1)


def test_the_better_one_is_chosen(tmp_path: Path) -> None:
    if problem := problem_of(Mechanism.BUBBLEWRAP):
        pytest.skip(problem)
    found = choice.choose(tmp_path)
    assert found == choice.Choice(Mechanism.BUBBLEWRAP) and found


@pytest.mark.usefixtures("no_bubblewrap")
def test_where_it_is_missing_the_next_one_is_chosen_with_a_word_on_how_to_get_it(tmp_path: Path) -> None:
    if problem := problem_of(Mechanism.LANDLOCK):
        pytest.skip(problem)
    found = choice.choose(tmp_path)
    assert found.mechanism is Mechanism.LANDLOCK
    assert "not installed" in found.why and "apt install bubblewrap" in found.fix


def test_a_bubblewrap_that_does_not_work_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = choice.choose(tmp_path)
    assert found.mechanism is not Mechanism.BUBBLEWRAP
    assert "No permissions" in found.why and "user namespaces" in found.fix


def test_a_bubblewrap_that_locks_nothing_in_is_found_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One that runs what it is given, with a program that does not filter its calls."""
    broken = tmp_path / "bwrap"
    broken.write_text('#!/bin/sh\nshift 3\nexec "$@"\n')
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "files stay readable" in choice.attempt(Mechanism.BUBBLEWRAP)


@pytest.mark.usefixtures("no_sandbox")
async def test_without_any_a_script_must_say_so(tmp_path: Path) -> None:
    confinement = Confinement(tmp_path)
    with pytest.raises(DidmpcError) as caught:
        await confinement.for_run({})
    assert "--no-sandbox" in caught.value.fix and "your files" in caught.value.why
    typed = await confinement.for_run({"no_sandbox": True})
    assert typed.agreed({"consent": True}) is Mechanism.NONE
    assert typed.facts()["sandbox_refused"] is True


@pytest.mark.usefixtures("no_sandbox")
async def test_without_any_a_person_must_agree_to_that(tmp_path: Path) -> None:
    place = await Confinement(tmp_path).for_run({"asks": True})
    facts = place.facts()
    assert (facts["sandbox"], facts["sandbox_refused"]) == ("none", False) and facts["sandbox_why"]
    with pytest.raises(DidmpcError, match="no sandbox"):
        place.agreed({"consent": True})
    assert place.agreed({"consent": True, "no_sandbox": True}) is Mechanism.NONE


def test_a_home_where_python_finds_modules_cannot_be_kept_secret(tmp_path: Path) -> None:
    read = (Path("/usr"), tmp_path / "project")
    assert readable.exposed(read, tmp_path / "home") == ""
    assert str(tmp_path / "project") in readable.exposed(read, tmp_path / "project" / "home")
    assert readable.exposed((Path.home(),), tmp_path)


def test_the_folder_that_an_agent_was_started_in_is_not_readable(tmp_path: Path) -> None:
    code = "from didmpc.agent.sandbox import readable; print(*readable.interpreter(), sep='\\n')"
    (tmp_path / "print_them.py").write_text(code)
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-m", "print_them"],
        cwd=tmp_path,
        env={"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    found = [Path(line) for line in done.stdout.splitlines()]
    assert Path("/usr") in found and tmp_path.resolve() not in found
    assert not [path for path in found if path in tmp_path.resolve().parents]


def test_a_policy_comes_through_as_it_was() -> None:
    policy = Policy(Mechanism.LANDLOCK, Path("/b"), Path("/o"), (Path("/usr"),), 61184, Limits(memory=1))
    assert Policy.from_json(policy.to_json()) == policy
