"""Several nodes of one mediator, and PostgreSQL with standbys: real processes, and what breaks them."""

import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "mediator"))

from cluster_parts import report
from cluster_parts.servers import Servers
from cluster_parts.workplace import workplace as made_workplace
from postgres import Binaries, binaries, database, postgres_server

from didmpc.bench.soak import Log

__all__ = ["database", "postgres_server"]

RAW = pytest.StashKey[Path]()


@pytest.fixture(scope="session")
def seed() -> int:
    return int(os.environ.get("SEED") or 1)


@pytest.fixture(scope="session")
def log(seed: int, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Log]:
    """A raw log, appended to the file that CLUSTER_LOG names."""
    raw = os.environ.get("CLUSTER_LOG") or tmp_path_factory.mktemp("log") / "cluster.jsonl"
    pytestconfig.stash[RAW] = Path(raw)
    with Path(raw).open("a") as file:
        log = Log(file)
        log.write("run", seed=seed)
        yield log


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if (raw := config.stash.get(RAW, None)) is not None and raw.exists():
        with raw.open() as lines:
            for line in report.report(lines):
                terminalreporter.write_line(line)


@pytest.fixture
def workplace() -> Iterator[Path]:
    """All processes that name this folder end with the test."""
    with made_workplace() as folder:
        yield folder


@pytest.fixture
def programs(workplace: Path) -> Binaries:
    """PostgreSQL's."""
    if (found := binaries(workplace)) is None:
        pytest.skip("there is no PostgreSQL here: run  make test  once, which installs one into .venv")
    return found


@pytest.fixture
async def servers(programs: Binaries, workplace: Path) -> AsyncIterator[Servers]:
    """PostgreSQL: a primary and two standbys, of which any one is enough for a commit."""
    async with Servers(programs, workplace / "servers") as started:
        yield started
