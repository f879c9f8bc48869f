"""What every command keeps to: exit statuses, a clean stdout, one JSON object, never a traceback."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer._completion_shared import get_completion_script

from .conftest import PATIENCE, SCRIPT

COMMANDS = [
    ["agent", "start"],
    ["agent", "status"],
    ["agent", "stop"],
    ["agent", "did"],
    ["invite"],
    ["accept"],
    ["contacts"],
    ["ping"],
    ["demos"],
    ["run"],
    ["join"],
    ["sessions"],
    ["session", "show"],
    ["session", "trust"],
    ["session", "trusted"],
    ["session", "forget"],
    ["session", "verify"],
    ["session", "receipt"],
    ["verify"],
    ["doctor"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_each_command_teaches_with_an_example(typed, command):
    result = typed(*command, "--help")
    assert result.status == 0
    shown = result.out.decode()
    assert "Example" in shown
    assert f"didmpc {' '.join(command)}" in shown.split("Example")[1]


def test_help_lists_the_commands_in_the_order_a_newcomer_needs(typed):
    shown = typed("--help").out.decode()
    places = [shown.index(f"│ {command[-1] if len(command) == 1 else command[0]}") for command in COMMANDS]
    assert places == sorted(places)
    assert shown.index("│ doctor") < shown.index("│ mediator")


def test_version_is_alone_on_stdout(didmpc):
    result = didmpc("--version")
    assert result.status == 0
    assert result.out.startswith(b"didmpc ")
    assert result.out.count(b"\n") == 1


@pytest.mark.parametrize("command", [[], ["agent"]], ids=["didmpc", "didmpc agent"])
def test_a_missing_command_shows_help_as_a_mistake(typed, command):
    result = typed(*command)
    assert (result.status, result.out) == (2, b"")
    assert "Usage" in result.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["mediator"],
        ["mediator", "nonsense"],
        ["invite", "--nonsense"],
        ["invite", "--expires", "yesterday"],
        ["invite", "--expires", "0s"],
        ["invite", "--uses", "0"],
        ["invite", "--file", "/does/not/exist/link.txt"],
        ["accept"],
        ["accept", "https://example.org/", "--as", "a,b"],
        ["ping"],
        ["ping", "bob", "--count", "0"],
        ["run"],
        ["run", "missing.py", "--yes"],
        ["run", ".", "--yes"],
        ["run", "program.py", "--yes", "--threshold", "-1"],
        ["run", "program.py", "--yes", "--mode", "fast"],
        ["run", "program.py", "--yes", "--wait", "0"],
        ["run", "program.py", "--yes", "--with", "a,,b"],
        ["run", "program.py", "--yes", "--with", "a,a"],
        ["run", "program.py", "--yes", "--with", "a,b", "--threshold", "2"],
        ["run", "program.py", "--yes", "--input", "missing.txt"],
        ["run", "program.py", "--yes", "--input", "/dev/null"],
        ["run", "program.py", "--yes", "bob"],
        ["run", "program.py", "--yes", "--role", "bob"],
        ["run", "program.py", "--yes", "--role", "bob=a,bob=b"],
        ["run", "program.py", "--yes", "--about", "missing.toml"],
        ["run", "program.py", "--yes", "--receipt", "/proc/receipt.json"],
        ["run", "program.py", "--yes", "--output", "/proc/results"],
        ["run", "program.py", "--yes", "--parties", "3", "--invitation-file", "/proc/link"],
        ["join", "--yes", "--receipt", "no folder/receipt.json"],
        ["rehearse", "missing.py"],
        ["session", "trust", "missing.py"],
        ["join", "--yes", "--program", "missing.py"],
        ["join", "--yes", "--wait", "soon"],
        ["agent", "start", "--label", ""],
        ["agent", "start", "--mediator", "no such file"],
        ["agent", "start", "--passphrase-file", "-"],
        ["agent", "start", "--passphrase-file", "missing.txt"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_told_with_status_2(typed, arguments):
    Path("program.py").write_text("print(1)\n")
    result = typed(*arguments)
    assert (result.status, result.out) == (2, b""), result.err
    assert result.err.strip()


@pytest.mark.parametrize(
    "command",
    [
        ["agent", "status"],
        ["agent", "stop"],
        ["agent", "did"],
        ["invite"],
        ["contacts"],
        ["ping", "bob"],
        ["sessions"],
        ["session", "show"],
        ["session", "verify"],
        ["session", "receipt"],
    ],
    ids=" ".join,
)
def test_without_an_agent_the_next_command_is_named(typed, command):
    result = typed(*command)
    assert (result.status, result.out) == (1, b"")
    assert "didmpc agent start" in result.err


def test_a_failure_with_json_is_one_json_object_too(didmpc):
    result = didmpc("contacts", "--json")
    assert result.status == 1
    assert result.json["ok"] is False
    assert "didmpc agent start" in result.json["error"]["fix"]


def test_the_flag_goes_before_the_environment(didmpc, tmp_path):
    result = didmpc("contacts", "--home", str(tmp_path / "elsewhere"))
    assert "elsewhere" in result.err


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ('label = "Alice\n', "TOML"),
        ("lable = 'Alice'\n", "lable"),
        ("wait = true\n", "whole number"),
        ("wait = 0\n", "whole number"),
        ("#" * 70_000, "longer"),
        ("\xff", "TOML"),
    ],
)
def test_a_broken_settings_file_is_named(didmpc, agent, content, word):
    (didmpc.home / "config.toml").write_bytes(content.encode("latin-1"))
    result = didmpc("join", "--yes")
    assert result.status in {1, 2}
    assert word in result.err
    assert "config.toml" in result.err


def test_settings_come_from_flag_then_environment_then_file(didmpc, agent):
    (didmpc.home / "config.toml").write_text("wait = 30\n")
    agent.methods["join"] = lambda conversation, params: conversation.error("Nobody proposed anything.")
    didmpc("join", "--yes")
    didmpc("join", "--yes", env={"DIDMPC_WAIT": "20"})
    didmpc("join", "--yes", "--wait", "10", env={"DIDMPC_WAIT": "20"})
    assert [params["wait"] for _, params in agent.requests] == [30, 20, 10]


def test_a_bug_is_named_in_one_line_and_kept_in_a_private_file(didmpc, agent):
    agent.answers("invite", nothing="of use")
    result = didmpc("invite")
    assert (result.status, result.out) == (1, b"")
    log = didmpc.home / "crash.log"
    assert "(KeyError)" in result.err
    assert str(log) in result.err
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert "Traceback" in log.read_text()


def test_closed_standard_streams_harm_nothing(didmpc, agent):
    agent.answers("contacts", contacts=[])
    close = "import os, sys; [os.close(i) for i in (0, 1, 2)]; os.execv(sys.argv[1], sys.argv[1:])"
    script = didmpc.start("--version").args[0]
    done = subprocess.run(
        [sys.executable, "-c", close, script, "contacts", "--json"],
        env=didmpc.environment,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0


def test_a_reader_that_went_away_is_no_traceback(didmpc, agent):
    agent.answers("agent did")
    agent.answers("did", did="did:peer:4" + "z" * 100)
    reading, writing = os.pipe()
    os.close(reading)
    result = didmpc("agent", "did", stdout=writing)
    os.close(writing)
    assert result.status == 1


def test_a_plain_command_imports_nothing_heavy(didmpc, agent):
    agent.answers("contacts", contacts=[{"name": "Bob", "did": "did:peer:4zQm", "label": "Bob", "since": 1}])
    code = (
        "import json, sys; from didmpc.agent.cli.main import main; status = main(['contacts', '--json']);"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=didmpc.environment,
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    heavy = {"rich", "asyncio", "cryptography", "aiohttp", "mpyc", "pydid", "segno", "didmpc.mediator.cli"}
    assert not heavy & set(json.loads(done.stderr))


def test_completion_offers_contact_names(didmpc, agent):
    agent.answers("contacts", contacts=[{"name": "Bob"}, {"name": "Bea"}, {"name": "Carol"}])

    def offered(line: str) -> list[str]:
        words = line.split(" ")
        asked = {"_DIDMPC_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
        return didmpc(env=asked).out.decode().split()

    assert offered("didmpc ping B") == ["Bob", "Bea"]
    assert offered("didmpc run x.py --with Bob,") == ["Bob,Bea", "Bob,Carol"]
    assert "invite" in offered("didmpc i")
    agent.answers("sessions", sessions=[{"attempt": "3fa2c1d0e5", "program": "a.py"}, {"attempt": "77" * 16}])
    assert offered("didmpc session show ") == ["3fa2c1d0", "77777777"]


HOSTILE = (r"\$(touch wrong)", "`touch wrong`", "$(touch wrong)", "*", "it's", 'a "b', "-y", "a;b", "a\\")


def test_no_name_that_a_peer_chose_means_anything_to_a_shell(didmpc, agent):
    """In zsh typer's script evaluates what is offered, and bash puts it into the command line as it is."""
    names = [*HOSTILE, "Alice Smith", "Zoë", "bob@example.org"]
    agent.answers("contacts", contacts=[{"name": name} for name in names])
    for shell, alice in (("zsh", '"Alice Smith"'), ("fish", "Alice Smith"), ("bash", r"Alice\ Smith")):
        asked = {"_DIDMPC_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": "didmpc ping "}
        words = {"COMP_WORDS": "didmpc ping ", "COMP_CWORD": "2", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
        said = didmpc(env=asked | words).out.decode()
        assert alice in said and "Zoë" in said
        assert len(said.splitlines()) == 3, said


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_completion_in_a_real_bash(didmpc, agent):
    agent.answers("contacts", contacts=[{"name": name} for name in ("Alice Smith", "Bob", *HOSTILE)])
    script = get_completion_script(prog_name="didmpc", complete_var="_DIDMPC_COMPLETE", shell="bash")
    (didmpc.folder / "a file").touch()
    lines = """
        shows() { printf '<%s>' "${COMPREPLY[@]}"; }
        tab() { COMP_WORDS=("$@") COMP_CWORD=2; _didmpc_completion "$DIDMPC"; shows; }
        tab didmpc ping ''
        tab didmpc join --fro
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", f"{script}\n{lines}"],
        env={**didmpc.environment, "DIDMPC": str(SCRIPT)},
        cwd=didmpc.folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert (done.stdout, done.stderr) == (r"<Alice\ Smith><Bob><--from>", "")
    assert [path.name for path in didmpc.folder.iterdir() if path.is_file()] == ["a file"]


def test_completion_is_quiet_without_an_agent(didmpc):
    asked = {"_DIDMPC_COMPLETE": "complete_bash", "COMP_WORDS": "didmpc ping B", "COMP_CWORD": "2"}
    result = didmpc(env=asked)
    assert (result.out.strip(), result.err) == (b"", "")


def test_completion_can_be_shown(didmpc):
    result = didmpc("--show-completion", env={"SHELL": "/bin/bash"})
    if result.status == 0:  # it asks the process tree which shell it is in
        assert b"_DIDMPC_COMPLETE" in result.out
