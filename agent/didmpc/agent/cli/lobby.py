"""The lobby on the host's terminal: its link, and what the host types while people gather."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from didmpc.agent.cli.links import show_qr, write_link
from didmpc.agent.cli.screen import Screen
from didmpc.agent.cli.words import duration
from didmpc.protocols.errors import DidmpcError

HINT = "Enter: start with those who are ready     no NAME: send somebody away"
HINT_WHILE_ASKED = "yes NAME: let in     no NAME: send away     Enter: start with those who are ready"


@dataclass(slots=True)
class LobbyScreen:
    """Shows the link once, and makes answers to the agent of typed lines."""

    screen: Screen
    file: Path | None = None
    qr: bool = False
    asks: bool = False  # the host starts it, or lets in everybody
    link: str = ""  # the id of the invitation, once there is one
    _knocking: list[str] = field(default_factory=list)

    def show(self, event: Mapping[str, Any], seconds_left: float) -> None:
        """The link, with what the others type. Raises `DidmpcError` when its file cannot be written."""
        again = self.link == event["id"]
        self.link, url = str(event["id"]), str(event["url"])
        if again:
            return
        if self.file is not None:
            write_link(self.file, url)
        places, minutes = int(event["places"]), math.ceil(seconds_left / 60)
        others = "one other person" if places == 1 else f"{places} others"
        screen = self.screen
        screen.line()
        screen.line(f"Send this to {others} (expires in {duration(60 * minutes)}):", "bold")
        screen.line(f"  {url}")
        if screen.terminal or self.qr:
            show_qr(url, screen, forced=self.qr)
        screen.line(f"They type:  didmpc join '{url}'")
        if event.get("local"):
            screen.line(
                "Your mediator is on this machine or in your network: only people there can use this link.",
                "yellow",
            )
        if self.asks:
            screen.line(HINT)
        screen.line()

    def note(self, event: Mapping[str, Any]) -> None:
        """One step of a party, after it was said: somebody who knocks is to be let in or sent away."""
        name = str(event.get("name"))
        if event.get("state") == "knocking":
            self._knocking.append(name)
            self.screen.line(HINT_WHILE_ASKED)
        elif name in self._knocking:
            self._knocking.remove(name)

    def answer(self, typed: str) -> Mapping[str, Any] | None:
        """What the host means by a line; None, with a word of help, when that is nothing."""
        word, _, name = typed.strip().partition(" ")
        name = name.strip() or (self._knocking[0] if len(self._knocking) == 1 else "")
        if not word:
            return {"start": True}
        if word.lower() in ("y", "yes") and name:
            return {"admit": name}
        if word.lower() in ("n", "no") and name:
            return {"refuse": name}
        self.screen.line(HINT_WHILE_ASKED if self._knocking else HINT)
        return None


def check_options(places: int, *, file: Path | None, confirm: bool, start: str, interactive: bool) -> None:
    """Raise `DidmpcError` for options that only make sense with a link, or at a terminal."""
    if places < 1 and (file is not None or confirm):
        raise DidmpcError(
            "There is no link without places for it.",
            why="Everybody is asked by name.",
            fix="Say how many parties there are, you among them:  --parties 3",
        )
    if not interactive and (confirm or start == "ask"):
        option = "--confirm" if confirm else "--start ask"
        raise DidmpcError(
            f"Nobody can be asked here, which {option} needs.",
            why="There is no terminal.",
            fix=f"Leave out {option}, or run this in a terminal.",
        )
