"""The operator's page: who may see its figures, what they are, and that it holds no secret."""

import asyncio
import re
import stat
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from mediator_parts import PATIENCE, SMALL, Client
from operator_parts import mediator_command

from didmpc.mediator import app, health
from didmpc.mediator.app import Running, running
from didmpc.mediator.host.home import Home
from didmpc.mediator.operator import site, view
from didmpc.mediator.operator.history import History
from didmpc.mediator.operator.token import Token
from didmpc.mediator.store import StoreFailed
from didmpc.mediator.store.sqlite import SqliteStore


@pytest.fixture
async def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    monkeypatch.setattr(app, "History", partial(History, every=0.05))
    async with running(Home(tmp_path / "m"), port=0, limits=SMALL, operator_listen="127.0.0.1:0") as mediator:
        yield mediator


async def opened(tmp_path: Path, *arguments: str) -> tuple[str, dict[str, str]]:
    """Where the page is, and the header that opens it."""
    found = (await mediator_command(tmp_path / "m", "page", "--json", *arguments)).json
    return found["url"], {"Authorization": f"Bearer {found['token']}"}


async def status_of(http: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> int:
    async with http.get(url, headers=headers) as response:
        return response.status


async def test_the_command_prints_one_link_that_carries_the_token_where_no_server_sees_it(
    watched: Running, tmp_path: Path
) -> None:
    said = await mediator_command(tmp_path / "m", "page")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/#[\w-]{43}\n", said.out)
    assert "ssh -N -L" in said.err
    kept = tmp_path / "m" / "operator.token"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert kept.read_text().strip() == said.out.strip().partition("#")[2]


async def test_figures_are_for_whoever_has_the_token(
    watched: Running, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    url, right = await opened(tmp_path)
    token = right["Authorization"].removeprefix("Bearer ")
    assert await status_of(http, f"{url}/state", right) == 200
    for wrong in (
        {},
        {"Authorization": f"Bearer {token[:-1]}"},
        {"Authorization": f"Bearer {token}x"},
        {"Authorization": token},
        {"Authorization": f"Basic {token}"},
        {"Cookie": f"token={token}"},
    ):
        assert await status_of(http, f"{url}/state", wrong) == 401
    assert await status_of(http, f"{url}/accounts?token={token}", {}) == 401
    assert await status_of(http, f"{url}/state?after=-1", right) == 400
    assert await status_of(http, f"{watched.settings.url}/state", right) == 404


async def test_who_tries_tokens_has_to_wait_also_for_the_right_one(
    watched: Running, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    url, right = await opened(tmp_path)
    tried = [await status_of(http, f"{url}/state", {"Authorization": "Bearer x"}) for _ in range(12)]
    assert tried == [401] * int(site.WRONG_TOKENS.burst) + [429] * 2
    async with http.get(f"{url}/state", headers=right) as response:
        assert response.status == 429 and int(response.headers["Retry-After"]) > 0
    assert await status_of(http, f"{url}/state", {**right, "X-Forwarded-For": "192.0.2.7"}) == 200


async def test_a_renewed_token_shuts_the_old_one_out(
    watched: Running, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    url, old = await opened(tmp_path)
    _, new = await opened(tmp_path, "--renew")
    assert [await status_of(http, f"{url}/state", each) for each in (old, new)] == [401, 200]
    assert (await opened(tmp_path))[1] == new


async def test_it_shows_accounts_by_name_and_how_figures_went(
    watched: Running, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    url, right = await opened(tmp_path)
    alice = await Client(http, watched.did).enrol()
    assert await alice.send(await alice.new_did(), b'{"n":1}') == 202
    async with asyncio.timeout(PATIENCE):
        samples, names = [], ["at"]
        while not samples or samples[-1][names.index("queued")] != 1:
            async with http.get(f"{url}/state", headers=right) as response:
                found = await response.json()
            names, samples = ["at", *found["history"]["names"]], found["history"]["samples"]
    assert sum(sample[names.index("messages_in")] for sample in samples) > 0
    assert samples[-1][names.index("accounts")] == 1
    assert found["status"]["queued"] == 1
    assert found["nodes"] == []  # it is alone
    async with http.get(f"{url}/accounts", headers=right) as response:
        text = await response.text()
        (account,) = (await response.json())["accounts"]
    assert account["messages"] == 1 and account["name"].startswith("account-")
    assert "did:" not in text
    async with http.get(f"{url}/state?after={found['history']['taken']}", headers=right) as response:
        later = (await response.json())["history"]
    assert len(later["samples"]) == later["taken"] - found["history"]["taken"]


async def test_while_the_store_is_away_page_and_command_tell_the_rest(
    watched: Running, tmp_path: Path, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: object) -> None:
        raise StoreFailed("The database is out of reach.")

    url, right = await opened(tmp_path)
    monkeypatch.setattr(SqliteStore, "probe", away)
    monkeypatch.setattr(SqliteStore, "totals", away)
    monkeypatch.setattr(health, "PROBE_EVERY", 0.0)
    async with http.get(f"{url}/state", headers=right) as response:
        status = (await response.json())["status"]
    assert (status["obstacles"], status["accounts"], status["sockets"]) == (["store"], None, 0)
    told = (await mediator_command(tmp_path / "m", "status")).out
    assert "not ready: store" in told and "not known: the store does not answer" in told
    assert view.status_line(status).startswith("sockets 0")


async def test_the_page_itself_holds_nothing_but_itself(
    watched: Running, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    url, right = await opened(tmp_path)
    async with http.get(url) as response:
        text, policy = await response.text(), response.headers["Content-Security-Policy"]
        assert "Set-Cookie" not in response.headers and response.headers["Cache-Control"] == "no-store"
    assert right["Authorization"][7:] not in text
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert not re.search(r"https?://|<script>|style=|\son\w+=", text)
    for path in re.findall(r'(?:href|src)="(assets/[^"]+)"', text):
        async with http.get(f"{url}/{path}") as response:
            assert response.status == 200
            loaded = (await response.text()).replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://\w|innerHTML|eval\(", loaded)


async def test_where_it_is_not_served_the_command_says_how_to_change_that(
    mediator: Running, tmp_path: Path
) -> None:
    said = await mediator_command(tmp_path / "mediator", "page")
    assert said.status == 1
    assert not (tmp_path / "mediator" / "operator.token").exists()


def test_a_token_that_is_damaged_is_made_anew_and_none_is_shown_by_accident(tmp_path: Path) -> None:
    (tmp_path / "operator.token").write_bytes(b"\xff short")
    token = Token(tmp_path)
    assert len(token.reveal()) == 43 and token.reveal() not in repr(token)
    assert Token(tmp_path).reveal() == token.reveal()
    assert token.matches(token.reveal())
    assert not token.matches("") and not token.matches("\udcff")


async def test_rates_are_per_second_and_only_the_latest_samples_are_kept() -> None:
    reads = iter([({"in": n}, {"open": 7}) for n in (5, 15, 15, 0, 40)])

    async def read() -> tuple[dict[str, float], dict[str, float]]:
        counted, current = next(reads)
        return dict(counted), dict(current)

    kept = History(read, every=2.0, kept=3)
    for n in range(5):
        await kept.sample(100.0 + 2 * n, 2.0 * n)
    found = kept.since(0)
    assert (found["names"], found["taken"]) == (("in", "open"), 4)
    assert found["samples"] == [[104.0, 0.0, 7], [106.0, 0.0, 7], [108.0, 20.0, 7]]
    assert kept.since(3)["samples"] == [[108.0, 20.0, 7]]
    assert kept.since(4)["samples"] == []
    assert len(kept.since(99)["samples"]) == 3  # it has been started again since
