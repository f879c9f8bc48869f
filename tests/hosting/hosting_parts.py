"""What the tests of hosting share: commands that must succeed, a port, Debian systems, and a computation."""

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from environments import ROOT

from didmpc.bench.cluster import Cluster

PATIENCE = 900.0
SUITE = "bookworm"
TRUST = Path("etc/ssl/certs/ca-certificates.crt")


def ran(*command: str | Path, **options: Any) -> str:
    """What it said on stdout; a failure shows all that it said."""
    arguments = [str(part) for part in command]
    done = subprocess.run(
        arguments,
        text=True,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
        stdin=subprocess.DEVNULL,
        **options,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def free_port() -> int:
    """For a port that has to be known before whoever listens there is started."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def debian(name: str, *packages: str) -> Path:
    """A tar of a small Debian, made once; it trusts whom this machine trusts, as a proxy of packages."""
    target = ROOT / ".cache" / "hosting" / f"{name}.tar"
    if target.exists():
        return target
    root = target.with_suffix("")
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    ran("debootstrap", "--variant=minbase", f"--include={','.join(packages)}", SUITE, root)
    shutil.copy(Path("/") / TRUST, root / TRUST)
    index = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"],
        capture_output=True,
        text=True,
        check=False,
    )
    chosen = f"index-url = {index.stdout.strip()}\n" if index.returncode == 0 else ""
    (root / "etc" / "pip.conf").write_text(f"[global]\ncert = /{TRUST}\n{chosen}")
    ran("tar", "-C", root, "-cf", target.with_suffix(".new"), ".")
    target.with_suffix(".new").rename(target)
    shutil.rmtree(root)
    return target


def compute_together(cluster: Cluster, demos: Path) -> None:
    """Agents of their own on the cluster's mediator, who meet and compute an average."""
    cluster.start_agents()
    cluster.introduce()
    inputs = {party.name: demos / "inputs" / "salary" / f"{n}.txt" for n, party in enumerate(cluster.parties)}
    results = cluster.compute(demos / "salary.py", inputs=inputs)
    assert all("3,408.33" in json.dumps(result) for result in results), results
