"""`didmpc mediator migrate`, as it is typed. What it does needs libraries that others do not (`run`)."""

from typing import Annotated

import typer


def migrate(
    source: Annotated[
        str, typer.Option("--from", metavar="URL", help="The store that is used now.", show_default=False)
    ],
    target: Annotated[
        str,
        typer.Option("--to", metavar="URL", help="An empty one to be used from now on.", show_default=False),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be moved; change nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Move all accounts, mailboxes and mail from a mediator's file into PostgreSQL, or back.

    The mediator may run on: it is copied in passes, and takes nothing in only for the last one, while both
    stores are compared, by counts and hashes of every table and mailbox. From then on it refuses mail
    (senders try again), and nodes are started on the new store. Killed at any place, the same command goes
    on. The password of the database comes from PGPASSFILE or PGPASSWORD.

    Back from PostgreSQL, all nodes must be stopped.

    Examples:  didmpc mediator migrate --from sqlite:///srv/mediator --to postgresql://didmpc@db/didmpc
               didmpc mediator migrate --from postgresql://didmpc@db/didmpc --to sqlite:///srv/new --dry-run
    """
    from didmpc.mediator.store.errors import NoDriver

    try:
        from didmpc.mediator.migration.run import run
    except ImportError:
        raise NoDriver from None
    run(source, target, dry_run=dry_run, as_json=as_json)
