"""Clusters of real processes for the end-to-end tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from didmpc.bench.cluster import Cluster

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two mediators and three agents, all contacts of the first, shared by the tests of one file."""
    with Cluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started.start()


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """The same for a test that breaks things which others need."""
    with Cluster(tmp_path / "cluster") as started:
        yield started.start()


@pytest.fixture(scope="session")
def demos() -> Path:
    return ROOT / "demos"


@pytest.fixture(scope="session")
def steps() -> Path:
    """A program whose length is an argument."""
    return Path(__file__).parent / "programs" / "steps.py"


@pytest.fixture(scope="session")
def mpyc_demos() -> Path:
    """MPyC's own demonstration programs, which no one here wrote (their licence lies beside them)."""
    folder = ROOT / "tests" / "agent" / "program" / "mpyc_demos"
    assert (folder / "secretsanta.py").exists()
    return folder
