"""`make soak-kills`: kill -9 in the midst of joint computations, and see whether the others end in time.

Each run has 3 to 7 parties, drawn with the victim and with what is killed: its program, its channel process,
its agent, or all three at once as when a machine vanishes. A survivor has to end with the victim's name: in
5 s where a local witness is left to tell, at the resume limit plus 5 s where none is. Where only an agent
dies everyone has to finish with the right result. Times are from the kill to the end of a survivor's command.
The log has one line of JSON for each kill. Exit status 1: somebody hung, was late, or named the wrong party.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from didmpc.agent.channel.causes import about
from didmpc.bench.cluster import NAMES, Cluster, ClusterError, Finished, Party, Running
from didmpc.bench.endurance import ENDURANCE, expected
from didmpc.bench.processes import command_line
from didmpc.bench.soak import Log

TARGETS = ("program", "channel", "agent", "all")
MODULES = {"program": "didmpc.agent.program", "channel": "didmpc.agent.channel"}
KINDS = {"program": "killed", "channel": "channel-died", "all": "unreachable"}
PARTIES = (3, 7)
WITNESSED = 5.0
"""Seconds until everyone has ended where a process of the victim's machine is left to tell."""
FINISHES_WITHIN = 120.0
STEPS, PAUSE, SIZE = 30, 0.1, 200
LAG_EVERY = 0.05


@dataclass(frozen=True, slots=True)
class Kill:
    """What happens in one run."""

    number: int
    target: str
    parties: tuple[int, ...]
    """Places in the cluster; the first proposes."""
    victim: int
    """One of `parties`."""
    step: int
    """After which step of the program, and how many seconds later."""
    delay: float


def draw(number: int, chance: random.Random, most: int, targets: Sequence[str]) -> Kill:
    """One kill. The targets come in turn, each as often as any other."""
    count = chance.randint(min(PARTIES[0], most), most)
    parties = (0, *sorted(chance.sample(range(1, most), count - 1)))
    target = targets[(number - 1) % len(targets)]
    return Kill(number, target, parties, chance.choice(parties), chance.randint(1, 8), chance.random())


@dataclass(slots=True)
class Lag:
    """How late this machine wakes a thread that asked to be woken: what no program can be quicker than."""

    worst: float = 0.0
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "Lag":
        self._thread = threading.Thread(target=self._watch, name="lag")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._thread is not None
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        due = time.monotonic() + LAG_EVERY
        while not self._over.wait(max(0.0, due - time.monotonic())):
            now = time.monotonic()
            self.worst = max(self.worst, now - due)
            due = now + LAG_EVERY


class Kills:
    """One run after the other, each with its kill; what was wrong stands in `wrong`."""

    def __init__(self, cluster: Cluster, options: argparse.Namespace, log: Log) -> None:
        self._cluster = cluster
        self._options = options
        self._log = log
        self._chance = random.Random(options.seed)  # noqa: S311  (to be repeated, not to be secret)
        self.done: list[dict[str, Any]] = []
        self.wrong: list[str] = []

    def run(self) -> None:
        most = len(self._cluster.parties)
        for number in range(1, self._options.kills + 1):
            kill = draw(number, self._chance, most, self._options.targets)
            try:
                self._one(kill)
            except (ClusterError, AssertionError) as error:
                self._fail(kill, f"the run could not be judged: {error}")
            self._bring_back(self._cluster.parties[kill.victim])

    def _one(self, kill: Kill) -> None:
        parties = [self._cluster.parties[place] for place in kill.parties]
        names = [party.name for party in parties]
        victim = self._cluster.parties[kill.victim]
        running = self._begin(parties)
        try:
            self._reach(running, f"step {kill.step} ")
            time.sleep(kill.delay)
            pids = self._pids(victim, kill.target)
            with Lag() as lag:
                began = time.monotonic()
                for pid in pids:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                ends = self._ends(running, began, self._allowed(kill) + 60)
        finally:
            for each in running:
                each.send(signal.SIGKILL)
        survivors = [place for place, party in enumerate(parties) if party is not victim]
        if kill.target == "agent":
            survivors = list(range(len(parties)))
        said = {
            names[place]: self._judge(kill, victim.name, len(parties), names[place], ends[place])
            for place in survivors
        }
        latest = max(each["seconds"] for each in said.values())
        entry = {
            "number": kill.number,
            "target": kill.target,
            "parties": len(parties),
            "victim": victim.name,
            "step": kill.step,
            "latest": latest,
            "lag": round(lag.worst, 3),
            "survivors": said,
        }
        self.done.append(entry)
        self._log.write("kill", **entry)

    def _begin(self, parties: Sequence[Party]) -> list[Running]:
        host, *guests = parties
        joined = [guest.start("join", "--from", host.name, "--yes") for guest in guests]
        names = ",".join(guest.name for guest in guests)
        limit = ("--resume-limit", str(self._options.resume_limit))
        arguments = ("--", str(STEPS), str(PAUSE), str(SIZE))
        return [host.start("run", ENDURANCE, "--with", names, "--yes", *limit, *arguments), *joined]

    def _reach(self, running: Sequence[Running], text: str) -> None:
        """Wait until the programs have got so far."""
        until = time.monotonic() + FINISHES_WITHIN
        while not all(text in each.stdout for each in running):
            for each in running:
                if each.poll() is not None:
                    raise ClusterError(f"it ended before it was disturbed: {each.stdout}{each.stderr}")
            if time.monotonic() > until:
                raise ClusterError(f"it did not come to {text!r}: {running[0].stderr}")
            time.sleep(0.02)

    def _pids(self, victim: Party, target: str) -> list[int]:
        """Of a machine that vanishes the agent goes first: nobody is left to tell."""
        pids = []
        if target in ("agent", "all"):
            assert victim.daemon is not None
            pids.append(victim.daemon.pid)
        of_victim = {pid: command_line(pid) for pid in self._cluster.processes(victim.home)}
        for name in ("channel", "program"):
            if target in (name, "all"):
                pids += [pid for pid, words in of_victim.items() if _runs(words, MODULES[name])]
        return pids

    def _ends(
        self, running: Sequence[Running], began: float, within: float
    ) -> list[tuple[float, Finished | None]]:
        """Of each: seconds since the kill, and how it ended; None where it hangs."""
        ends: dict[int, tuple[float, Finished | None]] = {}
        while len(ends) < len(running) and time.monotonic() - began < within:
            for place, each in enumerate(running):
                if place not in ends and each.poll() is not None:
                    ends[place] = (time.monotonic() - began, each.wait())
            time.sleep(0.01)
        return [ends.get(place, (within, None)) for place in range(len(running))]

    def _allowed(self, kill: Kill) -> float:
        if kill.target == "agent":
            return FINISHES_WITHIN
        return WITNESSED + (self._options.resume_limit if kill.target == "all" else 0)

    def _judge(
        self, kill: Kill, victim: str, parties: int, name: str, end: tuple[float, Finished | None]
    ) -> dict[str, Any]:
        seconds, finished = end
        verdict: dict[str, Any] = {"seconds": round(seconds, 3)}
        if finished is None:
            self._fail(kill, f"{name} hangs")
            return verdict
        verdict["status"] = finished.status
        if kill.target == "agent":
            if finished.status != 0 or finished.stdout != expected(STEPS, SIZE, parties):
                self._fail(kill, f"{name} did not finish: {finished.stderr[-500:]}")
            return verdict
        said = about(KINDS[kill.target], victim)
        verdict["said"] = next((line.strip() for line in finished.stderr.splitlines() if said in line), None)
        if finished.status != 1 or verdict["said"] is None:
            self._fail(kill, f"{name} does not say {said!r}: {finished.stderr[-500:]}")
        if "didmpc" not in finished.stderr.splitlines()[-1]:
            self._fail(kill, f"{name} is told no next command: {finished.stderr[-300:]}")
        if seconds > self._allowed(kill):
            self._fail(kill, f"{name} ended after {seconds:.2f} s, allowed are {self._allowed(kill):g} s")
        return verdict

    def _fail(self, kill: Kill, what: str) -> None:
        self.wrong.append(f"kill {kill.number} ({kill.target}): {what}")
        self._log.write("wrong", number=kill.number, target=kill.target, what=what)

    def _bring_back(self, victim: Party) -> None:
        assert victim.daemon is not None
        if victim.daemon.poll() is not None:
            victim.start_daemon()
            victim.ready(60)


def _runs(words: list[str], module: str) -> bool:
    return module in words and Path(words[0]).name != "bwrap"


def summary(kills: Kills, options: argparse.Namespace, minutes: float) -> dict[str, Any]:
    """What was killed, how soon the last survivor had ended, and what went wrong."""
    times = {
        target: sorted(each["latest"] for each in kills.done if each["target"] == target)
        for target in options.targets
    }
    return {
        "ok": not kills.wrong and len(kills.done) == options.kills,
        "kills": len(kills.done),
        "seed": options.seed,
        "resume_limit": options.resume_limit,
        "minutes": round(minutes, 1),
        "last_survivor_seconds": {
            target: {"kills": len(each), "median": each[len(each) // 2], "worst": each[-1]}
            for target, each in times.items()
            if each
        },
        "worst_lag": max((each["lag"] for each in kills.done), default=0.0),
        "wrong": kills.wrong,
    }


def told(found: Mapping[str, Any]) -> list[str]:
    """The summary, for a person."""
    lines = [f"{found['kills']} kills in {found['minutes']:g} minutes, seed {found['seed']}"]
    for target, times in found["last_survivor_seconds"].items():
        what = "everyone had finished" if target == "agent" else "the last survivor had ended"
        lines.append(
            f"{target + ':':9} {times['kills']:3} kills; {what} after {times['median']:.2f} s (median), "
            f"{times['worst']:.2f} s (worst)"
        )
    lines.append(f"this machine woke a sleeping thread up to {found['worst_lag']:.2f} s late")
    lines += [f"WRONG: {each}" for each in found["wrong"]]
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    signal.signal(signal.SIGTERM, _end)
    options.log.parent.mkdir(parents=True, exist_ok=True)
    with options.log.open("w") as file, tempfile.TemporaryDirectory(prefix="didmpc-kills-") as folder:
        log = Log(file)
        print(f"{options.kills} kills, seed {options.seed}; raw log: {options.log}", flush=True)
        try:
            with Cluster(Path(folder), NAMES[: options.parties]) as cluster:
                cluster.start()
                kills = Kills(cluster, options, log)
                kills.run()
                found = summary(kills, options, log.seconds / 60)
        except ClusterError as error:
            print(f"The kills could not be made: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nInterrupted; all its processes have ended.", file=sys.stderr)
            return 130
        log.write("summary", **found)
    print("\n".join(told(found)))
    return 0 if found["ok"] else 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make soak-kills", description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100, metavar="N")
    parser.add_argument(
        "--parties", type=int, default=PARTIES[1], metavar="N", help="the most in a run (3 to 13)"
    )
    parser.add_argument("--resume-limit", type=int, default=6, metavar="SECONDS")
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="what is drawn: parties, victims, times"
    )
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS, help="what is killed")
    parser.add_argument("--log", type=Path, default=Path("kills.jsonl"), metavar="FILE", help="JSON lines")
    options = parser.parse_args(arguments)
    if not PARTIES[0] <= options.parties <= len(NAMES):
        parser.error(f"There can be from 3 to {len(NAMES)} parties.")
    return options


def _end(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
