"""People gather for a session: they come, refuse, leave, come too late, or are not who they should be."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from didmpc.agent.sessions import bundles, reception
from didmpc.agent.sessions.attempt import Attempt
from didmpc.agent.sessions.inbox import Inbox
from didmpc.protocols.envelope import Unpacked
from didmpc.protocols.errors import DidmpcError, LocalMisuse, RemoteViolation
from didmpc.protocols.identity import Identity
from didmpc.protocols.message import Message
from didmpc.protocols.mpc import messages
from didmpc.protocols.mpc.manifest import Manifest
from didmpc.protocols.mpc.proposal import Proposal

from .conftest import PATIENCE, Agent, PostOffice, Terminal, introduce

Agents = dict[str, Agent]


async def test_a_guest_sees_what_is_proposed_before_it_is_asked(agents: Agents, program: Path) -> None:
    agents["alice"].run(program, Terminal(), "bob", "carol", arguments=["--n", "3"])
    screen = Terminal()
    agents["bob"].join(screen)
    shown = await screen.sees(event="proposal")
    assert shown["title"] == "Three: everyone learns three."
    assert shown["program"] == "three.py"
    assert shown["parties"] == ["alice", "bob", "carol"]
    assert shown["from"] == "alice"
    assert shown["arguments"] == ["--n", "3"]
    assert (shown["m"], shown["threshold"], shown["private_unless"]) == (3, 1, 2)


async def test_a_guest_that_says_no_ends_the_gathering_by_name(agents: Agents, program: Path) -> None:
    run = agents["alice"].run(program, Terminal(), "bob", "carol")
    carol = agents["carol"].join(screen := Terminal())
    await screen.sees(event="proposal")
    bob = agents["bob"].join(Terminal(consent=False))
    with pytest.raises(DidmpcError, match="You declined"):
        await bob
    with pytest.raises(DidmpcError, match="bob declined"):
        await run
    with pytest.raises(DidmpcError, match="alice ended the session before it began"):
        await carol


async def test_one_who_never_comes_is_named_and_the_wait_ends(
    agents: Agents, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reception, "WAITING_EVERY", 0.2)
    screen = Terminal()
    run = agents["alice"].run(program, screen, "bob", "carol", wait=8)
    bob_screen = Terminal()
    bob = agents["bob"].join(bob_screen)
    await screen.sees(event="party", name="bob", state="joined")
    await bob_screen.sees(event="waiting", **{"for": ["carol"]})
    with pytest.raises(DidmpcError, match=r"carol did not join within \d+ s"):
        await run
    assert any(event.get("for") == ["carol"] for event in screen.events if event["event"] == "waiting")
    with pytest.raises(DidmpcError, match="alice ended the session"):
        await bob


async def test_a_guest_that_leaves_is_named_and_may_come_back(agents: Agents, program: Path) -> None:
    screen = Terminal()
    agents["alice"].run(program, screen, "bob", "carol")
    first = agents["bob"].join(Terminal())
    await screen.sees(event="party", name="bob", state="joined")
    first.cancel()
    await screen.sees(event="party", name="bob", state="left")
    again = Terminal()
    agents["bob"].join(again)
    await again.sees(event="proposal")


async def test_a_host_that_stops_ends_the_wait_of_its_guests(agents: Agents, program: Path) -> None:
    run = agents["alice"].run(program, screen := Terminal(), "bob", "carol")
    bob = agents["bob"].join(Terminal())
    await screen.sees(event="party", name="bob", state="joined")
    run.cancel()
    with pytest.raises(DidmpcError, match="alice ended the session before it began") as caught:
        await bob
    assert "stopped" in caught.value.why


async def test_nothing_is_left_behind_by_a_gathering_that_fails(agents: Agents, program: Path) -> None:
    run = agents["alice"].run(program, Terminal(), "bob", wait=1)
    with pytest.raises(DidmpcError):
        await run
    alice = agents["alice"]
    assert len(alice.mail.identities) == 2  # those towards her two contacts
    assert list((alice.home / "run").iterdir()) == []


async def test_a_guest_with_another_copy_of_the_program_is_told_what_differs(
    agents: Agents, program: Path, tmp_path: Path
) -> None:
    run = agents["alice"].run(program, Terminal(), "bob")
    own = tmp_path / "own" / "three.py"
    own.parent.mkdir()
    own.write_text(program.read_text().replace("3)", "4)"))
    with pytest.raises(DidmpcError, match="programs differ") as caught:
        await agents["bob"].join(Terminal(), program=str(own))
    assert "three.py" in caught.value.why
    with pytest.raises(DidmpcError, match="bob declined"):
        await run


async def test_a_guest_whose_mediator_is_down_is_named(
    agents: Agents, program: Path, office: PostOffice
) -> None:
    office.closed.add("bob")
    screen = Terminal()
    run = agents["alice"].run(program, screen, "bob", wait=1)
    await screen.sees(event="party", name="bob", state="unreachable")
    with pytest.raises(DidmpcError, match="bob did not join") as caught:
        await run
    assert "mediator cannot be reached" in caught.value.why


async def test_a_stranger_cannot_propose(agents: Agents, office: PostOffice) -> None:
    stranger = await agents["carol"].mail.new_identity(keep=False)
    proposal = Proposal("ab" * 16, PROPOSED, (), ("x", "bob"), 0, False, "session", 1 << 35)
    bobs = agents["bob"].people.find("alice").my_did
    await office.deliver(Message(type=messages.PROPOSE, body=proposal.body()), stranger, bobs)
    assert [violation.what for violation in office.refused] == ["Only contacts may propose a session."]


async def test_a_manifest_that_is_not_what_was_proposed_is_refused(
    agents: Agents, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Manifest.encode

    def lowered(manifest: Manifest) -> bytes:
        return honest(manifest).replace(b'"threshold":1', b'"threshold":0')

    run = agents["alice"].run(program, Terminal(), "bob", "carol")
    guests = [agents[name].join(Terminal()) for name in ("bob", "carol")]
    monkeypatch.setattr("didmpc.protocols.mpc.manifest.Manifest.encode", lowered)
    for guest in guests:
        with pytest.raises(DidmpcError, match="alice does not keep to the proposal") as caught:
            await guest
        assert "threshold" in caught.value.why
    with pytest.raises(DidmpcError):
        await run


async def test_a_program_that_is_not_as_it_was_shown_is_not_run(
    agents: Agents, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Proposal.body

    def flattering(proposal: Proposal) -> dict[str, object]:
        return {**honest(proposal), "program": {**proposal.program, "title": "Average salary", "lines": 1}}

    monkeypatch.setattr(Proposal, "body", flattering)
    run = agents["alice"].run(program, screen := Terminal(), "bob")
    with pytest.raises(DidmpcError, match="not what its description says"):
        await agents["bob"].join(Terminal())
    await screen.sees(event="party", name="bob", state="asked")
    assert not run.done()
    assert not (agents["bob"].home / "work").exists()


async def test_a_contact_that_floods_with_proposals_hides_nobody_elses(
    agents: Agents, program: Path, office: PostOffice
) -> None:
    bob, carol = agents["bob"], agents["carol"]
    hers, his = await introduce(carol, bob)
    run = agents["alice"].run(program, screen := Terminal(), "bob")
    await screen.sees(event="party", name="bob", state="asked")
    for number in range(300):
        proposal = Proposal(f"{number:032x}", PROPOSED, (), ("carol", "bob"), 0, False, "session", 1 << 39)
        await office.deliver(Message(type=messages.PROPOSE, body=proposal.body()), hers, his.did)
    bob.join(shown := Terminal(), **{"from": "alice"})
    await shown.sees(event="proposal", **{"from": "alice"})
    assert len(bob.sessions._proposals) <= 5
    assert not run.done()


async def test_nobody_can_take_the_place_of_anothers_proposal(
    agents: Agents, program: Path, office: PostOffice
) -> None:
    bob, carol = agents["bob"], agents["carol"]
    hers, his = await introduce(carol, bob)
    run = agents["alice"].run(program, screen := Terminal(), "bob")
    attempt = (await screen.sees(event="proposal"))["attempt"]
    proposal = Proposal(attempt, PROPOSED, (), ("carol", "bob"), 0, False, "session", 1 << 39)
    await office.deliver(Message(type=messages.PROPOSE, body=proposal.body()), hers, his.did)
    bob.join(shown := Terminal(), **{"from": "alice"})
    assert (await shown.sees(event="proposal"))["program"] == "three.py"
    assert not run.done()


async def test_a_guest_that_asks_again_and_again_gets_the_program_once_at_a_time(
    agents: Agents, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = 0
    honest = bundles.parts

    def counting(*given: object) -> list[Message]:
        nonlocal packed
        packed += 1
        return honest(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(bundles, "parts", counting)
    agents["alice"].run(program, screen := Terminal(), "bob", "carol")
    shown = await screen.sees(event="proposal")
    await screen.sees(event="party", name="bob", state="asked")
    ask = Message(type=messages.BUNDLE_REQUEST, pthid=shown["attempt"], body={"sha256": shown["sha256"]})
    alice = agents["bob"].people.find("alice")
    for _ in range(200):
        await agents["bob"].mail.send_to_contact(alice, ask)
    agents["carol"].join(Terminal())
    await screen.sees(event="party", name="carol", state="joined")
    assert packed == 1


def test_what_waits_in_an_attempt_is_bounded_by_its_bytes() -> None:
    stranger, party = Identity.peer4().did, Identity.peer4().did
    inbox = Inbox()
    inbox.know(party)

    def flood(sender: str) -> int:
        message = Message(type=messages.SIGNATURE, body={"x": "y" * 500_000})
        unpacked = Unpacked(message, sender, None, None, None, None)
        taken = 0
        with pytest.raises(RemoteViolation):
            for _ in range(1000):
                inbox.put(unpacked)
                taken += 1
        return taken

    assert flood(stranger) <= 2
    assert 100 < flood(party) < 140


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"threshold": 2}, "threshold of 2 is not possible with 3 parties"),
        ({"threshold": -1}, "threshold of -1"),
        ({"with": ["zoe"]}, "no contact called 'zoe'"),
        ({"with": ["bob", "bob"]}, "can take part once"),
        ({"program": "/nowhere.py"}, "nowhere"),
        ({"input": "/nowhere.txt"}, "cannot be read"),
        ({"arguments": ["-M3"]}, "-M"),
        ({"arguments": ["x" * 5000]}, "cannot be proposed"),
    ],
)
async def test_a_wrong_wish_is_refused_before_anybody_is_asked(
    agents: Agents, program: Path, params: dict[str, object], said: str
) -> None:
    full = {"program": str(program), "with": ["bob", "carol"], "wait": 5, "arguments": [], **params}
    screen = Terminal()
    with pytest.raises(DidmpcError, match=said):
        await agents["alice"].sessions.run(full, screen)
    assert screen.events == []


async def test_without_contacts_there_is_nobody_to_compute_with(agents: Agents, program: Path) -> None:
    agents["bob"].people._contacts.clear()
    with pytest.raises(LocalMisuse, match="nobody to compute with"):
        await agents["bob"].sessions.run(
            {"program": str(program), "with": None, "wait": 5, "arguments": []}, Terminal()
        )


async def test_a_join_without_a_proposal_ends_with_the_wait(agents: Agents) -> None:
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(DidmpcError, match="No proposal came from alice"):
            await agents["bob"].join(Terminal(), wait=0.5, **{"from": "alice"})


PROPOSED = {
    "sha256": "ab" * 32,
    "entry": "x.py",
    "title": "",
    "lines": 1,
    "imports": [],
    "files": [{"path": "x.py", "sha256": "ab" * 32, "size": 1, "lines": 1}],
}


def without_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on guests are of a kind that does not know the session extension."""

    def say_so(*arguments: Any, **options: Any) -> messages.Join:
        return messages.Join(*arguments, **{**options, "session": False})

    monkeypatch.setattr("didmpc.agent.sessions.guest.Join", say_so)


async def test_a_side_that_speaks_no_sessions_is_refused_with_the_way_out(
    agents: Agents, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_sessions(monkeypatch)
    run = agents["alice"].run(program, Terminal(), "bob", mode="session")
    bob = agents["bob"].join(Terminal())
    with pytest.raises(DidmpcError, match="bob cannot use the session extension") as refused:
        await run
    assert "--mode auto" in refused.value.fix
    with pytest.raises(DidmpcError, match="alice ended the session before it began") as ended:
        await bob
    assert "bob cannot use the session extension" in ended.value.why


async def test_where_the_manifest_allows_it_such_a_side_gets_ordinary_messages(
    agents: Agents, steps: Path, office: PostOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_sessions(monkeypatch)
    pair = agents["alice"], agents["bob"]
    run = pair[0].run(steps, Terminal(), "bob", mode="auto", arguments=["2", "0"])
    await asyncio.gather(run, pair[1].join(Terminal()))

    def states() -> set[str]:
        return {session["state"] for agent in pair for session in agent.sessions.list()}

    async with asyncio.timeout(PATIENCE):
        while "running" in states():
            await asyncio.sleep(0.05)
    assert states() == {"done"}
    assert messages.FRAME in office.seen
    assert not any("/session/1.0/" in type for type in office.seen)


async def test_the_agent_writes_to_whom_no_path_leads_why_the_run_ends() -> None:
    written = []

    class Post:
        async def goodbye(self, cause: Any, *, to: Any) -> None:
            written.append((cause["what"], list(to)))

    attempt: Any = object.__new__(Attempt)
    attempt._seat = SimpleNamespace(peers=(1, 2), without_session=())
    attempt._post, attempt._sending, attempt._stopping = Post(), set(), None
    attempt._take_line({"stopping": {"kind": "killed", "what": "It was killed.", "why": "", "pid": None}})
    attempt._take_line({"untold": {"pids": [2, 7]}})
    await asyncio.gather(*attempt._sending)
    assert written == [("It was killed.", []), ("It was killed.", [2])]
