"""A manifest is what was proposed, to the byte; what differs is named, with both values."""

import dataclasses
from typing import Any

import pytest

from didmpc.protocols.errors import DidmpcError, LocalMisuse, MessageError
from didmpc.protocols.identity import Identity
from didmpc.protocols.message import Message
from didmpc.protocols.mpc.drafting import check_against_proposal, check_joining, draft
from didmpc.protocols.mpc.manifest import Manifest
from didmpc.protocols.mpc.messages import PROPOSE, Join
from didmpc.protocols.mpc.proposal import Proposal
from didmpc.protocols.mpc.statement import Ask, Role, Statement
from didmpc.protocols.mpc.terms import OPTIONS

from .test_agreement import PROGRAM, identities, party

VERSIONS = {"mpyc": "0.11.2", "numpy": "2.2.0", "python": "3.11.7"}
VOTE = Statement(
    by="program",
    learns="whether all agree",
    asks=Ask("number", "your vote"),
    roles=(
        Role("voter", "0..t"),
        Role("helper", "t+1..m-1", learns="nothing", asks=Ask("nothing")),
    ),
    least=3,
    odd=True,
)


def proposal_of(**changes: Any) -> Proposal:
    fields: dict[str, Any] = {
        "attempt": "a1" * 16,
        "program": PROGRAM,
        "arguments": ("--rounds", "3"),
        "parties": ("Alice", "Bob", "Carol"),
        "threshold": 1,
        "free_threshold": False,
        "mode": "session",
        "expires": 2_000_000_000,
        "versions": VERSIONS,
    }
    return Proposal(**{**fields, **changes})


def joins(people: list[Identity], *roles: str, **versions: str) -> list[Join]:
    names = ("Alice", "Bob", "Carol", "Dave", "Erin")
    wishes = (*roles, *([""] * len(people)))
    return [
        Join(person.did, name, "mediator.example", True, {**VERSIONS, **versions}, role=wish)
        for person, name, wish in zip(people, names, wishes, strict=False)
    ]


def drafted(proposal: Proposal, people: list[Identity], *roles: str) -> Manifest:
    host, *guests = joins(people, *roles)
    return Manifest.decode(draft(proposal, host, guests, 2_000_000_000).encode())


@pytest.fixture(scope="module")
def people() -> list[Identity]:
    return identities(3)


def test_every_guest_finds_its_place_in_what_the_host_wrote(people: list[Identity]) -> None:
    proposal = proposal_of()
    manifest = drafted(proposal, people)
    assert [check_against_proposal(manifest, proposal, person.did) for person in people[1:]] == [1, 2]
    for stranger in (Identity.peer4(), people[0]):  # a guest is never the host
        with pytest.raises(MessageError) as caught:
            check_against_proposal(manifest, proposal, stranger.did)
        assert "we are not among the guests" in caught.value.why


FILE = {"path": "salaries.py", "sha256": "ab" * 32, "size": 900, "lines": 41}
CHANGES: list[tuple[dict[str, Any], str]] = [
    (
        {"program": {**PROGRAM, "sha256": "cd" * 32, "files": [{**FILE, "sha256": "cd" * 32}]}},
        "salaries.py differs (sha256 abababababab..., 900 bytes in the proposal; cdcdcdcdcdcd..., 900 bytes",
    ),
    (
        {"program": {**PROGRAM, "files": [FILE, {**FILE, "path": "x.py"}]}},
        "x.py is there only in the manifest",
    ),
    ({"program": {**PROGRAM, "sha256": "cd" * 32}}, "the program's hash is abababababab... in the proposal"),
    ({"arguments": ("--rounds", "4")}, "argument 2 is '3' in the proposal and '4' in the manifest"),
    ({"arguments": ("--rounds",)}, "argument 2 is '3' in the proposal and missing in the manifest"),
    ({"threshold": 0}, "the threshold is 1 in the proposal and 0 in the manifest"),
    ({"free_threshold": True}, "whether the program may set another threshold is no in the proposal"),
    ({"resume_limit": 60}, "how long an unreachable party is waited for is 120 in the proposal and 60"),
    ({"mode": "didcomm"}, "the mode is session in the proposal and didcomm in the manifest"),
    ({"options": {**OPTIONS, "sec_param": 1}}, "MPyC's option sec_param is 30 in the proposal and 1"),
    ({"settings": {"MPYC_NONUMPY": "1"}}, "MPyC's setting MPYC_NONUMPY is 'not set' in the proposal and 1"),
    ({"statement": Statement("host", "all of it")}, "what each party learns is '' in the proposal"),
    ({"statement": Statement(asks=Ask("text", "your key"))}, "what is asked of each party is unknown"),
    ({"source": {"kind": "demo", "name": "vote"}}, "where the program is from: kind is file in the proposal"),
    ({"attempt": "b2" * 16}, "the attempt is a1a1"),
]


@pytest.mark.parametrize(("change", "named"), CHANGES)
def test_whatever_a_host_changes_is_refused_and_named(
    people: list[Identity], change: dict[str, Any], named: str
) -> None:
    written = dataclasses.replace(drafted(proposal_of(), people), **change)
    with pytest.raises(MessageError) as caught:
        check_against_proposal(written, proposal_of(), people[1].did)
    assert named in caught.value.why
    assert caught.value.fix


def test_other_people_than_proposed_are_refused_by_name(people: list[Identity]) -> None:
    manifest = drafted(proposal_of(), people)
    others = (*manifest.roster[:2], party(people[2], "Mallory"))
    with pytest.raises(MessageError) as caught:
        check_against_proposal(dataclasses.replace(manifest, roster=others), proposal_of(), people[1].did)
    assert "Alice, Bob, Carol in the proposal, and Alice, Bob, Mallory now" in caught.value.why


@pytest.mark.parametrize(
    "attempt", ["..", "../../docs", "/etc", "A1" * 16, "a1" * 15, "a1" * 16 + "\n", 7, None]
)
def test_the_name_of_an_attempt_leads_nowhere_in_the_file_system(
    people: list[Identity], attempt: object
) -> None:
    manifest = dataclasses.replace(drafted(proposal_of(), people), attempt=attempt)  # type: ignore[arg-type]
    with pytest.raises(MessageError):
        Manifest.decode(manifest.encode())
    with pytest.raises(MessageError):
        Proposal.of(Message(type=PROPOSE, body=proposal_of(attempt=attempt).body()))


def test_a_proposal_survives_its_message() -> None:
    proposal = proposal_of(
        statement=VOTE,
        roles={"Bob": "helper"},
        settings={"MPYC_NOGMPY": "1"},
        source={
            "kind": "git",
            "repository": "https://example.org/x.git",
            "commit": "a" * 40,
            "path": "p/x.py",
        },
    )
    assert Proposal.of(Message(type=PROPOSE, body=proposal.body())) == proposal


@pytest.mark.parametrize(
    "change",
    [
        {"source": {"kind": "git", "repository": "ext::sh -c x", "commit": "a" * 40, "path": "x.py"}},
        {"source": {"kind": "git", "repository": "https://u:p@x.org/y", "commit": "a" * 40, "path": "x.py"}},
        {"source": {"kind": "git", "repository": "https://x.org/y", "commit": "main", "path": "x.py"}},
        {"source": {"kind": "shell"}},
        {"settings": {"LD_PRELOAD": "1"}},
        {"settings": {"MPYC_NOGMPY": "2"}},
        {"options": {**OPTIONS, "mix32_64bit": False}},
        {"roles": {"Nobody": "helper"}},
        {"statement": {"by": "god"}},
        {"statement": {**VOTE.body(), "roles": [{**VOTE.roles[0].body(), "pids": "0..m"}] * 2}},
        {"statement": {**VOTE.body(), "roles": [VOTE.roles[0].body()]}},  # party 2 has no role
        {"versions": {"mpyc": "\x1b[2J"}},
        {"program": {**PROGRAM, "imports": ["x"] * 257}},
    ],
)
def test_a_proposal_that_no_host_of_ours_writes_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(MessageError):
        Proposal.of(Message(type=PROPOSE, body={**proposal_of(statement=VOTE).body(), **change}))


# -- versions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("versions", "imports", "named", "fix"),
    [
        ({"mpyc": "0.10.1"}, [], r"MPyC is 0\.11\.2 at Alice and 0\.10\.1 at Bob", "'mpyc==0.11.2'"),
        ({"numpy": "1.26"}, ["numpy"], r"numpy is 2\.2\.0 at Alice and 1\.26 at Bob", "'numpy==2.2.0'"),
    ],
)
def test_versions_that_matter_are_compared_by_host_and_guests_alike(
    people: list[Identity], versions: dict[str, str], imports: list[str], named: str, fix: str
) -> None:
    proposal = proposal_of(program={**PROGRAM, "imports": imports})
    host, bob, carol = joins(people)
    bob = dataclasses.replace(bob, versions={**VERSIONS, **versions})
    with pytest.raises(DidmpcError, match=named) as caught:
        draft(proposal, host, [bob, carol], 0)
    assert fix in caught.value.fix
    with pytest.raises(DidmpcError, match=named):
        check_joining(proposal, "Bob", bob, [])
    written = dataclasses.replace(
        drafted(proposal, people),
        roster=tuple(dataclasses.replace(each, role="") for each in (host, bob, carol)),
    )
    with pytest.raises(DidmpcError, match=named):  # a host that does not mind is caught by Carol
        check_against_proposal(written, proposal, people[2].did)


def test_versions_that_do_not_matter_may_differ(people: list[Identity]) -> None:
    host, bob, carol = joins(people)
    bob = dataclasses.replace(bob, versions={**VERSIONS, "python": "3.13.1", "numpy": "1.26", "mpyc": "0.11"})
    assert draft(proposal_of(), host, [bob, carol], 0).m == 3


def test_a_host_that_states_other_versions_than_it_proposed_with_is_refused(people: list[Identity]) -> None:
    manifest = drafted(proposal_of(), people)
    with pytest.raises(MessageError, match="other versions"):
        check_against_proposal(manifest, proposal_of(versions={"mpyc": "0.11.1"}), people[1].did)


# -- roles ---------------------------------------------------------------------------------------------


def test_roles_decide_the_pid_and_are_signed(people: list[Identity]) -> None:
    proposal = proposal_of(statement=VOTE, roles={"Alice": "helper"})
    manifest = drafted(proposal, people, "helper", "", "voter")
    assert [(each.name, each.role) for each in manifest.roster] == [
        ("Carol", "voter"),
        ("Bob", "voter"),
        ("Alice", "helper"),
    ]
    assert manifest.host == 2
    assert check_against_proposal(manifest, proposal, people[2].did, "voter") == 0
    assert b'"role":"helper"' in manifest.encode()


def test_a_guest_that_did_not_get_the_role_it_picked_refuses(people: list[Identity]) -> None:
    proposal = proposal_of(statement=VOTE)
    manifest = drafted(proposal, people)  # Carol is the helper
    with pytest.raises(MessageError) as caught:
        check_against_proposal(manifest, proposal, people[2].did, "voter")
    assert "Carol was to be voter and is party 2 (helper)" in caught.value.why


def test_a_host_that_shuffles_roles_against_its_proposal_is_refused(people: list[Identity]) -> None:
    proposal = proposal_of(statement=VOTE, roles={"Bob": "helper"})
    written = drafted(proposal_of(statement=VOTE), people)
    with pytest.raises(MessageError) as caught:
        check_against_proposal(written, proposal, people[2].did)
    assert "Bob was to be helper" in caught.value.why


def test_roles_that_are_not_those_of_the_places_are_no_manifest(people: list[Identity]) -> None:
    manifest = drafted(proposal_of(statement=VOTE), people)
    first, *rest = manifest.roster
    forged = dataclasses.replace(manifest, roster=(dataclasses.replace(first, role="helper"), *rest))
    with pytest.raises(MessageError, match="not those of the places"):
        Manifest.decode(forged.encode())


def test_a_taken_role_is_answered_with_who_has_it_and_what_is_free(people: list[Identity]) -> None:
    proposal = proposal_of(statement=VOTE)
    carol = joins(people, "", "", "helper")[2]
    with pytest.raises(LocalMisuse, match="Carol cannot be helper") as caught:
        check_joining(proposal, "Carol", carol, [("Bob", "helper")])
    assert caught.value.why == "Bob is helper."
    assert caught.value.fix == "Free: voter (2)."
    check_joining(proposal, "Carol", carol, [("Bob", "voter")])
