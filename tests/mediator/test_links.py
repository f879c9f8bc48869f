"""Short links lead to invitations, for a browser and for a program, and to nothing else."""

import asyncio
import time

import aiohttp
import pytest
from mediator_parts import PATIENCE, Client

from didmpc.mediator.app import Running
from didmpc.protocols.identity import Identity
from didmpc.protocols.message import PLAIN, Message
from didmpc.protocols.messages import problem_report, shorten_url
from didmpc.protocols.messages.out_of_band import Invitation, from_text, from_url


async def shorten(client: Client, url: str, validity: int = 60) -> Message:
    return await client.ask(shorten_url.request(url, validity), created_time=int(time.time()))


@pytest.fixture
def invitation() -> Invitation:
    return Invitation(from_=Identity.peer4().did, label="Alice")


async def test_a_program_gets_the_invitation_itself(
    alice: Client, invitation: Invitation, mediator: Running
) -> None:
    link = shorten_url.parse_shortened(await shorten(alice, invitation.to_url("https://elsewhere.example/")))
    assert link.startswith(f"{mediator.settings.url}/?_oobid=") and len(link) < 80
    async with alice.http.get(link, headers={"Accept": "application/json"}) as response:
        assert (response.status, response.content_type) == (200, PLAIN)
        assert from_text(await response.text()) == invitation


async def test_a_browser_is_sent_to_the_page_of_the_invitation_here(
    alice: Client, invitation: Invitation, mediator: Running
) -> None:
    link = shorten_url.parse_shortened(await shorten(alice, invitation.to_url("https://elsewhere.example/")))
    async with alice.http.get(link, allow_redirects=False) as response:
        assert response.status == 307
        assert response.headers["Location"].startswith(f"{mediator.settings.url}/?_oob=")
        assert from_url(response.headers["Location"]) == invitation
    async with alice.http.get(link) as response:
        assert "Alice invites you" in await response.text()


async def test_only_invitations_are_shortened(alice: Client) -> None:
    for url in (
        "https://evil.example/",
        "https://evil.example/?_oob=eyJ0eXBlIjoieCJ9",
        "javascript:alert(1)",
    ):
        answer = await shorten(alice, url)
        assert answer.type == problem_report.PROBLEM_REPORT


async def test_whoever_has_no_account_gets_no_link(
    mediator: Running, http: aiohttp.ClientSession, invitation: Invitation
) -> None:
    answer = await shorten(Client(http, mediator.did), invitation.to_url("https://x.example/"))
    assert problem_report.parse(answer).code == "e.p.req.not_enroll"


async def test_a_link_that_was_never_made_or_has_expired_says_so(
    alice: Client, invitation: Invitation, mediator: Running
) -> None:
    link = shorten_url.parse_shortened(
        await shorten(alice, invitation.to_url("https://x.example/"), validity=1)
    )
    async with alice.http.get(f"{mediator.settings.url}/?_oobid=AAAAAAAAAAAA") as response:
        assert response.status == 404
    status = 307
    async with asyncio.timeout(PATIENCE):
        while status == 307:
            await asyncio.sleep(0.05)
            async with alice.http.get(link, allow_redirects=False) as response:
                status = response.status
    assert status == 404
