"""What a person decides on: who asks, what runs, what each party learns and gives; and whether that fits."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from didmpc.agent.program.imports import missing_modules
from didmpc.agent.sessions.confinement import Place
from didmpc.agent.sessions.parties import versions
from didmpc.agent.sessions.trust import Trust
from didmpc.protocols.errors import LocalMisuse, MessageError
from didmpc.protocols.mpc.proposal import Proposal
from didmpc.protocols.mpc.seating import places, seat
from didmpc.protocols.mpc.statement import MAX_INPUT, Ask, Statement
from didmpc.protocols.mpc.versions import check_versions


def describe(proposal: Proposal) -> dict[str, Any]:
    """A proposal as it is shown to a person."""
    program, statement = proposal.program, proposal.statement
    return {
        "attempt": proposal.attempt,
        "title": program["title"],
        "program": program["entry"],
        "sha256": program["sha256"],
        "lines": program["lines"],
        "files": program["files"],
        "imports": program["imports"],
        "source": dict(proposal.source),
        "arguments": list(proposal.arguments),
        "m": proposal.m,
        "places": proposal.places,
        "least": proposal.least,
        "lobby": proposal.lobby,
        "threshold": proposal.threshold,
        "free_threshold": proposal.free_threshold,
        "private_unless": proposal.threshold + 1,
        "parties": list(proposal.parties),
        "said_by": statement.by,
        "learns": statement.learns,
        "asks": _asked(statement.asks),
        "roles": [
            {
                "name": role.name,
                "learns": role.learns,
                "asks": _asked(statement.asks_of(role.name)),
                "pids": list(role.of_parties(proposal.m, proposal.threshold)),
            }
            for role in statement.roles
        ],
        "assigned": dict(proposal.roles),
        "versions": dict(proposal.versions),
        "options": dict(proposal.options),
        "settings": dict(proposal.settings),
        "mode": proposal.mode,
        "wire": proposal.wire,
        "resume_limit": proposal.resume_limit,
        "deadlock_grace": proposal.deadlock_grace,
    }


def _asked(ask: Ask) -> dict[str, Any]:
    return {**ask.body(), "words": ask.words()}


@dataclass(frozen=True, slots=True)
class Part:
    """What one party takes on: the place it wishes for, and what it may be asked for there.

    Without a wish it may be asked for any of what the roles ask.
    """

    wish: str
    asks: tuple[Ask, ...]
    learns: tuple[str, ...]

    @classmethod
    def of(cls, proposal: Proposal, *, party: str, wish: str, gives: bool) -> "Part":
        """For a party by its name in the proposal, with what it wishes for; `gives`: it names an input.

        What the host has assigned holds. Raises `LocalMisuse` where the wish differs, and where there is no
        such role.
        """
        statement, assigned = proposal.statement, proposal.roles.get(party, "")
        if wish and assigned and _places(proposal, wish) != _places(proposal, assigned):
            raise LocalMisuse(
                f"You are to be {_called(assigned)}, not {_called(wish)}.",
                why="Whoever proposes this has assigned the roles.",
                fix="Take part without --role, or ask the host for another one.",
            )
        wish = assigned or wish
        roles = sorted({_role(proposal, pid) for pid in _places(proposal, wish)})
        if not wish and len(roles) > 1:
            roles = [role for role in roles if _can_be(proposal, party, role)]
        if not wish and gives:
            wanting = [role for role in roles if statement.asks_of(role).wanted]
            if len(wanting) == 1:
                wish, roles = wanting[0], wanting
        asks = dict.fromkeys(statement.asks_of(role) for role in roles)
        learns = dict.fromkeys(statement.learned_by(role) for role in roles)
        return cls(wish, tuple(asks), tuple(each for each in learns if each))

    def facts(self) -> dict[str, Any]:
        """For the person, beside the proposal."""
        return {
            "your_role": self.wish,
            "you_give": [_asked(ask) for ask in self.asks],
            "you_learn": list(self.learns),
        }

    def check_input(self, path: Path | None, *, can_be_asked: bool) -> None:
        """Check a party's own input, or that there will be one; raises `LocalMisuse`."""
        wanted = [ask for ask in self.asks if ask.wanted]
        if path is None:
            if wanted and len(wanted) == len(self.asks) and not can_be_asked:
                raise LocalMisuse(
                    "The program asks for an input, and there is none.",
                    why=f"You give: {' or '.join(ask.words() for ask in wanted)}.",
                    fix="Give it with  --input FILE",
                )
            return
        if all(ask.kind == "nothing" for ask in self.asks):
            raise LocalMisuse(
                "The program asks nothing of you, so your input would go nowhere.",
                why=f"As {_called(self.wish)} you give nothing."
                if self.wish
                else "It asks nobody for an input.",
                fix="Leave --input out.",
            )
        if not wanted:
            return
        data = _read_input(path)
        problems = []
        for ask in wanted:
            try:
                ask.check(data)
            except LocalMisuse as problem:
                problems.append(problem)
        if len(problems) == len(wanted):
            raise problems[0]


def _places(proposal: Proposal, wish: str) -> tuple[int, ...]:
    everywhere = tuple(range(proposal.m))
    return places(proposal.statement, proposal.m, proposal.threshold, wish) if wish else everywhere


def _can_be(proposal: Proposal, party: str, role: str) -> bool:
    """Whether a role is left for a party, beside what the host has assigned to others."""
    others = [(name, name, wish) for name, wish in proposal.roles.items() if name != party]
    anybody = [(number, "", "") for number in range(proposal.m - len(others) - 1)]
    try:
        seat(proposal.statement, proposal.threshold, [*others, (None, party, role), *anybody])
    except LocalMisuse:
        return False
    return True


def _role(proposal: Proposal, pid: int) -> str:
    return proposal.statement.seats(proposal.m, proposal.threshold)[pid]


def _called(wish: str) -> str:
    return f"party {wish}" if wish.isdigit() else wish


def _read_input(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_INPUT)
    except OSError as error:
        raise LocalMisuse(f"The input {path} cannot be read.", why=error.strerror or str(error)) from None


def check_fits(statement: Statement, m: int, threshold: int) -> None:
    """Check that a statement suits so many parties; raises `LocalMisuse`."""
    try:
        statement.check_size(m)
        statement.seats(m, threshold)
    except MessageError as problem:
        raise LocalMisuse(
            "The roles do not fit these parties." if statement.roles else "The program is not for so many.",
            why=problem.what,
            fix="Choose other people with --with or --parties.",
        ) from None


def check_installed(proposal: Proposal, host: str) -> None:
    """Check that this machine can run the program together with the host's; raises `DidmpcError`."""
    if proposal.versions:
        check_versions(((host, proposal.versions), ("your machine", versions())), proposal.program["imports"])
    check_modules(proposal.program["imports"])


def check_modules(imports: Sequence[str]) -> None:
    """Check that what the program imports is installed here; raises `LocalMisuse`."""
    missing = missing_modules(imports)
    if missing:
        raise LocalMisuse(
            f"The program needs what is not installed here: {', '.join(missing)}.",
            why="Packages are each party's own; they do not come with a program.",
            fix=f"Install beside didmpc (a package may have another name than its module):  "
            f"pip install {' '.join(missing)}",
        )


def trusted(proposal: Proposal, proposer: str, trust: Trust, place: Place) -> dict[str, Any]:
    """Whether a proposal may be agreed to without asking the person, and why not."""
    why = trust.problem
    if not trust.covers(proposal.program["sha256"], proposer, proposal.arguments):
        why = (
            why
            or "This program, from whoever proposes it and with these arguments, is not one that you trust."
        )
    elif proposal.threshold < 1:
        why = "With threshold 0 nothing stays private, whatever the program."
    elif proposal.free_threshold:
        why = "The program may lower the threshold itself."
    elif not place.choice:
        why = "There is no sandbox to run it in."
    return {"trusted": not why, "trusted_why": why}


def identity(host: Any) -> dict[str, Any]:
    """Who asks, and how that is known: `link`, `invitation`, or `words` that people compared."""
    met = "link" if getattr(host, "by_link", False) else "words" if host.verified else "invitation"
    return {"from": host.name, "from_did": host.did, "verified": host.verified, "met": met}
