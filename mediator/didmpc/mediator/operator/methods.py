"""What an operator asks and orders, by name; the mediator runs, or its home is opened alone."""

import asyncio
import logging
import re
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from didmpc.mediator.host import left, logs
from didmpc.mediator.host.home import KEYS_FILE, Home, Settings
from didmpc.mediator.operator.backup import back_up
from didmpc.mediator.operator.control import Json, Method
from didmpc.mediator.store import Store, StoreFailed
from didmpc.mediator.store.sqlite import SqliteStore
from didmpc.protocols.errors import LocalMisuse

log = logging.getLogger(__name__)

PAGE = 500
LONGEST_DID = 8192
MOST_USES = 100_000
MOST_HOLD_SECONDS = 60
_DID = re.compile(r"did:[a-z0-9]+:[A-Za-z0-9._:%-]+")


class Live(Protocol):
    """A mediator that runs."""

    async def status(self) -> Json:
        """What only the process knows."""

    async def obstacles(self) -> list[str]:
        """Why mail cannot be taken in."""

    async def shut_out(self, did: str, channels: tuple[int, ...]) -> int:
        """Close what belongs to an account that is no more; how many sockets that were."""

    def configuration(self) -> Json:
        """The settings in force."""

    async def nodes(self) -> list[Json]:
        """All nodes of this mediator."""

    def page(self, *, renew: bool) -> Json:
        """Where the operator's page is, with its token."""


class Operator:
    """The methods. `live` is None where the mediator does not run."""

    def __init__(self, home: Home, settings: Settings, store: Store, live: Live | None = None) -> None:
        self._home = home
        self._settings = settings
        self._store = store
        self._live = live
        self._names = logs.Names(home.log_key())
        self._stopping = threading.Event()

    def methods(self) -> Mapping[str, Method]:
        return {
            "status": self.status,
            "config": self.config,
            "accounts": self.accounts,
            "rules": self.rules,
            "rule": self.rule,
            "evict": self.evict,
            "ticket": self.ticket,
            "messages": self.messages,
            "remove_messages": self.remove_messages,
            "backup": self.backup,
            "page": self.page,
            "nodes": self.nodes,
            "ready": self.ready,
            "hold": self.hold,
            "release": self.release,
            "leave": self.leave,
        }

    def stop(self) -> None:
        """End what takes long."""
        self._stopping.set()

    async def status(self, _: Json) -> Json:
        """All that can be told; what only the store knows is None while it is away."""
        running = await self._live.status() if self._live else {}
        totals = None
        if "store" not in running.get("obstacles", ()):
            try:
                totals = await self._store.totals()
            except StoreFailed:
                if self._live is None:
                    raise
        return {
            "running": self._live is not None,
            "did": self._settings.identity.did,
            "url": self._settings.url,
            "home": str(self._home.root),
            "store": asdict(self._store.describe()),
            "disk_free_bytes": shutil.disk_usage(self._home.root).free,
            "accounts": totals and totals.accounts,
            "mailboxes": totals and totals.keys,
            "queued": totals and totals.messages,
            "queued_bytes": totals and totals.bytes,
            **running,
        }

    async def config(self, _: Json) -> Json:
        if self._live is None:
            raise LocalMisuse("No mediator runs here.")
        return self._live.configuration()

    async def ready(self, _: Json) -> Json:
        """Why mail cannot be taken in; nothing: it can."""
        return {"obstacles": await self._live.obstacles() if self._live else ["not running"]}

    async def nodes(self, _: Json) -> Json:
        """All nodes that share this one's database."""
        if self._live is None:
            raise LocalMisuse(
                "No mediator runs here.", fix="Ask one that runs: didmpc mediator nodes --home DIR"
            )
        return {"nodes": await self._live.nodes()}

    async def page(self, params: Json) -> Json:
        """Where the operator's page is, with its token: with `renew` a new one."""
        if self._live is None:
            raise LocalMisuse("No mediator runs here.", fix="Start it: didmpc mediator start")
        return self._live.page(renew=params.get("renew") is True)

    async def accounts(self, params: Json) -> Json:
        """A page: those after `after`, with the number to ask for the next page with, if there is one."""
        rows = await self._store.accounts(_whole(params, "after", 0, 1 << 62), PAGE)
        listed = [{"name": self._names.of(row.did), **asdict(row)} for row in rows]
        return {"accounts": listed, "next": rows[-1].number if len(rows) == PAGE else None}

    async def rules(self, params: Json) -> Json:
        rows = await self._store.rules(str(params.get("after", "")), PAGE)
        listed = [{"did": did, "rule": "allow" if allowed else "deny"} for did, allowed in rows]
        return {"rules": listed, "next": rows[-1][0] if len(rows) == PAGE else None}

    async def rule(self, params: Json) -> Json:
        """Set or take away the rule of a DID; whether it has an account. A denied one is cut off at once."""
        did = await self._named(params)
        rules = {"allow": True, "deny": False, "none": None}
        if params.get("rule") not in rules:
            raise LocalMisuse("A rule is allow, deny or none.")
        await self._store.set_rule(did, rules[params["rule"]])
        log.info("the operator's rule for %s: %s", did, params["rule"])
        if params["rule"] == "deny" and self._live is not None:
            await self._live.shut_out(did, ())  # what is open was opened before
        return {"did": did, "rule": params["rule"], "has_account": await self._store.is_enrolled(did)}

    async def evict(self, params: Json) -> Json:
        """Delete an account, named by its DID or by its name in the logs."""
        did = await self._named(params)
        evicted = await self._store.evict(did)
        if evicted is None:
            raise _no_account(did)
        log.info("the operator has evicted %s", did)
        sockets = await self._live.shut_out(evicted.did, evicted.channels) if self._live else 0
        return {"did": evicted.did, "messages": evicted.messages, "sockets": sockets}

    async def _named(self, params: Json) -> str:
        """The DID that was given, or that of the account of this name."""
        name = params.get("did")
        if not isinstance(name, str) or not logs.NAME.fullmatch(name):
            return _did(params)
        after: int | None = 0
        while after is not None:  # page by page: whoever reads mail need not wait for all of them
            rows = await self._store.accounts(after, PAGE)
            for row in rows:
                if self._names.of(row.did) == name:
                    return row.did
            after = rows[-1].number if len(rows) == PAGE else None
        raise _no_account(name)

    async def ticket(self, params: Json) -> Json:
        """A new invitation to open accounts."""
        uses = _whole(params, "uses", 1, MOST_USES)
        expires = int(time.time()) + _whole(params, "seconds", 1, 3650 * 86400)
        nist = params.get("nist") is True
        self._settings.speaking(nist=nist)  # before a ticket is made that nobody could be told of
        name = await self._store.issue_ticket(uses, expires)
        return {
            "invitation": self._settings.inviting(name, expires, nist=nist),
            "url": self._settings.url,
            "uses": uses,
            "expires": expires,
        }

    async def messages(self, _: Json) -> Json:
        found = await self._store.operator_messages(PAGE)
        return {"messages": [{"name": self._names.of(item.did), **asdict(item)} for item in found]}

    async def remove_messages(self, params: Json) -> Json:
        ids = [number for number in params.get("ids", ()) if isinstance(number, int)]
        await self._store.remove_operator_messages(ids)
        return {"removed": len(ids)}

    # --- while everything is moved to another store

    async def hold(self, params: Json) -> Json:
        """Take nothing in for some seconds. The same number again: nothing was taken in since then."""
        seconds = _whole(params, "seconds", 1, MOST_HOLD_SECONDS)
        return {"hold": await self._movable().hold(float(seconds))}

    async def release(self, _: Json) -> Json:
        store = self._movable()
        if left.left_for(self._home.root) is None:
            store.release()
        return {}

    async def leave(self, params: Json) -> Json:
        """Take nothing in ever again, if nothing was since that hold began."""
        store = self._movable()
        if store.held() is None or store.held() != params.get("hold"):
            raise LocalMisuse("The mediator has taken mail in again.", fix="Give the same command again.")
        await store.hold(float("inf"))
        await asyncio.to_thread(left.leave, self._home.root, str(params.get("target", "another store")))
        log.warning(
            "everything was moved to %s; this mediator takes nothing in any more", params.get("target")
        )
        return {}

    def _movable(self) -> SqliteStore:
        if not isinstance(self._store, SqliteStore):
            raise LocalMisuse(
                "Several mediators may write to this store.", fix="Stop them all before it is moved."
            )
        return self._store

    async def backup(self, params: Json) -> Json:
        target = Path(str(params.get("file", "")))
        if not target.is_absolute():
            raise LocalMisuse("A backup needs the whole path of its file.")
        if url := self._store.describe().url:
            raise LocalMisuse(
                "This mediator's mail is in PostgreSQL, which has backups of its own.",
                why=f"Its home has only the keys, in {self._home.root / KEYS_FILE}.",
                fix=f"pg_dump --format=custom --file=FILE '{url}', and a copy of that file of keys.",
            )
        force = params.get("force") is True
        contents = await asyncio.to_thread(back_up, self._home, target, force=force, stop=self._stopping)
        return {"file": str(target), **asdict(contents)}


def _no_account(name: str) -> LocalMisuse:
    return LocalMisuse(f"There is no account {name[:80]}.", fix="All of them: didmpc mediator accounts")


def _did(params: Json) -> str:
    did = params.get("did")
    if not isinstance(did, str) or len(did) > LONGEST_DID or not _DID.fullmatch(did):
        raise LocalMisuse(
            f"{str(did)[:80]!r} is no DID.",
            fix="It looks like did:peer:4zQm... or did:web:example.org; copy it whole.",
        )
    return did


def _whole(params: Json, name: str, least: int, most: int) -> int:
    value = params.get(name, least)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise LocalMisuse(f"{name} must be a whole number from {least} to {most}.")
    return value
