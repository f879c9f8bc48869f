"""Several nodes of one mediator, and PostgreSQL with standbys: real processes, and what breaks them."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "mediator"))

from cluster_parts.servers import Servers
from postgres import binaries, database, postgres_server

__all__ = ["database", "postgres_server"]


@pytest.fixture
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    """PostgreSQL: a primary and two standbys, of which any one is enough for a commit."""
    if (found := binaries(tmp_path_factory.mktemp("postgres"))) is None:
        pytest.skip("there is no PostgreSQL here: run  make test  once, which installs one into .venv")
    async with Servers(found) as started:
        yield started
