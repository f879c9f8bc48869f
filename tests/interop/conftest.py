"""The peers of every test in here, each in a process of its own, and our mediator as a process."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from interop_parts import Agent, Drivers, Json, Peer, mediator_process

# The libraries that offer all that DIDComm has; more are asked for by name.
LIBRARIES = ("pypi_didcomm", "npm_didcomm_node")


@pytest.fixture(scope="session")
def drivers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drivers]:
    with Drivers(tmp_path_factory.mktemp("peers")) as running:
        yield running


@pytest.fixture(params=LIBRARIES)
def peer(request: pytest.FixtureRequest, drivers: Drivers) -> Peer:
    """Each of the libraries, or those that a test names."""
    return Peer(drivers.child(request.param))


@pytest.fixture
def identus(drivers: Drivers) -> Agent:
    return Agent(drivers.child("npm_identus"))


@pytest.fixture(scope="session")
def mediator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Json]:
    """What `didmpc mediator start --json` says when it is ready."""
    place = tmp_path_factory.mktemp("mediator")
    with mediator_process(place / "home", place / "log") as child:
        yield child.hear()
