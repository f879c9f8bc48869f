"""Moving a store: whatever it holds, whatever changes meanwhile, wherever it is broken off."""

import asyncio
import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from didmpc.mediator.host import left
from didmpc.mediator.host.home import Home
from didmpc.mediator.limits import Limits
from didmpc.mediator.migration.copying import copy_all
from didmpc.mediator.migration.moving import NotEqual, Told, check_target, move
from didmpc.mediator.migration.owners import HomeOwner
from didmpc.mediator.migration.side import COPYING, DONE, LEFT, Note
from didmpc.mediator.migration.sqlite import SqliteSide
from didmpc.mediator.migration.tables import TABLES
from didmpc.mediator.migration.verifying import canonical, compare
from didmpc.mediator.store import StoreFailed
from didmpc.mediator.store.sqlite import FILE, SqliteStore
from didmpc.mediator.store.sqlite.database import make
from didmpc.mediator.store.sqlite.schema import STEPS
from didmpc.protocols.errors import DidmpcError, LocalMisuse

# --- stores that hypothesis makes: rows as the mediator writes them, of few names, so that they get in each
# other's way

NUMBERS = st.integers(1, 4)
TIMES = st.floats(0, 2e9, allow_nan=False)
NAMES = st.sampled_from(["did:example:a", "did:example:b", "did:example:é", "did:example:Z"])
BODIES = st.binary(max_size=40)
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("account"), NUMBERS, NAMES, TIMES),
        st.tuples(st.just("box"), NUMBERS, NUMBERS, NAMES),
        st.tuples(st.just("mail"), NUMBERS, BODIES, TIMES),
        st.tuples(st.just("acknowledge"), st.integers(0, 30)),
        st.tuples(st.just("seen"), BODIES, st.one_of(st.none(), NUMBERS)),
        st.tuples(st.just("channel"), NUMBERS, NAMES, TIMES),
        st.tuples(st.just("revoke"), NAMES),
        st.tuples(st.just("link"), NAMES, NUMBERS, st.text(max_size=5)),
        st.tuples(st.just("rule"), NAMES, st.booleans()),
        st.tuples(st.just("ticket"), NAMES, NUMBERS),
        st.tuples(st.just("operator_message"), NAMES, st.text(max_size=9)),
        st.tuples(st.just("outgoing"), BODIES, TIMES),
        st.tuples(st.just("sent"), BODIES),
        st.tuples(st.just("evict"), NUMBERS),
        st.tuples(st.just("leave box"), NUMBERS),
    ),
    max_size=40,
)


def act(db: sqlite3.Connection, what: str, *v: Any) -> None:
    """One thing that happens in a store; what cannot be is nothing."""
    try:
        match what:
            case "account":
                db.execute("DELETE FROM account WHERE did = ? AND aid <> ?", (v[1], v[0]))
                db.execute(
                    "INSERT INTO account(aid, did, long_did, created) VALUES (?, ?, ?, ?)"
                    " ON CONFLICT(aid) DO UPDATE SET did = excluded.did",
                    (v[0], v[1], v[1] + ":long", v[2]),
                )
            case "box":
                db.execute(
                    "INSERT INTO box(mid, aid, did, long_did) VALUES (?, ?, ?, ?)", (*v, v[2] + ":long")
                )
            case "mail":
                mid, body, at = v
                digest = hashlib.sha256(body).digest()
                db.execute(
                    "INSERT INTO msg(mid, at, exp, size, h, body, packet) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (mid, at, at + 60, len(body), digest, body, len(body) % 2),
                )
                db.execute("UPDATE box SET n = n + 1, bytes = bytes + ? WHERE mid = ?", (len(body), mid))
            case "acknowledge":
                for mid, size, digest in db.execute(
                    "DELETE FROM msg WHERE seq = ? RETURNING mid, size, h", v
                ).fetchall():
                    db.execute("UPDATE box SET n = n - 1, bytes = bytes - ? WHERE mid = ?", (size, mid))
                    db.execute("INSERT OR REPLACE INTO acknowledged VALUES (?, ?, 5.5)", (mid, digest))
            case "seen":
                db.execute("INSERT INTO seen(h, exp, aid) VALUES (?, 1e18, ?)", v)
            case "channel":
                row = db.execute("INSERT INTO channel(aid, name, exp) VALUES (?, ?, ?)", v)
                for side in (0, 1):
                    h = b"%d %d" % (row.lastrowid or 0, side)
                    db.execute(
                        "INSERT INTO capability(h, cid, side) VALUES (?, ?, ?)", (h, row.lastrowid, side)
                    )
            case "revoke":
                db.execute("DELETE FROM channel WHERE name = ?", v)
            case "link":
                db.execute("INSERT INTO link(name, aid, oob, exp) VALUES (?, ?, ?, 9.0)", v)
            case "rule":
                db.execute("INSERT OR REPLACE INTO rule VALUES (?, ?)", v)
            case "ticket":
                db.execute("INSERT OR REPLACE INTO ticket VALUES (?, ?, 9.0)", v)
            case "operator_message":
                db.execute("INSERT INTO operator_message(at, did, text) VALUES (1.5, ?, ?)", v)
            case "outgoing":
                db.execute(
                    "INSERT INTO outgoing(uri, host, due, exp, size, h, body)"
                    " VALUES ('u', 'h', ?, 9, ?, ?, ?)",
                    (v[1], len(v[0]), hashlib.sha256(v[0]).digest(), v[0]),
                )
            case "sent":
                db.execute("DELETE FROM outgoing WHERE body = ?", v)
            case "evict":
                db.execute("DELETE FROM account WHERE aid = ?", v)
            case "leave box":
                db.execute("DELETE FROM box WHERE mid = ?", v)
    except (sqlite3.IntegrityError, UnicodeEncodeError):
        pass


def happen(path: Path, acts: Sequence[tuple[Any, ...]]) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA foreign_keys=ON")
        db.execute("PRAGMA synchronous=OFF")
        for each in acts:
            act(db, *each)
        db.commit()


class Killed(BaseException):
    """As if by kill -9: nothing is tidied up."""


class Mortal(SqliteSide):
    """A target whose migration is killed before one of its writes, or just after it."""

    def __init__(self, path: Path, lives: int | None = None, *, after: bool = False) -> None:
        super().__init__(path, writes=True)
        self._writing.execute("PRAGMA synchronous=OFF")
        self.lives, self.after = lives, after

    def _many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        if self.lives is not None:
            self.lives -= 1
            if self.lives < 0 and not self.after:
                raise Killed
        super()._many(statement, rows)
        if self.lives is not None and self.lives < 0:
            raise Killed


class Nobody:
    """Nothing runs on the source; it counts what happens between passes."""

    def __init__(self, between: Callable[[], None] | None = None) -> None:
        self._between = between
        self.left: str | None = None

    @property
    def is_still(self) -> bool:
        if self._between is not None:
            self._between()
            self._between = None
            return False
        return True

    @asynccontextmanager
    async def still(self) -> Any:
        yield

    async def leave(self, target: str) -> None:
        self.left = target


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], tuple[Path, Path]]]:
    root = tmp_path_factory.mktemp("stores")
    made = 0

    def fresh() -> tuple[Path, Path]:
        nonlocal made
        made += 1
        for name in ("from", "to"):
            make(root / f"{made}-{name}", STEPS)
        return root / f"{made}-from", root / f"{made}-to"

    yield fresh


@settings(max_examples=60, deadline=None)
@given(before=ACTS, meanwhile=ACTS, later=ACTS, lives=st.integers(0, 12), after=st.booleans())
def test_whatever_a_store_holds_is_moved_whenever_it_is_killed_and_whatever_changes_meanwhile(
    places: Callable[[], tuple[Path, Path]],
    before: list[Any], meanwhile: list[Any], later: list[Any], lives: int, after: bool,
) -> None:  # fmt: skip
    one, other = places()
    happen(one, before)

    async def run() -> None:
        source = SqliteSide(one)
        with suppress(Killed):
            await copy_all(source, Mortal(other, lives, after=after))
        happen(one, meanwhile)
        target = Mortal(other)
        await copy_all(source, target)
        happen(one, later)
        tally = await copy_all(source, target)
        verdict = await compare(source, target)
        assert verdict.equal, verdict
        again = await copy_all(source, target)
        assert again.changes == 0, (tally, again)

    asyncio.run(run())
    with closing(sqlite3.connect(one)) as left_, closing(sqlite3.connect(other)) as right:
        for table in TABLES:
            find = f"SELECT * FROM {table.name} ORDER BY {', '.join(table.key)}"
            assert left_.execute(find).fetchall() == right.execute(find).fetchall() or table.name in (
                "operator_message",  # a NUL in it is replaced
            )


def small(path: Path) -> None:
    happen(
        path,
        [
            ("account", 1, "did:example:a", 1.0),
            ("box", 1, 1, "did:example:a"),
            ("mail", 1, b"one", 1.0),
            ("mail", 1, b"two", 2.0),
            ("acknowledge", 2),
        ],
    )


def test_an_id_that_was_given_out_never_comes_back(places: Callable[[], tuple[Path, Path]]) -> None:
    one, other = places()
    small(one)
    asyncio.run(copy_all(SqliteSide(one), Mortal(other)))
    happen(other, [("mail", 1, b"three", 3.0)])
    with closing(sqlite3.connect(other)) as db:
        assert [seq for (seq,) in db.execute("SELECT seq FROM msg")] == [1, 3]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE msg SET body = x'00' WHERE seq = 1", "mailbox 1 differs"),
        ("UPDATE msg SET body = x'00' WHERE seq = 1", "damaged"),
        ("DELETE FROM msg", "msg differs"),
        ("UPDATE account SET created = 5", "account differs"),
        ("INSERT INTO rule VALUES ('did:example:x', 0)", "rule differs"),
        ("UPDATE sqlite_sequence SET seq = 1 WHERE name = 'msg'", "ids of msg could come back"),
    ],
)
def test_whatever_is_not_the_same_afterwards_is_found_and_the_old_store_stays_in_use(
    places: Callable[[], tuple[Path, Path]], change: str, said: str
) -> None:
    one, other = places()
    small(one)

    class Faulty(Mortal):
        async def set_highest(self, table: Any, key: int) -> None:
            await super().set_highest(table, key)
            if table is TABLES[-1]:
                self._writing.execute(change)

    owner = Nobody()
    with pytest.raises(NotEqual, match=said) as caught:
        asyncio.run(move(SqliteSide(one), Faulty(other), owner, "me", Told()))
    assert owner.left is None and "stays in use" in caught.value.fix


def test_passes_are_made_until_little_changes_and_then_the_old_store_is_left(
    places: Callable[[], tuple[Path, Path]],
) -> None:
    one, other = places()
    small(one)
    owner = Nobody(lambda: happen(one, [("mail", 1, b"meanwhile", 3.0)]))
    target = Mortal(other)
    moved = asyncio.run(move(SqliteSide(one), target, owner, "me", Told()))
    assert len(moved.passes) == 2 and moved.verdict.source["msg"].count == 2
    assert moved.verdict.mailboxes == 1 and owner.left == target.name
    assert asyncio.run(target.note()) == Note("me", DONE)


@pytest.mark.parametrize(
    ("note", "empty", "said"),
    [
        (None, False, "not empty"),
        (Note("me", DONE), False, "finished"),
        (Note("somebody else", COPYING), False, "another migration"),
        (Note("me", LEFT), False, "was left"),
    ],
)
def test_a_target_that_has_something_else_is_refused(
    places: Callable[[], tuple[Path, Path]], note: Note | None, empty: bool, said: str
) -> None:
    target = Mortal(places()[1])

    async def run() -> None:
        if note is not None:
            await target.set_note(note)
        await check_target(target, "me", empty=empty)

    with pytest.raises(LocalMisuse) as caught:
        asyncio.run(run())
    assert said in f"{caught.value.what} {caught.value.why}" and caught.value.fix
    asyncio.run(target.set_note(Note("me", COPYING)))
    asyncio.run(check_target(target, "me", empty=False))  # its own half


ROWS = st.tuples(st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.binary()))


@settings(deadline=None)
@given(st.lists(ROWS), st.lists(ROWS))
def test_no_two_rows_have_the_same_canonical_form(one: list[Any], other: list[Any]) -> None:
    def exact(rows: list[Any]) -> list[Any]:
        return [[(type(value), value) for value in row] for row in rows]

    same = b"".join(map(canonical, one)) == b"".join(map(canonical, other))
    assert same == (exact(one) == exact(other))


# --- a mediator that keeps still


async def test_a_held_store_refuses_writes_until_it_is_let_go_and_says_when_it_was(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, Limits())
    try:
        await store.enrol("did:example:a", 1.0)
        number = await store.hold(60)
        assert number == await store.hold(1) == store.held()  # a shorter one takes nothing back
        with pytest.raises(StoreFailed, match="moved") as caught:
            await store.enrol("did:example:b", 1.0)
        assert await store.is_enrolled("did:example:a"), caught
        store.release()
        assert store.held() is None
        await store.enrol("did:example:b", 1.0)
        assert await store.hold(60) != number
    finally:
        await store.close()


async def test_a_home_that_was_left_is_not_started_and_says_where_to(tmp_path: Path) -> None:
    left.check_not_left(tmp_path)
    left.leave(tmp_path, "postgresql://didmpc@db/didmpc")
    with pytest.raises(LocalMisuse, match="moved to postgresql://didmpc@db/didmpc"):
        left.check_not_left(tmp_path)
    left.begin(tmp_path, "postgresql://didmpc@db/didmpc")  # and then everything is moved back
    with pytest.raises(LocalMisuse, match="half of a mediator") as caught:
        left.check_not_left(tmp_path)
    assert f"--from postgresql://didmpc@db/didmpc --to sqlite://{tmp_path}" in caught.value.fix
    left.return_to(tmp_path)
    left.check_not_left(tmp_path)


async def test_a_mediator_that_wrote_again_in_between_is_not_left(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    answers = {"status": {}, "hold": {"hold": 1}, "release": {}, "leave": None}
    with home.locked(), HomeOwner(home, ask=lambda root, method, params=None: answers[method]) as owner:
        assert not owner.is_still
        with pytest.raises(DidmpcError, match="keep still"):
            async with owner.still():
                await owner.leave("elsewhere")
    assert left.left_for(tmp_path) is None and not (tmp_path / FILE).exists()
