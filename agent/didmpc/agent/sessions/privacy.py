"""The gate before a computation in which nothing stays private, and how private one is, in words.

With threshold 0 one party alone can read what another puts in: MPyC's sharing hides a number from up to T
parties. Two parties have no other choice; a third one that helps, with no input of its own, gives them 1.
"""

from collections.abc import Mapping
from math import comb
from typing import Any

from didmpc.protocols.errors import LocalMisuse
from didmpc.protocols.mpc.proposal import Proposal

MANY = 15
"""Beyond so many parties it is worth to know what the keys of PRSS take."""
PRSS_KEY = 16
WAIVE = "If nothing is secret:  --no-privacy"


def check_proposed(params: Mapping[str, Any], m: int, threshold: int, *, chosen: bool) -> None:
    """For whoever proposes; `chosen`: the threshold was typed. Raises LocalMisuse unless it is waived."""
    if threshold >= 1 or params.get("no_privacy") is True:
        return
    if m <= 2:
        raise LocalMisuse(
            "Two parties can keep nothing from each other: each can read what the other puts in.",
            why="The threshold is (parties - 1) / 2, rounded down: 0 with two, 1 with three.",
            fix="Take along a helper, a third party without an input:  --with NAME,HELPER  or  --parties 3"
            f"     {WAIVE}",
        )
    most = (m - 1) // 2
    if not chosen:  # it may begin with two of them
        raise LocalMisuse(
            "If only two take part they can keep nothing from each other.",
            why="The threshold holds for as few as may begin: 0 with two, 1 with three.",
            fix=f"Begin with three at least (a helper needs no input):  --at-least 3     {WAIVE}",
        )
    raise LocalMisuse(
        "With threshold 0 each party can read what the others put in.",
        why=f"With {m} parties it can be {most}: then it takes {most + 1} who work together.",
        fix=f"Leave --threshold out, or use --threshold {most}.     {WAIVE}",
    )


def facts(proposal: Proposal, params: Mapping[str, Any]) -> dict[str, Any]:
    """For the person, beside the proposal: whether the gate stands open, and what PRSS keys would take."""
    m, options = proposal.m, proposal.options
    without = options["no_prss"] is True
    keys = 0 if without else comb(m, proposal.threshold) * PRSS_KEY
    return {
        "privacy_waived": params.get("no_privacy") is True,
        "no_prss": without,
        "prss_bytes": keys if m > MANY else 0,
    }


def problem(proposal: Proposal, params: Mapping[str, Any]) -> LocalMisuse | None:
    """Why a guest cannot take part without being asked in so many words; `params` are those of `join`."""
    if proposal.threshold >= 1 or params.get("no_privacy") is True:
        return None
    return LocalMisuse(
        "Nothing would stay private: any other party can read what you put in.",
        why="The host proposes threshold 0"
        + (", and with two parties there is no other." if proposal.m == 2 else "."),
        fix="Ask for a helper, a third party without an input.     If nothing of yours is secret:  "
        "didmpc join --no-privacy",
    )
