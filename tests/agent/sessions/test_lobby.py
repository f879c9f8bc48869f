"""People who know only a link gather: they come, wait, are let in or sent away, leave and come back."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from didmpc.agent.sessions import guest as guest_module
from didmpc.agent.sessions import reception as reception_module
from didmpc.agent.sessions import visit as visit_module
from didmpc.protocols.errors import DidmpcError, LocalMisuse
from didmpc.protocols.message import Message
from didmpc.protocols.mpc import lobby, messages

from .conftest import Agent, PostOffice, Terminal

Agents = dict[str, Agent]


async def host(agents: Agents, program: Path, **params: Any) -> tuple["asyncio.Task[Any]", Terminal, str]:
    """Alice gathers by a link: her command, her screen and the link."""
    screen = Terminal()
    run = agents["alice"].run(program, screen, **{"parties": 3, "mode": "didcomm", "wait": 120, **params})
    shown = await screen.sees(event="lobby")
    return run, screen, shown["url"]


async def test_people_who_know_nobody_else_compute_together(
    agents: Agents, steps: Path, office: PostOffice
) -> None:
    run, screen, link = await host(agents, steps, arguments=["2", "0"])
    guests = [agents[name].visit(link, shown := Terminal()) for name in ("bob", "carol")]
    await asyncio.gather(run, *guests)
    assert (await screen.sees(event="all-joined"))["parties"][0] == "alice"
    assert {"bob", "carol"} <= set((await shown.sees(event="all-joined"))["parties"]) | {"alice"}
    assert (await shown.sees(event="proposal"))["places"] == 2
    words = [(await each.sees(event="words"))["words"] for each in (screen, shown)]
    assert words[0] == words[1]
    for agent in agents.values():
        await agent.until_over()
    assert messages.KNOCK in office.seen
    for agent in agents.values():  # what ran can be read when it is over
        ran = await agent.sessions.show({"source": True}, Terminal())
        assert {seat["name"] for seat in ran["seats"]} >= {"bob", "carol"} and len(ran["seats"]) == 3
        assert ran["contents"][0]["text"] == steps.read_text()
    # Neither a contact nor a DID is left of those who met by the link.
    assert [len(agents[name].people.all()) for name in ("alice", "bob", "carol")] == [2, 1, 1]
    assert agents["bob"].keys.visits == []


async def test_everybody_sees_who_is_here_and_how_far_away(agents: Agents, program: Path) -> None:
    _, screen, link = await host(agents, program)
    agents["bob"].visit(link, bob := Terminal())
    await screen.sees(event="party", name="bob", state="joined")
    carol = agents["carol"].visit(link, Terminal(consent=None))
    await bob.sees(event="party", name="carol", state="deciding")
    picture = await bob.sees_picture(lambda parties: len(parties) == 3 and parties[1]["rtt_ms"] is not None)
    assert [(p["name"], p["state"], p["mediator"]) for p in picture["parties"]] == [
        ("alice", "here", "mediator.example"),
        ("bob", "joined", "mediator.example"),
        ("carol", "deciding", "mediator.example"),
    ]
    assert [p["you"] for p in picture["parties"]] == [False, True, False]
    assert (picture["free"], picture["m"], picture["complete"]) == (0, 3, False)
    carol.cancel()
    await bob.sees(event="party", name="carol", state="left")


async def test_a_link_and_contacts_go_together(agents: Agents, program: Path) -> None:
    run, screen, link = await host(agents, program, **{"with": ["bob"]})
    bob = agents["bob"].join(Terminal())
    await screen.sees(event="party", name="bob", state="joined", by="contact")
    carol = agents["carol"].visit(link, Terminal())
    await asyncio.gather(run, bob, carol)
    assert (await screen.sees(event="all-joined"))["parties"] == ["alice", "bob", "carol"]
    for name in agents:  # also of those who came when not all were there
        kept = agents[name].sessions.list()[0]
        assert (kept["parties"], kept["m"]) == (["alice", "bob", "carol"], 3)


async def test_one_too_many_is_told_so(agents: Agents, program: Path) -> None:
    _, screen, link = await host(agents, program, parties=2)
    agents["bob"].visit(link, Terminal(consent=None))
    await screen.sees(event="party", name="bob", state="deciding")
    with pytest.raises(LocalMisuse, match="All places are taken"):
        await agents["carol"].visit(link, Terminal())


async def test_whoever_left_can_come_back_and_a_free_place_is_taken_by_another(
    agents: Agents, program: Path
) -> None:
    _, screen, link = await host(agents, program, parties=2, start="ask")
    bob = agents["bob"].visit(link, Terminal(consent=None))
    await screen.sees(event="party", name="bob", state="deciding")
    bob.cancel()
    await screen.sees(event="party", name="bob", state="left")
    carol = agents["carol"].visit(link, Terminal(consent=None))
    await screen.sees(event="party", name="carol", state="deciding")
    with pytest.raises(LocalMisuse, match="All places are taken"):
        await agents["bob"].visit(link, Terminal())
    carol.cancel()
    await screen.sees(event="party", name="carol", state="left")
    screen.events.clear()
    with pytest.raises(LocalMisuse, match="cannot be read"):
        await agents["bob"].visit(link, Terminal(), input=str(program.parent / "no-such-file"))
    await screen.sees(event="party", name="bob", state="left")
    screen.events.clear()
    agents["bob"].visit(link, Terminal(consent=None))
    await screen.sees(event="party", name="bob", state="deciding")


async def test_a_link_that_was_taken_back_lets_nobody_in_but_who_is_in_stays(
    agents: Agents, program: Path
) -> None:
    run, screen, link = await host(agents, program, start="ask")
    bob = agents["bob"].visit(link, Terminal(consent=None))
    await screen.sees(event="party", name="bob", state="deciding")
    alice = agents["alice"].invitations
    await alice.end(alice.named(link), "revoked")
    with pytest.raises(LocalMisuse, match="taken this link back"):
        await agents["carol"].visit(link, Terminal())
    assert not bob.done()
    assert not run.done()
    assert [each["state"] for each in alice.list()] == ["revoked"]


async def test_after_the_host_has_ended_it_or_begun_late_comers_are_told_which(
    agents: Agents, program: Path, steps: Path
) -> None:
    run, _, link = await host(agents, program)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    with pytest.raises(LocalMisuse, match="alice has ended this"):
        await agents["bob"].visit(link, Terminal())
    run, _, link = await host(agents, steps, parties=2, arguments=["2", "0"])
    await asyncio.gather(run, agents["bob"].visit(link, Terminal()))
    with pytest.raises(LocalMisuse, match="begun without you"):
        await agents["carol"].visit(link, Terminal())
    await agents["alice"].until_over()


async def test_a_lobby_that_expires_says_so_to_everybody(agents: Agents, program: Path) -> None:
    run, _, link = await host(agents, program, wait=4)
    bob = agents["bob"].visit(link, Terminal())
    with pytest.raises(DidmpcError, match="expired before all were here"):
        await run
    with pytest.raises(DidmpcError, match=r"ended the session before it began|expired") as told:
        await bob
    assert "new link" in told.value.fix
    with pytest.raises(LocalMisuse, match="This link has expired"):
        await agents["carol"].visit(link, Terminal())


async def test_the_host_may_let_in_or_send_away_each_one(agents: Agents, program: Path) -> None:
    _, screen, link = await host(agents, program, confirm=True)
    agents["bob"].visit(link, bob := Terminal(consent=None))
    await screen.sees(event="party", name="bob", state="knocking", by="link", mediator="mediator.example")
    await bob.sees(event="notice")
    screen.says(admit="bob")
    await bob.sees(event="proposal")
    carol = agents["carol"].visit(link, Terminal(consent=None))
    await screen.sees(event="party", name="carol", state="knocking")
    screen.says(refuse="carol")
    with pytest.raises(DidmpcError):
        await carol
    screen.says(refuse="nobody")
    await screen.sees(event="notice", text="Nobody here is called nobody.")


async def test_the_host_begins_with_those_who_are_here(agents: Agents, steps: Path) -> None:
    run, screen, link = await host(agents, steps, parties=4, least=2, arguments=["2", "0"])
    screen.says(start=True)
    await screen.sees(event="notice", text="Not enough people are here and have agreed.")
    bob = agents["bob"].visit(link, Terminal())
    await screen.sees(event="party", name="bob", state="joined")
    carol = agents["carol"].visit(link, Terminal(consent=None))
    await screen.sees(event="party", name="carol", state="deciding")
    screen.says(start=True)
    await asyncio.gather(run, bob)
    with pytest.raises(DidmpcError) as told:
        await carol
    assert told.value.why == "They began without you."
    await agents["alice"].until_over()


async def test_one_who_waits_sees_that_the_host_is_offline_and_that_it_is_back(
    agents: Agents, program: Path, office: PostOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visit_module, "ANSWER_WITHIN", 0.3)
    monkeypatch.setattr(lobby, "AWAY_AFTER", 1.0)
    monkeypatch.setattr(lobby, "BEAT_EVERY", 0.3)
    monkeypatch.setattr(guest_module, "SAY_AGAIN", (0.5, 1.0))
    _, screen, link = await host(agents, program)
    office.offline.add("alice")
    agents["bob"].visit(link, bob := Terminal())
    told = await bob.sees(event="party", name="alice", state="offline")
    assert "waits at its mediator mediator.example" in told["why"]
    await office.back("alice")
    await screen.sees(event="party", name="bob", state="joined")
    bob.events.clear()
    office.offline.add("alice")
    await bob.sees(event="party", name="alice", state="offline")
    await screen.sees(event="party", name="bob", state="away")
    screen.events.clear()
    await office.back("alice")
    await bob.sees(event="party", name="alice", state="back")
    await screen.sees_picture(lambda parties: parties[1]["state"] == "joined" and not parties[1]["away"])


async def test_a_lobby_outlives_a_stop_of_its_hosts_agent(agents: Agents, steps: Path) -> None:
    run, screen, link = await host(agents, steps, arguments=["2", "0"])
    bob = agents["bob"].visit(link, shown := Terminal())
    await screen.sees(event="party", name="bob", state="joined")
    await agents["alice"].restart()
    assert run.cancelled()
    await shown.sees(event="party", name="alice", state="pausing")
    carol = agents["carol"].visit(link, Terminal())
    again = Terminal()
    with pytest.raises(LocalMisuse, match="cannot be opened again"):
        await agents["alice"].run(steps, Terminal(), parties=3, mode="didcomm", lobby=link)
    same = {"mode": "didcomm", "arguments": ["2", "0"], "wait": 120}
    run = agents["alice"].run(steps, again, parties=3, lobby=link, **same)
    await asyncio.gather(run, bob, carol)
    assert sorted((await again.sees(event="all-joined"))["parties"]) == ["alice", "bob", "carol"]
    await agents["alice"].until_over()


async def test_a_lobby_whose_command_is_lost_without_a_word_can_be_opened_again(
    agents: Agents, program: Path
) -> None:
    run, screen, link = await host(agents, program, stays=True)
    bob = agents["bob"].visit(link, shown := Terminal())
    await screen.sees(event="party", name="bob", state="joined")
    run.cancel()  # the command was killed, its terminal closed
    await shown.sees(event="party", name="alice", state="pausing")
    await asyncio.gather(run, return_exceptions=True)
    again, same = Terminal(), {"parties": 3, "mode": "didcomm", "wait": 120}
    agents["alice"].run(program, again, lobby=link, **same)
    await again.sees(event="party", name="bob", state="joined")
    assert not bob.done()


async def test_a_host_that_says_so_ends_the_lobby_for_all(agents: Agents, program: Path) -> None:
    run, screen, link = await host(agents, program, stays=True)
    bob = agents["bob"].visit(link, Terminal())
    await screen.sees(event="party", name="bob", state="joined")
    screen.says(leave=True)  # Ctrl-C
    with pytest.raises(DidmpcError, match="The host has ended it"):
        await run
    with pytest.raises(DidmpcError, match="ended the session before it began"):
        await bob
    with pytest.raises(LocalMisuse, match="alice has ended this"):
        await agents["carol"].visit(link, Terminal())


async def test_two_lobbies_and_two_visits_in_one_agent_do_not_mind_each_other(
    agents: Agents, steps: Path
) -> None:
    first, second = [await host(agents, steps, parties=2, arguments=["2", "0"]) for _ in range(2)]
    visits = [agents["bob"].visit(each[2], Terminal()) for each in (second, first)]
    await asyncio.gather(first[0], second[0], *visits)
    for name in ("alice", "bob"):
        await agents[name].until_over()
        assert [each["state"] for each in agents[name].sessions.list()] == ["done", "done"]


async def test_a_guest_of_the_link_can_end_it_for_nobody_but_itself(
    agents: Agents, program: Path, office: PostOffice
) -> None:
    run, screen, link = await host(agents, program)
    agents["bob"].visit(link, Terminal())
    await screen.sees(event="party", name="bob", state="joined")
    issued = agents["alice"].invitations.named(link)
    mallory = await agents["carol"].mail.new_identity(keep=False)
    attempt = (await screen.sees(event="proposal"))["attempt"]

    async def say(kind: str, body: dict[str, Any], pthid: str) -> None:
        await office.deliver(Message(type=kind, body=body, pthid=pthid), mallory, issued.did)

    await say(messages.KNOCK, {"name": "mallory, bob"}, issued.id)
    await screen.sees(event="party", name="mallory bob", state="deciding")
    await say(messages.JOIN, {"did": 3}, attempt)
    await screen.sees(event="party", name="mallory bob", state="refused")
    await say(messages.DECLINE, {"comment": "I end it"}, attempt)
    agents["carol"].visit(link, Terminal(consent=None))
    await screen.sees(event="party", name="carol", state="deciding")
    assert not run.done()


async def test_links_of_another_kind_are_named(agents: Agents, program: Path) -> None:
    contact = await agents["alice"].invitations.create()
    with pytest.raises(LocalMisuse, match="makes you contacts") as told:
        await agents["bob"].visit(contact["url"], Terminal())
    assert "didmpc accept" in told.value.fix
    with pytest.raises(DidmpcError):
        await agents["bob"].visit("https://mediator.example/?_oob=eyJub25zZW5zZQ", Terminal())
    _, _, link = await host(agents, program)
    with pytest.raises(LocalMisuse, match="link of your own"):
        await agents["alice"].visit(link, Terminal())


async def test_a_host_whose_own_mediator_is_out_of_reach_is_told_so_and_blames_nobody(
    agents: Agents, program: Path, office: PostOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reception_module, "CUT_OFF_AFTER", 0.1)
    monkeypatch.setattr(reception_module, "WAITING_EVERY", 0.1)
    _, screen, link = await host(agents, program, start="ask", least=2)
    agents["bob"].visit(link, Terminal())
    await screen.sees(event="party", name="bob", state="joined")
    office.offline.add("bob")
    agents["alice"].mail.connected.clear()
    said = await screen.sees(event="party", name="alice", state="cut-off")
    assert said["why"].startswith("Your mediator mediator.example cannot be reached.")
    with monkeypatch.context() as impatient:
        impatient.setattr(lobby, "AWAY_AFTER", 0.0)
        await screen.sees_picture(lambda parties: parties[0]["state"] == "cut-off")
        screen.events.clear()
        await screen.sees(**{"event": "waiting", "for": ["your own mediator"]})
        screen.says(start=True)
        assert "say it again when it is back" in (await screen.sees(event="notice"))["text"]
        assert not [event for event in screen.events if event["event"] == "party"]
    agents["alice"].mail.connected.set()
    await screen.sees(event="party", name="alice", state="reconnected")
    await office.back("bob")
    screen.says(start=True)
    assert (await screen.sees(event="all-joined"))["parties"] == ["alice", "bob"]
