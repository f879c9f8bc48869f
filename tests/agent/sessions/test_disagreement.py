"""A careless or malicious host or guest changes one thing: every party refuses, and names what differs."""

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from didmpc.agent.sessions import guest as guest_module
from didmpc.agent.sessions import parties as parties_module
from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.did import canonical
from didmpc.protocols.errors import DidmpcError, LocalMisuse
from didmpc.protocols.message import Message
from didmpc.protocols.mpc import messages
from didmpc.protocols.mpc.manifest import Manifest

from .conftest import Agent, Mail, PostOffice, Terminal

Agents = dict[str, Agent]


@pytest.fixture(autouse=True)
def mediators_that_do_not_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here comes as far as a link."""
    monkeypatch.setattr(Mail, "supports", lambda self, protocol: False)


async def failures(*tasks: "asyncio.Task[Any]") -> list[DidmpcError]:
    async with asyncio.timeout(60):
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(each, DidmpcError) for each in ended), ended
    return [each for each in ended if isinstance(each, DidmpcError)]


def tampered(alice: Agent, office: PostOffice, victim: str, change: dict[str, Any]) -> None:
    """The host sends this victim another manifest than it signs itself."""
    honest = office.deliver
    host_dids = {contact.my_did for contact in alice.people.all()}

    async def deliver(message: Message, sender: Any, to: str) -> None:
        owner = office.owners.get(canonical(to))
        by_host = sender.did in host_dids
        if message.type == messages.MANIFEST and owner is not None and owner.name == victim and by_host:
            raw = messages.octets(message.body, "manifest", 1 << 20)
            changed = dataclasses.replace(Manifest.decode(raw), **change)
            message = dataclasses.replace(message, body={"manifest": b64url(changed.encode())})
        await honest(message, sender, to)

    office.deliver = deliver  # type: ignore[method-assign]


async def test_a_host_that_writes_another_manifest_than_it_proposed_is_refused_by_all(
    agents: Agents, program: Path, office: PostOffice
) -> None:
    named = "argument 2 is '3' in the proposal and '4' in the manifest"
    tampered(agents["alice"], office, "bob", {"arguments": ("--n", "4")})
    run = agents["alice"].run(program, Terminal(), "bob", "carol", arguments=["--n", "3"])
    bob, carol = (agents[name].join(Terminal()) for name in ("bob", "carol"))
    at_bob, at_alice, at_carol = await failures(bob, run, carol)
    assert named in at_bob.why
    swapped = named.replace("in the proposal", "for you").replace("in the manifest", "for bob")
    assert swapped in str(at_alice) + at_alice.why
    assert swapped in str(at_carol) + at_carol.why


async def test_parties_that_were_told_different_things_show_each_other_what(
    agents: Agents, program: Path, office: PostOffice
) -> None:
    """What no proposal says: here, until when the manifest holds."""
    tampered(agents["alice"], office, "bob", {"expires": 2_000_000_000})
    run = agents["alice"].run(program, Terminal(), "bob", "carol")
    bob, carol = (agents[name].join(Terminal()) for name in ("bob", "carol"))
    for end in await failures(run, bob, carol):
        assert "signed another manifest" in str(end) or "different things" in str(end)
        assert "until when it holds" in str(end)


async def test_a_guest_whose_own_copy_differs_in_a_byte_hears_the_line_and_so_does_the_host(
    agents: Agents, program: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own" / "three.py"
    own.parent.mkdir()
    own.write_text(program.read_text().replace("print(3)", "print(4)"))
    run = agents["alice"].run(program, Terminal(), "bob")
    bob = agents["bob"].join(Terminal(), program=str(own))
    at_bob, at_alice = await failures(bob, run)
    assert "three.py, line 2, is 'print(4)' in yours and 'print(3)' in alice's" in at_bob.why
    assert "line 2, is 'print(3)' in yours and 'print(4)' in theirs" in at_alice.what


async def test_other_versions_are_refused_before_anything_is_asked(
    agents: Agents, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agents["alice"].run(program, screen := Terminal(), "bob")
    await screen.sees(event="party", name="bob", state="asked")
    older = {**parties_module.versions(), "mpyc": "0.9.1"}
    monkeypatch.setattr("didmpc.agent.sessions.consent.versions", lambda: older)
    asked = Terminal()
    (end,) = await failures(agents["bob"].join(asked))
    assert "and 0.9.1 at your machine" in end.what and "pip install 'mpyc==" in end.fix
    assert not any(event["event"] == "proposal" for event in asked.events)


async def test_a_guest_that_lies_about_its_versions_is_told_by_the_host(
    agents: Agents, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = agents["alice"].run(program, Terminal(), "bob")
    monkeypatch.setattr(guest_module, "versions", lambda: {"mpyc": "0.9.1", "python": "3.11"})
    (end,) = await failures(agents["bob"].join(Terminal()))
    assert "and 0.9.1 at bob" in end.what
    assert not run.done()  # who installs the right one may come again


async def test_a_program_that_needs_what_is_not_installed_is_not_asked_about(
    agents: Agents, program: Path
) -> None:
    program.write_text("import no_such_package_here\n")
    with pytest.raises(LocalMisuse, match="no_such_package_here") as caught:
        await agents["alice"].run(program, Terminal(), "bob")
    assert "pip install" in caught.value.fix
