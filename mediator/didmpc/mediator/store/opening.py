"""Which store it is, and in words why it cannot be opened."""

import logging
import sqlite3

from didmpc.mediator.host import left
from didmpc.mediator.host.home import Home
from didmpc.mediator.limits import Limits
from didmpc.mediator.store.errors import NoDriver
from didmpc.mediator.store.interface import Store
from didmpc.mediator.store.sqlite import FILE, SqliteStore
from didmpc.protocols.errors import LocalMisuse

log = logging.getLogger(__name__)


async def open_store(home: Home, limits: Limits, url: str = "") -> Store:
    """The store of a URL, or that of a home whose lock the caller holds. Raises `LocalMisuse`."""
    if not url:
        return _in_file(home, limits)
    try:
        from didmpc.mediator.store.postgres.opening import open_postgres  # noqa: PLC0415  (an extra)
    except ImportError:
        raise NoDriver from None
    store = await open_postgres(url, home.root, limits)
    if (home.root / FILE).exists() and left.left_for(home.root) is None:
        log.critical(
            "The mail in %s is not served: --store names another place. To move it:"
            "  didmpc mediator migrate --help",
            home.root / FILE,
        )
    return store


def _in_file(home: Home, limits: Limits) -> Store:
    left.check_not_left(home.root)
    try:
        return SqliteStore(home.root, limits)
    except (sqlite3.Error, OSError) as problem:
        raise LocalMisuse(
            f"The mediator's store in {home.root} cannot be opened.",
            why=f"{problem}.",
            fix="Put a backup in its place (didmpc mediator restore FILE --force),"
            " or name another home with --home DIR.",
        ) from None
