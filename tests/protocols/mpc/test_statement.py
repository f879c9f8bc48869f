"""What is said about a program: inputs are checked against it, and roles decide who is which party."""

import pytest

from didmpc.protocols.errors import LocalMisuse, MessageError
from didmpc.protocols.mpc.seating import seat
from didmpc.protocols.mpc.statement import Ask, Role, Statement


@pytest.mark.parametrize(
    ("ask", "data"),
    [
        (Ask("number"), b"3412\n"),
        (Ask("number"), "\ufeff-1_000.5e3\r\n\r\n".encode()),
        (Ask("text"), b"Alice: a book\n"),
        (Ask("lines"), b"a\nb\n"),
        (Ask("csv", columns=("arm", "Months")), b"id,Arm, months\n1,A,10\n"),
        (Ask("any"), b"\xff\x00"),
        (Ask("unknown"), b""),
        (Ask("nothing"), b""),
    ],
)
def test_an_input_that_is_what_is_asked_for_is_taken(ask: Ask, data: bytes) -> None:
    ask.check(data)


@pytest.mark.parametrize(
    ("ask", "data", "why"),
    [
        (Ask("number", "your salary"), b"secret", "one number: your salary"),
        (Ask("number"), b"1\n2\n", "2 lines"),
        (Ask("text"), b"  \n", "empty"),
        (Ask("text"), b"\xff\xfe", "UTF-8"),
        (Ask("csv", columns=("arm", "months")), b"arm,event\nA,1\n", "does not name months"),
        (Ask("any"), b"", "empty"),
    ],
)
def test_another_input_is_refused_and_never_quoted(ask: Ask, data: bytes, why: str) -> None:
    with pytest.raises(LocalMisuse) as caught:
        ask.check(data)
    assert why in caught.value.why
    assert "secret" not in str(caught.value)
    assert "--input" in caught.value.fix


@pytest.mark.parametrize(
    ("pids", "m", "t", "found"),
    [
        ("0", 3, 1, (0,)),
        ("m-1", 5, 2, (4,)),
        ("0..t", 5, 2, (0, 1, 2)),
        ("t + 1 .. m - 1", 5, 2, (3, 4)),
        ("1..m/2, m-1", 5, 2, (1, 2, 4)),
        ("3..1", 5, 2, ()),
        ("0..999", 3, 1, (0, 1, 2)),
    ],
)
def test_places_follow_the_number_of_parties(pids: str, m: int, t: int, found: tuple[int, ...]) -> None:
    assert Role.of(Role("x", pids).body()).of_parties(m, t) == found


@pytest.mark.parametrize(
    "pids", ["", "m*2", "1 2", "__import__('os')", "0..", "m-", "1..2..3", "9999", "t t"]
)
def test_a_place_that_is_no_place_is_refused(pids: str) -> None:
    with pytest.raises(MessageError):
        Role.of(Role("x", pids).body())


@pytest.mark.parametrize("name", ["", "2", "a b", "-x", "a\x1b[1m", "x" * 65])
def test_a_role_has_a_name_that_can_be_typed(name: str) -> None:
    with pytest.raises(MessageError):
        Role.of(Role(name, "0").body())


OT = Statement(roles=(Role("helper", "0"), Role("sender", "1..m/2"), Role("receiver", "m/2+1..m-1")))


def seated(*wishes: str) -> list[int]:
    people = [(number, f"P{number}", wish) for number, wish in enumerate(wishes)]
    places = seat(OT, (len(wishes) - 1) // 2, people)
    return [places[number] for number in range(len(wishes))]


def test_the_first_to_wish_gets_it_and_the_others_what_is_left() -> None:
    assert seated("", "", "") == [0, 1, 2]
    assert seated("receiver", "", "helper") == [2, 1, 0]


def test_a_number_goes_before_a_role_that_has_another_place() -> None:
    assert seated("sender", "1", "", "", "") == [2, 1, 0, 3, 4]


@pytest.mark.parametrize(
    ("wishes", "what", "why", "fix"),
    [
        (("helper", "helper", ""), "P1 cannot be helper", "P0 is helper.", "sender, receiver"),
        (("0", "helper", ""), "P1 cannot be helper", "P0 is helper.", "sender, receiver"),
        (("king", "", ""), "no role 'king'", "helper, sender, receiver", ""),
        (("7", "", ""), "no party number 7", "", "0 to 2"),
    ],
)
def test_a_conflict_says_who_has_it_and_what_is_free(
    wishes: tuple[str, ...], what: str, why: str, fix: str
) -> None:
    with pytest.raises(LocalMisuse, match=what) as caught:
        seated(*wishes)
    assert why in caught.value.why and fix in caught.value.fix


def test_a_program_that_is_for_another_number_of_parties_is_told_so() -> None:
    with pytest.raises(MessageError, match="at least 3 parties, an odd number, and these are 4"):
        Statement(least=3, odd=True).check_size(4)
    with pytest.raises(MessageError, match="No role is said for party 1"):
        Statement(roles=(Role("a", "0"),)).seats(2, 0)
