"""What goes wrong in a store, whatever it is made of."""

from didmpc.protocols.errors import DidmpcError, LocalMisuse


class StoreFailed(DidmpcError):
    """The store could not do what was asked; nothing of it was done."""

    def __init__(self, why: str) -> None:
        super().__init__("The mediator cannot use its store.", why=why)


class StoreFull(StoreFailed):
    """There is no space for what was asked."""


class StoreRejected(StoreFailed):
    """The store works, but it takes this for an error: something in it cannot be kept."""


class StoreUnsure(StoreFailed):
    """Whether it was done is not known: the store did not confirm it. Nobody is told that it was."""


class NoDriver(LocalMisuse):
    """What talks to PostgreSQL is an extra of the package."""

    def __init__(self) -> None:
        super().__init__(
            "This installation cannot use PostgreSQL.",
            why="The package asyncpg is not installed.",
            fix="Install it:  pip install 'didmpc[postgres]'",
        )
