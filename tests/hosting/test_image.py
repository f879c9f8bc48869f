"""The real docker/Dockerfile, built without a docker engine, and its image run as an operator would.

Debian's debootstrap makes the base, which .cache/hosting keeps; buildah builds and runs the image with
`--isolation chroot`.
"""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from environments import ROOT, missing
from hosting_parts import compute_together, debian, ran

from didmpc.bench.cluster import Cluster, Mediator, Started

pytestmark = pytest.mark.hosting

NOBODY = "10001:10001"


@dataclass(frozen=True)
class Image:
    """The built image, and the commands that reach it."""

    buildah: tuple[str, ...]
    container: str
    root: Path
    """Its file system."""
    config: dict[str, Any]

    @property
    def command(self) -> list[str]:
        """What a container of it runs."""
        return [*self.config["Entrypoint"], *self.config["Cmd"]]

    def run(self, *command: str, **variables: str) -> list[str]:
        """The command line that runs this in the container."""
        options = [f"--env={name}={value}" for name, value in variables.items()]
        return [*self.buildah, "run", "--isolation", "chroot", *options, self.container, "--", *command]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    if why := missing("debootstrap", "podman", "buildah", "unshare"):
        pytest.skip(why)
    if os.geteuid() != 0:
        pytest.skip("building without a docker engine needs root")
    place = tmp_path_factory.mktemp("containers")
    storage = ("--storage-driver", "vfs", "--root", str(place / "root"), "--runroot", str(place / "run"))
    buildah = ("buildah", *storage)
    ran(
        "podman",
        *storage,
        "import",
        debian("base", "python3", "python3-venv", "ca-certificates"),
        "didmpc-base",
    )
    ran(
        *(
            *buildah,
            "bud",
            "--isolation",
            "chroot",
            "--format",
            "docker",
            "--build-arg",
            "BASE=localhost/didmpc-base",
        ),
        *("--file", ROOT / "docker" / "Dockerfile", "--tag", "didmpc-mediator", ROOT),
    )
    inspected = json.loads(ran(*buildah, "inspect", "--type", "image", "didmpc-mediator"))
    container = ran(*buildah, "from", "localhost/didmpc-mediator").strip()
    mounted = Path(ran(*buildah, "mount", container).strip())
    yield Image(buildah, container, mounted, inspected["Docker"]["config"])
    ran(*buildah, "umount", container)
    shutil.rmtree(place)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "cluster", mediator_count=1) as started:
        yield started


def start(cluster: Cluster, command: list[str]) -> Mediator:
    """The image's mediator as that of the cluster."""
    logs = cluster.directory / "logs"
    logs.mkdir(parents=True)
    process = Started(command, environment=os.environ, cwd=cluster.directory, logs=logs, name="image")
    mediator = Mediator("image", cluster.directory / "nowhere", process)
    cluster.mediators.append(mediator)
    mediator.process.first_line(60)
    mediator.ready()
    return mediator


def test_the_image_holds_a_mediator_that_is_nobody_and_nothing_to_build_with(image: Image) -> None:
    assert image.config["User"] == NOBODY
    assert image.command == ["didmpc", "mediator", "start"]
    assert image.config["Healthcheck"]["Test"] == ["CMD", "didmpc", "mediator", "ready"]
    assert list(image.config["Volumes"]) == ["/data"] and list(image.config["ExposedPorts"]) == ["8765/tcp"]
    packages = next((image.root / "opt/didmpc/lib").glob("python3*/site-packages"))
    there = {path.name.partition("-")[0] for path in packages.iterdir()}
    assert {"didmpc", "aiohttp"} <= there
    assert not {"pip", "setuptools", "hatchling", "numpy"} & there
    assert not (image.root / "src").exists() and not (image.root / "opt/didmpc/bin/pip").exists()
    writable = ran("find", image.root, "-xdev", "-uid", "10001", "-not", "-path", f"{image.root}/data*")
    assert writable == ""


def test_it_becomes_healthy_and_agents_compute_through_it(
    image: Image, cluster: Cluster, demos: Path
) -> None:
    unhealthy = subprocess.run(
        image.run(*image.config["Healthcheck"]["Test"][1:]), capture_output=True, check=False
    )
    assert unhealthy.returncode == 1  # before it runs
    mediator = start(
        cluster, image.run(*image.command, "--json", "--port", "0", DIDMPC_MEDIATOR_HOST="127.0.0.1")
    )
    ran(*image.run(*image.config["Healthcheck"]["Test"][1:]))
    process = int(ran(*image.run("cat", "/data/mediator.lock")))  # `chroot` keeps the numbers of processes
    assert Path(f"/proc/{process}").stat().st_uid == int(NOBODY.partition(":")[0])
    compute_together(cluster, demos)
    os.kill(process, signal.SIGTERM)
    assert mediator.process.wait().status == 0


READ_ONLY = """
set -e
mount --bind "$ROOT" "$ROOT"
mount -o remount,bind,ro "$ROOT"
mount --bind "$DATA" "$ROOT/data"
mount -t tmpfs -o size=16m,noexec,nosuid,nodev tmpfs "$ROOT/tmp"
exec setpriv --no-new-privs chroot --userspec="$NOBODY" "$ROOT" /usr/bin/env -i "$@"
"""


@pytest.fixture
def read_only(image: Image, tmp_path: Path) -> Callable[..., list[str]]:
    """Command lines that run in the image as compose.yaml has it: read-only but for /data and /tmp."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    os.chown(data, *map(int, NOBODY.split(":")))
    places = [f"ROOT={image.root}", f"DATA={data}", f"NOBODY={NOBODY}"]

    def command(*arguments: str) -> list[str]:
        variables = [*image.config["Env"], "DIDMPC_MEDIATOR_HOST=127.0.0.1"]
        return ["env", *places, "unshare", "--mount", "sh", "-c", READ_ONLY, "sh", *variables, *arguments]

    return command


def test_a_read_only_file_system_is_enough_for_it(
    image: Image, cluster: Cluster, read_only: Callable[..., list[str]]
) -> None:
    refused = subprocess.run(read_only("touch", "/opt/x", "/x"), capture_output=True, text=True, check=False)
    assert refused.returncode == 1 and "Read-only file system" in refused.stderr
    mediator = start(cluster, read_only(*image.command, "--json", "--port", "0"))
    said = ran(*read_only("didmpc", "mediator", "status", "--json"))
    assert json.loads(said)["running"] is True
    ran(*read_only(*image.config["Healthcheck"]["Test"][1:]))
    mediator.process.send(signal.SIGTERM)
    assert mediator.process.wait().status == 0
