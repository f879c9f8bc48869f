"""A hostile program fails on every count, under each mechanism, as root and as nobody."""

from pathlib import Path

from didmpc.agent.sandbox.policy import Mechanism

from .conftest import run_outside


def test_what_a_hostile_program_tries_has_no_effect(
    mechanism: Mechanism, user: list[str], place: Path
) -> None:
    found = run_outside(user, mechanism, place)
    assert "died" not in found, found
    assert found["worked"] == []
    assert len(found["refused"]) > 120
    assert found["result"] == "what it may"  # which it wrote to its output folder
    assert (found["scratch"], found["mode"]) == ("private", 0o600)
    assert found["victim_lives"] and not found["planted"]
    assert found["uid"] != 0


def test_without_a_sandbox_the_same_program_does_its_harm(unprivileged: list[str], place: Path) -> None:
    """So that the test above can fail: what is tried is possible, and is seen where it works."""
    found = run_outside(unprivileged, Mechanism.NONE, place)
    worked = set(found["worked"])
    home = place / "home"
    assert worked >= {
        f"read {home}/wallet.key", f"read {place}/input.txt", f"list {home}", f"write {home}/planted",
        "read_through_a_descriptor_of_the_parent", "see_the_environment_of_the_agent", "list_processes",
        "change the bundle", "chmod", "rename out", "unlink from the bundle",
        "socket AF_INET SOCK_STREAM", "socket AF_UNIX SOCK_DGRAM", "socket AF_NETLINK SOCK_RAW",
        "connect_to_the_mediator", "connect_to_the_control_socket", "connect_to_an_abstract_socket",
        "turn_a_datagram_pair_to_the_abstract_socket",
        "fork", "subprocess", "clone", "exec", "set_uid_program", "memory", "more_threads_than_allowed",
        "one_huge_file", "more_descriptors_than_allowed", "signal", "signal by input", "limits of others",
        "outlive the parent", "take the terminal",
    }  # fmt: skip
