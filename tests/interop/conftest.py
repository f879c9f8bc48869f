"""PyPI `didcomm` as the peer of every test in here, and our mediator as a process."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from interop_parts import Json, Peer, mediator_process, peer_process


@pytest.fixture(scope="session")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    with peer_process(tmp_path_factory.mktemp("peer") / "log") as child:
        yield Peer(child)


@pytest.fixture(scope="session")
def mediator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Json]:
    """What `didmpc mediator start --json` says when it is ready."""
    place = tmp_path_factory.mktemp("mediator")
    with mediator_process(place / "home", place / "log") as child:
        yield child.hear()
