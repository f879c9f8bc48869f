"""What the screen shows with and without a terminal."""

import io

import pytest

from didmpc.agent.cli.screen import Screen
from didmpc.agent.cli.text import printable, width


class TerminalText(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(draw, *, terminal: bool) -> str:
    stream = TerminalText() if terminal else io.StringIO()
    draw(Screen(stream, terminal=terminal))
    return stream.getvalue()


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_without_a_terminal_lines_are_plain():
    assert shown(lambda s: s.line("Bob is ready.", "green"), terminal=False) == "  Bob is ready.\n"


def test_on_a_terminal_lines_have_colour():
    assert "\x1b[32m" in shown(lambda s: s.line("Bob is ready.", "green"), terminal=True)


def test_no_color_takes_the_colours_away(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in shown(lambda s: s.line("Bob is ready.", "green"), terminal=True)


@pytest.mark.parametrize("terminal", [True, False])
def test_what_others_wrote_is_shown_as_text_only(terminal):
    out = shown(
        lambda s: s.line("a\x1b[31mb\rc\x9bd\u202ee\u2028f [bold]g[/bold] :smile:"), terminal=terminal
    )
    assert out == "  a [31mb c d e f [bold]g[/bold] :smile:\n"


def test_columns_line_up_with_wide_characters():
    out = shown(lambda s: s.table(("Name", "DID"), [("田中", "x"), ("Bob", "y")]), terminal=False)
    lines = out.splitlines()
    assert {width(line[: line.index(mark)]) for line, mark in zip(lines, ("DID", "x", "y"), strict=True)} == {
        9
    }


def test_an_error_says_what_why_and_what_next():
    out = shown(lambda s: s.error("It broke.", "A cause.", "didmpc doctor"), terminal=False)
    assert out.splitlines() == ["  It broke.", "  A cause.", "  didmpc doctor"]


def test_a_moving_status_exists_on_terminals_only():
    assert shown(lambda s: s.status("Waiting"), terminal=False) == ""

    def draw(screen):
        screen.status("Waiting for Bob")
        screen.line("Bob is ready.")
        screen.clear_status()

    out = shown(draw, terminal=True)
    waiting, ready = out.index("Waiting for Bob"), out.index("Bob is ready.")
    assert "\x1b[1A\x1b[J" in out[waiting:ready]  # the line is taken away first
    assert "\x1b[?25l" not in out  # the cursor is never hidden


def test_a_line_after_an_unanswered_question_begins_anew():
    def draw(screen):
        screen.ask("Take part? [y/N]")
        screen.line("Withdrawn.")

    assert shown(draw, terminal=False) == "  Take part? [y/N] \n  Withdrawn.\n"


def test_a_screen_that_went_away_is_no_failure():
    stream = io.StringIO()
    stream.close()
    screen = Screen(stream, terminal=False)
    screen.line("to nobody")
    screen.error("to nobody")


def test_printable_is_bounded_and_says_what_it_left_out():
    assert printable("x" * 1_000_000) == "x" * 4000 + "... (996000 more characters)"
