"""From a proposal to its manifest: the host writes it, every guest checks that it was proposed."""

from collections.abc import Sequence
from dataclasses import replace

from didmpc.protocols.errors import DidmpcError, MessageError
from didmpc.protocols.mpc.differences import differences
from didmpc.protocols.mpc.manifest import MAX_MANIFEST, Manifest
from didmpc.protocols.mpc.messages import Join
from didmpc.protocols.mpc.proposal import Proposal
from didmpc.protocols.mpc.seating import places, seat
from didmpc.protocols.mpc.versions import check_versions


def draft(proposal: Proposal, host: Join, guests: Sequence[Join], expires: int) -> Manifest:
    """The manifest of a proposal for those who take part; their `role` is the place that they wish for.

    What the host has assigned in the proposal goes before the wishes of guests. Raises `DidmpcError` where
    places, versions or abilities do not fit together.
    """
    parties = (host, *guests)
    wishes = [(party.did, party.name, proposal.roles.get(party.name) or party.role) for party in parties]
    pids = seat(proposal.statement, proposal.threshold, wishes)
    roles = proposal.statement.seats(len(parties), proposal.threshold)
    roster = tuple(
        replace(party, role=roles[pid])
        for pid, party in sorted((pids[party.did], party) for party in parties)
    )
    for party in roster:
        if proposal.mode == "session" and not party.session:
            raise DidmpcError(
                f"{party.name} cannot use the session extension.",
                why="Their side does not speak it.",
                fix="Run with --mode auto, which uses plain DIDComm messages where it must.",
            )
    manifest = Manifest(
        attempt=proposal.attempt,
        program=proposal.program,
        arguments=proposal.arguments,
        threshold=proposal.threshold,
        free_threshold=proposal.free_threshold,
        mode=proposal.mode,
        wire=proposal.wire,
        resume_limit=proposal.resume_limit,
        deadlock_grace=proposal.deadlock_grace,
        options=proposal.options,
        settings=proposal.settings,
        source=proposal.source,
        statement=proposal.statement,
        roster=roster,
        host=pids[host.did],
        expires=expires,
    )
    check_roster_versions(manifest)
    if len(manifest.encode()) > MAX_MANIFEST:
        raise DidmpcError(
            "The manifest of so many parties and files is too large.",
            fix="Move files that the program does not need out of its data/ folder.",
        )
    return manifest


def check_joining(proposal: Proposal, name: str, join: Join, others: Sequence[tuple[str, str]]) -> None:
    """Check what a guest wishes for against those who joined before it, by name and wish, and its versions.

    Raises `LocalMisuse` where its place is taken, `DidmpcError` where versions do not fit together.
    """
    check_versions(
        ((proposal.parties[0], proposal.versions), (name, join.versions)), proposal.program["imports"]
    )
    wishes = {**dict.fromkeys(proposal.parties, ""), **dict(others), **proposal.roles}
    wishes.pop(name, None)
    wished = [(each, each, wish) for each, wish in wishes.items()]
    newcomer = (name, name, proposal.roles.get(name) or join.role)
    nobody = [(number, "somebody", "") for number in range(proposal.m - len(wished) - 1)]
    seat(proposal.statement, proposal.threshold, [*wished, newcomer, *nobody])


def check_against_proposal(manifest: Manifest, proposal: Proposal, did: str, wish: str = "") -> int:
    """Check that a host's manifest is what its proposal said, with `did` in it, in the place it wished for.

    Returns our pid. Raises `MessageError` that names each difference, or `DidmpcError` where versions differ.
    """
    pid = manifest.pid_of(did)
    found = differences(proposal.body(), manifest.value(), "in the proposal", "in the manifest")
    guests = [party.name for at, party in enumerate(manifest.roster) if at != manifest.host]
    here = (manifest.roster[manifest.host].name, *guests)
    if not proposal.admits(here):
        found.append(
            f"the parties are {', '.join(proposal.parties)} in the proposal, and {', '.join(here)} now"
        )
    if pid is None or pid == manifest.host:
        found.append("we are not among the guests of the manifest")
    wishes = {**proposal.roles, **({manifest.roster[pid].name: wish} if wish and pid is not None else {})}
    for at, party in enumerate(manifest.roster):
        wanted = wishes.get(party.name, "")
        if wanted and at not in places(manifest.statement, manifest.m, manifest.threshold, wanted):
            found.append(f"{party.name} was to be {wanted} and is party {at} ({party.role or 'no role'})")
    if found or pid is None:
        raise MessageError(
            "The manifest is not what was proposed.",
            why=f"Different: {'; '.join(found)}.",
            fix="Nothing of yours was sent. Ask the host what it changed, and to propose again.",
        )
    host = manifest.roster[manifest.host]
    if proposal.versions and dict(proposal.versions) != dict(host.versions):
        raise MessageError("The host states other versions in the manifest than in the proposal.")
    check_roster_versions(manifest)
    return pid


def check_roster_versions(manifest: Manifest) -> None:
    """Check that the versions of all parties fit together; raises `DidmpcError` that says whose do not."""
    host = manifest.roster[manifest.host]
    others = (party for party in manifest.roster if party is not host)
    check_versions([(party.name, party.versions) for party in (host, *others)], manifest.program["imports"])
