"""Both pages of a mediator in a real Chromium: on a phone, by keyboard, without scripts, for everybody."""

import asyncio
import io
import shutil
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from environments import AXE
from mediator_parts import PATIENCE, Client
from postgres import Database

from didmpc.mediator import app
from didmpc.mediator.app import Running, running
from didmpc.mediator.host.home import Home
from didmpc.mediator.operator.control import call
from didmpc.mediator.operator.history import History
from didmpc.mediator.store import StoreFailed
from didmpc.mediator.store.sqlite import SqliteStore

pytestmark = pytest.mark.hosting

PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 900}
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


class Visit:
    """One page in a browser context of its own; what it asked for, and what the browser complained of."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.requests: list[Any] = []
        self.complaints: list[str] = []
        page.on("request", self._note)
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _note(self, request: Any) -> None:
        self.requests.append(request)

    @classmethod
    async def of(cls, browser: Any, **options: Any) -> "Visit":
        options = {"viewport": PHONE, "device_scale_factor": 2, "reduced_motion": "reduce", **options}
        context = await browser.new_context(**options)
        context.set_default_timeout(PATIENCE * 1000)
        return cls(await context.new_page())

    async def fits(self) -> bool:
        """Whether nothing is wider than the screen."""
        width: int = await self.page.evaluate("document.documentElement.scrollWidth")
        return width <= self.page.viewport_size["width"]

    async def barriers(self) -> list[str]:
        """What axe finds, of WCAG 2.2 AA."""
        if not AXE.installed():
            pytest.skip(AXE.why_not() or "run  make test-hosting  once, to install axe-core")
        await self.page.evaluate((AXE.folder / "node_modules" / "axe-core" / "axe.min.js").read_text())
        found = await self.page.evaluate("(tags) => axe.run({ runOnly: tags })", RULES)
        assert len(found["passes"]) > 10
        return [f"{rule['id']}: {[node['html'] for node in rule['nodes']]}" for rule in found["violations"]]

    def went_only_to(self, *origins: str) -> bool:
        return all(
            request.url.startswith(tuple(f"{origin}/" for origin in origins)) for request in self.requests
        )

    async def until(self, script: str) -> None:
        """Not `wait_for_function`: that needs `unsafe-eval`."""
        async with asyncio.timeout(PATIENCE):
            while not await self.page.evaluate(script):
                await asyncio.sleep(0.05)


@pytest.fixture
async def mediator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    monkeypatch.setattr(app, "History", partial(History, every=0.3))
    async with running(
        Home(tmp_path / "m"),
        port=0,
        operator_listen="127.0.0.1:0",
        contact="Example Ltd, privacy@example.org",
    ) as mediator:
        yield mediator


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def link_of(tmp_path: Path) -> tuple[str, str]:
    """The address of the operator's page, and its token."""
    found = await asyncio.to_thread(call, tmp_path / "m", "page", {})
    assert found is not None
    return found["url"], found["token"]


# --- the public page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
async def test_the_public_page_works_for_everybody_on_every_screen(
    browser: Any, mediator: Running, scheme: str, size: dict[str, int]
) -> None:
    visit = await Visit.of(browser, color_scheme=scheme, viewport=size)
    await visit.page.goto(mediator.settings.url)
    assert await visit.page.inner_text("h1") == f"The mediator {mediator.settings.url.partition('://')[2]}"
    assert await visit.fits()
    assert await visit.barriers() == []
    assert visit.went_only_to(mediator.settings.url) and visit.complaints == []
    assert await visit.page.context.cookies() == []
    dark = await visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark == ("rgb(21, 23, 26)" if scheme == "dark" else "rgb(255, 255, 255)")


async def test_the_public_page_needs_no_script(browser: Any, mediator: Running) -> None:
    visit = await Visit.of(browser, java_script_enabled=False)
    await visit.page.goto(mediator.settings.url)
    text = await visit.page.inner_text("main")
    assert mediator.settings.invitation in text and "Privacy" in text and "Limits" in text
    assert await visit.page.locator("script").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_camera_reads_the_invitation_from_the_screen_of_a_phone(
    browser: Any, mediator: Running, scheme: str
) -> None:
    import zxingcpp
    from PIL import Image

    visit = await Visit.of(browser, color_scheme=scheme)
    await visit.page.goto(mediator.settings.url)
    picture = Image.open(io.BytesIO(await visit.page.locator("svg.code").screenshot()))
    assert [code.text for code in zxingcpp.read_barcodes(picture)] == [mediator.settings.invitation]


async def test_its_link_and_nothing_else_is_reached_with_the_keyboard(
    browser: Any, mediator: Running
) -> None:
    visit = await Visit.of(browser)
    await visit.page.goto(mediator.settings.url)
    await visit.page.keyboard.press("Tab")
    focused = await visit.page.evaluate(
        "[document.activeElement.href, getComputedStyle(document.activeElement).outlineStyle]"
    )
    assert focused == [mediator.settings.invitation, "solid"]


# --- the operator's page


async def test_the_link_opens_plots_that_go_on_by_themselves(
    browser: Any, mediator: Running, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    url, token = await link_of(tmp_path)
    visit = await Visit.of(browser)
    await visit.page.goto(f"{url}/#{token}")
    await visit.until("document.querySelectorAll('figure').length === 11")
    assert visit.page.url == f"{url}/"  # the token has left the address bar
    alice = await Client(http, mediator.did).enrol()
    did = await alice.new_did()
    for n in range(3):
        assert await alice.send(did, b'{"n":%d}' % n) == 202
    async with alice.line() as line:
        await line.go_live()
        await visit.until("document.getElementById('facts').innerText.includes('1, 1 in live mode')")
        waiting = (
            "[...document.querySelectorAll('figure')].find((f) => f.innerText.startsWith('Mail that waits'))"
        )
        await visit.until(f"{waiting}.querySelector('.legend').innerText.includes('messages 3')")
        await visit.until(f"{waiting}.querySelector('.curve').getAttribute('d').includes('L')")
    words = await visit.page.evaluate(f"{waiting}.querySelector('p').innerText")
    assert words == "messages: lowest 0, highest 3"
    await visit.page.click("#more")
    await visit.until("document.getElementById('accounts').innerText.includes('account-')")
    assert "did:" not in await visit.page.inner_text("body")
    assert visit.went_only_to(url) and visit.complaints == []
    assert not [each.url for each in visit.requests if token in each.url]
    assert not [each.url for each in visit.requests if token in (each.headers.get("referer") or "")]
    assert await visit.page.context.cookies() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
async def test_the_operators_page_works_for_everybody_on_every_screen(
    browser: Any, mediator: Running, tmp_path: Path, scheme: str, size: dict[str, int]
) -> None:
    url, token = await link_of(tmp_path)
    visit = await Visit.of(browser, color_scheme=scheme, viewport=size)
    await visit.page.goto(url)
    await visit.page.wait_for_selector("#token")
    assert await visit.fits() and await visit.barriers() == []
    await visit.page.fill("#token", token)
    await visit.page.keyboard.press("Enter")
    await visit.until("document.querySelectorAll('.curve[d*=L]').length > 10")
    for summary in await visit.page.locator("summary").all():
        await summary.click()
    await visit.page.click("#more")
    await visit.until("document.getElementById('listing').innerText !== ''")
    assert await visit.fits() and await visit.barriers() == []
    assert await visit.page.evaluate("document.getAnimations().length") == 0
    described = await visit.page.evaluate(
        "[...document.querySelectorAll('svg[role=img]')].map((svg) =>"
        " [svg.getAttribute('aria-labelledby'), svg.getAttribute('aria-describedby')]"
        ".map((id) => document.getElementById(id).textContent.length > 5))"
    )
    assert described == [[True, True]] * 11


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
async def test_the_page_of_a_node_shows_all_nodes(
    browser: Any, database: Database, tmp_path: Path, scheme: str, size: dict[str, int]
) -> None:
    first, second = Home(tmp_path / "m"), Home(tmp_path / "second")
    given: dict[str, Any] = {"port": 0, "public_url": "http://mediator.example", "store_url": database.dsn}
    async with running(first, operator_listen="127.0.0.1:0", **given):
        second.prepare()
        shutil.copy(first.root / "mediator.json", second.root)
        url, token = await link_of(tmp_path)
        async with running(second, **given):
            visit = await Visit.of(browser, color_scheme=scheme, viewport=size)
            await visit.page.goto(f"{url}/#{token}")
            await visit.until("document.querySelectorAll('#nodes tr').length === 2")
            text = await visit.page.inner_text("#cluster")
            assert "this one" in text and "there" in text and "gone" not in text
            assert await visit.fits() and await visit.barriers() == [] and visit.complaints == []


async def test_with_a_keyboard_alone_one_enters_pauses_opens_a_table_and_leaves(
    browser: Any, mediator: Running, tmp_path: Path
) -> None:
    url, token = await link_of(tmp_path)
    visit = await Visit.of(browser, viewport=DESK)
    press, page = visit.page.keyboard.press, visit.page
    await page.goto(url)
    await page.wait_for_selector("#token")
    await press("Tab")
    await page.keyboard.type("no token")
    await press("Enter")
    await visit.until("document.getElementById('refused').innerText.includes('not the token')")
    await page.keyboard.type(token)  # the focus is back in the field
    await press("Enter")
    await visit.until("document.querySelectorAll('.curve[d*=L]').length > 10")

    async def to(what: str) -> None:
        for _ in range(40):
            await press("Tab")
            if await page.evaluate("(what) => document.activeElement.matches(what)", what):
                return
        raise AssertionError(f"{what} cannot be reached with the keyboard")

    await to("#pause")
    await press("Space")
    assert await page.get_attribute("#pause", "aria-pressed") == "true"
    await to("summary")
    await press("Enter")
    await visit.until("document.querySelectorAll('details[open] tbody tr').length > 0")
    for _ in range(40):
        await press("Shift+Tab")
        if await page.evaluate("document.activeElement.id") == "leave":
            break
    await press("Enter")
    await page.wait_for_selector("#token")
    assert await page.evaluate("sessionStorage.length") == 0


async def test_while_the_store_is_away_the_page_says_so_and_shows_the_rest(
    browser: Any, mediator: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: object) -> None:
        raise StoreFailed("The database is out of reach.")

    url, token = await link_of(tmp_path)
    visit = await Visit.of(browser)
    await visit.page.goto(f"{url}/#{token}")
    await visit.until("document.getElementById('state').innerText.includes('Works')")
    monkeypatch.setattr(SqliteStore, "probe", away)
    monkeypatch.setattr(SqliteStore, "totals", away)
    await visit.until("document.getElementById('state').innerText === 'Takes in no mail: store.'")
    facts = await visit.page.inner_text("#facts")
    assert "not known" in facts and "NaN" not in facts and visit.complaints == []


async def test_a_wrong_token_is_refused_and_a_mediator_that_stops_is_told_of(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "History", partial(History, every=0.3))
    async with running(Home(tmp_path / "m"), port=0, operator_listen="127.0.0.1:0"):
        url, token = await link_of(tmp_path)
        visit = await Visit.of(browser)
        await visit.page.goto(f"{url}/#{'x' * len(token)}")
        await visit.until("document.getElementById('refused').innerText.includes('not the token')")
        await visit.page.fill("#token", token)
        await visit.page.keyboard.press("Enter")
        await visit.until("document.getElementById('state').innerText.includes('Works')")
    await visit.until("document.getElementById('state').innerText.includes('No answer from the mediator')")
    assert await visit.page.evaluate("document.getElementById('state').className") == "bad"


async def test_without_a_script_the_operators_page_names_the_command_instead(
    browser: Any, mediator: Running, tmp_path: Path
) -> None:
    url, _ = await link_of(tmp_path)
    visit = await Visit.of(browser, java_script_enabled=False)
    await visit.page.goto(url)
    assert "didmpc mediator status --watch" in await visit.page.inner_text("body")
