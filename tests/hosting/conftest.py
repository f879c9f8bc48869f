"""For the tests of hosting: Chromium, and libraries that only they need."""

import site
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "mediator")]

from environments import PYTHON, missing  # noqa: E402
from postgres import database, postgres_server  # noqa: E402

__all__ = ["database", "postgres_server"]  # fixtures

CHROMIUM = "chromium"


@pytest.fixture(scope="session")
def libraries() -> None:
    """Makes the libraries of requirements/hosting.txt importable, after all others."""
    if not PYTHON.installed():
        pytest.skip(PYTHON.why_not() or "run  make test-hosting  once, to install what this needs")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site.addsitedir(str(PYTHON.folder / "lib" / version / "site-packages"))


@pytest.fixture
async def browser(libraries: None) -> AsyncIterator[Any]:
    """A Chromium of its own, without windows."""
    if why := missing(CHROMIUM):
        pytest.skip(why)
    import shutil

    from playwright.async_api import async_playwright

    async with async_playwright() as driver:
        chromium = await driver.chromium.launch(
            executable_path=shutil.which(CHROMIUM), headless=True, args=["--no-sandbox"]
        )
        yield chromium
        await chromium.close()


@pytest.fixture(scope="session")
def demos() -> Path:
    return Path(__file__).parents[2] / "demos"
