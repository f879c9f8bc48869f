"""The result as a document of a repository: `docs/comparison.md`."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from didmpc.bench.compare import sheets
from didmpc.bench.compare.page import TITLE, about

Json = dict[str, Any]


def document(result: Json, *, source: str, command: str) -> str:
    """`source`: the file that the result is from; `command`: what makes this document of it."""
    return "\n".join(_lines(result, source, command)) + "\n"


def _lines(result: Json, source: str, command: str) -> Iterator[str]:
    yield f"# {TITLE}\n"
    yield f"Made by `{_code(command)}`.\nEvery run and every step is in `{_code(source)}`."
    yield "How it is measured: [comparison-bench.md](comparison-bench.md).\n"
    if caution := sheets.caution(result):
        yield f"**{_plain(caution)}**\n"
    yield from _table(("what", "value"), about(result))
    for sheet in sheets.sheets(result):
        yield f"\n## {_plain(sheet.title)}\n\n{_plain(sheet.source)}\n"
        yield from _table(sheet.headings, sheet.rows)
        yield from _list(sheet.notes)
    if failed := list(sheets.failures(result)):
        yield "\n## What failed"
        yield from _list(failed)


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
