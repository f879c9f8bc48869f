"""The result as a document of a repository: `docs/comparison.md`."""

import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any

from didmpc.bench.compare import sheets
from didmpc.bench.compare.method import method, not_measured
from didmpc.bench.compare.page import TITLE, about, commands

Json = dict[str, Any]


def document(result: Json, *, source: str, command: str, pictures: Sequence[tuple[str, str]] = ()) -> str:
    """`source`: the file that the result is from; `command`: what makes this document of it.

    `pictures`: the caption of each, and where it is from the document on.
    """
    return "\n".join(_lines(result, source, command, pictures)) + "\n"


def _lines(result: Json, source: str, command: str, pictures: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield f"# {TITLE}\n"
    yield "Measured by\n"
    yield from (f"    {_code(line)}" for line in commands(result))
    yield f"\nand written by `{_code(command)}`. Every run and every step is in `{_code(source)}`."
    yield "How the bench works, and how to repeat this: [comparison-bench.md](comparison-bench.md)."
    if caution := sheets.caution(result):
        yield f"\n**{_plain(caution)}**"
    yield "\n## Method"
    yield from _list(method(result))
    yield "\n## Machine\n"
    yield from _table(("what", "value"), about(result))
    tables = sheets.sheets(result)
    ahead = [sheet for sheet in tables if sheet.title == sheets.AIMS]
    for sheet in ahead:
        yield from _sheet(sheet)
    if pictures:
        yield "\n## Plots"
    for number, (caption, place) in enumerate(pictures, 1):
        yield f"\n![{_plain(caption)}](<{place}>)\n\nFigure {number}. {_plain(caption)}"
    for sheet in tables[len(ahead) :]:
        yield from _sheet(sheet)
    if failed := list(sheets.failures(result)):
        yield "\n## What failed"
        yield from _list(failed)
    yield "\n## Not measured"
    yield from _list(not_measured(result))
    yield "\n## Evidence: every step\n\nAs it was done on each host, in order; secrets are left out."
    for title, done in sheets.steps(result):
        # What a browser would take for HTML is text in a code block.
        block = "\n".join(f"    {line}".rstrip() for step in done for line in step.splitlines())
        yield f"\n<details><summary>{escape(title)}: {len(done)} steps</summary>\n\n{block}\n\n</details>"


def _sheet(sheet: sheets.Sheet) -> Iterator[str]:
    yield f"\n## {_plain(sheet.title)}\n\n{_plain(sheet.source)}\n"
    yield from _table(sheet.headings, sheet.rows)
    yield from _list(sheet.notes)


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    names = list(headings)
    yield _row(names)
    yield _row("---" for _ in names)
    for row in rows:
        yield _row(row)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(_plain(cell) for cell in cells)} |"


def _list(lines: list[str]) -> Iterator[str]:
    if lines:
        yield ""
    for line in lines:
        yield f"- {_plain(line)}"


def _plain(text: str) -> str:
    """Words that Markdown takes for nothing else, on one line."""
    return re.sub(r"([\\|<>*_\[\]`])", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    return " ".join(text.replace("`", "").split())
