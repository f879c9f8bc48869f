"""The result as one HTML file that needs nothing else: plots, tables, evidence."""

from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

from didmpc.bench.compare import plots, sheets
from didmpc.bench.compare.method import method, not_measured

Json = dict[str, Any]
TITLE = "Ways to connect MPC parties, compared"
_STYLE = f"""
{plots.style(":root")}
:root {{ color-scheme: light dark; --shade: color-mix(in srgb, var(--ink) 6%, var(--paper));
  --line: color-mix(in srgb, var(--ink) 18%, var(--paper));
  --soft: color-mix(in srgb, var(--ink) 72%, var(--paper)); }}
body {{ font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 68rem;
  margin: 2rem auto; padding: 0 1rem; overflow-wrap: break-word; }}
h1 {{ font-size: 1.6rem; }}
h2 {{ font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid var(--line); }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: 0.85rem; }}
th, td {{ text-align: left; vertical-align: top; padding: 0.25rem 0.6rem; overflow-wrap: normal;
  border-bottom: 1px solid var(--line); }}
thead th {{ border-bottom: 2px solid var(--faint); }}
figure {{ margin: 1.2rem 0; }} figure svg {{ width: min(100%, 34rem); height: auto; }}
figcaption, .source {{ color: var(--soft); font-size: 0.88rem; }}
.caution {{ border-left: 4px solid var(--series1); padding: 0.4rem 0.8rem; background: var(--shade); }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; font-size: 0.8rem; background: var(--shade);
  padding: 0.5rem; }}
@media print {{ body {{ max-width: none; margin: 0; }} details {{ display: none; }}
  h2, figure, tr {{ break-inside: avoid; }} }}
"""


def page(result: Json) -> str:
    """Raises LocalMisuse without matplotlib."""
    return "\n".join(_lines(result)) + "\n"


def _lines(result: Json) -> Iterator[str]:
    drawn = plots.plots(result)
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    # The words come from a file that anybody may have written: nothing in them is ever run or loaded.
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{TITLE}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{TITLE}</h1>"
    if caution := sheets.caution(result):
        yield f'<p class="caution">{escape(caution)}</p>'
    yield f"<pre>{escape(chr(10).join(commands(result)))}</pre>"
    yield f"<h2>Method</h2>{_list(method(result))}"
    if drawn:
        yield "<h2>Figures</h2>"
    for number, plot in enumerate(drawn, 1):
        caption = f"Figure {number}. {plot.caption}"
        svg = plot.svg.replace("<svg", f'<svg role="img" aria-label="{escape(caption)}"', 1)
        yield f"<figure>\n{svg}\n<figcaption>{escape(caption)}</figcaption>\n</figure>"
    for sheet in sheets.sheets(result):
        yield f'<h2>{escape(sheet.title)}</h2>\n<p class="source">{escape(sheet.source)}</p>'
        yield from _table(sheet.headings, sheet.rows)
        if sheet.notes:
            yield f"<details><summary>In their words</summary>{_list(sheet.notes)}</details>"
    if failed := list(sheets.failures(result)):
        yield f"<h2>What failed</h2>{_list(failed)}"
    yield f"<h2>Not measured</h2>{_list(not_measured(result))}"
    yield "<h2>Machine</h2>"
    yield from _table(("what", "value"), about(result))
    yield '<h2>Evidence: every step</h2>\n<p class="source">As it was done on each host, in order.</p>'
    for title, done in sheets.steps(result):
        text = escape("\n".join(done))
        yield f"<details><summary>{escape(title)}: {len(done)} steps</summary><pre>{text}</pre></details>"
    yield "</main>\n</body>\n</html>"


def about(result: Json) -> list[tuple[str, str]]:
    """When and on what it was measured."""
    found = dict(result["machine"])
    if "other_work" in found:
        found["other_work"] = f"{found['other_work']:.0%} of its CPU time while the clock ran"
    shown = [(name.replace("_", " "), str(value)) for name, value in found.items()]
    return [("date", str(result["date"])), *shown]


def commands(result: Json) -> list[str]:
    """What it was measured by."""
    return str(result["command"]).split(" && ")


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    head = "".join(f'<th scope="col">{escape(each)}</th>' for each in headings)
    yield f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>'
    for first, *cells in rows:
        rest = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        yield f'<tr><th scope="row">{escape(first)}</th>{rest}</tr>'
    yield "</tbody></table></div>"


def _list(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"
