"""`didmpc` is one name over five source roots; a stray file in one of them would hide the others."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOTS = ["protocols", "local", "mediator", "agent", "bench"]


@pytest.mark.parametrize("root", ROOTS)
def test_no_source_root_claims_the_namespace_for_itself(root: str) -> None:
    assert (ROOT / root / "didmpc" / root).is_dir()
    assert not (ROOT / root / "didmpc" / "__init__.py").exists()


@pytest.mark.parametrize("root", ROOTS)
def test_every_root_is_importable_side_by_side(root: str) -> None:
    assert importlib.import_module(f"didmpc.{root}").__name__ == f"didmpc.{root}"


def test_no_module_is_called_utils() -> None:
    sources = [path for root in ROOTS for path in (ROOT / root).rglob("*.py")]
    assert sources
    assert not [path for path in sources if re.fullmatch(r"utils?|helpers?|misc|common", path.stem)]


def test_only_the_bridge_imports_the_runtime_of_mpyc() -> None:
    """Its import parses `sys.argv` and assigns module globals, so it belongs in the program process alone.

    What lies in a folder `programs` is run there, and imported nowhere.
    """
    importing = re.compile(r"^\s*(from mpyc(\.runtime)? import|import mpyc\.runtime)", re.MULTILINE)
    found = {
        path.relative_to(ROOT).parts[3]
        for root in ROOTS
        for path in (ROOT / root).rglob("*.py")
        if path.parent.name != "programs" and importing.search(path.read_text())
    }
    assert found <= {"program"}


def test_the_pure_core_reads_no_clock_and_opens_no_socket() -> None:
    banned = re.compile(
        r"^\s*(import|from) (asyncio|socket|aiohttp|time|threading|selectors)\b", re.MULTILINE
    )
    core = list((ROOT / "protocols").rglob("*.py"))
    assert core
    assert not [path.name for path in core if banned.search(path.read_text())]


@pytest.mark.parametrize("name", ["run", "dev", "didcomm", "hosting"])
def test_lock_files_pin_hashes_and_name_no_place(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    pinned = re.findall(r"^[a-z0-9-]+==", text, re.MULTILINE)
    assert len(pinned) > 5
    assert text.count("--hash=sha256:") >= len(pinned)
    assert not re.search(r"://|--(extra-)?index-url|--find-links|\s/\w", text)


def test_the_test_tools_are_locked_with_the_same_versions_as_the_product() -> None:
    pin = re.compile(r"^([a-z0-9-]+)==(\S+)( ; .*?)? \\$", re.MULTILINE)
    run, dev = (
        set(pin.findall((ROOT / "requirements" / f"{name}.txt").read_text())) for name in ("run", "dev")
    )
    assert run
    assert run <= dev
