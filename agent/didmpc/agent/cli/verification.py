"""`didmpc session verify`: the words of a session, who its parties are known to be, and what people found."""

import sys
from collections.abc import Mapping
from typing import Any

from didmpc.agent.cli.client import ask
from didmpc.agent.cli.errors import write_json
from didmpc.agent.cli.screen import Screen
from didmpc.agent.cli.words import moment
from didmpc.agent.wallet.home import Home

Json = Mapping[str, Any]

MATCH, DIFFER = frozenset({"y", "yes"}), frozenset({"n", "no"})


def verify(home: Home, session: str | None, *, matched: bool | None, as_json: bool) -> None:
    """Show the words; record what was found, or ask for it where somebody can be asked."""
    screen = Screen.standard()
    shown = ask(home, "session-words", {"session": session})
    if not as_json:
        for text, style in words(shown):
            screen.line(text, style)
    if matched is None and not as_json and screen.terminal and sys.stdin is not None and sys.stdin.isatty():
        matched = _asked(screen)
    if matched is not None:
        shown = ask(home, "session-compared", {"session": shown["attempt"], "matched": matched})
    if as_json:
        write_json(shown)
        return
    for text, style in recorded(shown) if matched is not None else not_recorded(shown):
        screen.line(text, style)


def _asked(screen: Screen) -> bool | None:
    """What the person says; None for anything but a plain yes or no."""
    screen.ask("Did all of them read the same words to you? Type yes, no, or nothing if you do not know yet:")
    answer = sys.stdin.readline().strip().lower()
    screen.answered()
    return True if answer in MATCH else False if answer in DIFFER else None


def words(shown: Json) -> list[tuple[str, str]]:
    """What to read aloud, and how each party is known: lines, each with a style."""
    lines = [
        (f"Session {str(shown['attempt'])[:8]}: {shown['title']} ({shown['state']})", ""),
        (" ".join(str(word) for word in shown["words"]), "bold"),
        ("Read them to each other on the telephone, or where you know each other's voice or face.", ""),
    ]
    return lines + [party(each) for each in shown["parties"] if each["how"] != "you"]


def party(each: Json) -> tuple[str, str]:
    """How one party is known."""
    name, contact = str(each["name"]), each.get("contact")
    if contact is not None:
        known = "known contact" if contact == name else f"your contact {contact}"
        when = each.get("verified_at")
        words_too = f"; verified by words on {moment(when)}" if when else "; words never compared"
        return f"{name}: {known}, proven inside this session{words_too}.", "green" if when else ""
    if each["doubt"]:
        return (
            f"{name}: NOT PROVEN to be your contact of this name. Somebody may stand between you: compare.",
            "bold yellow",
        )
    if each["how"] == "words":
        return f"{name}: verified by words, for this session.", "green"
    return f"{name}: introduced by others, not verified: compare.", "yellow"


def recorded(shown: Json) -> list[tuple[str, str]]:
    """What the answer means."""
    if not shown["matched"]:
        ended = "The session was ended for all parties." if shown.get("ended") else "It has ended already."
        return [
            ("The words differ: somebody stands between you, or a word was misheard.", "bold red"),
            (f"{ended} Do not use its result, and give it no more input.", ""),
            ("If they were only misheard:  didmpc session verify", ""),
            ("If not, become contacts anew, over another channel:  didmpc invite", ""),
        ]
    others = [each for each in shown["parties"] if each["how"] != "you"]
    proven = [str(each["contact"]) for each in others if each.get("contact")]
    lines = [(f"Recorded: verified by words on {moment(shown['compared_at'])}.", "bold green")]
    if proven:
        lines.append((f"Later sessions will show it with your contacts: {', '.join(proven)}.", ""))
    lines += [
        (
            f"{each['name']} is in this session, but your contact of that name did not prove itself in it: "
            "somebody stands between you and that contact. Become contacts anew:  didmpc invite",
            "bold red",
        )
        for each in others
        if each["doubt"]
    ]
    strangers = [str(each["name"]) for each in others if not each.get("contact") and not each["doubt"]]
    if strangers:
        lines.append((f"{', '.join(strangers)}: for this session alone, as you are no contacts.", ""))
    return lines


def not_recorded(shown: Json) -> list[tuple[str, str]]:
    """Nobody answered: what is known already, and what to type."""
    if shown["matched"] is None:
        command = f"didmpc session verify {str(shown['attempt'])[:8]}"
        return [(f"Nothing was recorded. When you know:  {command} --yes-they-match   or  --they-differ", "")]
    found = "matched" if shown["matched"] else "differed"
    return [(f"It was recorded on {moment(shown['compared_at'])} that they {found}.", "")]
