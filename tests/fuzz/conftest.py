"""The targets are a package of their own, which the fuzzer imports too."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session", autouse=True)
def mediator_of_the_targets() -> Iterator[None]:
    yield
    from fuzz_targets import service

    if service.mediator.cache_info().currsize:
        service.mediator().close()
        service.mediator.cache_clear()
