"""The agent as a whole, by the methods that commands call."""

import asyncio
import logging
import os
import signal
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from agent_parts import PATIENCE, eventually
from awkward_mediator import AwkwardMediator

from didmpc.agent import daemon
from didmpc.agent.control.client import call
from didmpc.agent.daemon import StartOptions, serve
from didmpc.agent.mailbox import mailbox
from didmpc.agent.wallet.home import Home
from didmpc.protocols.did import resolve, same_party
from didmpc.protocols.errors import DidmpcError, LocalMisuse


@dataclass
class Running:
    """A daemon in this process."""

    home: Home
    ready: dict[str, Any]
    notices: list[str]
    task: "asyncio.Task[signal.Signals | None]"

    async def __call__(self, method: str, **params: Any) -> dict[str, Any]:
        return await asyncio.to_thread(call, method, params, home=self.home, timeout=PATIENCE)

    async def stop(self) -> None:
        await self("stop")
        await self.task


Launch = Callable[..., Awaitable[Running]]


@pytest.fixture
async def launch(tmp_path: Path, mediator: AwkwardMediator) -> AsyncIterator[Launch]:
    """Starts a daemon under a name; without `mediator=None` at the mediator in memory."""
    tasks = []

    async def launch(name: str, **options: Any) -> Running:
        options.setdefault("mediator", mediator.identity.did)
        notices: list[str] = []
        ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        given = StartOptions(home=tmp_path / name, **options)
        task = asyncio.create_task(serve(given, on_ready=ready.set_result, on_notice=notices.append))
        tasks.append(task)
        await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        return Running(Home(tmp_path / name), ready.result(), notices, task)

    yield launch
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError, DidmpcError):
            await task


async def test_two_agents_meet_and_ping(launch: Launch) -> None:
    alice, bob = await launch("alice", label="Alice"), await launch("bob", label="Bob")
    invitation = await alice("invite")
    contact = await bob("accept", invitation=invitation["url"])
    assert contact["name"] == "Alice"
    (known,) = (await alice("contacts"))["contacts"]
    assert known["name"] == "Bob" and known["verified"] is False
    pong = await bob("ping", contact="Alice", count=2, timeout=PATIENCE)
    assert pong["received"] == 2


async def test_ready_says_what_a_person_wants_to_know(launch: Launch, mediator: AwkwardMediator) -> None:
    alice = await launch("alice", label="Alice")
    assert alice.ready["label"] == "Alice" and alice.ready["connected"] is True
    assert same_party(alice.ready["mediator"], mediator.identity.did)
    (service,) = resolve(alice.ready["did"]).services
    assert same_party(service.uri, mediator.identity.did)
    assert 0 < alice.ready["connect_seconds"] < PATIENCE


async def test_a_restart_keeps_did_label_mediator_and_contacts(launch: Launch) -> None:
    alice, bob = await launch("alice", label="Alice"), await launch("bob", label="Bob")
    await bob("accept", invitation=(await alice("invite"))["url"])
    await alice.stop()
    again = await launch("alice", mediator=None)
    for name in ("did", "label", "mediator"):
        assert again.ready[name] == alice.ready[name]
    assert (await again("ping", contact="Bob", count=1))["received"] == 1


async def test_a_second_start_on_the_same_home_says_so(launch: Launch) -> None:
    alice = await launch("alice")
    with pytest.raises(LocalMisuse, match=f"already runs in .*process {os.getpid()}"):
        await launch("alice")
    assert (await alice("status"))["pid"] == os.getpid()


async def test_after_a_stop_nothing_is_left_running(launch: Launch) -> None:
    alice = await launch("alice")
    await alice.stop()
    assert not alice.home.socket.exists()
    with pytest.raises(LocalMisuse, match="No agent is running"):
        await alice("status")
    await launch("alice")


async def test_sigterm_stops_it_orderly(launch: Launch) -> None:
    alice = await launch("alice")
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(alice.task, PATIENCE) is signal.SIGTERM
    assert not alice.home.socket.exists()


async def test_a_mediators_invitation_is_as_good_as_its_did(
    launch: Launch, mediator: AwkwardMediator
) -> None:
    alice = await launch("alice", mediator=mediator.invitation())
    assert same_party(alice.ready["mediator"], mediator.identity.did)


async def test_a_persons_invitation_is_no_mediator(launch: Launch) -> None:
    alice = await launch("alice")
    url = (await alice("invite"))["url"]
    with pytest.raises(LocalMisuse, match="of a person") as caught:
        await launch("bob", mediator=url)
    assert "didmpc accept" in caught.value.fix


@pytest.mark.parametrize(
    "named", ["did:web:example.org", "did:peer:2.nonsense", "rubbish", "https://example.org"]
)
async def test_a_mediator_that_is_none_is_refused(launch: Launch, named: str) -> None:
    with pytest.raises(DidmpcError) as caught:
        await launch("alice", mediator=named)
    assert caught.value.fix


async def test_a_named_mediator_that_is_down_ends_the_start(
    launch: Launch, mediator: AwkwardMediator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "FIRST_CONNECTION", 0.5)
    await mediator.close()
    with pytest.raises(DidmpcError, match="cannot be reached"):
        await launch("alice")


async def test_a_known_mediator_may_be_down_for_a_while(
    launch: Launch, mediator: AwkwardMediator, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await launch("alice")
    await alice.stop()
    monkeypatch.setattr(daemon, "KNOWN_MEDIATOR", 0.3)
    monkeypatch.setattr(mailbox, "ASK_WITHIN", 0.3)
    mediator.ignore = lambda message: True
    again = await launch("alice", mediator=None)
    assert again.ready["connected"] is False and again.ready["did"] == alice.ready["did"]
    assert any("keeps trying" in notice for notice in again.notices)
    with pytest.raises(DidmpcError, match="cannot be reached"):
        await asyncio.to_thread(call, "invite", {}, home=again.home, timeout=PATIENCE)


async def test_another_mediator_is_fine_before_there_are_contacts(
    launch: Launch, mediator: AwkwardMediator
) -> None:
    other = AwkwardMediator()
    await other.start()
    try:
        alice = await launch("alice")
        await alice("invite")
        await alice.stop()
        moved = await launch("alice", mediator=other.identity.did)
        assert same_party(moved.ready["mediator"], other.identity.did)
        assert not same_party(moved.ready["did"], alice.ready["did"])
        assert moved.ready["label"] == alice.ready["label"]
        bob = await launch("bob")
        assert (await bob("accept", invitation=(await moved("invite"))["url"]))["name"]
    finally:
        await other.close()


async def test_contacts_are_not_lost_to_another_mediator(launch: Launch) -> None:
    other = AwkwardMediator()
    await other.start()
    try:
        alice, bob = await launch("alice"), await launch("bob")
        await bob("accept", invitation=(await alice("invite"))["url"], name="Friend")
        await bob.stop()
        with pytest.raises(LocalMisuse, match="cannot change its mediator"):
            await launch("bob", mediator=other.identity.did)
        again = await launch("bob", mediator=None)
        assert (await again("ping", contact="Friend", count=1))["received"] == 1
    finally:
        await other.close()


async def test_a_wrong_passphrase_is_one_clear_error_and_loses_nothing(launch: Launch) -> None:
    alice = await launch("alice", passphrase="right")
    await alice.stop()
    with pytest.raises(LocalMisuse, match="passphrase does not open"):
        await launch("alice", passphrase="wrong")
    again = await launch("alice", passphrase="right")
    assert again.ready["did"] == alice.ready["did"] and again.ready["encryption"] == "passphrase"
    assert not any("key file" in notice for notice in again.notices)


async def test_a_key_file_is_warned_about(launch: Launch) -> None:
    alice = await launch("alice")
    assert any("--passphrase-file" in notice for notice in alice.notices)


async def test_everything_in_a_home_is_private_and_the_log_holds_no_secret(launch: Launch) -> None:
    alice, bob = await launch("alice", passphrase="sesame-open"), await launch("bob")
    await bob("accept", invitation=(await alice("invite"))["url"])
    await alice("ping", contact=(await alice("contacts"))["contacts"][0]["name"], count=1)
    with pytest.raises(DidmpcError):
        await alice("ping", contact="nobody")
    for path in alice.home.root.rglob("*"):
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
    text = alice.home.log.read_text()
    assert text and "sesame-open" not in text and '"d"' not in text


async def test_an_unknown_contact_is_named_with_the_known_ones(launch: Launch) -> None:
    alice, bob = await launch("alice", label="Alice"), await launch("bob")
    await bob("accept", invitation=(await alice("invite"))["url"])
    with pytest.raises(DidmpcError, match="'Carol'") as caught:
        await bob("ping", contact="Carol")
    assert "Alice" in caught.value.why


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("invite", {"uses": "many"}),
        ("invite", {"uses": 0}),
        ("invite", {"expires": -1}),
        ("invite", {"expires": 10**30}),
        ("accept", {}),
        ("accept", {"invitation": 5}),
        ("ping", {"contact": None}),
        ("ping", {"contact": "x", "count": True}),
    ],
)
async def test_wrong_parameters_are_errors_with_words(
    launch: Launch, method: str, params: dict[str, Any]
) -> None:
    alice = await launch("alice")
    with pytest.raises(DidmpcError) as caught:
        await alice(method, **params)
    assert "an error of its own" not in caught.value.what


async def test_doctor_finds_a_healthy_agent_healthy(launch: Launch) -> None:
    alice = await launch("alice")
    checks = (await alice("doctor"))["checks"]
    assert {check["name"] for check in checks} == {
        "home",
        "keys",
        "mediator",
        "clock",
        "websocket",
        "sandbox",
        "versions",
    }
    # Whether there is a sandbox is a matter of the machine that the tests run on.
    assert [check for check in checks if not check["ok"] and check["name"] != "sandbox"] == []


async def test_doctor_has_a_fix_for_whatever_is_wrong(launch: Launch, mediator: AwkwardMediator) -> None:
    alice = await launch("alice")
    alice.home.log.chmod(0o644)
    await mediator.close()
    await eventually(lambda: "not connected" in alice.home.log.read_text())
    failed = {check["name"]: check for check in (await alice("doctor"))["checks"] if not check["ok"]}
    assert {"home", "mediator", "websocket"} <= failed.keys()
    assert all(check["fix"] for check in failed.values())


async def test_logging_is_as_before_after_the_end(launch: Launch) -> None:
    before = list(logging.getLogger("didmpc").handlers)
    await (await launch("alice")).stop()
    assert logging.getLogger("didmpc").handlers == before


async def test_what_peers_write_cannot_forge_log_lines(launch: Launch) -> None:
    alice = await launch("alice")
    logging.getLogger("didmpc.agent").warning("a type %s", "x\n2026-01-01 ERROR forged\x1b[2J")
    lines = alice.home.log.read_text().split("\n")
    assert not any(line.startswith("2026-01-01 ERROR") or "\x1b" in line for line in lines)
