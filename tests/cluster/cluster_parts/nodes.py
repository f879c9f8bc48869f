"""The nodes of one mediator, real processes started by the public command, behind a plain load balancer."""

import os
import shutil
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from didmpc.bench.balancer import Balancer
from didmpc.bench.cluster import Cluster, ClusterError, Mediator, Running

KEYS_FILE = "mediator.json"
READY_WITHIN = 60.0
STOP_WITHIN = 60.0


@dataclass(slots=True)
class Place:
    """Where a node runs: an address, and what to run its command under."""

    host: str = "127.0.0.1"
    prefix: tuple[str, ...] = ()


@dataclass(slots=True)
class Node:
    name: str
    home: Path
    place: Place
    process: Running | None = None
    port: int = 0
    under: tuple[str, ...] = ()
    """What its command is run under, such as what gives it a clock that is wrong."""

    @property
    def address(self) -> str:
        return f"{self.place.host}:{self.port}"

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None


@dataclass
class Nodes(Cluster):
    """One mediator of several nodes, and agents that know nothing of that. Use as a context manager."""

    mediator_count: int = 1
    store: str = field(kw_only=True)
    """The URL of the database, without the password."""
    passwords: Path = field(kw_only=True)
    """A file for libpq, PGPASSFILE."""
    places: Sequence[Place] = field(default=(Place(), Place(), Place()), kw_only=True)
    balancer_host: str = field(default="127.0.0.1", kw_only=True)
    under: tuple[str, ...] = field(default=(), kw_only=True)
    """What every node's command is run under."""
    nodes: list[Node] = field(default_factory=list, init=False)
    balancer: Balancer = field(init=False)
    _stack: ExitStack = field(default_factory=ExitStack, init=False)

    def start_mediators(self, *flags: str) -> None:
        """Start all nodes. The first one makes the keys, which its operator copies to the others."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.variables = {**self.variables, "PGPASSFILE": str(self.passwords)}
        self.balancer = self._stack.enter_context(Balancer(host=self.balancer_host))
        for number, place in enumerate(self.places, 1):
            name = f"node{number}"
            self.nodes.append(Node(name, self.directory / name, place, under=self.under))
        first, *others = self.nodes
        self.launch(first)
        mediator = self.ready(first)
        self.mediators.append(mediator)
        for node in others:
            node.home.mkdir(mode=0o700)
            shutil.copy(first.home / KEYS_FILE, node.home / KEYS_FILE)
            self.launch(node)
        for node in others:
            assert self.ready(node).did == mediator.did

    @property
    def did(self) -> str:
        return self.mediators[0].did

    def launch(self, node: Node, *flags: str) -> None:
        """Start a node; `ready` waits for it."""
        assert not node.is_running
        host = node.place.host
        port = str(node.port)  # after the first time the same one, as in a file of a load balancer
        node.process = self.start_command(
            node.home,
            [
                *("mediator", "start", "--json", "--store", self.store),
                *("--host", host, "--port", port, "--public-url", self.balancer.url),
                *("--node-listen", f"{host}:0", "--allow-private", "--limits", "off"),
                *flags,
            ],
            name=node.name,
            prefix=(*node.place.prefix, *node.under),
        )

    def ready(self, node: Node) -> Mediator:
        """Wait until it serves, and have the load balancer know it."""
        assert node.process is not None
        line = node.process.first_line(READY_WITHIN)
        node.port = urlsplit(line["metrics"]).port or 0
        self.balancer.nodes = tuple((each.place.host, each.port) for each in self.nodes if each.port)
        return Mediator(
            node.name, node.home, node.process, line["did"], line["invitation"], line["url"], node.port
        )

    # --- faults

    def kill(self, *nodes: Node) -> None:
        """kill -9, all at once."""
        for node in nodes:
            if node.process is not None:
                node.process.send(signal.SIGKILL)
        for node in nodes:
            if node.process is not None:
                node.process.wait(STOP_WITHIN)

    def suspend_node(self, node: Node) -> None:
        """All of it stops where it is, as on a machine that hangs."""
        assert node.process is not None
        os.killpg(node.process.pid, signal.SIGSTOP)

    def resume_node(self, node: Node) -> None:
        assert node.process is not None
        os.killpg(node.process.pid, signal.SIGCONT)

    def restart(self, *nodes: Node) -> None:
        """Start those that were killed or stopped, and wait for them."""
        for node in nodes:
            self.launch(node)
        for node in nodes:
            self.ready(node)

    def roll(self, node: Node) -> str:
        """Stop a node in order, and start it again; what it said on stderr. Raises ClusterError."""
        assert node.process is not None
        node.process.send(signal.SIGTERM)
        ended = node.process.wait(STOP_WITHIN)
        if ended.status != 0:
            raise ClusterError(f"{node.name} ended with status {ended.status}: {ended.stderr}")
        self.restart(node)
        return ended.stderr

    def stop_in_order(self) -> None:
        """SIGTERM to all that run; each ends well. Raises ClusterError."""
        running = [node.process for node in self.nodes if node.process is not None and node.is_running]
        for process in running:
            process.send(signal.SIGTERM)
        for process in running:
            if (ended := process.wait(STOP_WITHIN)).status != 0:
                raise ClusterError(f"{ended.command} ended with status {ended.status}: {ended.stderr}")

    def stop(self) -> None:
        super().stop()
        self._stack.close()

    # --- what the nodes have said

    def said(self) -> str:
        """All that the nodes wrote to stderr, from their first start on."""
        logs = sorted((self.directory / "logs").glob("*-node*.err"))
        return "\n".join(text for log in logs if (text := log.read_text(errors="replace").strip()))

    def tracebacks(self) -> list[str]:
        """Lines that no operator should ever see."""
        return [line for line in self.said().splitlines() if "Traceback" in line]
