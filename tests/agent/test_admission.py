"""An agent and a real mediator: how it gets its account, and how its DIDs are its own."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from didmpc.agent import daemon
from didmpc.agent.doctor import Doctor
from didmpc.agent.mailbox.mailbox import Mailbox, NotAdmitted
from didmpc.agent.wallet.home import Home
from didmpc.agent.wallet.wallet import Wallet
from didmpc.mediator.app import Running, running
from didmpc.mediator.host.home import Home as MediatorHome
from didmpc.mediator.limits import Limits
from didmpc.mediator.operator.control import call
from didmpc.mediator.store.sqlite import SqliteStore
from didmpc.protocols.did import canonical
from didmpc.protocols.envelope import pack_authcrypt, unpack
from didmpc.protocols.identity import Identities, Identity
from didmpc.protocols.message import ENCRYPTED
from didmpc.protocols.messages import mediation
from didmpc.protocols.messages.out_of_band import Invitation


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def mailbox_of(
    tmp_path: Path, mediator: Running, http: aiohttp.ClientSession, invitation: str | None = None
) -> tuple[Wallet, Mailbox]:
    home = Home(tmp_path / "agent")
    home.prepare()
    wallet = Wallet.open(home)
    return wallet, Mailbox(wallet, mediator.did, http, invitation=invitation)


async def test_an_invitation_opens_the_account_and_its_lack_is_told_with_what_to_do(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    home = MediatorHome(tmp_path / "mediator")
    home.prepare()
    store = SqliteStore(home.root, Limits())
    ticket = await store.issue_ticket(1, time.time() + 60)
    await store.close()
    async with running(home, port=0, admission="invitation") as mediator:
        wallet, uninvited = mailbox_of(tmp_path, mediator, http)
        assert not await uninvited.start(60.0)  # it is told at once, not when the time is over
        problem = uninvited.unreachable()
        assert isinstance(problem, NotAdmitted)
        assert "--mediator INVITATION" in problem.fix
        account = next(iter(wallet.settings.accounts.values()))
        assert canonical(account) in problem.fix  # what the operator may put on the list
        await uninvited.close()
        _, invited = mailbox_of(tmp_path, mediator, http, ticket)
        assert await invited.start(60.0)
        await invited.close()
        _, later = mailbox_of(tmp_path, mediator, http)
        assert await later.start(60.0)  # the account is there now
        await later.close()


async def test_an_agent_that_was_shut_out_later_starts_and_is_told(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    home = MediatorHome(tmp_path / "mediator")
    async with running(home, port=0) as mediator:
        wallet, mailbox = mailbox_of(tmp_path, mediator, http)
        assert await mailbox.start(60.0)
        account = next(iter(wallet.settings.accounts.values()))
        wallet.settings.did, wallet.settings.mediator = account, mediator.did
        await wallet.save()
        await mailbox.close()
        await asyncio.to_thread(call, home.root, "rule", {"did": canonical(account), "rule": "deny"})
        _, again = mailbox_of(tmp_path, mediator, http)
        notices: list[str] = []
        choice = daemon._Choice(mediator.did, embedded=False, named=False)
        assert await daemon._connect(again, wallet, choice, notices.append)
        (notice,) = notices
        assert "no account" in notice and canonical(account) in notice
        found = await Doctor(Home(tmp_path / "agent"), wallet, again, http).examine()
        (check,) = (check for check in found if check["name"] == "websocket")
        assert not check["ok"] and "no account" in check["detail"] and canonical(account) in check["fix"]
        await again.close()


def test_the_id_of_a_mediators_invitation_is_what_it_is_asked_with() -> None:
    inviter = Identity.peer2()
    invitation = Invitation(from_=inviter.did, id="ticket", goal_code="request-mediate")
    assert daemon._named_mediator(invitation.to_url("https://m.example/")) == (inviter.did, "ticket")
    assert daemon._named_mediator(f" {inviter.did} ") == (inviter.did, None)


async def test_nobody_can_keep_an_agents_did_from_it(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    home = MediatorHome(tmp_path / "mediator")
    async with running(home, port=0) as mediator:
        wallet, mailbox = mailbox_of(tmp_path, mediator, http)
        assert await mailbox.start(60.0)
        mine = Identity.peer4(mailbox.mediator.services)
        await squat(http, mediator, mine.did)
        wallet.add(mine, keep=True)
        await wallet.save()
        await mailbox.close()
        _, again = mailbox_of(tmp_path, mediator, http)
        assert await again.start(60.0)  # it puts its key list right
        await again.new_identity(keep=False)
        await again.close()
        account = next(iter(wallet.settings.accounts.values()))
    with sqlite3.connect(home.root / "mediator.sqlite3") as db:
        rows = db.execute("SELECT account.did, proven > 0 FROM box JOIN account USING (aid)").fetchall()
    assert rows == [(canonical(account), 1)] * 2


async def squat(http: aiohttp.ClientSession, mediator: Running, did: str) -> None:
    """Register a DID of somebody else."""
    squatter = Identity.peer4()
    document = mediator.settings.identity.document
    for request in (mediation.mediate_request(), mediation.keylist_update([(did, "add")])):
        message = replace(request, from_=squatter.did, to=(document.did,), return_route="all")
        envelope = pack_authcrypt(message, squatter, document)
        async with http.post(
            document.services[0].uri, data=envelope, headers={"Content-Type": ENCRYPTED}
        ) as response:
            answer = unpack(await response.read(), Identities(squatter)).message
    assert mediation.parse_keylist_update_response(answer)[0].result == "success"
