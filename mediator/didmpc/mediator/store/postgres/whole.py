"""Whether a database is a whole store: none that is only half migrated to, nor one that was left."""

from didmpc.mediator.store.postgres.connection import Connection
from didmpc.protocols.errors import LocalMisuse

MIGRATION = """
CREATE TABLE IF NOT EXISTS migration(id int PRIMARY KEY, source text NOT NULL, state text NOT NULL)
"""
"""Made by `didmpc mediator migrate`, in its target, or in a source that it has left."""
COPYING, DONE, LEFT = "copying", "done", "left"


async def check_whole(db: Connection) -> None:
    """Raises `LocalMisuse`."""
    if await db.fetchval("SELECT to_regclass('migration')") is None:
        return
    state = await db.fetchval("SELECT state FROM migration WHERE id = 1")
    if state == COPYING:
        raise LocalMisuse(
            "The database holds only half of a mediator: its migration is not finished.",
            fix="Go on with it:  didmpc mediator migrate --from URL --to URL",
        )
    if state == LEFT:
        raise LocalMisuse(
            "What this database holds was moved to elsewhere, or is being moved.",
            why="What comes in here would never get there. (Only if no mediator ever ran there:"
            "  DELETE FROM migration;  in this database to use it again.)",
            fix="Start the mediator there. If its migration was broken off, give that command again.",
        )
