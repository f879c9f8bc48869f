"""`from_prior` moves an account to a new DID, with everything that belongs to it."""

import time

import aiohttp
import pytest
from mediator_parts import Client, code_of

from didmpc.mediator.app import Running
from didmpc.protocols import from_prior, jwt
from didmpc.protocols.did import canonical
from didmpc.protocols.identity import Identity
from didmpc.protocols.message import Message
from didmpc.protocols.messages import mediation, pickup, relay_control, trust_ping


def successor_of(client: Client) -> Client:
    return Client(client.http, client.mediator.did)


def statement(old: Client, new: Client, **claims: object) -> str:
    values = {"iss": old.identity.did, "sub": new.identity.did, "iat": int(time.time()), **claims}
    return jwt.sign(old.identity, {name: value for name, value in values.items() if value is not None})


def ping() -> Message:
    return trust_ping.ping("", "")


async def test_key_list_mail_and_channels_go_with_the_account(alice: Client, bob: Client) -> None:
    did = await alice.new_did()
    await bob.send(did, b'{"n":1}')
    (channel,) = await alice.channels()
    new = successor_of(alice)
    said = from_prior.create(alice.identity, new.identity.did, time.time())
    moved = await new.ask(pickup.status_request(), from_prior=said)
    assert pickup.parse_status(moved).message_count == 1
    listed = mediation.parse_keylist(await new.ask(mediation.keylist_query(), from_prior=said))
    assert listed.recipient_dids == (did,)
    ((name, body),) = await new.fetch()
    assert body == b'{"n":1}'
    await new.acknowledge(name)
    await bob.send(did, b'{"n":2}')
    assert [body for _, body in await new.fetch()] == [b'{"n":2}']
    # Revoking tells no difference, so the limit on channels does: all places of the account are taken.
    created = await new.ask(relay_control.channel_create(8, int(time.time()) + 60))
    assert code_of(created) == "e.p.me.res.quota"
    await new.ask(relay_control.channel_revoke([channel.id]))
    assert len(await new.channels(8)) == 8


async def test_the_old_did_has_no_access_any_more(alice: Client, bob: Client) -> None:
    did = await alice.new_did()
    await bob.send(did, b'{"n":1}')
    new = successor_of(alice)
    await new.ask(ping(), from_prior=statement(alice, new))
    for request in (pickup.status_request(), pickup.delivery_request(1), mediation.keylist_query()):
        assert code_of(await alice.ask(request)) == "e.p.req.not_enroll"
    await alice.enrol()  # it may begin anew, and finds nothing
    assert await alice.waiting() == 0
    assert await alice.register(did) == ["client_error"]
    assert len(await new.fetch()) == 1


async def test_a_live_socket_of_the_old_did_is_pushed_nothing_more(alice: Client, bob: Client) -> None:
    did = await alice.new_did()
    new = successor_of(alice)
    async with alice.line() as line, new.line() as successor:
        await line.go_live()
        await successor.ask(ping(), from_prior=statement(alice, new))
        await successor.go_live()
        await bob.send(did, b'{"n":1}')
        assert [body for _, body in await successor.pushed()] == [b'{"n":1}']
        await alice.enrol()  # anew: what it had switched on was for the account that has gone
        await bob.send(await alice.new_did(), b'{"n":2}')
        assert await line.stays_silent()


async def test_a_short_form_moves_too_and_the_long_one_is_known_after_it(alice: Client, bob: Client) -> None:
    did, new = await alice.new_did(), successor_of(alice)
    old = canonical(alice.identity.did)
    said = jwt.sign(
        alice.identity,
        {"iss": old, "sub": canonical(new.identity.did), "iat": int(time.time())},
        kid=f"{old}#key-2",
    )
    await new.ask(ping(), from_prior=said)
    await bob.send(did, b'{"n":1}')
    assert await new.waiting() == 1


@pytest.mark.parametrize("wrong", ["forged", "for another", "expired", "not yet", "no JWT"])
async def test_what_the_old_did_did_not_say_moves_nothing(alice: Client, bob: Client, wrong: str) -> None:
    thief, now = successor_of(alice), int(time.time())
    said = {
        "forged": jwt.sign(
            bob.identity,
            {"iss": alice.identity.did, "sub": thief.identity.did},
            kid=alice.identity.signing_key[0],
        ),
        "for another": statement(alice, bob),
        "expired": statement(alice, thief, exp=now - 1),
        "not yet": statement(alice, thief, nbf=now + 3600),
        "no JWT": "x.y.z",
    }[wrong]
    answer = await thief.ask(ping(), from_prior=said)
    assert code_of(answer).startswith("e.p.")
    assert code_of(await thief.ask(pickup.status_request())) == "e.p.req.not_enroll"
    assert await alice.waiting() == 0


async def test_a_recorded_statement_does_not_move_what_the_old_did_began_anew(
    alice: Client, bob: Client
) -> None:
    second, third = successor_of(alice), successor_of(alice)
    said = statement(alice, second)
    await second.ask(ping(), from_prior=said)
    await third.ask(ping(), from_prior=statement(second, third))
    await alice.enrol()
    did = await alice.new_did()
    await bob.send(did, b'{"n":1}')
    assert code_of(await second.ask(ping(), from_prior=said)) == "e.p.crypto.message.dejavu"
    assert len(await alice.fetch()) == 1


async def test_a_statement_from_before_the_account_is_about_an_earlier_one(alice: Client) -> None:
    new = successor_of(alice)
    old = statement(alice, new, iat=int(time.time()) - 7200)
    assert code_of(await new.ask(ping(), from_prior=old)) == "e.p.crypto.message.dejavu"
    assert await alice.waiting() == 0


async def test_two_accounts_do_not_become_one(alice: Client, bob: Client) -> None:
    answer = await bob.ask(ping(), from_prior=statement(alice, bob))
    assert code_of(answer) == "e.p.req.account_exists"
    assert await alice.waiting() == 0 and await bob.waiting() == 0


async def test_strangers_may_rotate_as_they_like(mediator: Running, http: aiohttp.ClientSession) -> None:
    old, new = Client(http, mediator.did), Client(http, mediator.did)
    for _ in range(2):
        answer = await new.ask(ping(), from_prior=statement(old, new))
        assert answer.type == trust_ping.PING_RESPONSE


async def test_a_did_peer_2_is_followed_too(mediator: Running, http: aiohttp.ClientSession) -> None:
    old = await Client(http, mediator.did, Identity.peer2()).enrol()
    did = await old.new_did()
    new = Client(http, mediator.did)
    await new.ask(ping(), from_prior=statement(old, new))
    assert mediation.parse_keylist(await new.ask(mediation.keylist_query())).recipient_dids == (did,)
