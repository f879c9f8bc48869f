"""Opening the store in PostgreSQL: what must be so, and in words what is not."""

import os
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from didmpc.mediator.limits import Limits
from didmpc.mediator.store import url as urls
from didmpc.mediator.store.errors import StoreFailed, StoreRejected, StoreUnsure
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
        raise cannot_use(url, failed) from None
    except (ValueError, OSError) as problem:  # of the URL, or of files that it names
        raise LocalMisuse(
            f"{urls.without_password(url)} cannot be used.", why=f"{words(problem)}.", fix="Correct --store."
        ) from None


def cannot_use(url: str, failed: StoreFailed) -> LocalMisuse:
    """What a start says of a database that was reached."""
    shown = urls.without_password(url)
    if isinstance(failed, StoreUnsure):
        return LocalMisuse(
            f"PostgreSQL does not confirm what is written to {shown}.",
            why=failed.why,
            fix="Start a standby that its synchronous_standby_names names, or correct that setting.",
        )
    if isinstance(failed, StoreRejected):
        return LocalMisuse(
            f"The tables in {shown} cannot be made or brought up to date.",
            why=f"{failed.why}.",
            fix=f"The user must own the database:  ALTER DATABASE {_database(url)} OWNER TO {_user(url)};",
        )
    return LocalMisuse(
        f"{shown} cannot be used.", why=failed.why, fix="See the log of PostgreSQL, and start again."
    )


def _cannot_connect(url: str, failed: ConnectFailed) -> LocalMisuse:
    shown = urls.without_password(url)
    for error in failed.errors:
        if (refused := _refused(url, error)) is not None:
            return refused
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


def _refused(url: str, error: Exception) -> LocalMisuse | None:
    """What to do about a server that was reached, or that nobody can reach by this URL."""
    shown, database = urls.without_password(url), _database(url)
    said = words(error)
    why = f"{said[:1].upper()}{said[1:]}."
    not_let_in = f"PostgreSQL does not let the mediator in: {shown}."
    match error:
        case asyncpg.InvalidPasswordError():
            return LocalMisuse(not_let_in, why=why, fix=_source_of_password(url))
        case asyncpg.InvalidAuthorizationSpecificationError():
            return LocalMisuse(
                not_let_in,
                why=why,
                fix="Its pg_hba.conf says who may connect from where, and whether only with TLS"
                " (?sslmode=verify-full).",
            )
        case asyncpg.InsufficientPrivilegeError():
            return LocalMisuse(
                not_let_in, why=why, fix=f"GRANT CONNECT ON DATABASE {database} TO {_user(url)};"
            )
        case asyncpg.InvalidCatalogNameError():
            return LocalMisuse(
                f"There is no database {database} at {shown}.",
                why=why,
                fix=f"Make it:  createdb --owner {_user(url)} {database}",
            )
        case asyncpg.TooManyConnectionsError():
            return LocalMisuse(
                "PostgreSQL has no connection left for the mediator.",
                why=why,
                fix="Raise max_connections: a node takes up to 16.",
            )
        case ssl.SSLError():
            return LocalMisuse(
                f"PostgreSQL cannot be trusted to be the one of {shown}.",
                why=why,
                fix="Name whoever signed its certificate: ?sslmode=verify-full&sslrootcert=FILE."
                " The certificate must be for the host that the URL names.",
            )
        case FileNotFoundError() | PermissionError() if "ssl" in urlsplit(url).query:
            return LocalMisuse(
                f"{shown} cannot be used.", why=why, fix="Correct the names of files in --store."
            )
        case asyncpg.ClientConfigurationError():
            return LocalMisuse(f"{shown} cannot be used.", why=why, fix="Correct --store.")
    return None


def _database(url: str) -> str:
    return urlsplit(url).path.strip("/")


def _user(url: str) -> str:
    return urlsplit(url).username or "USER"


def _source_of_password(url: str) -> str:
    """What to correct where the password comes from."""
    if urls.has_password(url):
        return "The password stands in the URL: correct it there."
    if os.environ.get("PGPASSWORD"):
        return "The password comes from PGPASSWORD: correct it there."
    named = os.environ.get("PGPASSFILE")
    file = Path(named or "~/.pgpass").expanduser()
    try:
        mode = file.stat().st_mode
        file.open().close()
    except OSError as problem:
        return f"PGPASSFILE names {file}: {words(problem)}. {PASSWORD}" if named else PASSWORD
    if mode & 0o077:
        return f"{file} was not used, as others can read it:  chmod 600 {file}"
    return f"{file} has no line for it, or a wrong one: HOST:PORT:DATABASE:USER:PASSWORD, each may be *."
