"""Who takes which place: roles are assigned by the host or picked by those who join, and decide the pid.

A wish is the name of a role, or a pid in digits. The first to wish gets it; the others get what is left.
"""

from collections.abc import Hashable, Sequence

from didmpc.protocols.errors import LocalMisuse
from didmpc.protocols.mpc.messages import MAX_NAME
from didmpc.protocols.mpc.statement import Statement


def seat(
    statement: Statement, threshold: int, wishes: Sequence[tuple[Hashable, str, str]]
) -> dict[Hashable, int]:
    """The pid of each party, given its key, its name and its wish ("": any); the first count first.

    Raises `LocalMisuse` that names who wants what, who has it, and what is free; `MessageError` where the
    statement does not fit so many parties.
    """
    m = len(wishes)
    statement.check_size(m)
    roles = statement.seats(m, threshold)
    taken: dict[int, Hashable] = {}
    # Numbers first: of a role any place will do.
    for key, name, wish in sorted(wishes, key=lambda each: not each[2].isdigit()):
        if not wish:
            continue
        free = [pid for pid in places(statement, m, threshold, wish) if pid not in taken]
        if not free:
            raise _conflict(statement, threshold, wishes, taken, name, wish)
        taken[free[0]] = key
    for key, _, wish in wishes:
        if not wish:
            taken[min(pid for pid in range(m) if pid not in taken)] = key
    assert len(roles) == len(taken)
    return {key: pid for pid, key in taken.items()}


def places(statement: Statement, m: int, threshold: int, wish: str) -> tuple[int, ...]:
    """The pids that a wish means. Raises `LocalMisuse` where there is no such role or place."""
    if wish.isascii() and wish.isdigit():
        if len(wish) > 3 or int(wish) >= m:
            raise LocalMisuse(
                f"There is no party number {wish[:MAX_NAME]}.",
                fix=f"Use a number from 0 to {m - 1}, or a role.",
            )
        return (int(wish),)
    role = statement.role(wish)
    if role is None:
        known = ", ".join(each.name for each in statement.roles)
        raise LocalMisuse(
            f"There is no role {wish!r}.",
            why=f"The roles are {known}." if known else "The program names no roles.",
            fix="Take one of these." if known else "Give the number of the party, from 0:  0, 1, 2...",
        )
    return role.of_parties(m, threshold)


def _conflict(
    statement: Statement,
    threshold: int,
    wishes: Sequence[tuple[Hashable, str, str]],
    taken: dict[int, Hashable],
    name: str,
    wish: str,
) -> LocalMisuse:
    m = len(wishes)
    called = {key: each for key, each, _ in wishes}
    wanted = places(statement, m, threshold, wish)
    holders = " and ".join(called[taken[pid]] for pid in wanted)
    roles = statement.seats(m, threshold)
    left: dict[str, int] = {}
    for pid in range(m):
        if pid not in taken:
            left[roles[pid] or str(pid)] = left.get(roles[pid] or str(pid), 0) + 1
    free = ", ".join(f"{role} ({count})" if count > 1 else role for role, count in left.items())
    place = f"party {wish}" if wish.isdigit() else wish
    return LocalMisuse(
        f"{name} cannot be {place}.",
        why=f"{holders} {'is' if len(wanted) == 1 else 'are'} {place}."
        if wanted
        else f"With {m} parties and threshold {threshold} nobody is {place}.",
        fix=f"Free: {free}." if free else "",
    )
