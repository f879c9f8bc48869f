"""A computation in which nothing stays private begins only where everybody has said so."""

from pathlib import Path

import pytest

from didmpc.agent.sessions import privacy
from didmpc.protocols.errors import LocalMisuse

from .conftest import Agent, Terminal

Agents = dict[str, Agent]


@pytest.mark.parametrize(
    ("m", "threshold", "chosen", "what", "fix"),
    [
        (2, 0, False, "Two parties can keep nothing", "--with NAME,HELPER"),
        (5, 0, True, "With threshold 0 each party can read", "--threshold 2"),
        (3, 0, False, "If only two take part", "--at-least 3"),
    ],
)
def test_threshold_0_is_refused_with_the_way_out(m, threshold, chosen, what, fix):
    with pytest.raises(LocalMisuse, match=what) as refused:
        privacy.check_proposed({}, m, threshold, chosen=chosen)
    assert fix in refused.value.fix and "--no-privacy" in refused.value.fix
    privacy.check_proposed({"no_privacy": True}, m, threshold, chosen=chosen)


def test_with_a_threshold_of_1_nobody_is_asked():
    privacy.check_proposed({}, 3, 1, chosen=False)


async def test_two_parties_need_the_word_of_whoever_proposes(agents: Agents, program: Path) -> None:
    screen = Terminal()
    with pytest.raises(LocalMisuse, match="Two parties can keep nothing from each other"):
        await agents["alice"].run(program, screen, "bob", no_privacy=False)
    assert screen.events == []


async def test_and_that_of_the_guest_whose_script_did_not_say_it(agents: Agents, program: Path) -> None:
    run = agents["alice"].run(program, Terminal(), "bob")
    with pytest.raises(LocalMisuse, match="Nothing would stay private") as refused:
        await agents["bob"].join(Terminal(), no_privacy=False)
    assert "--no-privacy" in refused.value.fix
    run.cancel()  # it would wait for another answer of Bob's


async def test_a_guest_that_is_asked_says_it_in_so_many_words(agents: Agents, program: Path) -> None:
    run = agents["alice"].run(program, Terminal(), "bob")
    screen = Terminal()  # says yes, and no more
    with pytest.raises(LocalMisuse, match="Nothing would stay private"):
        await agents["bob"].join(screen, no_privacy=False, asks=True)
    shown = await screen.sees(event="proposal")
    assert (shown["threshold"], shown["privacy_waived"]) == (0, False)
    run.cancel()  # it would wait for another answer of Bob's


async def test_without_prss_is_a_term_that_all_agree_to(agents: Agents, program: Path) -> None:
    screen = Terminal()
    run = agents["alice"].run(program, Terminal(), "bob", "carol", no_prss=True)
    guest = agents["bob"].join(screen)
    shown = await screen.sees(event="proposal")
    assert shown["no_prss"] is True
    run.cancel()
    guest.cancel()


def test_the_size_of_many_parties_keys_is_said():
    from types import SimpleNamespace

    def said(m: int, threshold: int, no_prss: bool = False) -> int:
        proposal = SimpleNamespace(m=m, threshold=threshold, options={"no_prss": no_prss})
        return privacy.facts(proposal, {})["prss_bytes"]

    assert said(15, 7) == 0
    assert said(21, 10) == 352_716 * 16
    assert said(25, 12) == 5_200_300 * 16
    assert said(25, 12, no_prss=True) == 0
