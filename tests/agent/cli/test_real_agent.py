"""The commands with real agents: real daemons as processes, at a mediator of this test."""

import asyncio
import json
import os
import signal
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from awkward_mediator import AwkwardMediator

from .conftest import PATIENCE, Command, Result


class Person:
    """Somebody with a home of their own, at a terminal."""

    def __init__(self, folder: Path, mediator: str) -> None:
        self.home = folder / "home"
        folder.mkdir()
        self._command = Command(self.home, folder)
        self.folder = folder
        self.mediator = mediator

    async def types(self, *arguments: str, **options) -> Result:
        return await asyncio.to_thread(self._command, *arguments, **options)

    async def starts(self, *arguments: str) -> Result:
        return await self.types(
            "agent", "start", "--mediator", self.mediator, "--detach", "--json", *arguments
        )

    def opens(self, *arguments: str):
        return self._command.start(*arguments)


@pytest.fixture
async def person(tmp_path: Path, mediator: AwkwardMediator) -> AsyncIterator[type[Person]]:
    people = []

    def make(name: str) -> Person:
        people.append(Person(tmp_path / name, mediator.identity.did))
        return people[-1]

    yield make
    for each in people:
        if (each.home / "agent.sock").exists():
            await each.types("agent", "stop")


async def test_an_agent_in_the_background_is_ready_when_the_command_returns(person, mediator):
    alice = person("alice")
    started = await alice.starts("--label", "Alice")
    assert started.status == 0, started.err
    assert set(started.json) == {"did", "label", "mediator"}
    assert started.json["label"] == "Alice"
    assert started.json["mediator"] == mediator.identity.did
    assert "Ready. Invite someone:  didmpc invite" in started.err
    assert "key file" in started.err  # a warning, where there is no keyring and no passphrase

    assert (await alice.types("agent", "did")).out.decode() == started.json["did"] + "\n"
    status = (await alice.types("agent", "status", "--json")).json
    assert (status["label"], status["mediator"]["connected"]) == ("Alice", True)
    assert "Alice" in (await alice.types("agent", "status")).err

    stopped = await alice.types("agent", "stop")
    assert (stopped.status, stopped.out) == (0, b"")
    assert (await alice.types("agent", "status")).status == 1


async def test_a_second_start_on_the_same_home_says_so(person):
    alice = person("alice")
    assert (await alice.starts()).status == 0
    again = await alice.starts()
    assert again.status == 1
    assert again.json["ok"] is False
    assert "already" in again.err
    assert (await alice.types("agent", "did")).status == 0


async def test_an_agent_keeps_its_label_and_its_did(person):
    alice = person("alice")
    first = (await alice.starts("--label", "Alice")).json
    await alice.types("agent", "stop")
    second = (await alice.types("agent", "start", "--detach", "--json")).json
    assert second == first


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
async def test_an_agent_in_the_foreground_says_one_line_and_ends_on_a_signal(
    person, mediator, number, status
):
    alice = person("alice")
    process = alice.opens("agent", "start", "--mediator", mediator.identity.did, "--json")
    line = await asyncio.to_thread(process.stdout.readline)
    assert set(json.loads(line)) == {"did", "label", "mediator"}
    process.send_signal(number)
    out, err = await asyncio.to_thread(process.communicate, None, PATIENCE)
    assert out == b""
    assert b"Traceback" not in err
    assert process.returncode == status


async def test_a_mediator_that_is_interrupted_says_so_once(didmpc, tmp_path, finish):
    process = didmpc.start("mediator", "start", "--port", "0", "--json", "--home", str(tmp_path / "m"))
    await asyncio.to_thread(process.stdout.readline)
    stopped = await asyncio.to_thread(finish, process, interrupt=1)
    assert (stopped.status, stopped.err) == (130, "Stopped.\n")


async def test_a_passphrase_is_needed_right_and_nowhere_to_be_seen(person):
    alice = person("alice")
    right, wrong = alice.folder / "right", alice.folder / "wrong"
    for file, text in ((right, "correct horse battery"), (wrong, "incorrect donkey")):
        file.write_text(text + "\n")
        file.chmod(0o600)
    assert (await alice.starts("--passphrase-file", str(right))).status == 0

    pid = (await alice.types("agent", "status", "--json")).json["pid"]
    for name in ("cmdline", "environ"):
        assert b"correct horse" not in Path(f"/proc/{pid}/{name}").read_bytes()
    await alice.types("agent", "stop")

    refused = await alice.starts("--passphrase-file", str(wrong))
    assert refused.status == 1
    assert "passphrase" in refused.err
    assert "donkey" not in refused.err
    missing = await alice.starts()
    assert missing.status == 1
    assert "--passphrase-file" in missing.err
    assert (await alice.starts("--passphrase-file", str(right))).status == 0
    assert "already runs" in (await alice.starts()).err  # for which nobody has to give it


async def test_nothing_in_a_home_can_be_read_by_others(person):
    alice = person("alice")
    before = os.umask(0)
    try:
        assert (await alice.starts()).status == 0
    finally:
        os.umask(before)
    for path in [alice.home, *alice.home.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


async def test_two_people_become_contacts_and_ping_each_other(person):
    alice, bob = person("alice"), person("bob")
    for each, label in ((alice, "Alice"), (bob, "Bob")):
        assert (await each.starts("--label", label)).status == 0
    invited = await alice.types("invite", "--file", "for-bob.txt")
    assert invited.status == 0
    link = invited.out.decode().strip()
    assert link.startswith("http")
    assert "\n" not in link

    accepted = await bob.types("accept", str(alice.folder / "for-bob.txt"), "--as", "Ali")
    assert (accepted.status, accepted.out) == (0, b""), accepted.err
    assert "Ali is now your contact" in accepted.err
    assert [c["name"] for c in (await bob.types("contacts", "--json")).json["contacts"]] == ["Ali"]
    assert [c["name"] for c in (await alice.types("contacts", "--json")).json["contacts"]] == ["Bob"]

    pinged = await bob.types("ping", "Ali", "--count", "2")
    assert (pinged.status, pinged.out) == (0, b""), pinged.err
    assert "2 of 2 came back" in pinged.err

    unknown = await bob.types("ping", "Carol")
    assert unknown.status == 1
    assert "Ali" in unknown.err  # the names that do exist

    await alice.types("agent", "stop")
    lost = await bob.types("ping", "Ali", "--count", "1", "--timeout", "1")
    assert lost.status == 1
    assert "did not answer" in lost.err


async def test_a_broken_or_used_invitation_is_refused_in_words(person):
    alice, bob = person("alice"), person("bob")
    assert (await alice.starts()).status == (await bob.starts()).status == 0
    link = (await alice.types("invite")).out.decode().strip()
    for broken in (link[:-20], "https://example.org/?c_i=eyJ9", "https://example.org/"):
        result = await bob.types("accept", broken)
        assert (result.status, result.out) == (1, b""), broken
        assert result.err.strip()
    assert (await bob.types("contacts", "--json")).json == {"contacts": []}


async def test_a_mediator_that_is_down_is_named(tmp_path, person, mediator):
    await mediator.close()
    alice = person("alice")
    result = await alice.starts()
    assert result.status == 1
    assert "mediator" in result.err.lower()


async def test_doctor_finds_a_running_agent_healthy(person):
    alice = person("alice")
    await alice.starts()
    result = await alice.types("doctor", "--json")
    names = {check["name"] for check in result.json["checks"]}
    assert {"home", "keys", "clock", "mediator", "websocket", "sandbox", "versions", "agent"} <= names
    failed = [check["name"] for check in result.json["checks"] if not check["ok"]]
    assert failed in ([], ["sandbox"])  # which is a matter of the machine that the tests run on
    assert result.status == len(failed)
