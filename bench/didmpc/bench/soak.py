"""`make soak-sessions`: joint computations one after the other, while something breaks every ten seconds.

Several parties on two mediators, all real processes on this machine, behind proxies that reset, delay and
swallow. What breaks, and when, is drawn from a seed. Each result is compared with what it must
be, computed in the open; the memory of agents, channel processes and mediators is sampled and has to be flat.
Every event is one line of JSON in the log. Exit status 1: something was lost, or grew.
"""

import argparse
import json
import random
import re
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from didmpc.bench.cluster import NAMES, ClusterError, Party, Running
from didmpc.bench.disturbed import DisturbedCluster
from didmpc.bench.endurance import ENDURANCE, expected
from didmpc.bench.processes import command_line, resident_bytes
from didmpc.bench.proxy import Proxy

FAULTS = (
    "reset",
    "reset-all",
    "kill-mediator",
    "stop-mediator",
    "cut",
    "cut-all",
    "delay",
    "suspend",
    "move",
)
SAMPLE_EVERY = 5.0
RUN_WITHIN = 300.0
MIB = 1024 * 1024
# A group of processes is flat when the median of its last third is at most so much above that of its second.
GROWTH, SLACK = 1.10, 6 * MIB


class Log:
    """JSON lines, each with the seconds since the start; whoever writes, from whatever thread."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._began = time.monotonic()
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def write(self, event: str, **details: Any) -> None:
        with self._lock:
            line = {"at": round(self.seconds, 3), "event": event, **details}
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()


# --- faults


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that breaks, lasts, and is mended again."""

    name: str
    target: str
    seconds: float
    begin: Callable[[], object]
    end: Callable[[], object]


class Faults:
    """Breaks something every so often, until told to stop; then nothing is left broken."""

    def __init__(self, cluster: DisturbedCluster, seed: int, every: float, log: Log) -> None:
        self._cluster = cluster
        self._chance = random.Random(seed)  # noqa: S311  (to be repeated, not to be secret)
        self._every = every
        self._log = log
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._break_things, name="faults")
        self._next: list[str] = []
        self.count: Counter[str] = Counter()
        self.failure: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _break_things(self) -> None:
        try:
            due = time.monotonic()
            while True:
                due += self._every * self._chance.uniform(0.8, 1.2)
                if self._over.wait(max(0.0, due - time.monotonic())):
                    return
                self._happen(self._draw())
        except BaseException as error:
            self.failure = error
            raise

    def _happen(self, fault: Fault) -> None:
        self.count[fault.name] += 1
        self._log.write("fault", name=fault.name, target=fault.target, seconds=fault.seconds)
        try:
            fault.begin()
            self._over.wait(fault.seconds)
        finally:
            fault.end()
        self._log.write("mended", name=fault.name, target=fault.target)

    def _draw(self) -> Fault:
        chance, cluster = self._chance, self._cluster
        party = chance.choice(cluster.parties)
        number = chance.randrange(cluster.mediator_count)
        proxy, mediator = cluster.proxies[number], cluster.mediators[number]
        seconds = round(chance.uniform(1, 9), 1)
        address = f"127.0.0.{chance.randrange(2, 250)}"
        if not self._next:  # each kind as often as any other
            self._next = chance.sample(FAULTS, len(FAULTS))
        name = self._next.pop()

        def everywhere(act: Callable[[Proxy], object]) -> Callable[[], None]:
            def at_each() -> None:
                for each in cluster.proxies:
                    act(each)

            return at_each

        def fault(target: str, begin: Callable[[], object], end: Callable[[], object] | None = None) -> Fault:
            return Fault(name, target, seconds if end else 0.0, begin, end or _nothing)

        match name:
            case "reset":
                return fault(mediator.name, proxy.reset)
            case "reset-all":
                return fault("network", everywhere(lambda each: each.reset()))
            case "kill-mediator":
                seconds = chance.choice((0.0, seconds))
                return fault(
                    mediator.name,
                    lambda: cluster.kill_mediator(number),
                    lambda: cluster.restart_mediator(number),
                )
            case "stop-mediator":
                stop, go_on = partial(mediator.process.send, signal.SIGSTOP), signal.SIGCONT
                return fault(mediator.name, stop, partial(mediator.process.send, go_on))
            case "cut":
                return fault(f"{party.name} at {mediator.name}", lambda: proxy.cut(party.name), proxy.heal)
            case "cut-all":
                return fault(
                    party.name, everywhere(lambda each: each.cut(party.name)), everywhere(Proxy.heal)
                )
            case "delay":
                slow, quick = (
                    everywhere(lambda each: each.delay(0.05)),
                    everywhere(lambda each: each.delay(0)),
                )
                return fault("network", slow, quick)
            case "suspend":
                return fault(party.name, lambda: cluster.suspend(party), lambda: cluster.resume(party))
            case _:
                moved = everywhere(lambda each: each.move(party.name, address))
                return fault(f"{party.name} to {address}", moved)


def _nothing() -> None:
    """It mends itself."""


# --- memory


class Memory:
    """Samples of what each kind of process holds, over time."""

    def __init__(self, cluster: DisturbedCluster, log: Log) -> None:
        self._cluster = cluster
        self._log = log
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory")
        self.samples: dict[str, list[tuple[float, int]]] = {}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_EVERY):
            held: dict[str, list[int]] = {}
            for kind, pid in self._processes():
                if resident := resident_bytes(pid):
                    held.setdefault(kind, []).append(resident)
            largest = {kind: max(sizes) for kind, sizes in held.items()}
            self._log.write("memory", **largest)
            for kind, size in largest.items():
                self.samples.setdefault(kind, []).append((self._log.seconds, size))

    def _processes(self) -> list[tuple[str, int]]:
        found = [("mediator", mediator.process.pid) for mediator in self._cluster.mediators]
        for party in self._cluster.parties:
            if party.daemon is not None:
                found.append(("agent", party.daemon.pid))
            for pid in self._cluster.processes(party.home):
                if "didmpc.agent.channel" in command_line(pid):
                    found.append(("channel", pid))
        return found

    def growth(self) -> dict[str, dict[str, Any]]:
        """For each kind: medians of the second and the last third of the time, and whether that is flat."""
        found = {}
        for kind, samples in self.samples.items():
            third = len(samples) // 3
            if third == 0:
                continue
            sizes = [size for _, size in samples]
            middle, last = statistics.median(sizes[third : 2 * third]), statistics.median(sizes[2 * third :])
            found[kind] = {
                "first": sizes[0],
                "middle": int(middle),
                "last": int(last),
                "flat": last <= middle * GROWTH + SLACK,
            }
        return found


# --- runs


@dataclass(frozen=True, slots=True)
class Work:
    """One joint computation."""

    steps: int
    pause: float
    size: int
    wire: str

    @property
    def arguments(self) -> list[str]:
        return [str(self.steps), f"{self.pause:g}", str(self.size)]


def draw_work(number: int, chance: random.Random) -> Work:
    """Many short rounds in every second run; large messages; and packets as envelopes in JSON."""
    match number % 4:
        case 2:
            return Work(chance.randint(10, 30), 0.3, chance.choice((300_000, 1_000_000)), "binary")
        case 0:
            return Work(chance.randint(10, 20), 0.3, chance.choice((1, 5_000)), "json")
        case _:
            return Work(chance.randint(40, 100), 0.15, 1_000, "binary")


class Soak:
    """Runs until the time is up, and counts."""

    def __init__(self, cluster: DisturbedCluster, options: argparse.Namespace, log: Log) -> None:
        self._cluster = cluster
        self._options = options
        self._log = log
        self._chance = random.Random(options.seed + 1)  # noqa: S311
        self._faults = Faults(cluster, options.seed, options.every, log)
        self._memory = Memory(cluster, log)
        self.totals: Counter[str] = Counter()
        self.lost: list[str] = []
        self.worst_pause = 0.0

    def run(self) -> None:
        self._memory.start()
        self._faults.start()
        try:
            while self._log.seconds < self._options.minutes * 60 and not self.lost:
                self._one_run()
                if self._faults.failure is not None:
                    self.lost.append(f"a fault could not be made or mended: {self._faults.failure!r}")
        finally:
            self._faults.stop()
            self._memory.stop()

    def _one_run(self) -> None:
        number = self.totals["runs"] + 1
        work = draw_work(number, self._chance)
        wanted = expected(work.steps, work.size, len(self._cluster.parties))
        if number % 3 == 0:
            self._restart(self._chance.choice(self._cluster.parties))
        self._log.write("run", number=number, wire=work.wire, arguments=work.arguments)
        began = time.monotonic()
        running = self._cluster.begin(
            ENDURANCE, "--wire", work.wire, "--resume-limit", "120", arguments=work.arguments
        )
        try:
            results = [self._result(each, began) for each in running]
            pause = max(_longest_step(each.stderr) for each in running)
        except ClusterError as error:
            self._lose(number, str(error))
            return
        self.totals["runs"] += 1
        for name, result in zip(self._cluster.names, results, strict=True):
            if result["output"] != wanted:
                self._lose(number, f"{name} printed {result['output']!r}, not {wanted!r}")
        for result in results:
            self._count(result)
        self.worst_pause = max(self.worst_pause, pause)
        seconds = round(time.monotonic() - began, 3)
        stats = [result["stats"] for result in results]
        self._log.write("done", number=number, seconds=seconds, longest_step=pause, stats=stats)

    def _result(self, running: Running, began: float) -> Mapping[str, Any]:
        left = RUN_WITHIN - (time.monotonic() - began)
        return running.done(max(1.0, left)).json()

    def _count(self, result: Mapping[str, Any]) -> None:
        stats = result["stats"]
        for name in ("rounds", "messages", "bytes", "packets", "records"):
            self.totals[name] += int(stats[name])
        self.totals["refused packets"] += sum(
            int(peer["refused_packets"]) for peer in stats["per_peer"].values()
        )

    def _lose(self, number: int, what: str) -> None:
        self.lost.append(f"run {number}: {what}")
        self._log.write("lost", number=number, what=what)

    def _restart(self, party: Party) -> None:
        """Between two runs an agent is killed and starts again."""
        assert party.daemon is not None
        self.totals["restarts"] += 1
        self._log.write("restart", party=party.name)
        party.daemon.kill()
        party.start_daemon()
        party.ready(60)

    def summary(self) -> dict[str, Any]:
        """What happened, and whether that is as it should be."""
        growth = self._memory.growth()
        return {
            "ok": not self.lost and self.totals["runs"] > 0 and all(each["flat"] for each in growth.values()),
            "minutes": round(self._log.seconds / 60, 2),
            "seed": self._options.seed,
            "parties": len(self._cluster.parties),
            "faults": dict(self._faults.count),
            **self.totals,
            "worst_pause_seconds": self.worst_pause,
            "memory": growth,
            "lost": self.lost,
        }


def _longest_step(stderr: str) -> float:
    found = re.search(r"longest step: ([0-9.]+) s", stderr)
    return float(found[1]) if found else 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    signal.signal(signal.SIGTERM, _end)
    options.log.parent.mkdir(parents=True, exist_ok=True)
    with options.log.open("w") as file, tempfile.TemporaryDirectory(prefix="didmpc-soak-") as folder:
        log = Log(file)
        print(f"Soak of {options.minutes:g} minutes, seed {options.seed}; raw log: {options.log}", flush=True)
        try:
            with DisturbedCluster(Path(folder), NAMES[: options.parties]) as cluster:
                cluster.start()
                soak = Soak(cluster, options, log)
                soak.run()
                summary = soak.summary()
        except ClusterError as error:
            print(f"The soak could not be made: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nInterrupted; all its processes have ended.", file=sys.stderr)
            return 130
        log.write("summary", **summary)
    print("\n".join(told(summary)))
    return 0 if summary["ok"] else 1


def told(summary: Mapping[str, Any]) -> list[str]:
    """The summary, for a person."""
    faults = ", ".join(f"{count} {name}" for name, count in sorted(summary["faults"].items()))
    broken = sum(summary["faults"].values())
    lines = [
        f"{summary['minutes']:g} minutes, {summary['parties']} parties, seed {summary['seed']}",
        f"faults:      {broken} ({faults}), and {summary.get('restarts', 0)} agents killed between runs",
        f"runs:        {summary.get('runs', 0)}, each with the right result at each party"
        if not summary["lost"]
        else f"runs:        {summary.get('runs', 0)} and then LOST: {'; '.join(summary['lost'])}",
        f"rounds:      {summary.get('rounds', 0):,}, {summary.get('messages', 0):,} messages of MPyC, "
        f"{summary.get('bytes', 0):,} bytes, {summary.get('packets', 0):,} packets",
        f"worst pause: {summary['worst_pause_seconds']:.1f} s",
    ]
    for kind, sizes in sorted(summary["memory"].items()):
        first, middle, last = (sizes[name] / MIB for name in ("first", "middle", "last"))
        verdict = "flat" if sizes["flat"] else "GROWS"
        lines.append(
            f"{kind + ':':12} {first:.1f}, {middle:.1f}, {last:.1f} MiB (first, middle, last): {verdict}"
        )
    return lines


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make soak-sessions", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=5, metavar="N")
    parser.add_argument("--parties", type=int, default=5, metavar="N", help="how many agents (3 to 13)")
    parser.add_argument(
        "--every", type=float, default=10, metavar="SECONDS", help="from one fault to the next"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="what is drawn: faults and programs")
    parser.add_argument("--log", type=Path, default=Path("soak.jsonl"), metavar="FILE", help="JSON lines")
    options = parser.parse_args(arguments)
    if not 3 <= options.parties <= len(NAMES):
        parser.error(f"There can be from 3 to {len(NAMES)} parties.")
    return options


def _end(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
