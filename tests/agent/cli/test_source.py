"""A stranger's program is shown as it is, and cannot steer the terminal or deceive the eye."""

from didmpc.agent.cli.source import harmless, listing


def test_what_could_steer_a_terminal_or_hide_is_made_visible() -> None:
    assert harmless("\tx = '\x1b[2J\x07'") == "    x = '\\x1b[2J\\x07'"
    assert harmless("a\u202eb\u200bc\u2028d\r") == "a\\u202eb\\u200bc\\u2028d\\x0d"
    assert harmless("é 漢 ∑") == "é 漢 ∑"
    assert harmless("x" * 3000).endswith("... (1000 more characters)")


def test_every_line_has_its_number_whatever_pretends_to_end_it() -> None:
    files = [
        {"path": "a.py", "size": 20, "text": "one\n# \x0c two\u2028three\n"},
        {"path": "data/x\x1b]0;", "size": 3, "base64": "AAAA"},
        {"path": "big", "size": 10**7},
    ]
    shown = list(listing(files))
    assert shown[:3] == ["==== a.py  (2 lines, 20 bytes)", "1  one", "2  # \\x0c two\\u2028three"]
    assert "==== data/x\\x1b]0;  (3 bytes, no text)" in shown
    assert "==== big  (10.0 MB, too large to show)" in shown
