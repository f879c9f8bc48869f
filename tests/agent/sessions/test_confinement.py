"""What a person lets a program use up."""

import pytest

from didmpc.agent.cli.errors import WrongUsage
from didmpc.agent.cli.options import size_in_bytes, time_in_seconds
from didmpc.agent.sandbox.policy import Limits
from didmpc.agent.sessions.confinement import limits_of
from didmpc.protocols.errors import LocalMisuse


def test_what_nobody_names_is_as_usual():
    assert limits_of({}) == limits_of({"memory": None, "time_limit": None}) == Limits()


def test_memory_and_time_are_as_the_person_says():
    limits = limits_of({"memory": size_in_bytes("2G"), "time_limit": time_in_seconds("10m")})
    assert (limits.memory, limits.cpu_seconds) == (2 * 2**30, 600)
    assert limits.disk == Limits().disk


@pytest.mark.parametrize(
    "params", [{"memory": 2**20}, {"memory": 2**60}, {"time_limit": 0}, {"time_limit": 10**9}]
)
def test_what_no_program_can_run_in_is_refused(params):
    with pytest.raises(LocalMisuse) as refused:
        limits_of(params)
    assert "--" in refused.value.fix


@pytest.mark.parametrize(("typed", "size"), [("500M", 500 * 2**20), ("1GiB", 2**30), ("268435456", 2**28)])
def test_sizes_are_typed_as_people_type_them(typed, size):
    assert size_in_bytes(typed) == size


@pytest.mark.parametrize("typed", ["", "2X", "-1G", "1.5G", "G", "9" * 20])
def test_what_is_no_size_is_no_size(typed):
    with pytest.raises(WrongUsage, match="not understood"):
        size_in_bytes(typed)
