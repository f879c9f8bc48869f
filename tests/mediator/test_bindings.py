"""Whose a DID is: the first's who asks, until the DID itself says whose."""

import sqlite3
import time
from dataclasses import replace

import aiohttp
import pytest
from mediator_parts import SMALL, Client, code_of

from didmpc.mediator.app import Running, running
from didmpc.mediator.host.home import Home
from didmpc.mediator.store.sqlite import SqliteStore
from didmpc.protocols import binding_proof, jwt
from didmpc.protocols.did import Service, canonical
from didmpc.protocols.identity import Identity
from didmpc.protocols.messages import mediation, shorten_url
from didmpc.protocols.messages.mediation import Update
from didmpc.protocols.messages.out_of_band import Invitation


def proof(recipient: Identity, account: Client, at: float | None = None) -> str:
    now = time.time() if at is None else at
    return binding_proof.create(recipient, account.identity.did, account.mediator.did, now)


async def claim(client: Client, did: str, evidence: str | None = None, action: str = "add") -> str:
    update = Update(did, action, evidence)  # type: ignore[arg-type]
    answer = await client.ask(mediation.keylist_update([update]))
    (outcome,) = mediation.parse_keylist_update_response(answer)
    assert (outcome.recipient_did, outcome.action) == (did, action)
    return outcome.result


@pytest.fixture
def recipient(mediator: Running) -> Identity:
    return Identity.peer4((Service(mediator.did),))


async def test_a_proven_claim_displaces_an_unproven_one_and_takes_the_mail_along(
    alice: Client, bob: Client, recipient: Identity
) -> None:
    squatter, owner = alice, bob
    assert await claim(squatter, recipient.did) == "success"
    await owner.send(recipient.did, b'{"n":1}')
    assert await claim(owner, recipient.did) == "client_error"
    assert await claim(owner, recipient.did, proof(recipient, owner)) == "success"
    assert await squatter.waiting() == 0
    assert mediation.parse_keylist(await squatter.ask(mediation.keylist_query())).recipient_dids == ()
    ((name, body),) = await owner.fetch()
    assert body == b'{"n":1}'
    await squatter.acknowledge(name)
    assert await owner.waiting() == 1
    assert await claim(squatter, recipient.did) == "client_error"
    assert await claim(squatter, recipient.did, action="remove") == "no_change"


async def test_an_old_proof_takes_nothing_back(alice: Client, bob: Client, recipient: Identity) -> None:
    now = int(time.time())
    first, second = proof(recipient, alice, now - 60), proof(recipient, bob, now - 30)
    assert await claim(alice, recipient.did, first) == "success"
    assert await claim(bob, recipient.did, second) == "success"
    assert await claim(alice, recipient.did, first) == "client_error"
    assert await claim(alice, recipient.did, proof(recipient, alice, now - 30)) == "client_error"
    assert await claim(alice, recipient.did, proof(recipient, alice, now - 29)) == "success"


async def test_a_proof_for_another_account_or_mediator_is_none(
    alice: Client, bob: Client, recipient: Identity
) -> None:
    await claim(bob, recipient.did)
    stolen = proof(recipient, bob)
    elsewhere = binding_proof.create(recipient, alice.identity.did, Identity.peer4().did, time.time())
    forged = jwt.sign(
        alice.identity,
        {"iss": recipient.did, "sub": alice.identity.did, "aud": alice.mediator.did, "iat": int(time.time())},
        kid=recipient.signing_key[0],
    )
    ahead = proof(recipient, alice, time.time() + 3600)
    for evidence in (stolen, elsewhere, forged, ahead, "nonsense", ""):
        assert await claim(alice, recipient.did, evidence) == "client_error"
    assert await claim(bob, recipient.did) == "no_change"


async def test_a_proof_that_does_not_hold_is_none_and_the_claim_is_one_without(
    alice: Client, bob: Client, recipient: Identity
) -> None:
    ahead = proof(
        recipient, alice, time.time() + 3600
    )  # its clock is wrong: it shall have its DID all the same
    assert await claim(alice, recipient.did, ahead) == "success"
    assert await claim(bob, recipient.did, proof(recipient, bob, time.time() - 60)) == "success"
    assert await claim(alice, recipient.did, ahead) == "client_error"


async def test_a_did_that_has_an_account_needs_no_other_proof_for_itself(alice: Client, bob: Client) -> None:
    assert await claim(bob, alice.identity.did) == "success"
    assert await claim(alice, alice.identity.did) == "success"
    assert await claim(bob, alice.identity.did) == "client_error"


async def test_a_proof_that_comes_later_makes_a_binding_firm(
    alice: Client, bob: Client, recipient: Identity
) -> None:
    now = int(time.time())
    early = proof(recipient, bob, now - 60)
    await claim(alice, recipient.did)
    assert await claim(alice, recipient.did, proof(recipient, alice, now)) == "no_change"
    assert await claim(bob, recipient.did, early) == "client_error"


async def test_a_proof_by_the_short_form_is_checked_with_the_long_one_beside_it(
    alice: Client, bob: Client, recipient: Identity
) -> None:
    short, now = canonical(recipient.did), time.time()
    assert await claim(alice, short, proof(recipient, alice, now - 60)) == "success"  # a claim without proof:
    assert await claim(bob, short, proof(recipient, bob, now - 50)) == "client_error"  # no document is known
    assert await claim(bob, recipient.did, proof(recipient, bob, now - 40)) == "success"
    assert await claim(alice, short, proof(recipient, alice, now - 30)) == "success"


async def test_the_totals_of_both_accounts_stay_exact(
    tmp_path_factory: pytest.TempPathFactory, http: aiohttp.ClientSession
) -> None:
    home = Home(tmp_path_factory.mktemp("home") / "mediator")
    async with running(home, port=0, limits=SMALL) as mediator:
        one, other = [await Client(http, mediator.did).enrol() for _ in range(2)]
        recipient = Identity.peer4()
        await claim(one, recipient.did)
        await one.send(recipient.did, b'{"n":1}', b'{"n":22}')
        await claim(other, recipient.did, proof(recipient, other))
    with sqlite3.connect(home.root / "mediator.sqlite3") as db:
        rows = db.execute(
            "SELECT account.did, account.bytes, (SELECT coalesce(sum(size), 0) FROM msg JOIN box USING (mid)"
            " WHERE box.aid = account.aid) FROM account"
        ).fetchall()
    assert {did: (total, held) for did, total, held in rows} == {
        canonical(one.identity.did): (0, 0),
        canonical(other.identity.did): (15, 15),
    }


# --- what was recorded and is played again


async def test_a_request_acts_once_whether_it_is_dated_or_not(alice: Client) -> None:
    now = int(time.time())
    for created in (None, now, now + 3600, now + 10 * 366 * 86400):
        did = Identity.peer4().did
        request = mediation.keylist_update([(did, "add")])
        envelope = alice.pack(request, return_route="all", created_time=created)
        await alice.post(envelope)
        await claim(alice, did, action="remove")
        _, body = await alice.post(envelope)
        assert code_of(alice.unpack(body).message) == "e.p.crypto.message.dejavu"
        assert await claim(alice, did) == "success"  # it was not there
        await claim(alice, did, action="remove")


async def test_every_request_that_changes_something_acts_once(alice: Client) -> None:
    link = Invitation(from_=alice.identity.did).to_url("https://x.example/")
    for request in (
        mediation.keylist_update([(Identity.peer4().did, "add")], version=mediation.V3),
        shorten_url.request(link, 60),
    ):
        envelope = alice.pack(request, return_route="all")
        first, again = [alice.unpack((await alice.post(envelope))[1]).message for _ in range(2)]
        assert first.type != again.type
        assert code_of(again) == "e.p.crypto.message.dejavu"


async def test_undated_requests_are_bounded_and_dated_ones_go_on(
    tmp_path_factory: pytest.TempPathFactory, http: aiohttp.ClientSession
) -> None:
    home = Home(tmp_path_factory.mktemp("home") / "mediator")
    # The first is the request that opened the account.
    async with running(home, port=0, limits=replace(SMALL, undated_per_account=1 + 3)) as mediator:
        client = await Client(http, mediator.did).enrol()
        did = Identity.peer4().did
        for _ in range(3):
            await claim(client, did)
        update = mediation.keylist_update([(did, "remove")])
        assert code_of(await client.ask(update)) == "e.p.me.res.quota"
        dated = mediation.keylist_update([(did, "remove")])
        answer = await client.ask(dated, created_time=int(time.time()))
        assert mediation.parse_keylist_update_response(answer)[0].result == "success"
        other = await Client(http, mediator.did).enrol()
        assert await claim(other, did) == "success"


async def test_what_an_account_changes_is_bounded_until_it_is_forgotten(
    tmp_path_factory: pytest.TempPathFactory, http: aiohttp.ClientSession
) -> None:
    home = Home(tmp_path_factory.mktemp("home") / "mediator")
    async with running(home, port=0, limits=replace(SMALL, acts_per_account=1 + 3)) as mediator:
        client = await Client(http, mediator.did).enrol()

        async def change() -> bool:
            update = mediation.keylist_update([(Identity.peer4().did, "remove")])
            answer = await client.ask(update, created_time=int(time.time()))
            return answer.type == mediation.KEYLIST_UPDATE_RESPONSE

        assert [await change() for _ in range(4)] == [True, True, True, False]
    store = SqliteStore(home.root, SMALL)
    while await store.expire(time.time() + SMALL.replay_seconds + 60):
        pass
    await store.close()
    limits = replace(SMALL, acts_per_account=1 + 3)
    async with running(home, port=mediator.settings.port, limits=limits):
        assert await change()


async def test_undated_requests_are_remembered_when_dated_ones_are_forgotten(
    tmp_path_factory: pytest.TempPathFactory, http: aiohttp.ClientSession
) -> None:
    home = Home(tmp_path_factory.mktemp("home") / "mediator")
    async with running(home, port=0, limits=SMALL) as mediator:
        client = await Client(http, mediator.did).enrol()
        did = Identity.peer4().did
        request = client.pack(mediation.keylist_update([(did, "add")]), return_route="all")
        await client.post(request)
        await claim(client, did, action="remove")
    with sqlite3.connect(home.root / "mediator.sqlite3") as db:
        db.execute("DELETE FROM seen WHERE exp < ?", (time.time() + 100 * 366 * 86400,))
    async with running(home, port=mediator.settings.port, limits=SMALL):
        _, body = await client.post(request)
        assert code_of(client.unpack(body).message) == "e.p.crypto.message.dejavu"
