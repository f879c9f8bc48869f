"""Opening the store in PostgreSQL: what must be so, and in words what is not."""

from pathlib import Path

import asyncpg

from didmpc.mediator.limits import Limits
from didmpc.mediator.store import url as urls
from didmpc.mediator.store.errors import StoreFailed
from didmpc.mediator.store.postgres import PostgresStore
from didmpc.mediator.store.postgres.connection import ConnectFailed, words
from didmpc.protocols.errors import LocalMisuse

PASSWORD = "The password comes from the file that PGPASSFILE names (chmod 600), or from PGPASSWORD."  # noqa: S105


async def open_postgres(url: str, folder: Path, limits: Limits) -> PostgresStore:
    """Makes the tables where they are not there. Raises `LocalMisuse`."""
    try:
        return await PostgresStore.open(url, folder, limits)
    except ConnectFailed as failed:
        raise _cannot_connect(url, failed) from None
    except StoreFailed as failed:
        raise LocalMisuse(
            f"The tables in {urls.without_password(url)} cannot be made or brought up to date.",
            why=f"{failed.why}.",
            fix="The user must own the database:  ALTER DATABASE name OWNER TO user;",
        ) from None
    except (ValueError, OSError) as problem:  # of the URL, or of files that it names
        raise LocalMisuse(
            f"{urls.without_password(url)} cannot be used.", why=f"{words(problem)}.", fix="Correct --store."
        ) from None


def _cannot_connect(url: str, failed: ConnectFailed) -> LocalMisuse:
    shown = urls.without_password(url)
    database = shown.rpartition("/")[2].partition("?")[0]
    for error in failed.errors:
        if isinstance(error, asyncpg.InvalidPasswordError | asyncpg.InvalidAuthorizationSpecificationError):
            return LocalMisuse(
                f"PostgreSQL does not let the mediator in: {shown}.", why=f"{words(error)}.", fix=PASSWORD
            )
        if isinstance(error, asyncpg.InvalidCatalogNameError):
            return LocalMisuse(
                f"There is no database {database} at {shown}.",
                why=f"{words(error)}.",
                fix=f"Make it:  createdb --owner USER {database}",
            )
        if isinstance(error, asyncpg.TooManyConnectionsError):
            return LocalMisuse(
                "PostgreSQL has no connection left for the mediator.",
                why=f"{words(error)}.",
                fix="Raise max_connections: a node takes up to 16.",
            )
    if all(isinstance(error, asyncpg.TargetServerAttributeNotMatched) for error in failed.errors):
        return LocalMisuse(
            f"None of the servers of {shown} can be written to.",
            why=f"{failed}.",
            fix="Name all servers, the primary among them: postgresql://USER@A,B,C/DATABASE",
        )
    return LocalMisuse(
        f"PostgreSQL cannot be reached: {shown}.",
        why=f"{failed}.",
        fix="Start it, or correct --store. Its listen_addresses and pg_hba.conf say who may connect.",
    )
