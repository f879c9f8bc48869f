"""Each party in a network namespace of its own that reaches the mediators and nothing else."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from didmpc.bench.cluster import Cluster

pytestmark = pytest.mark.namespaces

NAMES = ("Alice", "Bob", "Carol")
MEDIATORS = "10.77.0.1"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)


def may_create_namespaces() -> bool:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"didmpc-{os.getpid()}-try"
    try:
        ip("netns", "add", name)
    except (OSError, subprocess.SubprocessError):
        return False
    ip("netns", "delete", name)
    return True


@dataclass(frozen=True, slots=True)
class Network:
    """A star: the mediators' namespace in the middle, which forwards nothing from one party to another."""

    middle: str
    parties: tuple[str, ...]

    @staticmethod
    def inside(name: str) -> list[str]:
        return ["ip", "netns", "exec", name]

    def received(self, interface: str) -> int:
        """Bytes that came from a party to the mediators."""
        path = f"/sys/class/net/{interface}/statistics/rx_bytes"
        done = subprocess.run(
            [*self.inside(self.middle), "cat", path], check=True, capture_output=True, timeout=10
        )
        return int(done.stdout)


@pytest.fixture
def network() -> Iterator[Network]:
    if not may_create_namespaces():
        pytest.skip("this user may not create network namespaces")
    mark = os.getpid() % 10_000
    middle = f"didmpc-{mark}-m"
    made = Network(middle, tuple(f"didmpc-{mark}-p{number}" for number in range(len(NAMES))))
    try:
        ip("netns", "add", middle)
        ip("-n", middle, "link", "set", "lo", "up")
        ip("-n", middle, "address", "add", f"{MEDIATORS}/32", "dev", "lo")
        for number, name in enumerate(made.parties):
            near, far = f"p{number}", f"m{number}"
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "add", near, "type", "veth", "peer", "name", far, "netns", middle)
            ip("-n", name, "address", "add", f"10.77.{number + 1}.2/24", "dev", near)
            ip("-n", middle, "address", "add", f"10.77.{number + 1}.1/24", "dev", far)
            ip("-n", name, "link", "set", near, "up")
            ip("-n", middle, "link", "set", far, "up")
            ip("-n", name, "route", "add", f"{MEDIATORS}/32", "via", f"10.77.{number + 1}.1")
        yield made
    finally:
        for name in (*made.parties, middle):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True, timeout=10)


def reaches(network: Network, party: int, address: str) -> bool:
    """Whether anything answers there, be it with a refusal."""
    connect = (
        "import socket, sys\n"
        "try: socket.create_connection((sys.argv[1], 9), 1)\n"
        "except ConnectionRefusedError: pass\n"
    )
    command = [*network.inside(network.parties[party]), "python3", "-c", connect, address]
    return subprocess.run(command, check=False, capture_output=True, timeout=10).returncode == 0


def test_parties_that_reach_only_the_mediators_compute_together(
    network: Network, tmp_path: Path, demos: Path
) -> None:
    assert reaches(network, 0, MEDIATORS)
    assert not reaches(network, 0, "10.77.2.2"), "the parties can reach each other: the test shows nothing"

    with Cluster(tmp_path / "cluster", NAMES) as cluster:
        for number in range(cluster.mediator_count):
            cluster.start_mediator(
                f"mediator-{number + 1}",
                "--host",
                MEDIATORS,
                port=8701 + number,
                prefix=network.inside(network.middle),
            )
        for mediator in cluster.mediators:
            mediator.ready()
        cluster.start_agents(prefixes=[network.inside(name) for name in network.parties])
        cluster.introduce()

        files = sorted((demos / "inputs" / "salary").iterdir())
        results = cluster.compute(demos / "salary.py", inputs=dict(zip(NAMES, files, strict=False)))
        assert {result["output"] for result in results} == {"Average salary of 3 people: 3,408.33\n"}

        before = [network.received(f"m{number}") for number in range(len(NAMES))]
        results = cluster.compute(demos / "rounds.py", arguments=["200"])
        for number, result in enumerate(results):
            relayed = network.received(f"m{number}") - before[number]
            assert relayed >= result["stats"]["bytes"] > 0, "a party's bytes went another way"
