"""The small protocols that anyone may speak: words to the operator, features, reports."""

import logging
import time
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from mediator_parts import SMALL, Client, code_of

from didmpc.mediator.app import Running, running
from didmpc.mediator.host.home import Home
from didmpc.mediator.limits import Rate
from didmpc.mediator.store.sqlite import SqliteStore
from didmpc.protocols.did import canonical
from didmpc.protocols.envelope import pack_anoncrypt
from didmpc.protocols.message import Message
from didmpc.protocols.messages import basic_message, discover_features, problem_report, trust_ping
from didmpc.protocols.messages.discover_features import Query


def words(content: str) -> Message:
    return basic_message.message(content, int(time.time()))


async def test_words_reach_the_operator_and_nothing_answers_them(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    home = Home(tmp_path / "mediator")
    async with running(home, port=0, limits=SMALL) as mediator:
        stranger = Client(http, mediator.did)  # who wants an account may have to ask for it
        assert await stranger.post(stranger.pack(words("May I?"), return_route="all")) == (202, b"")
    store = SqliteStore(home.root, SMALL)
    (message,) = await store.operator_messages()
    assert (message.text, message.did) == ("May I?", canonical(stranger.identity.did))
    assert abs(message.at - time.time()) < 600
    await store.remove_operator_messages([message.id])
    assert await store.operator_messages() == []
    await store.close()


async def test_words_to_the_operator_are_bounded(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    limits = replace(SMALL, operator_messages=6, operator_messages_per_did=2, operator_message_bytes=100)
    async with running(Home(tmp_path / "mediator"), port=0, limits=limits) as mediator:
        one, other, third = (Client(http, mediator.did) for _ in range(3))
        assert code_of(await one.ask(words("x" * 101))) == "e.p.msg.bad-body"
        for _ in range(2):
            assert (await one.post(one.pack(words("again"))))[0] == 202
        assert code_of(await one.ask(words("again"))) == "e.p.me.res.quota"
        assert (await other.post(other.pack(words("me too"))))[0] == 202
        assert code_of(await third.ask(words("and me"))) == "e.p.me.res.quota"
        await third.enrol()  # the other half is for accounts
        assert (await third.post(third.pack(words("and me"))))[0] == 202


async def test_words_from_one_address_are_few_whatever_its_dids(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    limits = replace(SMALL, operator_message_rate=Rate(0.001, 2))
    async with running(Home(tmp_path / "mediator"), port=0, limits=limits) as mediator:
        answers = []
        for _ in range(3):
            client = Client(http, mediator.did)
            answers.append((await client.post(client.pack(words("hi"))))[0])
        assert answers == [202, 202, 429]


async def test_anonymous_words_are_refused(alice: Client) -> None:
    anonymous = replace(words("boo"), to=(alice.mediator.did,))
    assert (await alice.post(pack_anoncrypt(anonymous, alice.mediator)))[0] == 401


@pytest.mark.parametrize(
    ("question", "found"),
    [
        (Query("protocol", "https://didcomm.org/message*"), {"messagepickup/3.0", "message-pickup/4.0"}),
        (Query("protocol", "*/coordinate-mediation/3.*"), {"coordinate-mediation/3.0"}),
        (Query("protocol", "https://didcomm.org/basicmessage/2.0"), {"basicmessage/2.0"}),
        (Query("protocol", "https://w3id.org/didmpc/session/*"), {"https://w3id.org/didmpc/session/1.0"}),
        (Query("constraint", "max_*"), {"max_receive_bytes"}),
        (Query("goal-code"), {"request-mediate"}),
        (Query("protocol", "https://didcomm.org/chess/*"), set()),
        (Query("nonsense"), set()),
    ],
)
async def test_features_are_found_by_pattern(alice: Client, question: Query, found: set[str]) -> None:
    answer = await alice.ask(discover_features.queries([question]))
    names = {
        feature.id.removeprefix("https://didcomm.org/")
        for feature in discover_features.parse_disclose(answer)
    }
    assert names == found


async def test_a_report_is_logged_on_one_short_line_and_never_answered(
    alice: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "didmpc.mediator")
    report = problem_report.ProblemReport("e.p." + "x" * 500, "words\nof a stranger")
    message = problem_report.report(report, pthid="a-thread")
    assert await alice.post(alice.pack(message, return_route="all")) == (202, b"")
    (line,) = [record.getMessage() for record in caplog.records if "reports the problem" in record.message]
    assert len(line) < 150 and "\n" not in line and "stranger" not in line


async def test_a_reply_acknowledges_where_that_is_asked_for(alice: Client) -> None:
    ping = trust_ping.ping("", "")
    assert (await alice.ask(ping, please_ack=("",))).ack == (ping.id,)
    assert (await alice.ask(trust_ping.ping("", ""))).ack is None


async def test_a_ping_is_answered_when_an_answer_is_wanted(mediator: Running, alice: Client) -> None:
    assert (await alice.ask(trust_ping.ping("", ""))).type == trust_ping.PING_RESPONSE
    silent = trust_ping.ping("", "", response_requested=False)
    assert await alice.post(alice.pack(silent, return_route="all")) == (202, b"")
