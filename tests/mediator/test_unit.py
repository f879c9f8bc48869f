"""The systemd unit that `didmpc mediator unit` prints, and what the mediator tells systemd."""

import asyncio
import os
import re
import shutil
import signal
import socket
from pathlib import Path, PurePosixPath

import pytest
from mediator_parts import PATIENCE, Process
from typer.testing import CliRunner

from didmpc.mediator.cli import app
from didmpc.mediator.host.notify import Notifier
from didmpc.mediator.host.unit import Unit, checked
from didmpc.protocols.errors import LocalMisuse

DIDMPC = Path("/usr/bin/true")
"""systemd-analyze wants an executable that is there."""
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


@needs_systemd
@pytest.mark.parametrize(
    "unit",
    [
        Unit(DIDMPC),
        Unit(DIDMPC, user="didmpc", home=PurePosixPath("/srv/mail of $us at 100%"), port=9000),
        Unit(DIDMPC, port=443, public_url="https://mediator.example.org/a%20b"),
        Unit(DIDMPC, home=PurePosixPath("/var/lib/mail of us")),
    ],
    ids=["default", "own user and home", "low port", "a home whose name is none for a unit"],
)
def test_systemd_finds_no_fault_with_it_and_little_exposure(unit: Unit) -> None:
    said = checked(unit)
    found = re.search(r"Overall exposure level for (\S+): ([0-9.]+) OK", said)
    assert found is not None, said
    assert found[1] == f"{unit.name}.service"
    assert float(found[2]) <= 2.0


@needs_systemd
def test_what_systemd_finds_wrong_is_told() -> None:
    with pytest.raises(LocalMisuse) as refused:
        checked(Unit(Path("/usr/bin/didmpc-that-is-not-there")))
    assert "didmpc-that-is-not-there" in refused.value.why


def test_it_runs_as_a_user_of_its_own_with_a_home_that_systemd_makes() -> None:
    lines = Unit(DIDMPC, public_url="https://m.example").text.splitlines()
    assert "DynamicUser=yes" in lines and "StateDirectory=didmpc-mediator" in lines
    assert (
        "ExecStart=/usr/bin/true mediator start --home /var/lib/didmpc-mediator --public-url https://m.example"
        in lines
    )
    assert "PrivateUsers=yes" in lines and "CapabilityBoundingSet=" in lines
    assert "EnvironmentFile=-/etc/didmpc-mediator.env" in lines  # systemd reads it, and nobody else may


def test_another_home_is_the_only_place_that_its_user_may_write() -> None:
    lines = Unit(DIDMPC, user="didmpc", home=PurePosixPath("/srv/100% $x")).text.splitlines()
    assert "User=didmpc" in lines and "DynamicUser=yes" not in lines
    assert 'ReadWritePaths="/srv/100%% $$x"' in lines
    assert 'ExecStart=/usr/bin/true mediator start --home "/srv/100%% $$x"' in lines
    assert not [line for line in lines if line.startswith("StateDirectory")]


@pytest.mark.parametrize(
    "options",
    [
        {"home": PurePosixPath("/srv/mediator")},
        {"home": PurePosixPath("/home/me/mediator"), "user": "me"},
        {"home": PurePosixPath("/tmp"), "user": "me"},
        {"home": PurePosixPath("mediator"), "user": "me"},
        {"home": PurePosixPath("/srv/../root"), "user": "me"},
        {"user": "me\nExecStartPre=/bin/sh"},
        {"user": "me you"},
        {"public_url": "https://m.example\n[Service]"},
    ],
)
def test_what_could_not_work_or_would_add_lines_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(LocalMisuse):
        Unit(DIDMPC, **options)  # type: ignore[arg-type]


def test_an_installation_that_the_unit_hides_is_warned_of() -> None:
    assert Unit(DIDMPC, needs=(Path("/opt/pipx"),)).warnings == []
    hidden = Unit(Path("/usr/local/bin/didmpc"), needs=(Path("/root/.local/pipx/venvs/didmpc/bin/didmpc"),))
    assert "/root/.local" in hidden.warnings[0] and "PIPX_HOME=/opt/pipx" in hidden.warnings[1]


def test_the_command_prints_a_unit_and_nothing_else_on_stdout() -> None:
    said = CliRunner().invoke(app, ["unit", "--port", "9000"])
    assert said.exit_code == 0
    assert said.stdout.startswith("# Written by: didmpc mediator unit\n")
    assert re.search(
        r"^ExecStart=/.* mediator start --home /var/lib/didmpc-mediator --port 9000$", said.stdout, re.M
    )
    assert said.stdout.endswith("[Install]\nWantedBy=multi-user.target\n")


def listener(path: Path) -> socket.socket:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(path))
    manager.settimeout(PATIENCE)
    return manager


async def test_systemd_is_told_when_it_is_ready_alive_and_stopping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listener(tmp_path / "notify") as manager:
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "100000")
        process = await Process(tmp_path / "m").start("--port", "0")
        said = [await asyncio.to_thread(manager.recv, 100) for _ in range(3)]
        assert said == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
        status, _ = await process.stop(signal.SIGTERM)
        assert status == 0
        manager.setblocking(False)
        while (last := manager.recv(100)) == b"WATCHDOG=1":
            pass
        assert last == b"STOPPING=1"


async def test_without_systemd_nobody_is_told_and_a_watchdog_of_another_process_is_not_ours(
    tmp_path: Path,
) -> None:
    for environment in (
        {},
        {"WATCHDOG_USEC": "1000"},
        {"NOTIFY_SOCKET": str(tmp_path / "x"), "WATCHDOG_USEC": "1000", "WATCHDOG_PID": str(os.getpid() + 1)},
        {"NOTIFY_SOCKET": "relative", "WATCHDOG_USEC": "nonsense"},
    ):
        notifier = Notifier(environment)
        notifier.ready()
        async with asyncio.timeout(PATIENCE):
            await notifier.stay_alive()


def test_a_socket_without_a_path_is_reached_too() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("")  # the kernel chooses a name that begins with NUL
        manager.settimeout(PATIENCE)
        Notifier({"NOTIFY_SOCKET": "@" + manager.getsockname()[1:].decode()}).ready()
        assert manager.recv(100) == b"READY=1"
