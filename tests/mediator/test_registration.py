"""Who gets an account, and what becomes of one whose DID is denied."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from mediator_parts import PATIENCE, SMALL, Client, code_of

from didmpc.mediator.app import Running, running
from didmpc.mediator.host.home import Home
from didmpc.mediator.operator.control import call
from didmpc.mediator.store import Admission, Store
from didmpc.mediator.store.sqlite import SqliteStore
from didmpc.protocols import from_prior
from didmpc.protocols.did import canonical
from didmpc.protocols.identity import Identity
from didmpc.protocols.messages import mediation, pickup, trust_ping


class Place:
    """A mediator's home: its operator decides while it does not run."""

    def __init__(self, folder: Path, http: aiohttp.ClientSession) -> None:
        self.home = Home(folder)
        self.home.prepare()
        self.http = http

    @contextlib.asynccontextmanager
    async def operator(self) -> AsyncIterator[Store]:
        store = SqliteStore(self.home.root, SMALL)
        yield store
        await store.close()

    async def rule(self, did: str, allowed: bool | None) -> None:
        async with self.operator() as store:
            await store.set_rule(did, allowed)

    async def ticket(self, uses: int, seconds: float = 60.0) -> str:
        async with self.operator() as store:
            return await store.issue_ticket(uses, time.time() + seconds)

    @contextlib.asynccontextmanager
    async def opened(self, admission: Admission) -> AsyncIterator[Running]:
        async with running(self.home, port=0, limits=SMALL, admission=admission) as mediator:
            yield mediator

    def client(self, mediator: Running, identity: Identity | None = None) -> Client:
        return Client(self.http, mediator.did, identity)


@pytest.fixture
async def place(tmp_path: Path, http: aiohttp.ClientSession) -> Place:
    return Place(tmp_path / "mediator", http)


async def admitted(
    client: Client, ticket: str | None = None, version: mediation.Version = mediation.V2
) -> bool:
    answer = await client.ask(mediation.mediate_request(pthid=ticket, version=version))
    assert answer.type in (version.grant, version.deny)
    return answer.type == version.grant


@pytest.mark.parametrize("version", mediation.VERSIONS, ids=["2.0", "3.0"])
async def test_an_invitation_opens_as_many_accounts_as_it_says(
    place: Place, version: mediation.Version
) -> None:
    ticket = await place.ticket(uses=2)
    async with place.opened("invitation") as mediator:
        first, second, third = (place.client(mediator) for _ in range(3))
        assert not await admitted(first, None, version)
        assert not await admitted(first, "not a ticket", version)
        assert await admitted(first, ticket, version)
        assert await admitted(first, ticket, version)  # it is there already: nothing is used up
        assert await admitted(first, None, version)
        assert await admitted(second, ticket, version)
        assert not await admitted(third, ticket, version)


async def test_an_invitation_that_many_use_at_once_opens_no_more(place: Place) -> None:
    ticket = await place.ticket(uses=2)
    async with place.opened("invitation") as mediator:
        clients = [place.client(mediator) for _ in range(6)]
        answers = await asyncio.gather(*(admitted(client, ticket) for client in clients))
    assert sum(answers) == 2


async def test_an_evicted_account_is_gone_with_what_it_did(place: Place) -> None:
    async with place.opened("open") as mediator:
        client = await place.client(mediator).enrol()
        did = await client.new_did()
        await client.send(did, b"{}")
        evict = {"did": canonical(client.identity.did)}
        await asyncio.to_thread(call, place.home.root, "evict", evict)
        assert code_of(await client.ask(pickup.status_request())) == "e.p.req.not_enroll"
        assert await client.send(did, b"{}") == 404
    with sqlite3.connect(place.home.root / "mediator.sqlite3") as db:
        tables = ("account", "box", "msg")
        assert [db.execute(f"SELECT count(*) FROM {table}").fetchone() for table in tables] == [(0,)] * 3


@pytest.mark.parametrize("is_dated", [True, False])
async def test_what_an_evicted_account_did_once_cannot_be_played_again_when_it_comes_back(
    place: Place, is_dated: bool
) -> None:
    async with place.opened("open") as mediator:
        client, created = place.client(mediator), int(time.time()) if is_dated else None
        update = mediation.keylist_update([(Identity.peer4().did, "add")])
        asked, recorded = (
            client.pack(message, return_route="all", created_time=created)
            for message in (mediation.mediate_request(), update)
        )
        for _ in range(2):  # to ask again is harmless while the account is there
            _, answer = await client.post(asked)
            assert client.unpack(answer).message.type == mediation.MEDIATE_GRANT
        await client.post(recorded)
        await asyncio.to_thread(call, place.home.root, "evict", {"did": client.identity.did})
        _, answer = await client.post(asked)
        assert code_of(client.unpack(answer).message) == "e.p.crypto.message.dejavu"
        await client.enrol()
        _, answer = await client.post(recorded)
        assert code_of(client.unpack(answer).message) == "e.p.crypto.message.dejavu"
        assert len(mediation.parse_keylist(await client.ask(mediation.keylist_query())).recipient_dids) == 0
        assert await client.register(Identity.peer4().did) == ["success"]


async def test_an_invitation_that_is_over_opens_nothing(place: Place) -> None:
    ticket = await place.ticket(uses=2, seconds=-1.0)
    async with place.opened("invitation") as mediator:
        assert not await admitted(place.client(mediator), ticket)


async def test_the_list_admits_whom_the_operator_put_there(place: Place) -> None:
    listed = Identity.peer4()
    await place.rule(canonical(listed.did), True)
    ticket = await place.ticket(uses=5)
    async with place.opened("allow-list") as mediator:
        assert await admitted(place.client(mediator, listed))
        assert not await admitted(place.client(mediator), ticket)
    async with place.opened("invitation") as mediator:
        assert await admitted(place.client(mediator, listed))


async def test_whoever_was_not_admitted_has_no_account(place: Place) -> None:
    async with place.opened("allow-list") as mediator:
        stranger = place.client(mediator)
        assert not await admitted(stranger)
        assert code_of(await stranger.ask(pickup.status_request())) == "e.p.req.not_enroll"
        assert (await stranger.ask(trust_ping.ping("", ""))).type == trust_ping.PING_RESPONSE


@pytest.mark.parametrize("admission", ["open", "invitation", "allow-list"])
async def test_a_denied_did_gets_nothing_however_registration_is_set(
    place: Place, admission: Admission
) -> None:
    denied = Identity.peer4()
    await place.rule(denied.did, False)
    ticket = await place.ticket(uses=1)
    async with place.opened(admission) as mediator:
        client = place.client(mediator, denied)
        assert not await admitted(client, ticket)
        assert code_of(await client.ask(trust_ping.ping("", ""))) == "e.p.trust.denied"


async def test_denial_stops_an_account_that_is_there_and_taking_it_back_gives_it_back(place: Place) -> None:
    async with place.opened("open") as mediator:
        client = await place.client(mediator).enrol()
        did = await client.new_did()
        await client.send(did, b'{"n":1}')
    port = mediator.settings.port
    await place.rule(client.identity.did, False)
    async with running(place.home, port=port, limits=SMALL) as mediator:
        assert not await admitted(client)
        for request in (pickup.delivery_request(3), mediation.keylist_query(), pickup.status_request()):
            assert code_of(await client.ask(request)) == "e.p.trust.denied"
        successor = place.client(mediator)
        rotated = from_prior.create(client.identity, successor.identity.did, time.time())
        answer = await successor.ask(trust_ping.ping("", ""), from_prior=rotated)
        assert code_of(answer) == "e.p.trust.denied"  # the account does not slip away under another name
    await place.rule(client.identity.did, None)
    async with running(place.home, port=port, limits=SMALL):
        assert [body for _, body in await client.fetch()] == [b'{"n":1}']


async def test_a_running_mediator_cuts_off_whom_its_operator_denies(place: Place) -> None:
    async with place.opened("open") as mediator:
        client, other = [await place.client(mediator).enrol() for _ in range(2)]
        did = await client.new_did()
        async with client.line() as line:
            await line.go_live()
            rule = {"did": canonical(client.identity.did), "rule": "deny"}
            await asyncio.to_thread(call, place.home.root, "rule", rule)
            closed = await line.ws.receive(timeout=PATIENCE)
            assert closed.type == aiohttp.WSMsgType.CLOSE and closed.extra
        async with client.line() as line:
            answer = await line.ask(pickup.live_delivery_change(True))
            assert code_of(answer) == "e.p.trust.denied"
            await other.send(did, b'{"n":1}')
            assert await line.stays_silent()
        await asyncio.to_thread(call, place.home.root, "rule", {**rule, "rule": "none"})
        assert len(await client.fetch()) == 1


async def test_accounts_stay_when_registration_closes(place: Place) -> None:
    async with place.opened("open") as mediator:
        client = await place.client(mediator).enrol()
    async with running(place.home, port=mediator.settings.port, limits=SMALL, admission="allow-list"):
        assert await admitted(client)
        assert await client.waiting() == 0
