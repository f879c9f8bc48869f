"""From what a person typed as PROGRAM to its bundle: a file, `demo:NAME`, or `git+URL@COMMIT#PATH`."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from didmpc.agent.program import about, repository, shipped
from didmpc.agent.program.bundle import Bundle
from didmpc.protocols.errors import LocalMisuse, MessageError
from didmpc.protocols.mpc.proposal import FROM_FILE
from didmpc.protocols.mpc.statement import Statement


@dataclass(frozen=True, slots=True)
class Program:
    """A program, where it is from, and what it says about itself."""

    bundle: Bundle
    source: Mapping[str, str]
    statement: Statement


async def find(typed: str) -> Program:
    """The program that was typed. Raises `DidmpcError`."""
    if typed.startswith(repository.PREFIX):
        place = repository.Place.parse(typed)
        bundle, source = await repository.fetch(place), place.source()
    elif typed.startswith(shipped.PREFIX):
        demo = shipped.find(typed)
        bundle = await asyncio.to_thread(Bundle.collect, demo.path)
        source = {"kind": "demo", "name": demo.name}
    else:
        bundle = await asyncio.to_thread(Bundle.collect, Path(typed))
        source = dict(FROM_FILE)
    return Program(bundle, source, _statement(bundle))


async def fetch_again(source: Mapping[str, str]) -> Program:
    """The program from where a proposal says it is from, for whoever does not take it from the host."""
    if source["kind"] == "git" and not source["repository"].startswith("file:"):
        return await find(f"{repository.PREFIX}{source['repository']}@{source['commit']}#{source['path']}")
    if source["kind"] == "demo":
        return await find(f"{shipped.PREFIX}{source['name']}")
    which = "a git repository" if source["kind"] == "git" else "a file"
    raise LocalMisuse(
        f"--fetch cannot fetch this program: it is from {which} on the host's own machine.",
        why=f"The proposal names {source['repository']}, a path that means something else on yours."
        if source["kind"] == "git"
        else "The proposal names no repository.",
        fix="Leave out --fetch: the host sends it, and its hash is compared. Read it:  "
        "didmpc session show --source     Or compare with a copy of yours:  --program FILE",
    )


def check_stated(bundle: Bundle, stated: Statement) -> None:
    """Check that what a proposal says about its program is what the program says, if that says anything.

    Raises `MessageError`.
    """
    said = about.statement_of(bundle.entry, bundle.contents)
    if (said.by == "program" or stated.by == "program") and said != stated:
        raise MessageError("The proposal says otherwise what the program does than the program's own file.")


def _statement(bundle: Bundle) -> Statement:
    try:
        return about.statement_of(bundle.entry, bundle.contents)
    except MessageError as problem:
        raise LocalMisuse(problem.what, why=problem.why, fix="Mend it, or take the file away.") from None


def stated(program: Program, params: Mapping[str, Any]) -> Statement:
    """What is said about a program, by itself or by its host in `params`. Raises `LocalMisuse`."""
    path, learns, asks = (params.get(name) for name in ("about", "learns", "asks_for"))
    said = program.statement
    try:
        if path:
            if said.by == "program":
                raise LocalMisuse(
                    f"The program says itself what it does, in {about.name_of(program.bundle.entry)}.",
                    fix="Leave --about out, or change that file.",
                )
            said = about.read(Path(path).name, Path(path).read_bytes()[: about.MAX_FILE + 1], by="host")
        if learns:
            said = _host_says(said, "--learns", said.learns, learns=str(learns))
        if asks:
            given = "" if said.asks.kind == "unknown" else said.asks.words()
            said = _host_says(said, "--asks", given, asks=about.ask_from(str(asks)))
        return Statement.of(said.body())
    except MessageError as problem:
        raise LocalMisuse(problem.what, why=problem.why) from None
    except OSError as problem:
        raise LocalMisuse(f"{path} cannot be read.", why=problem.strerror or str(problem)) from None


def _host_says(said: Statement, option: str, already: str, **changes: Any) -> Statement:
    if said.by == "program" or already:
        raise LocalMisuse(
            f"{option} would say otherwise than what is said about the program already.",
            why=f"That is: {already}" if already else "Its own file says what it does.",
            fix=f"Leave {option} out.",
        )
    return replace(said, by="host", **changes)
