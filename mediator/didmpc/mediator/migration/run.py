"""What `didmpc mediator migrate` does."""

import asyncio
import contextlib
import json
import sqlite3
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import typer

from didmpc.mediator.host import left
from didmpc.mediator.host.home import KEYS_FILE, Home
from didmpc.mediator.migration.moving import Moved, Owner, Told, check_source, check_target, move
from didmpc.mediator.migration.owners import HomeOwner, NodesOwner
from didmpc.mediator.migration.postgres import PostgresSide, without_password
from didmpc.mediator.migration.side import DONE, Side
from didmpc.mediator.migration.sqlite import SqliteSide
from didmpc.mediator.migration.tables import TABLES
from didmpc.mediator.store.postgres.schema import prepare
from didmpc.mediator.store.sqlite import FILE
from didmpc.protocols.errors import DidmpcError, LocalMisuse

SHOW_EVERY = 1.0
INTERRUPTED = 130


def run(source: str, target: str, *, dry_run: bool, as_json: bool) -> None:
    """Raises `DidmpcError` and typer's `Exit`."""
    one, other = _place(source, "--from"), _place(target, "--to")
    if one.path is None and other.path is None:
        raise LocalMisuse(
            "From one PostgreSQL to another PostgreSQL itself is better.",
            fix="Use pg_dump and pg_restore, or make a standby and promote it.",
        )
    if one.path is not None and other.path is not None:
        raise LocalMisuse(
            "One file is another by copying it.",
            fix="Use  didmpc mediator backup  and  didmpc mediator restore.",
        )
    try:
        result = asyncio.run(_migrate(one, other, dry_run=dry_run, quiet=as_json))
    except KeyboardInterrupt:
        typer.echo(
            "  Stopped: you pressed Ctrl-C. What was copied stays: the same command goes on.", err=True
        )
        sys.exit(INTERRUPTED)  # not by `Exit`: `didmpc` would say once more that it was stopped
    except sqlite3.Error as problem:
        said = str(problem)
        raise DidmpcError(
            "The file failed in the middle of the migration.",
            why=f"{said[:1].upper()}{said[1:]}.",
            fix="The old store is as it was. Give the same command again: it goes on where it was.",
        ) from None
    sys.stdout.write(json.dumps(result) + "\n" if as_json else "\n".join(_lines(result)) + "\n")


@dataclass(frozen=True, slots=True)
class _Place:
    """What a URL names: a file of a home, or a database."""

    url: str
    path: Path | None = None

    @property
    def home(self) -> Home:
        assert self.path is not None
        return Home(self.path.parent)

    @property
    def name(self) -> str:
        return without_password(self.url) if self.path is None else f"sqlite://{self.path}"


def _place(url: str, option: str) -> _Place:
    scheme, mark, rest = url.partition("://")
    if scheme == "sqlite" and mark and rest.startswith("/"):
        path = Path("/" + unquote(rest).lstrip("/"))
        if path.is_dir() or not path.suffix:
            path /= FILE
        if path.name != FILE:
            raise LocalMisuse(
                f"{path} is not where a mediator keeps its mail.",
                why=f"In each home that is {FILE}.",
                fix=f"Name the home:  {option} sqlite://{path.parent}",
            )
        return _Place(url, path)
    if scheme in ("postgresql", "postgres") and mark:
        if urlsplit(url).password is not None or "password=" in urlsplit(url).query:
            raise LocalMisuse(
                f"The password does not belong into {option}.",
                why="Command lines can be read by everybody on this machine.",
                fix="Leave it out, and put it into the file that PGPASSFILE names, or into PGPASSWORD.",
            )
        return _Place(url)
    raise LocalMisuse(
        f"{without_password(url) if mark else url!r} names no store.",
        fix=f"{option} takes sqlite:///PATH/mediator.sqlite3 or postgresql://USER@HOST/DATABASE",
    )


async def _migrate(one: _Place, other: _Place, *, dry_run: bool, quiet: bool) -> dict[str, Any]:
    progress = _Progress(quiet)
    home = (one if one.path is not None else other).home
    if one.path is None and home.load() is None:
        raise LocalMisuse(
            f"{home.root} has no keys.",
            why="They are in the homes of the nodes, and not in the database.",
            fix=f"Copy the {KEYS_FILE} of a node into it (0600), and give the same command again.",
        )
    who = home.require().fingerprint
    async with contextlib.AsyncExitStack() as stack:
        source: Side
        owner: Owner
        if one.path is not None:
            source = SqliteSide(one.path)
            check_source(one.name, await source.note())
            if left.left_for(home.root) not in (None, other.name):
                left.check_not_left(home.root)
            owner = stack.enter_context(HomeOwner(home))
        else:
            source = database = await PostgresSide.open(one.url)
            stack.push_async_callback(database.close)
            await _check_source(database, home)
            owner = nodes = NodesOwner(database, who)
            await nodes.check()
        if dry_run:
            return await _foreseen(source, other, who, owner)
        target = await stack.enter_async_context(_target(other, one, who))
        moved = await move(source, target, owner, who, Told(progress.say, progress.step))
        if other.path is not None:
            left.return_to(home.root)
        return _result(one, other, moved)


@contextlib.asynccontextmanager
async def _target(place: _Place, source: _Place, who: str) -> AsyncIterator[Side]:
    if place.path is None:
        database = await PostgresSide.open(place.url, prepare=prepare)
        try:
            await check_target(database, who, empty=await database.holds_nothing())
            yield database
        finally:
            await database.close()
        return
    with place.home.locked():
        file = SqliteSide(place.path, writes=True)
        try:
            note = await file.note()
            if note is not None and note.state == DONE:
                left.return_to(place.home.root)  # all that was missing, perhaps
            await check_target(file, who, empty=await file.holds_nothing())
            # No mediator takes half of a store for a whole one.
            left.begin(place.home.root, source.name)
            yield file
        finally:
            await file.close()


async def _check_source(database: PostgresSide, home: Home) -> None:
    lacking = await database.lacks()
    if lacking:
        raise LocalMisuse(
            f"{database.name} holds no mediator.",
            why=f"It lacks {', '.join(lacking[:3])}.",
            fix="Name the database that the nodes use, with  --from postgresql://USER@HOST/DATABASE",
        )
    check_source(database.name, await database.note())
    if await database.keys() not in (None, home.require().fingerprint):
        raise LocalMisuse(
            f"{database.name} is of another mediator than {home.root}.",
            why="Their keys are not the same.",
            fix="Copy the mediator.json of a node into the folder that --to names.",
        )


async def _foreseen(source: Side, other: _Place, who: str, owner: Owner) -> dict[str, Any]:
    """What would be moved, and whether it could be."""
    if other.path is None:
        database = await PostgresSide.open(other.url)
        try:
            if not await database.lacks():
                await check_target(database, who, empty=await database.holds_nothing())
        finally:
            await database.close()
    elif other.path.exists():
        file = SqliteSide(other.path)
        await check_target(file, who, empty=await file.holds_nothing())
    async with source.view() as state:
        rows = {table.name: await state.count(table) for table in TABLES}
    return {
        "dry_run": True,
        "from": source.name,
        "to": other.name,
        "runs": not owner.is_still,
        "rows": rows,
    }


def _result(one: _Place, other: _Place, moved: Moved) -> dict[str, Any]:
    verdict = moved.verdict
    return {
        "dry_run": False,
        "from": one.name,
        "to": other.name,
        "passes": [
            {"inserted": each.inserted, "updated": each.updated, "deleted": each.deleted}
            for each in moved.passes
        ],
        "still_seconds": round(moved.still_seconds, 3),
        "mailboxes_compared": verdict.mailboxes,
        "tables": {name: asdict(found) for name, found in verdict.target.items()},
    }


def _lines(result: dict[str, Any]) -> list[str]:
    if result["dry_run"]:
        runs = (
            "A mediator runs on it, and would run on meanwhile."
            if result["runs"]
            else "No mediator runs on it."
        )
        return [
            f"Would be moved from {result['from']} to {result['to']}:",
            *(f"  {name:<18}{count:>14,}" for name, count in result["rows"].items()),
            f"{runs} Nothing was changed.",
        ]
    to = result["to"]
    return [
        f"Moved to {to}; counts and hashes are the same:",
        *(
            f"  {name:<18}{each['count']:>14,}  {each['digest'][:16]}"
            for name, each in result["tables"].items()
        ),
        f"{result['mailboxes_compared']:,} mailboxes with mail were compared one by one.",
        *(
            [
                f"The mediator took nothing in for {result['still_seconds']:.1f} s until now, and never will"
                " again: stop it."
            ]
            if result["still_seconds"]
            else []
        ),
        f"Next:  didmpc mediator start --store {to}"
        if to.startswith("postgres")
        else f"Next:  didmpc mediator start --home {Path(to.removeprefix('sqlite://')).parent}",
    ]


class _Progress:
    """Says on stderr how it goes on: a line that is drawn again on a terminal, else one for each pass."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._draws = sys.stderr.isatty() and not quiet
        self._last = 0.0
        self._open = False

    def say(self, text: str) -> None:
        if not self._quiet:
            self._end()
            typer.echo(f"... {text}", err=True)

    def step(self, table: str, done: int, all_of_them: int) -> None:
        if not self._draws or (time.monotonic() < self._last + SHOW_EVERY and done < all_of_them):
            return
        self._last = time.monotonic()
        sys.stderr.write(f"\r\x1b[K    {table}: {done:,} of {all_of_them:,}")
        sys.stderr.flush()
        self._open = True
        if done >= all_of_them:
            self._end(erase=True)

    def _end(self, *, erase: bool = False) -> None:
        if self._open:
            sys.stderr.write("\r\x1b[K" if erase else "\n")
            sys.stderr.flush()
            self._open = False
