"""The store in PostgreSQL, for any number of mediators at once. Each module has what is kept together."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Self

from didmpc.mediator.limits import Limits
from didmpc.mediator.store.postgres.accounts import AccountStore
from didmpc.mediator.store.postgres.channels import ChannelStore
from didmpc.mediator.store.postgres.connection import Postgres
from didmpc.mediator.store.postgres.description import described
from didmpc.mediator.store.postgres.mail import MailStore
from didmpc.mediator.store.postgres.operator_messages import OperatorMessageStore
from didmpc.mediator.store.postgres.outgoing import OutgoingStore
from didmpc.mediator.store.postgres.rules import RuleStore
from didmpc.mediator.store.postgres.schema import prepare
from didmpc.mediator.store.postgres.whole import check_whole
from didmpc.mediator.store.records import Description


class PostgresStore(AccountStore, MailStore, ChannelStore, RuleStore, OperatorMessageStore, OutgoingStore):
    """All of it; each method is one transaction, and has happened for good when it returns."""

    def __init__(self, postgres: Postgres, folder: Path, limits: Limits, description: Description) -> None:
        super().__init__(postgres, folder, limits)
        self._description = description

    @classmethod
    async def open(cls, url: str, folder: Path, limits: Limits) -> Self:
        """Make the tables where they are not there. Raises `LocalMisuse`, `ConnectFailed`, `StoreFailed`."""
        postgres = await Postgres.open(url)
        try:
            description = await postgres.peek(partial(described, url=url))
            await postgres.peek(check_whole)
            await postgres.write(prepare, again=True)
        except BaseException:
            await postgres.close(within=0)
            raise
        return cls(postgres, folder, limits, description)

    def describe(self) -> Description:
        return self._description

    @property
    def postgres(self) -> Postgres:
        return self._postgres

    def observe_commits(self, observer: Callable[[int, float], None]) -> None:
        self._observer = observer

    async def close(self) -> None:
        await self.finish()
        await self._postgres.close()
