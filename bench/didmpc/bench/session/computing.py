"""MPyC's work, timed over three networks that take turns in one run.

tcp      MPyC alone, each pair of parties connected by its own TCP
relay    MPyC alone, each of these connections through one raw TCP relay
session  didmpc: agents, channel processes, program processes and a mediator; `didmpc run` and `join`

With a round trip given, everything crosses a delay box once in each direction between any two parties.
"""

import json
import random
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from didmpc.bench.cluster import NAMES, Cluster
from didmpc.bench.mediator.host import Generators
from didmpc.bench.session.relayed import ENDS, ratio
from didmpc.bench.session.splice import HOST
from didmpc.protocols.errors import DidmpcError

PARTIES = 3
WAYS = ("tcp", "relay", "session")
PROGRAMS = Path(__file__).parent / "programs"
DEMOS = Path(__file__).resolve().parents[4] / "tests" / "agent" / "program" / "mpyc_demos"
DEMO_NAMES = ("aes", "id3gini")
NO_DEMOS = "The demos aes and id3gini are in a checkout only."
WITHIN = 300.0
ATTEMPTS = 3

Result = dict[str, Any]


class ComputationFailed(DidmpcError):
    """A computation that was to be timed did not end well, or with different results."""


@dataclass(frozen=True, slots=True)
class Work:
    """How much of each kind; 0 leaves one out."""

    rounds: int
    parallel: int
    bulk: int
    demos: bool

    def arguments(self, with_demos: bool) -> list[str]:
        counts = {"rounds": self.rounds, "parallel": self.parallel, "bulk": self.bulk}
        named = [f"{name}={count}" for name, count in counts.items() if count]
        return [*named, *(DEMO_NAMES if self.demos and with_demos else ())]


def measure(
    directory: Path,
    work: Work,
    *,
    legs: int,
    round_trip_ms: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> Result:
    """Seconds of each kind of work over each network (medians of `legs`), and ratios to the raw relay."""
    folder = directory / "program"
    with_demos = _copy_program(folder)
    arguments = work.arguments(with_demos)
    seconds: dict[str, dict[str, list[float]]] = {}
    said: dict[str, Any] = {}
    loops: dict[str, str] = {}
    with _networks(directory, folder, round_trip_ms) as networks:
        for leg in range(legs):
            say(
                f"computing: leg {leg + 1} of {legs}"
                + f", round trip {round_trip_ms} ms" * bool(round_trip_ms)
            )
            turns = list(networks.items())
            for way, run in turns if leg % 2 else reversed(turns):
                results = run(arguments)
                loops[way] = results[0]["event_loop"]
                if said.setdefault("by the demos", results[0]["said"]) != results[0]["said"]:
                    raise ComputationFailed("A demo says something else over another network.")
                for name in results[0]["seconds"]:
                    took = max(result["seconds"][name] for result in results)
                    seconds.setdefault(name, {each: [] for each in WAYS})[way].append(took)
    return {
        "parties": PARTIES,
        "round_trip_ms": round_trip_ms,
        "event_loops": loops,
        "amounts": {"rounds": work.rounds, "parallel": work.parallel, "bulk": work.bulk},
        "seconds": {
            name: {way: statistics.median(each) for way, each in ways.items()}
            for name, ways in seconds.items()
        },
        "ratio_to_relay": {
            name: {way: ratio(ways[way], ways["relay"]) for way in WAYS} for name, ways in seconds.items()
        },
        "ratio_to_tcp": {name: ratio(ways["session"], ways["tcp"]) for name, ways in seconds.items()},
        "skipped": [NO_DEMOS] if work.demos and not with_demos else [],
    }


def _copy_program(folder: Path) -> bool:
    """What `didmpc run` sends and MPyC runs alone; whether the demos are there."""
    folder.mkdir()
    shutil.copy(PROGRAMS / "measured.py", folder)
    if not DEMOS.is_dir():
        return False
    for name in DEMO_NAMES:
        shutil.copy(DEMOS / f"{name}.py", folder)
    shutil.copytree(DEMOS / "data", folder / "data")
    return True


# --- the networks

Run = Callable[[Sequence[str]], list[Result]]


@contextmanager
def _networks(directory: Path, folder: Path, round_trip_ms: int) -> Iterator[Mapping[str, Run]]:
    one_way = round_trip_ms / 2000
    with ExitStack() as stack:
        ends = stack.enter_context(Generators(ENDS))
        mediator_port, *ports = free_ports(1 + PARTIES)

        def spliced(*routes: Result) -> list[int]:
            load = stack.enter_context(ends.load("relay", routes=routes))
            found: list[int] = load.ready()["ports"]
            return found

        through_relay = spliced(*({"target": port} for port in ports))
        direct, flags = ports, ["--limits", "off"]
        if one_way:
            # Through a box in both directions; connections to a mediator come in pairs, each delayed one way.
            direct = spliced(*({"target": port, "there": one_way, "back": one_way} for port in ports))
            through_relay = spliced(
                *({"target": port, "there": one_way, "back": one_way} for port in through_relay)
            )
            (box,) = spliced({"target": mediator_port, "there": one_way})
            flags += ["--public-url", f"http://{HOST}:{box}"]
        cluster = stack.enter_context(Cluster(directory / "cluster", NAMES[:PARTIES], mediator_count=0))
        cluster.start_mediator("mediator", *flags, port=mediator_port).ready()
        cluster.mediator_count = 1
        cluster.start_agents()
        cluster.introduce()

        def over_session(arguments: Sequence[str]) -> list[Result]:
            ended = cluster.compute(folder / "measured.py", arguments=arguments, timeout=WITHIN)
            return [_result(str(each["output"])) for each in ended]

        yield {
            "tcp": lambda arguments: _mpyc(folder, ports, direct, arguments),
            "relay": lambda arguments: _mpyc(folder, ports, through_relay, arguments),
            "session": over_session,
        }


def _mpyc(
    folder: Path, ports: Sequence[int], dialled: Sequence[int], arguments: Sequence[str]
) -> list[Result]:
    """MPyC without us: party i listens on ports[i], and is reached through dialled[i]."""
    with ExitStack() as stack:
        parties = []
        for me in range(PARTIES):
            places = [
                part
                for pid in range(PARTIES)
                for part in ("-P", f":{ports[pid]}" if pid == me else f"{HOST}:{dialled[pid]}")
            ]
            party = subprocess.Popen(
                [sys.executable, "measured.py", *arguments, *places, "--no-log"],
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=Cluster(folder).environment(folder),
            )
            stack.callback(_end, party)
            parties.append(party)
        until = time.monotonic() + WITHIN
        results = []
        for party in parties:
            try:
                stdout, stderr = party.communicate(timeout=max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise ComputationFailed("MPyC alone did not end in time.") from None
            if party.returncode != 0:
                raise ComputationFailed("MPyC alone failed.", why=stderr.strip().rpartition("\n")[2])
            results.append(_result(stdout))
        return results


def _end(party: "subprocess.Popen[str]") -> None:
    party.kill()
    party.communicate()


def _result(output: str) -> Result:
    lines = output.strip().splitlines()
    with suppress(ValueError, IndexError):
        value = json.loads(lines[-1])
        if isinstance(value, dict) and "seconds" in value:
            return value
    raise ComputationFailed("A computation printed no result.", why=output[-300:])


def free_ports(count: int) -> list[int]:
    """Outside of the range from which the kernel hands out ports, so that nobody gets them meanwhile."""
    while True:
        found: list[int] = []
        with ExitStack() as held, suppress(OSError):
            for port in random.sample(range(20_000, 30_000), count):
                held.enter_context(closing(socket.socket())).bind(("", port))
                found.append(port)
            return found
