"""Installs what `make test-netlab` needs beside development tools: Python packages, and cloud-init's schema.

Run as a script it installs; imported it says where. What is out of reach is left out, and its tests skipped.
"""

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = ROOT / ".cache" / "cloud-init" / "schema-cloud-config-v1.json"
_IN_PACKAGE = "usr/lib/python3/dist-packages/cloudinit/config/schemas/schema-cloud-config-v1.json"


def _peers() -> object:
    """The interoperability tests' way to install a locked environment."""
    found = importlib.util.spec_from_file_location("peers", ROOT / "tests" / "interop" / "install.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    return module


PYTHON = _peers().Environment("pypi_netlab", ROOT / "requirements" / "netlab.txt")  # type: ignore[attr-defined]


def schema() -> Path | None:
    """Of the installed cloud-init, or of Debian's package of it."""
    installed = Path("/") / _IN_PACKAGE
    return installed if installed.exists() else SCHEMA if SCHEMA.exists() else None


def _fetch_schema() -> str:
    """Out of Debian's package, which stays uninstalled: it would set up this machine anew."""
    if schema() is not None:
        return ""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return "    cloud-init's schema is left out: this is no Debian"
    with tempfile.TemporaryDirectory() as folder:
        for command in (
            ["apt-get", "download", "cloud-init"],
            ["sh", "-c", "dpkg-deb -x cloud-init_*.deb ."],
        ):
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=120, check=False
            )
            if done.returncode != 0:
                return f"    cloud-init's schema is left out: {done.stderr.strip()[-300:]}"
        SCHEMA.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(folder) / _IN_PACKAGE, SCHEMA)
    return ""


def main() -> None:
    for said in (PYTHON.install(), _fetch_schema()):
        if said:
            print(said, flush=True)


if __name__ == "__main__":
    main()
