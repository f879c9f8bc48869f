"""A party whose disk is full keeps nobody waiting: it is named at once, and told what to do."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from didmpc.bench.cluster import Cluster


@pytest.fixture
def carols_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, so that it can really be full."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    home = tmp_path / "cluster" / "carol"
    home.mkdir(parents=True, mode=0o700)
    command = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", str(home)]
    mounted = subprocess.run(command, check=False, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield home
    finally:
        subprocess.run(["umount", "-l", str(home)], check=True)


def fill(folder: Path) -> Path:
    for name, size in (("much", 1 << 16), ("little", 1)):
        with (folder / name).open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x" * size)
    return folder


@pytest.mark.soak
def test_whose_disk_is_full_is_named_at_once(tmp_path: Path, carols_disk: Path, steps: Path) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.start()
        fill(carols_disk)
        running = cluster.begin(steps, "--wait", "40", arguments=["5", "0.1"], as_json=False)
        alice, bob, carol = [each.wait(30) for each in running]
        for other in (alice, bob):
            assert (
                other.status == 1 and "Carol" in other.stderr.splitlines()[-3] + other.stderr.splitlines()[-2]
            )
            assert "no room left" in other.stderr
        assert carol.status == 1 and "The disk is full" in carol.stderr and "df -h" in carol.stderr
        for name in ("much", "little"):
            (carols_disk / name).unlink()
        results = cluster.compute(steps, arguments=["3", "0"])
        assert [result["ok"] for result in results] == [True] * 3, "once there is room it takes part again"
