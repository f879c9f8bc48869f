"""Programs from elsewhere: a git repository at a commit, a demo by name; and what they say of themselves."""

import shutil
import subprocess
from pathlib import Path

import pytest

from didmpc.agent.program import about, repository, shipped
from didmpc.agent.program.bundle import Bundle
from didmpc.agent.program.imports import needed_modules
from didmpc.agent.sessions import sources
from didmpc.protocols.errors import DidmpcError, LocalMisuse, MessageError
from didmpc.protocols.mpc.statement import Ask, Statement

ROOT = Path(__file__).parents[3]
COMMIT = "a" * 40
TOUCHED = "touched-by-a-hook-or-filter"


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A repository with a program, and with whatever git might run or follow; its URL and commit."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    place = tmp_path_factory.mktemp("repository")
    folder = place / "programs"
    (folder / "data").mkdir(parents=True)
    (folder / "sum.py").write_text('"""The sum."""\nimport helper\n')
    (folder / "helper.py").write_text("")
    (folder / "sum.didmpc.toml").write_text('learns = "the sum"\n')
    (folder / "data" / "table.csv").write_text("1\n")
    (folder / "data" / "secrets").symlink_to("/etc/passwd")
    (folder / "elsewhere.py").symlink_to("/etc/passwd")
    (place / ".gitattributes").write_text("*.py filter=evil\n")
    (place / ".gitmodules").write_text('[submodule "x"]\n path = x\n url = ext::touch x\n')
    git(place, "init", "-q")
    git(place, "add", "-A")
    git(place, "commit", "-qm", "x")
    hook = place / ".git" / "hooks" / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {place / TOUCHED}\n")
    hook.chmod(0o755)
    git(place, "config", "filter.evil.smudge", f"touch {place / TOUCHED}")
    return f"file://{place}", git(place, "rev-parse", "HEAD")


async def test_a_program_is_fetched_at_its_commit_and_nothing_of_the_repository_runs(
    hostile: tuple[str, str],
) -> None:
    url, commit = hostile
    program = await sources.find(f"git+{url}@{commit}#programs/sum.py")
    paths = [file.path for file in program.bundle.files]
    assert paths == ["data/table.csv", "helper.py", "sum.didmpc.toml", "sum.py"]
    assert program.source == {
        "kind": "git",
        "repository": url,
        "commit": commit,
        "path": "programs/sum.py",
    }
    assert (program.statement.by, program.statement.learns) == ("program", "the sum")
    assert not (Path(url.removeprefix("file://")) / TOUCHED).exists()


async def test_a_commit_or_file_that_is_not_there_is_named(hostile: tuple[str, str]) -> None:
    url, commit = hostile
    with pytest.raises(DidmpcError, match="no commit aaaaaaaaaaaa"):
        await sources.find(f"git+{url}@{COMMIT}#programs/sum.py")
    with pytest.raises(DidmpcError, match=r"no file programs/other\.py"):
        await sources.find(f"git+{url}@{commit}#programs/other.py")
    with pytest.raises(DidmpcError, match="cannot be fetched") as caught:
        await sources.find(f"git+file:///no/such/repository@{COMMIT}#x.py")
    assert "git says" in caught.value.why


async def test_without_git_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(LocalMisuse, match="git is not installed") as caught:
        await repository.fetch(repository.Place("https://example.org/x", COMMIT, "x.py"))
    assert "apt install git" in caught.value.fix


@pytest.mark.parametrize(
    "typed",
    [
        "git+https://example.org/x.git#x.py",
        "git+https://example.org/x.git@main#x.py",
        f"git+https://example.org/x.git@{COMMIT[:39]}#x.py",
        f"git+https://example.org/x.git@{COMMIT}#../x.py",
        f"git+https://example.org/x.git@{COMMIT}#-x.py",
        f"git+https://example.org/x.git@{COMMIT}#x.sh",
        f"git+http://example.org/x.git@{COMMIT}#x.py",
        f"git+git://example.org/x.git@{COMMIT}#x.py",
        f"git+ext::sh -c id@{COMMIT}#x.py",
        f"git+https://me:password@example.org/x.git@{COMMIT}#x.py",
        f"git+https://token@example.org/x.git@{COMMIT}#x.py",
        f"git+ssh://-oProxyCommand=id/x.git@{COMMIT}#x.py",
        f"git+file://elsewhere/x.git@{COMMIT}#x.py",
    ],
)
def test_what_names_no_commit_or_another_protocol_is_refused(typed: str) -> None:
    with pytest.raises(LocalMisuse):
        repository.Place.parse(typed)


async def test_whoever_joins_fetches_no_local_repository_that_a_host_names() -> None:
    source = {"kind": "git", "repository": "file:///home/victim/x", "commit": COMMIT, "path": "x.py"}
    with pytest.raises(LocalMisuse, match="cannot fetch this program"):
        await sources.fetch_again(source)


# -- demos ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("demo", shipped.demos(), ids=lambda demo: demo.name)
async def test_every_demo_says_what_it_does(demo: shipped.Demo) -> None:
    program = await sources.find(f"demo:{demo.name}")
    said = program.statement
    assert said.by == "program" and demo.title
    roles = set(said.seats(5, 2)) if said.roles else {""}
    assert all(said.learned_by(role) and said.asks_of(role).kind != "unknown" for role in roles)
    sources.check_stated(program.bundle, said)
    for path in sorted((ROOT / "demos" / "inputs" / demo.name).glob("*")):
        said.asks_of("rich").check(path.read_bytes())


def test_a_demo_that_there_is_not_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(LocalMisuse) as caught:
        shipped.find("demo:nothing")
    assert "salary" in caught.value.why


def test_the_demos_are_in_the_package_that_is_built() -> None:
    built = (ROOT / "pyproject.toml").read_text()
    assert '"demos" = "didmpc/agent/demos"' in built
    assert shipped.folder() == ROOT / "demos"


# -- what programs say ---------------------------------------------------------------------------------


def test_a_program_without_a_word_about_it_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("")
    bundle = Bundle.collect(tmp_path / "a.py")
    assert about.statement_of(bundle.entry, bundle.contents) == Statement()


@pytest.mark.parametrize(
    "text",
    [
        "learns = 3",
        "what = 'x'",
        "asks = 'a horse'",
        "asks = { kind = 'csv', size = 1 }",
        "roles = 3",
        "[roles.x]\nlearns = 'y'",
        "[roles.x]\npids = '0'\ncolour = 'red'",
        "parties = { least = 0 }",
        "learns = '''two\nlines'''",
        "= broken",
        "x = " + "[" * 5000,
    ],
)
def test_a_file_that_says_it_wrong_is_refused_by_name(text: str) -> None:
    with pytest.raises(MessageError, match=r"a\.didmpc\.toml cannot be read"):
        about.read("a.didmpc.toml", text.encode(), by="program")


@pytest.mark.parametrize(
    ("typed", "ask"),
    [
        ("number", Ask("number")),
        ("number: your salary", Ask("number", "your salary")),
        ("csv(age, weight): patients", Ask("csv", "patients", ("age", "weight"))),
        ("nothing", Ask("nothing")),
        ("your last will: all of it", Ask("any", "your last will: all of it")),
    ],
)
def test_what_a_host_types_for_asks(typed: str, ask: Ask) -> None:
    assert about.ask_from(typed) == ask


def test_a_statement_that_is_not_the_programs_own_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("")
    (tmp_path / "a.didmpc.toml").write_text('learns = "the sum"')
    bundle = Bundle.collect(tmp_path / "a.py")
    for lie in (Statement(), Statement("program", "nothing"), Statement("host", "the sum")):
        with pytest.raises(MessageError, match="says otherwise"):
            sources.check_stated(bundle, lie)


# -- what programs need --------------------------------------------------------------------------------


def test_needed_are_modules_that_are_imported_first_and_numpy_for_arrays() -> None:
    contents = {
        "a.py": b"import sys, pandas\nimport b\ntry:\n    import maybe\nexcept ImportError: pass\n",
        "b.py": b"from mpyc.runtime import mpc\ndef f():\n    import later\n    return mpc.np_sum(1)\n",
        "unused.py": b"import never\n",
    }
    assert needed_modules("a.py", contents) == ("mpyc", "numpy", "pandas", "sys")
    assert needed_modules("a.py", {"a.py": b"\xff("}) == ()
