"""`make demo`: the main job, for real.

Two mediators and several agents, separate processes with homes of their own, agents on alternating mediators;
invitations passed as the URLs that a person would paste; an MPyC program run by all of them over DIDComm;
then a round-heavy program, once over sealed sessions and once as ordinary DIDComm messages, side by side.
Everything goes through the `didmpc` command. At the end, or at Ctrl-C, no process is left.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from didmpc.agent.program import about
from didmpc.bench.cluster import NAMES, Cluster, ClusterError

DEMOS = Path(__file__).resolve().parents[3] / "demos"
ROUND_HEAVY = DEMOS / "rounds.py"
MESSAGES = 480
"""So many of all parties that the leg over ordinary DIDComm messages takes a few seconds, and at most 5."""

Json = dict[str, Any]


class Narrator:
    """Lines with the time since the start, on stdout: they are what the demonstration is for."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    def step(self, text: str) -> None:
        print(f"{self.seconds:5.1f} s  {text}", flush=True)

    def more(self, text: str = "") -> None:
        print(f"         {text}".rstrip(), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    # `kill` ends it as Ctrl-C does: through the end of the `with` block that stops every process.
    signal.signal(signal.SIGTERM, _end)
    narrator = Narrator()
    try:
        with tempfile.TemporaryDirectory(prefix="didmpc-demo-") as folder:
            with Cluster(Path(folder), NAMES[: options.parties]) as cluster:
                demonstrate(cluster, narrator, options.program, options.arguments)
            narrator.step("All processes have ended, their homes are removed.")
    except ClusterError as error:
        print(f"\nmake demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nmake demo was interrupted; all its processes have ended.", file=sys.stderr)
        return 130
    print(f"make demo: done in {narrator.seconds:.1f} s.")
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__.partition("\n")[0])
    parser.add_argument("--parties", type=int, default=3, metavar="N", help="how many agents (3 to 13)")
    parser.add_argument("--program", type=Path, default=DEMOS / "salary.py", metavar="FILE")
    parser.add_argument("arguments", nargs="*", help="for the program")
    options = parser.parse_args(arguments)
    if not 3 <= options.parties <= len(NAMES):
        parser.error(
            f"PARTIES must be from 3 to {len(NAMES)}: two parties cannot keep anything from each other."
        )
    if not options.program.is_file():
        known = ", ".join(f"demos/{path.name}" for path in programs())
        parser.error(f"There is no program {options.program}. There are: {known}.")
    options.program = options.program.resolve()
    return options


def programs() -> list[Path]:
    """The demo programs: those with sample inputs, and the round-heavy one."""
    return sorted(path for path in DEMOS.glob("*.py") if path == ROUND_HEAVY or sample_inputs(path))


def sample_inputs(program: Path) -> list[Path]:
    """One file for each of several parties, where the program wants any."""
    folder = program.parent / "inputs" / program.stem
    return sorted(folder.iterdir()) if folder.is_dir() else []


def gives(program: Path, pid: int, parties: int) -> bool:
    """Whether the program asks a party for an input, as far as it says so itself."""
    said = program.with_name(about.name_of(program.name))
    statement = about.statement_of(program.name, {said.name: said.read_bytes()} if said.is_file() else {})
    return statement.asks_of(statement.seats(parties, (parties - 1) // 2)[pid]).kind != "nothing"


def demonstrate(cluster: Cluster, narrator: Narrator, program: Path, arguments: Sequence[str]) -> None:
    names = [str(name) for name in cluster.names]
    narrator.step(
        f"Starting {cluster.mediator_count} mediators and {len(names)} agents, each a process of its own."
    )
    cluster.start_mediators()
    for mediator in cluster.mediators:
        narrator.step(f"{mediator.name} is ready at {mediator.url}")
    cluster.start_agents()
    for party in cluster.parties:
        narrator.step(
            f"{party.name}'s agent is ready, on {cluster.mediators[party.mediator].name}: {short(party.did)}"
        )
    cluster.introduce()
    narrator.step(f"{names[0]} invited {listing(names[1:])}; each pasted the link, and they are contacts.")

    samples = sample_inputs(program)
    inputs = {
        name: samples[number % len(samples)]
        for number, name in enumerate(names)
        if samples and gives(program, number, len(names))
    }
    guests = listing(names[1:])
    narrator.more()
    narrator.step(
        f"{names[0]}: didmpc run {program.name} --with {','.join(names[1:])}    {guests}: didmpc join"
    )
    results = cluster.compute(program, inputs=inputs, arguments=arguments)
    narrator.step("Result:")
    for name, result in zip(names, results, strict=True):
        for line in str(result["output"]).splitlines() or ["(no output)"]:
            narrator.more(f"{name:<7} {line}")
    narrator.more(f"Took part: {listing([str(name) for name in results[0]['parties']])}")
    for line in cost(names[0], results[0]["stats"]):
        narrator.more(line)

    narrator.more()
    # Each party sends a message to each other party in every round.
    rounds = max(10, MESSAGES // (len(names) * (len(names) - 1)))
    narrator.step(f"The same {rounds} rounds, over sealed sessions and then as ordinary DIDComm messages.")
    session = cluster.compute(ROUND_HEAVY, arguments=[str(rounds)])
    narrator.step("Session mode done.")
    didcomm = cluster.compute(ROUND_HEAVY, "--mode", "didcomm", arguments=[str(rounds)])
    narrator.step("DIDComm mode done.")
    for line in comparison(total(session), total(didcomm)):
        narrator.more(line)
    narrator.more()


def total(results: Sequence[Json]) -> Json:
    """What all parties sent together; times and rounds as the slowest of them saw them."""
    stats = [result["stats"] for result in results]
    added = {key: sum(each[key] for each in stats) for key in ("messages", "packets", "bytes", "envelopes")}
    most = {key: max(each[key] for each in stats) for key in ("rounds", "first_to_last_round")}
    spent = sum(each["crypto_us_per_message"] * each["messages"] for each in stats)
    return {**added, **most, "crypto_us_per_message": spent / max(1, added["messages"])}


def comparison(session: Json, didcomm: Json) -> list[str]:
    """A small table; the ratios say how much a session saves."""
    rows = [
        ("MPyC messages, all parties", f"{session['messages']:,}", f"{didcomm['messages']:,}", ""),
        ("packets / envelopes sealed", f"{session['packets']:,}", f"{didcomm['envelopes']:,}", ""),
        ("rounds", f"{session['rounds']:,}", f"{didcomm['rounds']:,}", ""),
        ("bytes of MPyC", f"{session['bytes']:,}", f"{didcomm['bytes']:,}", ""),
        _compared("seconds, first to last round", session, didcomm, "first_to_last_round", ".3f"),
        _compared("us of cryptography a message", session, didcomm, "crypto_us_per_message", ",.1f"),
    ]
    head = ("", "session", "didcomm", "ratio")
    return [f"{what:<30}{one:>12}{other:>12}{ratio:>9}" for what, one, other, ratio in (head, *rows)]


def _compared(what: str, session: Json, didcomm: Json, key: str, form: str) -> tuple[str, str, str, str]:
    one, other = session[key], didcomm[key]
    return what, format(one, form), format(other, form), f"{other / one:.0f} x" if one else "-"


def cost(name: str, stats: Json) -> list[str]:
    """What one party's side of the run cost."""
    sent = f"{stats['messages']:,} messages in {stats['packets']:,} packets, {stats['bytes']:,} bytes"
    return [
        f"{name} sent {sent};",
        f"{stats['rounds']:,} rounds, {stats['first_to_last_round']:.3f} s from the first to the last, "
        f"{stats['crypto_us_per_message']:.1f} us of cryptography per message",
    ]


def short(did: str) -> str:
    """For the eye; `didmpc agent did` prints it whole."""
    return did if len(did) <= 40 else f"{did[:24]}...{did[-4:]}"


def listing(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _end(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    raise SystemExit(main())
