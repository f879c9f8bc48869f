"""What PostgreSQL it is, and what would make the mediator promise too much."""

from didmpc.mediator.store import url as urls
from didmpc.mediator.store.postgres.connection import Connection
from didmpc.mediator.store.records import Description
from didmpc.protocols.errors import LocalMisuse

OLDEST = 15
_SETTINGS = ("server_version", "fsync", "full_page_writes", "synchronous_commit", "synchronous_standby_names")


async def described(db: Connection, *, url: str) -> Description:
    """Raises `LocalMisuse` where it is too old."""
    shown = urls.without_password(url)
    found = {name: str(await db.fetchval("SELECT current_setting($1)", name)) for name in _SETTINGS}
    version = found["server_version"].split()[0]
    if int(await db.fetchval("SELECT current_setting('server_version_num')")) < OLDEST * 10_000:
        raise LocalMisuse(
            f"{shown} is PostgreSQL {version}.",
            why=f"A mediator needs PostgreSQL {OLDEST} or later.",
            fix="Upgrade it with pg_upgrade, or name another server with --store.",
        )
    warnings = [
        f"PostgreSQL runs with {name} = off: a power cut can lose mail that was taken in, or all of it."
        for name in ("fsync", "full_page_writes")
        if found[name] == "off"
    ]
    standbys = found["synchronous_standby_names"]
    if standbys and found["synchronous_commit"] == "local":
        warnings.append("PostgreSQL runs with synchronous_commit = local: commits wait for no standby.")
        standbys = ""
    return Description(f"PostgreSQL {version}", shown, standbys, tuple(warnings))
