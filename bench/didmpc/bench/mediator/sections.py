"""The measurements. Each takes a mediator of its own in a fresh home, and says what it found as plain values.

A count that does not come out (something sent and not stored, or delivered twice) is no figure but an error:
`Inconsistent`.
"""

import math
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from didmpc.bench.mediator import host
from didmpc.bench.mediator.account import Account, packed
from didmpc.bench.mediator.host import Generators, Host, Load, Result, run_all
from didmpc.protocols.errors import DidmpcError
from didmpc.protocols.identity import Identity

MIB = 1024 * 1024
SPARE_FILES = 256
SAMPLE = 500
"""Forwards packed to learn how fast this machine opens them."""
PICKED_UP = 10
"""Messages in one delivery."""
SHARE = 0.6
"""Of the rate at which one core opens forwards: about so many a mediator is expected to take in."""


class Inconsistent(DidmpcError):
    """What came out of a mediator is not what went in."""

    def __init__(self, what: str) -> None:
        super().__init__(f"The measurement does not add up: {what}.")


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything."""

    directory: Path
    seconds: float
    size: int
    """Bytes of content in each message."""
    recipients: int
    connections: int
    rate: float | None
    """Messages per second for live delivery; None: half of what was measured."""
    sockets: int
    mailboxes: int
    messages: int
    generators: Generators
    say: Callable[[str], None]


# --- forwards, live delivery and pickup, with one mediator


def traffic(plan: Plan, wanted: Sequence[str]) -> tuple[Result, Result]:
    """The sections of `wanted` that need live traffic, and the ceilings beside them."""
    with host.mediator(plan.directory, "traffic") as mediator:
        stage = _Stage(plan, mediator)
        ceilings = stage.ceilings()
        found: Result = {}
        if "forwards" in wanted:
            found["forwards"] = {"http": stage.forwards("http"), "ws": stage.forwards("ws")}
        if "live" in wanted:
            measured = found.get("forwards", {}).get("http", {}).get("per_second")
            found["live"] = stage.live(plan.rate or (measured / 2 if measured else 1000.0))
        if "pickup" in wanted:
            found["pickup"] = stage.pickup()
        return found, ceilings


class _Stage:
    """A mediator, and forwards packed for accounts of it: fresh ones for each measurement."""

    def __init__(self, plan: Plan, mediator: Host) -> None:
        self._plan = plan
        self._mediator = mediator
        self._run, self._load = plan.generators.run, plan.generators.load
        self._opens = 0.0
        self._packed = 0

    def ceilings(self) -> Result:
        """Unpacking on one core, the store's commits, a raw relay: each alone on the machine."""
        plan = self._plan
        plan.say("ceilings: unpacking, commits, raw relay")
        files = self._pack(SAMPLE, self._accounts(1))
        envelope = len(packed(files)[0][1])
        home = str(self._mediator.home)
        warm = self._run("unpacking", home=home, files=files, count=SAMPLE)
        count = max(SAMPLE, int(plan.seconds * SAMPLE / warm["seconds"] / 2))
        opened = self._run("unpacking", home=home, files=files, count=count)
        # CPU time, not the wall's: a core that somebody else uses meanwhile is no slower core.
        self._opens = count / opened["cpu"]
        stored = self._run(
            "commits",
            directory=str(plan.directory),
            size=envelope // 2,  # what is stored is what was inside
            seconds=plan.seconds / 2,
            at_once=plan.connections,
        )
        with self._load("relay") as relay:
            port = relay.ready()["port"]
            exchanges = max(1000, int(5000 * plan.seconds))
            echoed = self._run(
                "echo", port=port, size=envelope, connections=plan.connections, count=exchanges
            )
            alone = self._run("echo", port=port, size=envelope, connections=1, count=500)
            relay.go()
            relay.result()
        trip = _percentiles(alone["took"])
        return {
            "forward_bytes": envelope,
            "unpack_per_second": self._opens,
            "commits_per_second": stored["count"] / stored["seconds"],
            "relay_per_second": exchanges / echoed["seconds"],
            "relay_p50_ms": trip["p50_ms"],
            "relay_p99_ms": trip["p99_ms"],
        }

    def forwards(self, transport: str) -> Result:
        """Durable anoncrypt forwards, as many as the mediator takes."""
        plan, mediator = self._plan, self._mediator
        count = max(100, int(plan.seconds * self._opens * SHARE))
        plan.say(f"forwards over {transport}: {count:,}")
        accounts = self._accounts(plan.recipients)
        files = self._pack(count, accounts)
        generators = _generators()
        with ExitStack() as stack:
            jobs = [
                stack.enter_context(
                    self._load(
                        f"forward_{transport}",
                        mediator=mediator.did,
                        files=files[number::generators],
                        connections=share,
                    )
                )
                for number, share in enumerate(_shares(plan.connections, generators))
            ]
            results, cpu = self._timed(jobs)
        stored = self._waiting(accounts)
        refused = {status for result in results for status in result.get("statuses", {}) if status != "202"}
        if stored != count or refused:
            raise Inconsistent(
                f"{count} forwards were sent over {transport} and {stored} are stored"
                + (f"; answered with HTTP {', '.join(sorted(refused))}" if refused else "")
            )
        seconds = _span(results)
        found = {
            "count": count,
            "stored": stored,
            "per_second": count / seconds,
            "mediator_cpu_us": cpu / count * 1e6,
            "mediator_cores": cpu / seconds,
            "load_cpu_us": sum(result["cpu"] for result in results) / count * 1e6,
        }
        if transport == "http":
            found |= _percentiles([each for result in results for each in result["took"]])
        return found

    def live(self, rate: float) -> Result:
        """From the moment a forward is posted to the moment its recipient has it on a WebSocket."""
        plan, mediator = self._plan, self._mediator
        count = max(50, int(rate * plan.seconds))
        plan.say(f"live delivery: {count:,} at {rate:,.0f}/s to {plan.recipients} recipients")
        accounts = self._accounts(plan.recipients)
        files = self._pack(count, accounts)
        with (
            self._load(
                "live_receive",
                **{"mediator": mediator.did, "accounts": accounts, "count": count, "seconds": plan.seconds},
            ) as receiver,
            self._load(
                "live_send",
                **{"mediator": mediator.did, "files": files, "rate": rate, "connections": plan.connections},
            ) as sender,
        ):
            (received, sent), cpu = self._timed([receiver, sender])
            receiver.go()
            left = receiver.result()["left"]
        took = [at - sent["sent"][tag] for tag, at in received["arrived"].items()]
        if sent["refused"] or len(took) != count or received["twice"] or left:
            raise Inconsistent(
                f"{count} were sent, {sent['refused']} refused, {len(took)} arrived,"
                f" {received['twice']} twice, and {left} are left"
            )
        return {
            "count": count,
            "rate": rate,
            "delivered": len(took),
            "mediator_cpu_us": cpu / count * 1e6,
            "load_cpu_us": (received["cpu"] + sent["cpu"]) / count * 1e6,
            "late_ms": sent["late"] * 1e3,
            **_percentiles(took),
        }

    def pickup(self) -> Result:
        """Mail that waits is fetched and acknowledged, by clients that open what they get."""
        plan, mediator = self._plan, self._mediator
        count = max(100, int(plan.seconds * self._opens * SHARE / 2))
        plan.say(f"pickup: {count:,} messages")
        accounts = self._accounts(plan.recipients)
        files = self._pack(count, accounts)
        self._run("forward_http", mediator=mediator.did, files=files, connections=plan.connections)
        clients = min(plan.connections, len(accounts))
        with self._load(
            "fetch_all", mediator=mediator.did, accounts=accounts, connections=clients, limit=PICKED_UP
        ) as job:
            (result,), cpu = self._timed([job])
        left = self._waiting(accounts)
        if not result["messages"] == result["distinct"] == count or left:
            raise Inconsistent(
                f"{count} were queued, {result['messages']} fetched, {result['distinct']} of them different,"
                f" and {left} are left"
            )
        return {
            "count": count,
            "fetched": result["messages"],
            "per_second": count / result["seconds"],
            "requests_per_second": result["requests"] / result["seconds"],
            "mediator_cpu_us": cpu / count * 1e6,
            "load_cpu_us": result["cpu"] / count * 1e6,
        }

    def _timed(self, jobs: Sequence[Load]) -> tuple[list[Result], float]:
        """Run loads; their results, and the CPU seconds of the mediator meanwhile."""
        for job in jobs:
            job.ready()
        before = self._mediator.cpu
        for job in jobs:
            job.go()
        return [job.result() for job in jobs], self._mediator.cpu - before

    def _accounts(self, count: int) -> list[Result]:
        accounts: list[Result] = self._run("enrol", mediator=self._mediator.did, count=count)["accounts"]
        return accounts

    def _pack(self, count: int, accounts: Sequence[Result]) -> list[str]:
        """Pack forwards on all cores; the files they are in."""
        dids = [account["identity"]["did"] for account in accounts]
        with ExitStack() as stack:
            jobs: list[Load] = []
            paths: list[str] = []
            for share in _shares(count, _cores()):
                self._packed += 1
                paths.append(str(self._plan.directory / f"forwards-{self._packed}"))
                job = self._load(
                    "pack_forwards",
                    **{"mediator": self._mediator.did, "recipients": dids, "count": share},
                    **{"size": self._plan.size, "file": paths[-1]},
                )
                jobs.append(stack.enter_context(job))
            run_all(jobs)
        return paths

    def _waiting(self, accounts: Sequence[Result]) -> int:
        """How many messages accounts have waiting, by their own status-requests."""
        return int(self._run("count_waiting", mediator=self._mediator.did, accounts=accounts)["waiting"])


# --- idle sockets


def idle(plan: Plan) -> Result:
    """What sockets that say nothing cost the mediator in memory."""
    sockets = min(plan.sockets, plan.generators.open_files - SPARE_FILES)
    plan.say(f"idle sockets: {sockets:,}")
    # A process that did other jobs before has room that it need not ask the system for.
    with Generators() as fresh, fresh.load("relay") as relay:
        port = relay.ready()["port"]
        bare, _ = _held(plan, relay, sockets, port=port)
        relay.go()
        relay.result()
    with host.mediator(plan.directory, "idle") as mediator:
        plan.generators.run("enrol", mediator=mediator.did, count=2)  # what is loaded and grown once
        before = mediator.resident
        grown, result = _held(plan, mediator, sockets, mediator=mediator.did)
    after = before + grown
    each = grown / sockets
    return {
        "plain_tcp_kib": bare / sockets / 1024,
        "sockets": sockets,
        "before_mib": before / MIB,
        "after_mib": after / MIB,
        "all_mib": (after - before) / MIB,
        "each_kib": each / 1024,
        "per_gib": 2**30 / max(1.0, each),
        "opened_per_second": sockets / result["seconds"],
    }


def _held(plan: Plan, server: Host | Load, sockets: int, **to: Any) -> tuple[int, Result]:
    """By how much a server grows with idle connections, and the result of the load."""
    with plan.generators.load("idle", count=sockets, **to) as job:
        job.ready()
        before = server.resident
        job.go()
        opened = job.ready()  # all are open, and held
        after = server.resident
        job.go()
        result = job.result()
    if result["open"] != sockets:
        raise Inconsistent(f"{sockets} sockets were opened and {result['open']} are open")
    return after - before, {**opened, **result}


# --- a great many messages


def status(plan: Plan) -> Result:
    """Status-requests to a mediator that holds a great many messages in a great many mailboxes."""
    plan.say(f"status: {plan.messages:,} messages in {plan.mailboxes:,} mailboxes")
    asking = [Identity.peer4() for _ in range(min(200, plan.mailboxes))]
    home = plan.directory / "status"
    home.mkdir(mode=0o700)
    filled = plan.generators.run(
        "fill",
        home=str(home),
        dids=[identity.did for identity in asking],
        **{"boxes": plan.mailboxes, "messages": plan.messages, "size": plan.size},
    )
    if filled["queued"] != plan.messages:
        raise Inconsistent(f"{plan.messages} were put in and {filled['queued']} are stored")
    with host.mediator(plan.directory, "status") as mediator:
        accounts = [Account(identity, mediator.did).to_json() for identity in asking]
        count = max(200, int(200 * plan.seconds))
        cpu = mediator.cpu
        result = plan.generators.run("ask_status", mediator=mediator.did, accounts=accounts, count=count)
        cpu = mediator.cpu - cpu
    store = _percentiles(filled["took"])
    each = plan.messages / plan.mailboxes
    if not set(result["counts"]) <= {math.floor(each), math.ceil(each)}:
        raise Inconsistent(f"each mailbox holds {each:g} messages, and a status said {result['counts']}")
    return {
        "messages": plan.messages,
        "mailboxes": plan.mailboxes,
        "filled_per_second": plan.messages / filled["seconds"],
        "count": count,
        "mediator_cpu_us": cpu / count * 1e6,
        "store_p50_ms": store["p50_ms"],
        "store_p99_ms": store["p99_ms"],
        **_percentiles(result["took"]),
    }


# --- counting


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _generators() -> int:
    """Load processes: half of the cores are the mediator's."""
    return max(1, _cores() // 2)


def _shares(count: int, parts: int) -> list[int]:
    return [count // parts + (number < count % parts) for number in range(parts)]


def _span(results: Sequence[Result]) -> float:
    """From the first start to the last end."""
    return float(
        max(each["started"] + each["seconds"] for each in results) - min(each["started"] for each in results)
    )


def _percentiles(seconds: Sequence[float]) -> dict[str, Any]:
    ordered = sorted(seconds)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e3

    return {"p50_ms": at(0.50), "p99_ms": at(0.99), "max_ms": ordered[-1] * 1e3}
