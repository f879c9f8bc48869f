"""The measurements. Each says what it found as plain values; a count that does not come out is an error."""

import asyncio
import os
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from didmpc.bench.mediator.account import Account, packed
from didmpc.bench.mediator.host import Generators, Load, Result, run_all
from didmpc.bench.mediator.load import socket_url
from didmpc.bench.mediator.sections import Inconsistent
from didmpc.bench.mediator.wire import HttpConnection, address_of
from didmpc.bench.nodes.database import Database
from didmpc.bench.nodes.place import Place, alone, nodes
from didmpc.bench.session.messages import established_pair
from didmpc.bench.session.relayed import certificate, link
from didmpc.protocols.messages import relay_control

ENDS = "didmpc.bench.session.ends"
MIB = 1024 * 1024
PICKED_UP = 10
NOBODY_SECONDS = 5.0
"""Two beats of a node, and more."""
SMALL = 64
"""Bytes of a round trip."""
AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything."""

    directory: Path
    seconds: float
    size: int
    recipients: int
    connections: int
    sockets: int
    rate: float | None
    """Of live delivery, in messages a second; None: a quarter of the forwards."""
    counts: tuple[int, ...]
    """Of nodes, one after the other."""
    generators: Generators
    say: Callable[[str], None]


def measure(plan: Plan, database: Database) -> list[Result]:
    """Each place in turn, with the same load."""
    found: list[Result] = []
    with alone(plan.directory) as place:
        found.append(_Stage(plan, place, "SQLite alone").all())
    for count in plan.counts:
        with database.fresh() as own, nodes(plan.directory, count, own) as place:
            name = f"{count} node" + ("s" if count > 1 else "")
            found.append(_Stage(plan, place, name).all())
    return found


class _Stage:
    def __init__(self, plan: Plan, place: Place, name: str) -> None:
        self._plan, self._place, self._name = plan, place, name
        self._files = 0
        self._forwards_per_second = 500.0

    def all(self) -> Result:
        memory = self._place.resident()
        return {
            "name": self._name,
            "nodes": len(self._place.urls),
            "store": "sqlite" if self._place.database is None else "postgresql",
            "node_mib": memory / MIB,
            "idle": self.idle(),
            "forwards": self.forwards(),
            "live": self.live(),
            "pickup": self.pickup(),
            "attach": self.attach(),
            "relay": self.relay(),
        }

    def forwards(self) -> Result:
        """Durable forwards, as many as are taken in; connections to all nodes."""
        plan = self._plan
        # Sized by a short warm-up, so that it lasts about as long on any machine.
        warm = self._forwarded(200)
        count = max(200, int(plan.seconds * 200 / warm["seconds"]))
        self._say(f"{count:,} forwards")
        database = self._place.database
        before = database.stored if database is not None else 0
        found = self._forwarded(count)
        if database is not None:
            found["stored_bytes"] = (database.stored - before) / count
            found["connection_mib"] = database.connection_mib
        self._forwards_per_second = found["per_second"]
        return found

    def _forwarded(self, count: int) -> Result:
        accounts = self._accounts(self._plan.recipients)
        files = self._pack(count, accounts)
        with self._load("forward_http", files=files, connections=self._plan.connections) as job:
            (result,), spent = self._timed([job])
        stored = self._waiting(accounts)
        if result["accepted"] != count or stored != count:
            raise Inconsistent(
                f"{self._name}: {count} forwards were sent, {result['accepted']} accepted and {stored} are"
                " stored"
            )
        took = sorted(result["took"])
        return {
            "count": count,
            "stored": stored,
            "seconds": result["seconds"],
            "per_second": count / result["seconds"],
            "p50_ms": 1e3 * _share(took, 0.5),
            "p99_ms": 1e3 * _share(took, 0.99),
            "bytes": len(packed(files[:1])[0][1]),
            **spent.each(count),
        }

    def live(self) -> Result:
        """From posting to arrival on a WebSocket: on the same node, and over another one."""
        near = self._delivered("the same node", shift=0)
        if len(self._place.urls) == 1:
            return {"near": near}
        return {"near": near, "far": self._delivered("another node", shift=1)}

    def _delivered(self, where: str, shift: int) -> Result:
        plan, urls = self._plan, self._place.urls
        rate = plan.rate or max(50.0, self._forwards_per_second / 4)
        count = max(50, int(rate * plan.seconds))
        self._say(f"{count:,} live deliveries on {where}, {rate:,.0f}/s")
        accounts = self._accounts(plan.recipients)
        # Who receives on a node is sent to over that one, or over the next.
        senders: list[tuple[str, list[str]]] = []
        for number, url in enumerate(urls):
            mine = accounts[number :: len(urls)]
            share = count // len(urls) + (number < count % len(urls))
            senders.append((urls[(number + shift) % len(urls)], self._pack(share, mine)))
            assert url
        with ExitStack() as stack:
            receiver = stack.enter_context(
                self._load("live_receive", accounts=accounts, count=count, seconds=plan.seconds)
            )
            sending = [
                stack.enter_context(
                    plan.generators.load(
                        "live_send",
                        mediator=self._place.did,
                        nodes=[url],
                        files=files,
                        rate=rate / len(urls),
                        connections=max(1, plan.connections // len(urls)),
                    )
                )
                for url, files in senders
            ]
            (received, *sent), spent = self._timed([receiver, *sending])
            receiver.go()
            left = receiver.result()["left"]
        at = {tag: moment for each in sent for tag, moment in each["sent"].items()}
        took = sorted(moment - at[tag] for tag, moment in received["arrived"].items())
        refused = sum(each["refused"] for each in sent)
        if refused or len(took) != count or received["twice"] or left:
            raise Inconsistent(
                f"{self._name}: {count} were sent, {refused} refused, {len(took)} arrived,"
                f" {received['twice']} twice, and {left} are left"
            )
        return {
            "count": count,
            "delivered": len(took),
            "rate": rate,
            "p50_ms": 1e3 * _share(took, 0.5),
            "p99_ms": 1e3 * _share(took, 0.99),
            "late_ms": 1e3 * max(each["late"] for each in sent),
            **spent.each(count),
        }

    def pickup(self) -> Result:
        """Mail that waits, fetched and acknowledged."""
        count = max(100, int(self._forwards_per_second * self._plan.seconds / 2))
        self._say(f"{count:,} messages picked up")
        accounts = self._accounts(self._plan.recipients)
        files = self._pack(count, accounts)
        with self._load("forward_http", files=files, connections=self._plan.connections) as sender:
            run_all([sender])
        with self._load("fetch_all", accounts=accounts, connections=len(accounts), limit=PICKED_UP) as job:
            (result,), spent = self._timed([job])
        left = self._waiting(accounts)
        if not result["messages"] == result["distinct"] == count or left:
            raise Inconsistent(
                f"{self._name}: {count} were queued, {result['messages']} fetched, {result['distinct']} of"
                f" them different, and {left} are left"
            )
        return {"count": count, "per_second": count / result["seconds"], **spent.each(count)}

    def attach(self) -> Result:
        """Connecting anew, as agents do after a restart."""
        count = max(20, int(50 * self._plan.seconds))
        accounts = self._accounts(count)
        with self._load("attach", accounts=accounts) as job:
            (result,), spent = self._timed([job])
        return {"count": count, "per_second": count / result["seconds"], **spent.each(count)}

    def idle(self) -> Result:
        """What sockets that say nothing cost the first node; and what all nodes do with nobody."""
        plan = self._plan
        before, moment = self._place.cpus, time.monotonic()
        time.sleep(NOBODY_SECONDS)
        nobody = statistics.fmean(
            (after - earlier) / (time.monotonic() - moment)
            for earlier, after in zip(before, self._place.cpus, strict=True)
        )
        with self._load("idle", count=plan.sockets) as job:
            job.ready()
            memory = self._place.resident()
            job.go()
            job.ready()
            grown = self._place.resident() - memory
            cpu, moment = self._place.cpus[0], time.monotonic()
            time.sleep(plan.seconds)
            busy = (self._place.cpus[0] - cpu) / (time.monotonic() - moment)
            job.go()
            result = job.result()
        if result["open"] != plan.sockets:
            raise Inconsistent(
                f"{self._name}: {plan.sockets} sockets were opened and {result['open']} are open"
            )
        return {
            "sockets": plan.sockets,
            "each_kib": grown / plan.sockets / 1024,
            "nobody_cores": nobody,
            "each_us_per_second": max(0.0, (busy - nobody) / plan.sockets * 1e6),
        }

    def relay(self) -> Result:
        """Packets between the two ends of a session: on the same node, and on two."""
        urls = self._place.urls
        near = self._relayed("the same node", urls[0], urls[0])
        if len(urls) == 1:
            return {"near": near}
        return {"near": near, "far": self._relayed("two nodes", urls[0], urls[1])}

    def _relayed(self, where: str, one: str, other: str) -> Result:
        plan = self._plan
        self._say(f"packets relayed over {where}")
        near_link, far_link = asyncio.run(self._links(one, other))
        trips, bulk = max(50, int(400 * plan.seconds)), max(1, int(8 * plan.seconds)) * MIB
        tls = plan.directory / "certificate.pem"
        tls.write_bytes(certificate())
        with Generators(ENDS) as ends, ends.load("far", certificate=str(tls), link=far_link) as far:
            far.ready()
            with ends.load("near", certificate=str(tls), link=near_link, tcp={}, tls={}) as near:
                near.ready()
                near.ask(over="session", size=SMALL, count=50)
                before = _Spent.of(self._place)
                took = sorted(near.ask(over="session", size=SMALL, count=trips)["took"])
                spent = _Spent.of(self._place) - before
                # Echoed, or compared by its receiver: what differs is an error there.
                seconds = near.ask(over="session", bulk=bulk)["seconds"]
                near.go()
                near.result()
            far.go()
            far.result()
        return {
            "trips": len(took),
            "round_trip_p50_us": 1e6 * _share(took, 0.5),
            "round_trip_p99_us": 1e6 * _share(took, 0.99),
            "packet_cpu_us": spent.nodes / (2 * len(took)) * 1e6,
            "bulk_bytes": bulk,
            "bytes_per_second": bulk / seconds,
        }

    async def _links(self, one: str, other: str) -> tuple[Result, Result]:
        account = Account.new(self._place.did)
        connection = await HttpConnection.connect(*address_of(one))
        await account.enrol(connection)
        request = relay_control.channel_create(1, int(time.time()) + 3600)
        (channel,) = relay_control.parse_channel_created(await account.ask(connection, request))
        connection.close()
        near, far = established_pair()
        return (
            link(self._place.did, near, channel.near, ws=socket_url(one)),
            link(self._place.did, far, channel.far, ws=socket_url(other)),
        )

    # --- what all of them need

    def _say(self, text: str) -> None:
        self._plan.say(f"{self._name}: {text}")

    def _load(self, name: str, **options: Any) -> Load:
        return self._plan.generators.load(
            name, mediator=self._place.did, nodes=list(self._place.urls), **options
        )

    def _timed(self, jobs: Sequence[Load]) -> "tuple[list[Result], _Spent]":
        for job in jobs:
            job.ready()
        before = _Spent.of(self._place)
        for job in jobs:
            job.go()
        return [job.result() for job in jobs], _Spent.of(self._place) - before

    def _accounts(self, count: int) -> list[Result]:
        with self._load("enrol", count=count) as job:
            accounts: list[Result] = run_all([job])[0]["accounts"]
        return accounts

    def _pack(self, count: int, accounts: Sequence[Result]) -> list[str]:
        self._files += 1
        path = str(self._plan.directory / f"{self._name.replace(' ', '-')}-{self._files}")
        dids = [account["identity"]["did"] for account in accounts]
        with self._load(
            "pack_forwards", recipients=dids, count=count, size=self._plan.size, file=path
        ) as job:
            run_all([job])
        return [path]

    def _waiting(self, accounts: Sequence[Result]) -> int:
        with self._load("count_waiting", accounts=accounts) as job:
            return int(run_all([job])[0]["waiting"])


@dataclass(frozen=True, slots=True)
class _Spent:
    """Seconds of CPU."""

    nodes: float
    database: float

    @classmethod
    def of(cls, place: Place) -> "_Spent":
        return cls(place.cpu, place.database_cpu)

    def __sub__(self, other: "_Spent") -> "_Spent":
        return _Spent(self.nodes - other.nodes, self.database - other.database)

    def each(self, count: int) -> Result:
        return {"node_cpu_us": self.nodes / count * 1e6, "database_cpu_us": self.database / count * 1e6}


# --- the store alone


def store(plan: Plan, server: Database) -> Result:
    """What a message costs PostgreSQL: one by one, and many in a group."""
    with server.fresh() as database:
        return _store(plan, database)


def _store(plan: Plan, database: Database) -> Result:
    found: Result = {"version": database.version, "durable": database.durable}
    folder = plan.directory / "store"
    folder.mkdir()
    os.environ.update(
        database.environment
    )  # for the process that talks to it: it is started by now, or later
    with Generators("didmpc.bench.nodes.load") as generators:
        for name, at_once, looks in (("single", 1, 0), ("grouped", AT_ONCE, 40)):
            plan.say(f"PostgreSQL alone, {at_once} at once")
            with generators.load(
                "pairs",
                store=database.url,
                folder=str(folder),
                size=int(4.6 * plan.size),
                seconds=plan.seconds,
                at_once=at_once,
                looks=looks,
            ) as job:
                job.ready()
                written, cpu = database.written, database.cpu
                job.go()
                result = job.result()
                spent = (database.cpu or 0.0) - (cpu or 0.0)
                log = database.written - written
                job.go()
                job.ready()
                cpu = database.cpu
                job.go()
                looked = job.result()
                looking = (database.cpu or 0.0) - (cpu or 0.0)
            if result["left"]:
                raise Inconsistent(f"{result['left']} messages are left in PostgreSQL")
            took = sorted(result["took"])
            found[name] = {
                "at_once": at_once,
                "count": result["count"],
                "per_second": result["count"] / result["seconds"],
                "enqueue_p50_ms": 1e3 * _share(took, 0.5),
                "enqueue_p99_ms": 1e3 * _share(took, 0.99),
                "cpu_us": None if database.pid is None else spent / result["count"] * 1e6,
                "wal_bytes": log / result["count"],
                "look_cpu_us": looking / looked["looks"] * 1e6
                if looks and database.pid is not None
                else None,
            }
    return found


def _share(times: Sequence[float], share: float) -> float:
    return times[min(len(times) - 1, int(share * len(times)))]
