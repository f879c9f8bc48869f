"""The demo programs that come with didmpc: `demo:salary`."""

from dataclasses import dataclass
from pathlib import Path

from didmpc.agent.program.bundle import title_of
from didmpc.protocols.errors import LocalMisuse

PREFIX = "demo:"


@dataclass(frozen=True, slots=True)
class Demo:
    """One of them."""

    name: str
    title: str
    path: Path


def folder() -> Path | None:
    """Where they are: in the installed package, or the checkout that runs; None where they are left out."""
    here = Path(__file__).resolve().parent.parent
    installed, checkout = here / "demos", here.parents[2] / "demos"
    return next((place for place in (installed, checkout) if (place / "salary.py").is_file()), None)


def demos() -> list[Demo]:
    """All of them, by name. A program has something said about it (about.py); its helpers have not."""
    place = folder()
    if place is None:
        return []
    found = []
    for about in sorted(place.glob("*.didmpc.toml")):
        path = about.with_name(about.name.removesuffix(".didmpc.toml") + ".py")
        if path.is_file():
            found.append(Demo(path.stem, title_of(path.read_bytes()), path))
    return found


def find(typed: str) -> Demo:
    """The demo that `demo:NAME` names. Raises `LocalMisuse` with the names that there are."""
    name = typed.removeprefix(PREFIX).removesuffix(".py")
    known = demos()
    for demo in known:
        if demo.name == name.replace("-", "_"):
            return demo
    raise LocalMisuse(
        f"There is no demo {name!r}.",
        why=f"There are {', '.join(demo.name for demo in known)}." if known else "None are installed.",
        fix="See what they do:  didmpc demos" if known else "Name a program's file.",
    )
