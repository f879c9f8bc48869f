"""Installs what `make test-hosting` needs beside the development tools, each in an environment of its own.

Run as a script it installs; imported it says where. What is out of reach is left out, and its tests skipped.
"""

import importlib.util
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def _peers() -> object:
    """The interoperability tests' way to install a locked environment."""
    found = importlib.util.spec_from_file_location("peers", ROOT / "tests" / "interop" / "install.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    return module


peers = _peers()
PYTHON = peers.Environment("pypi_hosting", ROOT / "requirements" / "hosting.txt")  # type: ignore[attr-defined]
AXE = peers.Environment("npm_axe", HERE / "npm_axe" / "package-lock.json")  # type: ignore[attr-defined]


def missing(*commands: str) -> str:
    """Why a test cannot run here: the commands that are not installed."""
    lacking = [command for command in commands if shutil.which(command) is None]
    return f"not installed: {', '.join(lacking)}" if lacking else ""


def main() -> None:
    for environment in (PYTHON, AXE):
        if said := environment.install():
            print(said, flush=True)


if __name__ == "__main__":
    main()
