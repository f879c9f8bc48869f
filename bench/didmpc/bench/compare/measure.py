"""Figures of one contender on one network."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from didmpc.bench.cluster import Running
from didmpc.bench.compare import capture, cpu, programs
from didmpc.bench.compare.contender import Connection, Contender
from didmpc.bench.compare.hosts import Host, HostError, Network, stop_all
from didmpc.bench.compare.lab import Lab
from didmpc.bench.compare.programs import Work

RUN_WITHIN = 120.0
HELLO_WITHIN = 60.0
POLL = 0.02
LOOK_EVERY = 0.1
CUT_SECONDS = 10.0
MOST_WORDS = 1000
_TRACEBACK = "Traceback (most recent call last)"
Json = dict[str, Any]


def finish(
    connection: Connection,
    running: Sequence[Running],
    within: float = RUN_WITHIN,
    look: Callable[[], None] | None = None,
) -> list[Json]:
    """Wait for a program at all parties; what each of them measured. `look` is called now and then meanwhile.

    Raises HostError when one fails, takes too long or says nothing; then none is left running.
    """
    until = time.monotonic() + within
    next_look = time.monotonic() + LOOK_EVERY
    try:
        waiting = list(running)
        while waiting:
            for each in waiting:
                if (status := each.poll()) not in (None, 0):
                    raise HostError(f"A party's program ended with status {status}.", why=last_words(each))
            waiting = [each for each in waiting if each.poll() is None]
            if waiting and time.monotonic() > until:
                why = last_words(waiting[0])
                raise HostError(f"The program did not end within {within:.0f} s.", why=why)
            if look is not None and time.monotonic() > next_look:
                look()
                next_look = time.monotonic() + LOOK_EVERY
            time.sleep(POLL)
    finally:
        stop_all(running, patience=2.0)
    return [_said(connection.output(each)) for each in running]


def last_words(running: Running) -> str:
    """Of a program that failed: the end of what it wrote; of a traceback only the error itself."""
    said = running.stderr.strip() or running.stdout.strip()
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return "\n".join(lines[-1:] if _TRACEBACK in said else lines)[-MOST_WORDS:]


def _said(output: str) -> Json:
    for line in reversed(output.splitlines()):
        if line.startswith(programs.MARK):
            value: Json = json.loads(line.removeprefix(programs.MARK))
            if value.get("wrong"):
                raise HostError("A program computed a wrong result.", why=line)
            return value
    raise HostError("A program said nothing of what it measured.", why=output[-500:])


def figures(said: Sequence[Json]) -> Json:
    """Of one run: the slowest party counts."""
    if "program" in said[0]:
        return {"program_seconds": max(one["program"]["to"] - one["program"]["from"] for one in said)}
    count, size = said[0]["rounds"]["count"], said[0]["bulk"]["bytes"]
    rounds = max(one["rounds"]["to"] - one["rounds"]["from"] for one in said)
    bulk = max(one["bulk"]["to"] - one["bulk"]["from"] for one in said)
    sent = size * (len(said) - 1)  # by each party
    return {
        "round_ms": 1000 * rounds / count,
        "bulk_seconds": bulk,
        "bulk_mbit_per_party": 8e-6 * sent / bulk,
    }


@dataclass
class Measured:
    """A contender that is connected, for as long as the context of `connected` lasts."""

    contender: Contender
    network: Network
    connection: Connection
    setup_seconds: float
    processes: int
    """The most that were seen of it while the first program ran, the programs' own among them."""

    def run(self, what: Work, *, without: frozenset[int] = frozenset(), within: float = RUN_WITHIN) -> Json:
        """One run with its figures; CPU time is that of all processes but those named by `without`."""
        before = self.network.cpu_seconds(without=without)
        said = finish(self.connection, self.connection.start(what), within)
        after = self.network.cpu_seconds(without=without)
        return figures(said) | {"cpu_seconds": after - before, "said": said}

    def where(self, what: Work, *, without: frozenset[int] = frozenset()) -> dict[str, float]:
        """CPU seconds of each kind of process in one more run, without a clock: looking takes time."""
        kinds = cpu.Kinds(without=without)
        finish(self.connection, self.connection.start(what), look=kinds.look)
        return kinds.seconds()


def connect(
    stack: ExitStack, contender: Contender, network: Network, hello: Work, *, within: float = HELLO_WITHIN
) -> Measured:
    """From nothing to a first program that has run: what people wait for. Raises HostError."""
    before, most = network.processes(), 0

    def look() -> None:
        nonlocal most
        most = max(most, network.processes() - before)

    began = time.monotonic()
    connection = stack.enter_context(contender.connect(network))
    running = connection.start(hello)
    finish(connection, running, within, look)
    return Measured(contender, network, connection, time.monotonic() - began, max(most, len(running)))


def effort(network: Network) -> Json:
    """What had to be done, in all and by the party who has most to do, with every step as evidence."""
    kinds = ("command", "daemon", "configuration", "exchange")

    def count(host: Host) -> Json:
        counted = {kind: sum(step.lines for step in host.steps if step.kind == kind) for kind in kinds}
        return counted | {"steps": len(host.steps)}

    return {
        "hosts": {host.name: count(host) for host in network.hosts if host.steps},
        "most_of_a_party": max((count(host) for host in network.parties), key=lambda each: each["steps"]),
        "evidence": [
            {"host": step.host, "kind": str(step.kind), "text": step.text, "lines": step.lines}
            for host in network.hosts
            for step in host.steps
        ],
    }


@dataclass
class Exposure:
    """Captures around one run of the micro-benchmarks."""

    lab: Lab
    names: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = {host.address: host.name for host in self.lab.network.hosts}

    def of(self, contender: Contender, stack: ExitStack, hello: Work, micro: Work) -> Json:
        """Connect and run the micro-benchmarks: what was on the wire, and what could be seen where."""
        network = self.lab.network
        with ExitStack() as captures:
            wire = captures.enter_context(capture.Capture("to-"))
            inside = {
                host.name: captures.enter_context(capture.Capture(netns=host.netns))
                for host in network.servers
            }
            said = connect(stack, contender, network, hello).run(micro)["said"]
        payload = sum(one["bulk"]["bytes"] * (len(said) - 1) for one in said)
        rounds = said[0]["rounds"]["count"]

        def between(name: str) -> list[capture.Frame]:
            begin, end = min(one[name]["from"] for one in said), max(one[name]["to"] for one in said)
            return [frame for frame in wire.frames if begin <= frame.time <= end]

        return {
            "bytes_per_payload_byte": sum(frame.length for frame in between("bulk")) / payload,
            "bytes_per_round_and_party": sum(frame.length for frame in between("rounds"))
            / rounds
            / len(said),
            "opened_from_outside": capture.openings(wire.frames, self.names),
            "eavesdropper": capture.sight(wire.frames, self.names),
            "servers": {
                name: capture.sight(each.frames, self.names | {"127.0.0.1": name})
                for name, each in inside.items()
                if each.frames
            },
            "frames_missed": wire.missed + sum(each.missed for each in inside.values()),
        }


def survives_cut(measured: Measured, lab: Lab, what: Work, *, within: float) -> Json:
    """Whether a program ends well although one party can reach nobody for `CUT_SECONDS` of it."""
    victim = lab.network.parties[-1]
    running = measured.connection.start(what)
    began = time.monotonic()
    in_the_middle = threading.Event()

    def cut_and_mend() -> None:
        while "The rounds begin." not in running[-1].stderr and running[-1].poll() is None:
            if time.monotonic() - began > RUN_WITHIN / 4:
                return
            time.sleep(POLL)
        time.sleep(1.0)
        if running[-1].poll() is not None:
            return
        in_the_middle.set()
        lab.cut(victim)
        time.sleep(CUT_SECONDS)
        lab.mend(victim)

    surgeon = threading.Thread(target=cut_and_mend)
    surgeon.start()
    try:
        finish(measured.connection, running, within=within)
        survived, why = True, ""
    except HostError as error:
        survived, why = False, str(error)
    finally:
        surgeon.join()
    if survived and not in_the_middle.is_set():
        raise HostError("The program ended before it could be cut off.")
    return {"survived": survived, "seconds": time.monotonic() - began, "why": why}


def hello(folder: Path) -> Work:
    """The smallest program."""
    return programs.micro(folder, rounds=1, size=16, times=1)
