"""`didmpc doctor`: what is checked, what is wrong, and what to do about it."""

import os
import platform
import stat
import time
from importlib import metadata
from typing import Any

import typer

from didmpc.agent.cli.client import ask
from didmpc.agent.cli.config import Settings, home_of
from didmpc.agent.cli.errors import write_json
from didmpc.agent.cli.options import HomeOption, JsonOption, examples
from didmpc.agent.cli.screen import Screen
from didmpc.agent.wallet.home import Home
from didmpc.protocols.errors import DidmpcError

PATIENCE = 10.0
RELEASED = 1_760_000_000  # a clock before this moment is wrong

Check = dict[str, Any]


def doctor(home: HomeOption = None, as_json: JsonOption = False) -> int:
    """Check home, keys, clock, sandbox, mediator and versions, with a fix for whatever is wrong.

    It works whether or not your agent runs; with the agent it checks more.
    """
    place = home_of(home)
    checks = {check["name"]: check for check in _own_checks(place)}
    try:
        answer = ask(place, "doctor", timeout=PATIENCE)
    except DidmpcError as error:
        checks["agent"] = _check(
            "agent", False, f"{error.what} {error.why}".strip(), error.fix or "didmpc agent start"
        )
    else:
        checks["agent"] = _check("agent", True, "it runs")
        checks |= {str(check["name"]): check for check in answer.get("checks") or []}
    found = list(checks.values())
    failed = [check for check in found if not check.get("ok")]
    screen = Screen.standard()
    for check in found:
        mark, style = ("ok  ", "green") if check.get("ok") else ("FAIL", "bold red")
        screen.line(f"{mark}  {check['name']:<10}  {check.get('detail') or ''}", style)
        if not check.get("ok") and check.get("fix"):
            screen.line(f"                  {check['fix']}", "bold")
    if as_json:
        write_json({"ok": not failed, "checks": found})
    screen.line(
        f"{len(failed)} of {len(found)} checks failed." if failed else f"All {len(found)} checks passed."
    )
    return 1 if failed else 0


def add_to(app: typer.Typer, panel: str) -> None:
    """Add the command of this file."""
    app.command(rich_help_panel=panel, epilog=examples("didmpc doctor", "didmpc doctor --json"))(doctor)


def _own_checks(home: Home) -> list[Check]:
    return [_home(home), _settings(home), _clock(), _sandbox(home), _versions()]


def _check(name: str, ok: bool, detail: str, fix: str = "") -> Check:
    return {"name": name, "ok": ok, "detail": detail, "fix": fix}


def _sandbox(home: Home) -> Check:
    """What programs are locked in with; tried, not guessed."""
    from didmpc.agent.sandbox.choice import choose

    return _check("sandbox", *choose(home.root).report())


def _home(home: Home) -> Check:
    """The folder is there, ours, and nothing in it can be read by others."""
    try:
        own = home.root.stat()
        open_to_others = [
            path
            for path in [home.root, *home.root.iterdir()]
            if not path.is_symlink() and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
        ]
    except FileNotFoundError:
        return _check("home", False, f"{home.root} does not exist yet", "didmpc agent start")
    except OSError as problem:
        return _check("home", False, f"{home.root}: {problem.strerror}", f"ls -ld {home.root}")
    if own.st_uid != os.geteuid():
        return _check("home", False, f"{home.root} belongs to somebody else", "Name your own: --home DIR")
    if open_to_others:
        return _check("home", False, f"others may read {open_to_others[0]}", f"chmod -R go= {home.root}")
    return _check("home", True, str(home.root))


def _settings(home: Home) -> Check:
    try:
        Settings.of(home).wait(None)
    except DidmpcError as error:
        return _check("settings", False, f"{error.what} {error.why}".strip(), error.fix)
    return _check("settings", True, "config.toml and DIDMPC_* can be understood")


def _clock() -> Check:
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    if time.time() < RELEASED:
        return _check(
            "clock", False, f"it says {now}", "Set the clock of this machine (timedatectl set-ntp true)."
        )
    return _check("clock", True, now)


def _versions() -> Check:
    parts = [f"Python {platform.python_version()}"]
    missing = []
    for package in ("didmpc", "mpyc", "cryptography", "aiohttp"):
        try:
            parts.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            missing.append(package)
    if missing:
        return _check("versions", False, f"missing: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    return _check("versions", True, ", ".join(parts))
