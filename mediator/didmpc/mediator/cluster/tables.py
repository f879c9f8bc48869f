"""What the nodes know of each other through the database: its tables `mediator`, `node`, `term`,
`live` and `bound`.

Each method is one round trip, and is as good done twice as once. Raises `StoreFailed` where PostgreSQL does
not do it.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from didmpc.mediator.cluster.messages import PROTOCOL
from didmpc.mediator.neighbours import Place
from didmpc.mediator.store.postgres.connection import PATIENCE, Connection, Postgres

FORGOTTEN_AFTER = 60.0
"""Seconds after which the row of a node that stopped without a word is deleted."""


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One node, as it said of itself at its last beat."""

    id: int
    url: str
    key: str
    version: str
    protocol: int
    since: float
    lease_seconds: float
    """Left of its lease, as far as this server knows."""
    is_there: bool
    """Else it is gone, or cut off from the database."""
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Beat:
    is_held: bool
    """Whether the lease was still held, and is held anew."""
    term: str
    """After a failover, or when nobody could renew a lease, it is another one."""
    clock: float
    """The time of the database."""
    nodes: tuple[NodeRow, ...]


@dataclass(frozen=True, slots=True)
class Claim:
    """Which node delivers to an account; `formers` may still do so too, and pushed what is `held`."""

    node: int
    epoch: int
    formers: frozenset[int]
    held: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Bound:
    """What a bind found: the node of the bind before it, and where the other end is."""

    epoch: int
    former: int | None
    far: Place | None


@dataclass(frozen=True, slots=True)
class Found:
    """An end that is bound at some node that is there."""

    channel: int
    side: int
    place: Place


_NODES = (
    "SELECT id, url, key, version, protocol, extract(epoch FROM since)::float8 AS since,"
    " extract(epoch FROM lease_until - clock_timestamp())::float8 AS lease_seconds,"
    " node_is_there(id) AS is_there, figures::text"
    " FROM node ORDER BY id"
)
_ALIVE = "coalesce((SELECT array_agg(f) FROM unnest(formers) AS f WHERE node_is_there(f)), '{}')"


class Tables:
    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def close(self, *, within: float = PATIENCE) -> None:
        await self._postgres.close(within=within)

    # --- nodes

    async def identify(self, keys: str, url: str) -> tuple[str, str]:
        """The keys and the URL of the mediator whose database this is: these, where it had none."""
        rows = await self._rows(
            "INSERT INTO mediator(keys, url) VALUES ($1, $2) ON CONFLICT (only_one)"
            " DO UPDATE SET keys = mediator.keys RETURNING keys, url",
            *(keys, url),
        )
        return rows[0]["keys"], rows[0]["url"]

    async def move(self, url: str) -> None:
        """The mediator has another public URL now."""
        await self._rows("UPDATE mediator SET url = $1", url)

    async def begin_term(self, seconds: float) -> None:
        """Have nobody taken for gone only because a standby, promoted since, does not know better."""
        await self._rows("SELECT begin_term($1, false)", seconds)

    async def register(self, url: str, key: str, version: str, seconds: float) -> int:
        """A new node; its id. Who had its URL before is no more: nobody else can listen there."""
        rows = await self._rows(
            "WITH before AS (DELETE FROM node WHERE url = $1 AND key <> $2)"
            " INSERT INTO node(url, key, version, protocol, lease_until)"
            " VALUES ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5))"
            " ON CONFLICT (key) DO UPDATE SET url = excluded.url RETURNING id",
            *(url, key, version, PROTOCOL, seconds),
        )
        return int(rows[0]["id"])

    async def nodes(self) -> tuple[NodeRow, ...]:
        return await self._postgres.read(_read_nodes)

    async def beat(self, me: int, seconds: float, figures: Mapping[str, Any]) -> Beat:
        """Renew the lease, unless it has ended; and see who is there."""

        async def job(connection: Connection) -> Beat:
            held, term, clock = await connection.fetchrow(
                "SELECT held, term, extract(epoch FROM clock_timestamp())::float8 FROM node_beat($1, $2, $3)",
                *(me, seconds, json.dumps(figures)),
            )
            return Beat(held, term, clock, await _read_nodes(connection))

        return await self._postgres.peek(job)

    async def return_(self, me: int, url: str, key: str, version: str, seconds: float) -> None:
        """Have a lease again after it has ended, under the same id."""
        await self._rows(
            "INSERT INTO node(id, url, key, version, protocol, lease_until)"
            " VALUES ($1, $2, $3, $4, $5, clock_timestamp() + make_interval(secs => $6))"
            " ON CONFLICT (id) DO UPDATE SET lease_until = excluded.lease_until",
            *(me, url, key, version, PROTOCOL, seconds),
        )

    async def leave(self, me: int) -> None:
        """This node is no more, nor what it had."""
        await self._rows("DELETE FROM node WHERE id = $1", me)

    async def forget_nodes(self) -> None:
        await self._rows(
            "DELETE FROM node WHERE lease_until < clock_timestamp() - make_interval(secs => $1)"
            " AND NOT node_is_there(id)",
            FORGOTTEN_AFTER,
        )

    # --- live accounts

    async def claim(self, me: int, wanted: Mapping[str, bool]) -> dict[str, Claim]:
        """Deliver to these accounts from here; where the value is False, only if no other node does."""
        rows = await self._rows(
            "SELECT * FROM claim_accounts($1, $2, $3)", me, list(wanted), list(wanted.values())
        )
        return {row["account"]: _claim(row) for row in rows}

    async def vacate(self, me: int, epochs: Mapping[str, int]) -> None:
        """Deliver to these accounts no more, where nobody has claimed them since."""
        await self._rows(
            "DELETE FROM live USING unnest($2::text[], $3::bigint[]) AS w(a, e)"
            " WHERE account = w.a AND epoch = w.e AND node = $1",
            *(me, list(epochs), list(epochs.values())),
        )

    async def settle(self, me: int, epochs: Mapping[str, int]) -> None:
        """All former nodes of these accounts have stopped."""
        await self._rows(
            "UPDATE live SET formers = '{}', held = '{}' FROM unnest($2::text[], $3::bigint[]) AS w(a, e)"
            " WHERE account = w.a AND epoch = w.e AND node = $1",
            *(me, list(epochs), list(epochs.values())),
        )

    async def owners(self, accounts: Collection[str]) -> dict[str, int]:
        """Which node delivers to which of these accounts, where one does."""
        rows = await self._read(
            "SELECT account, node FROM live WHERE account = ANY($1) AND node_is_there(node)", list(accounts)
        )
        return {row["account"]: row["node"] for row in rows}

    async def claims(self, accounts: Collection[str]) -> dict[str, Claim]:
        """These accounts, with those of their former nodes that are there."""
        rows = await self._read(
            f"SELECT account, node, epoch, {_ALIVE} AS formers, held FROM live WHERE account = ANY($1)",  # noqa: S608
            list(accounts),
        )
        return {row["account"]: _claim(row) for row in rows}

    async def asked_to_yield(self, me: int) -> dict[str, Claim]:
        """What other nodes have claimed and this one has not yet given up."""
        rows = await self._read(
            "SELECT account, node, epoch, formers, held FROM live"
            " WHERE formers @> ARRAY[$1::bigint] AND formers <> '{}'",
            me,
        )
        return {row["account"]: _claim(row) for row in rows}

    async def give_up(self, me: int, held: Mapping[str, Sequence[int]]) -> None:
        """Say that this node delivers no more to these accounts, and what is on its way to its sockets."""
        for account, seqs in sorted(held.items()):
            await self._rows(
                "UPDATE live SET formers = array_remove(formers, $1), held = held || $3::bigint[]"
                " WHERE account = $2 AND formers @> ARRAY[$1::bigint]",
                *(me, account, list(seqs)),
            )

    async def shut(self, accounts: Collection[str]) -> frozenset[str]:
        """Which of these accounts have gone, or are denied."""
        rows = await self._read(
            "SELECT w.a FROM unnest($1::text[]) AS w(a)"
            " WHERE NOT EXISTS (SELECT FROM account WHERE did = w.a)"
            " OR EXISTS (SELECT FROM rule WHERE did = w.a AND NOT allowed)",
            list(accounts),
        )
        return frozenset(row["a"] for row in rows)

    async def news(self, me: int, after: int) -> tuple[frozenset[str], int]:
        """Accounts that this node delivers to and that have mail after `after`; and the last mail of all."""

        async def job(connection: Connection) -> tuple[frozenset[str], int]:
            last = await connection.fetchval("SELECT coalesce(max(seq), 0) FROM msg")
            rows = await connection.fetch(
                "SELECT DISTINCT live.account FROM msg JOIN box USING (mid) JOIN account USING (aid)"
                " JOIN live ON live.account = account.did WHERE live.node = $1 AND msg.seq > $2",
                *(me, after),
            )
            return frozenset(row["account"] for row in rows), int(last)

        return await self._postgres.read(job)

    async def still_there(self, seqs: Collection[int]) -> frozenset[int]:
        """Which of this mail is not deleted."""
        rows = await self._read("SELECT seq FROM msg WHERE seq = ANY($1::bigint[])", list(seqs))
        return frozenset(row["seq"] for row in rows)

    # --- ends of channels

    async def bind(self, me: int, ends: Collection[tuple[int, int]]) -> dict[tuple[int, int], Bound]:
        """These ends are bound here now."""
        rows = await self._rows(
            "SELECT * FROM bind_ends($1, $2, $3)",
            *(me, [channel for channel, _ in ends], [side for _, side in ends]),
        )
        return {
            (row["channel"], row["side"]): Bound(
                row["epoch"],
                row["former"],
                None if row["far_node"] is None else Place(row["far_node"], row["far_epoch"]),
            )
            for row in rows
        }

    async def unbind(self, me: int, ends: Collection[tuple[int, int, int]]) -> None:
        """These ends (channel, side, epoch) are bound here no more."""
        await self._rows(
            "WITH quick AS (SELECT set_config('synchronous_commit', 'off', true))"
            " DELETE FROM bound USING quick, unnest($2::bigint[], $3::smallint[], $4::bigint[]) AS w(c, s, e)"
            " WHERE channel = w.c AND side = w.s AND epoch = w.e AND node = $1",
            *(me, *([each[column] for each in ends] for column in range(3))),
        )

    async def rebind(self, me: int, ends: Collection[tuple[int, int, int]]) -> None:
        """Write down again ends that the database does not know of: it lost them with its primary."""
        await self._rows(
            "INSERT INTO bound(channel, side, node, epoch) SELECT w.c, w.s, $1, w.e"
            " FROM unnest($2::bigint[], $3::smallint[], $4::bigint[]) AS w(c, s, e) ON CONFLICT DO NOTHING",
            *(me, *([each[column] for each in ends] for column in range(3))),
        )

    async def whereabouts(self, channels: Collection[int]) -> list[Found]:
        """The ends of these channels that are bound at nodes that are there."""
        rows = await self._read(
            "SELECT channel, side, node, epoch FROM bound"
            " WHERE channel = ANY($1::bigint[]) AND node_is_there(node)",
            list(channels),
        )
        return [Found(row["channel"], row["side"], Place(row["node"], row["epoch"])) for row in rows]

    async def gone(self, channels: Collection[int]) -> list[int]:
        """Which of these channels were revoked."""
        rows = await self._read(
            "SELECT w.c FROM unnest($1::bigint[]) AS w(c)"
            " WHERE NOT EXISTS (SELECT FROM channel WHERE cid = w.c)",
            list(channels),
        )
        return [row["c"] for row in rows]

    # --- inner

    async def _rows(self, sql: str, *arguments: object) -> list[Any]:
        return (await self._postgres.statement(sql, *arguments)).rows

    async def _read(self, sql: str, *arguments: object) -> list[Any]:
        return await self._postgres.read(lambda connection: connection.fetch(sql, *arguments))


async def _read_nodes(connection: Connection) -> tuple[NodeRow, ...]:
    return tuple(
        NodeRow(**{**row, "figures": json.loads(row["figures"])}) for row in await connection.fetch(_NODES)
    )


def _claim(row: Any) -> Claim:
    return Claim(row["node"], row["epoch"], frozenset(row["formers"]), tuple(row["held"]))
