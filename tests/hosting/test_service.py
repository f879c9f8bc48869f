"""`pipx install` and `didmpc mediator unit` on a Debian of its own, booted by its own systemd."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from environments import ROOT, missing
from hosting_parts import compute_together, debian, free_port, ran

from didmpc.bench.cluster import Cluster, Mediator, Started

pytestmark = pytest.mark.hosting

PACKAGES = ("python3", "python3-venv", "pipx", "ca-certificates", "systemd", "systemd-sysv", "dbus")
PIPX = {
    "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "PIPX_HOME": "/opt/pipx",
    "PIPX_BIN_DIR": "/usr/local/bin",
}
SERVICE = "didmpc-mediator"
HOME = f"/var/lib/{SERVICE}"
CONTACT = "Example Ltd, privacy@example.org"
BOOT_WITHIN = 120.0
POWER_OFF = signal.SIGRTMIN + 4
"""To systemd (systemd(1), "Signals")."""


@dataclass(frozen=True)
class Machine:
    """A booted Debian; its network is that of this machine."""

    leader: int
    """Its systemd, as this machine numbers processes."""
    url: str
    exposure: str

    def run(self, *command: str) -> str:
        return ran("nsenter", f"--target={self.leader}", "--all", *command)

    def service(self, name: str) -> str:
        return self.run("systemctl", "show", f"--property={name}", "--value", SERVICE).strip()

    def until(self, condition: str, *command: str) -> str:
        """Wait until what a command says matches."""
        until = time.monotonic() + BOOT_WITHIN
        said = "nothing"
        while time.monotonic() < until:
            with suppress(AssertionError):
                if re.search(condition, said := self.run(*command)):
                    return said
            time.sleep(0.2)
        raise AssertionError(f"{command} never said {condition}, but {said}")


def children(pid: int) -> list[int]:
    return [
        int(each)
        for file in Path(f"/proc/{pid}/task").glob("*/children")
        for each in file.read_text().split()
    ]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    if why := missing("debootstrap", "systemd-nspawn", "nsenter"):
        pytest.skip(why)
    if os.geteuid() != 0:
        pytest.skip("to boot another system needs root")
    place = tmp_path_factory.mktemp("machine")
    root = place / "root"
    root.mkdir()
    ran("tar", "-C", root, "-xf", debian("service", *PACKAGES))
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    ran(*pip, "--wheel-dir", root / "opt", ROOT)
    (wheel,) = (root / "opt").glob("didmpc-*.whl")
    inside = ("chroot", root, "env", *(f"{name}={value}" for name, value in PIPX.items()))
    ran(*inside, "pipx", "install", f"/opt/{wheel.name}")
    url = f"http://127.0.0.1:{free_port()}"
    unit = subprocess.run(
        [*map(str, inside), "didmpc", "mediator", "unit", "--check", "--public-url", url, "--port", url[17:]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert unit.returncode == 0, unit.stderr
    units = root / "etc" / "systemd" / "system"
    (units / f"{SERVICE}.service").write_text(unit.stdout)
    override = units / f"{SERVICE}.service.d"
    override.mkdir()
    (override / "sooner.conf").write_text("[Service]\nWatchdogSec=3\n")
    environment = root / "etc" / f"{SERVICE}.env"
    environment.touch(mode=0o600)
    environment.write_text(f'DIDMPC_MEDIATOR_CONTACT="{CONTACT}"\n')
    ran(*inside, "systemctl", "enable", SERVICE)
    name = f"didmpc-{os.getpid()}"
    with (place / "console").open("wb") as console:
        booted = subprocess.Popen(
            [
                "systemd-nspawn",
                "--directory",
                str(root),
                "--boot",
                "--register=no",
                "--keep-unit",
                f"--machine={name}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
        )
    until = time.monotonic() + BOOT_WITHIN
    while not (leaders := children(booted.pid)):
        assert booted.poll() is None and time.monotonic() < until, (place / "console").read_text(
            errors="replace"
        )
        time.sleep(0.05)
    machine = Machine(leaders[0], url, unit.stderr)
    try:
        machine.until("^active", "systemctl", "is-active", SERVICE)
        yield machine
    finally:
        os.kill(machine.leader, POWER_OFF)
        try:
            booted.wait(60)
        except subprocess.TimeoutExpired:
            booted.kill()
            booted.wait()
        shutil.rmtree(root)


def test_little_of_the_machine_can_be_reached_from_it(machine: Machine) -> None:
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+) OK", machine.exposure)
    assert found is not None and float(found[1]) <= 2.0, machine.exposure
    pid = machine.service("MainPID")
    status = machine.run("cat", f"/proc/{pid}/status")
    for name, value in {"NoNewPrivs": "1", "Seccomp": "2", "CapEff": "0" * 16, "CapBnd": "0" * 16}.items():
        assert re.search(rf"^{name}:\s+{value}$", status, re.MULTILINE), name
    assert machine.run("stat", "--format=%U %a", f"/proc/{pid}", f"{HOME}/").split()[0] != "root"
    for command in (["touch", "/etc/x"], ["touch", "/usr/x"]):
        with pytest.raises(AssertionError, match="Read-only file system"):
            machine.run("nsenter", "--mount", f"--target={pid}", *command)
    machine.run("touch", "/root/secret")
    assert machine.run("nsenter", "--mount", f"--target={pid}", "ls", "/root") == ""


def test_agents_compute_through_it_and_its_operator_commands_it(
    machine: Machine, tmp_path: Path, demos: Path
) -> None:
    said = json.loads(machine.run("didmpc", "mediator", "invite", "--json", "--home", HOME))
    with Cluster(tmp_path / "cluster", mediator_count=1) as cluster:
        logs = cluster.directory / "logs"
        logs.mkdir(parents=True)
        waits = Started(["sleep", "600"], environment=os.environ, cwd=logs, logs=logs, name="elsewhere")
        cluster.mediators.append(Mediator("elsewhere", logs, waits, invitation=said["invitation"]))
        compute_together(cluster, demos)
        status = json.loads(machine.run("didmpc", "mediator", "status", "--json", "--home", HOME))
        assert (status["accounts"], status["obstacles"]) == (3, [])
    machine.run("didmpc", "mediator", "backup", f"{HOME}/backup.tar", "--home", HOME)
    assert machine.run("stat", "--format=%a", f"{HOME}/backup.tar").strip() == "600"


@pytest.mark.parametrize("number", ["SIGKILL", "SIGSTOP"])
def test_when_it_dies_or_hangs_it_is_there_again_with_all_that_it_had(machine: Machine, number: str) -> None:
    before, did = machine.service("MainPID"), machine.run("didmpc", "mediator", "did", "--home", HOME)
    machine.run("systemctl", "kill", f"--signal={number}", SERVICE)
    machine.until(rf"^(?!{before}$|0$)\d+", "systemctl", "show", "--property=MainPID", "--value", SERVICE)
    machine.until("", "didmpc", "mediator", "ready", "--home", HOME)  # until it succeeds
    assert machine.run("didmpc", "mediator", "did", "--home", HOME) == did
    assert int(machine.service("NRestarts")) > 0


def test_what_root_restores_into_its_home_is_the_services(machine: Machine) -> None:
    did = machine.run("didmpc", "mediator", "did", "--home", HOME)
    machine.run("didmpc", "mediator", "backup", f"{HOME}/kept.tar", "--home", HOME)
    machine.run("systemctl", "stop", SERVICE)
    machine.run("didmpc", "mediator", "restore", f"{HOME}/kept.tar", "--home", HOME, "--force")
    machine.run("systemctl", "start", SERVICE)
    machine.run("didmpc", "mediator", "ready", "--home", HOME)
    assert machine.run("didmpc", "mediator", "did", "--home", HOME) == did


def test_what_stands_in_its_environment_file_is_in_force(machine: Machine) -> None:
    said = json.loads(machine.run("didmpc", "mediator", "config", "--json", "--home", HOME))
    assert said["settings"]["contact"] == {"value": CONTACT, "source": "DIDMPC_MEDIATOR_CONTACT"}


def test_it_stops_in_good_order(machine: Machine) -> None:
    machine.run("systemctl", "stop", SERVICE)
    assert (machine.service("Result"), machine.service("ExecMainStatus")) == ("success", "0")
    machine.run("systemctl", "start", SERVICE)
    machine.run("didmpc", "mediator", "ready", "--home", HOME)  # systemd waited for it: it is
