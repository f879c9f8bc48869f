"""What a browser, a monitor and a careless client see."""

import re

import aiohttp
import pytest

from didmpc.mediator.app import Running
from didmpc.mediator.limits import Buckets, Limits, Rate
from didmpc.mediator.pages.page import About
from didmpc.mediator.store import Admission
from didmpc.protocols.identity import Identity
from didmpc.protocols.messages.out_of_band import Invitation, from_url
from didmpc.protocols.mpc import lobby


async def get(http: aiohttp.ClientSession, url: str) -> tuple[int, str, dict[str, str]]:
    async with http.get(url) as response:
        return response.status, await response.text(), dict(response.headers)


async def test_the_invitation_is_one_of_this_mediator(mediator: Running) -> None:
    invitation = from_url(mediator.settings.invitation)
    assert (invitation.from_, invitation.goal_code) == (mediator.did, "request-mediate")
    assert mediator.settings.invitation.startswith(mediator.settings.url)


async def test_its_page_tells_a_person_what_to_type_and_shows_the_code(
    http: aiohttp.ClientSession, mediator: Running
) -> None:
    status, text, headers = await get(http, mediator.settings.invitation)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert f"didmpc agent start --mediator &#x27;{mediator.settings.invitation}&#x27;" not in text
    assert f"didmpc agent start --mediator '{mediator.settings.invitation}'" in text
    assert "<svg" in text and "<script" not in text
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Server"] == "didmpc"
    assert (await get(http, f"{mediator.settings.url}/"))[:2] == (200, text)


async def test_an_invitation_to_open_an_account_is_shown_as_one_of_the_mediator(
    http: aiohttp.ClientSession, mediator: Running
) -> None:
    for nist in (False, True):
        invitation = mediator.settings.inviting("a-ticket", 2_000_000_000, nist=nist)
        status, text, _ = await get(http, invitation)
        assert status == 200
        assert f"didmpc agent start --mediator '{invitation}'" in text and "didmpc accept" not in text


@pytest.mark.parametrize(("goal", "command"), [(lobby.GOAL_CODE, "join"), (None, "accept")])
async def test_an_invitation_says_what_to_type(
    http: aiohttp.ClientSession, mediator: Running, goal: str | None, command: str
) -> None:
    url = Invitation(from_=Identity.peer4().did, label="Alice", goal_code=goal).to_url(
        f"{mediator.settings.url}/"
    )
    _, text, _ = await get(http, url)
    assert f"didmpc {command} '{url}'" in text


async def test_what_strangers_write_into_an_invitation_is_only_text(
    http: aiohttp.ClientSession, mediator: Running
) -> None:
    nasty = Invitation(from_=Identity.peer4().did, label='<script>alert("x")</script><img src=x>')
    status, text, _ = await get(http, nasty.to_url(f"{mediator.settings.url}/"))
    assert status == 200
    assert "<script" not in text and "<img" not in text
    assert "&lt;script&gt;" in text


@pytest.mark.parametrize("query", ["_oob=", "_oob=nonsense", "_oob=<script>", "_oob=eyJ0eXBlIjoieCJ9"])
async def test_a_damaged_invitation_says_so(
    http: aiohttp.ClientSession, mediator: Running, query: str
) -> None:
    status, text, headers = await get(http, f"{mediator.settings.url}/?{query}")
    assert status == 400
    assert "cannot be read" in text
    assert "Content-Security-Policy" in headers


@pytest.mark.parametrize(
    ("method", "path", "status"), [("PUT", "/", 405), ("GET", "/etc/passwd", 404), ("POST", "/ws", 405)]
)
async def test_other_requests_are_refused(
    http: aiohttp.ClientSession, mediator: Running, method: str, path: str, status: int
) -> None:
    async with http.request(method, mediator.settings.url + path) as response:
        assert response.status == status


async def test_another_media_type_is_refused(http: aiohttp.ClientSession, mediator: Running) -> None:
    async with http.post(mediator.settings.url, data={"a": "form"}) as response:
        assert response.status == 415


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    buckets = Buckets(Rate(per_second=2, burst=3), keys=2)
    assert [buckets.take("a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert buckets.take("b", 0.0)
    assert [buckets.take("a", 0.5), buckets.take("a", 0.5)] == [True, False]
    assert [buckets.take("a", 100.0) for _ in range(4)] == [True, True, True, False]
    buckets.take("c", 100.0)
    assert len(buckets._buckets) == 2


async def test_its_page_tells_what_it_is_how_it_is_what_it_allows_and_what_it_sees(
    http: aiohttp.ClientSession, mediator: Running
) -> None:
    _, text, headers = await get(http, mediator.settings.url)
    host = mediator.settings.url.partition("://")[2]
    assert f"<h1>The mediator {host}</h1>" in text
    assert "works, and takes in mail." in text
    assert "128 KiB" in text and "512 KiB" in text  # of the limits in force here
    assert "not its contents, nor who wrote it" in text and "sets no cookies" in text
    assert "Set-Cookie" not in headers
    policy = headers["Content-Security-Policy"]
    assert "unsafe" not in policy and "sha256-" not in policy and "style-src 'self'" in policy
    assert "style=" not in text and "<style" not in text and 'lang="en"' in text


async def test_its_style_sheet_is_there_to_stay_and_nothing_else_lies_beside_it(
    http: aiohttp.ClientSession, mediator: Running
) -> None:
    _, text, _ = await get(http, mediator.settings.url)
    (path,) = re.findall(r'<link rel="stylesheet" href="(assets/page-[0-9a-f]{16}\.css)">', text)
    status, style, headers = await get(http, f"{mediator.settings.url}/{path}")
    assert (status, headers["Content-Type"]) == (200, "text/css; charset=utf-8")
    assert "immutable" in headers["Cache-Control"] and headers["X-Content-Type-Options"] == "nosniff"
    assert "prefers-color-scheme: dark" in style and "url(" not in style
    for other in ("assets/", "assets/page.css", "assets/operator.js", "assets/../mediator.json"):
        assert (await get(http, f"{mediator.settings.url}/{other}"))[0] == 404


@pytest.mark.parametrize(
    ("registration", "admits", "says"),
    [
        ("open", True, "Everybody may open an account"),
        ("invitation", False, "Accounts are by invitation"),
        ("allow-list", False, "Its operator decides which DIDs"),
    ],
)
def test_only_an_invitation_that_opens_an_account_is_shown_as_one(
    registration: Admission, admits: bool, says: str
) -> None:
    about = About("m.example", Limits(), registration, "Example Ltd, <privacy@m.example>")
    own = about.page("https://m.example/?_oob=x", (), admits=about.admits())
    assert says in own and ("<svg" in own) == admits and ("agent start" in own) == admits
    assert "Example Ltd, &lt;privacy@m.example&gt;" in own
    ticket = Invitation(from_="did:example:m", expires_time=2_000_000_000)
    assert about.admits(ticket) == (registration != "allow-list")


def test_a_mediator_that_takes_no_mail_says_why_and_one_that_does_not_relay_does_not_speak_of_it() -> None:
    about = About("m.example", Limits(), relays=False)
    text = about.page("https://m.example/?_oob=x", ("disk", "store"), admits=True)
    assert "takes in no mail now: its disk is full, it cannot store mail." in text
    assert "elay" not in text
