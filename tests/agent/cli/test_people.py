"""invite, accept, contacts, ping, agent and doctor, against an agent whose answers are known."""

import os
import stat

import pytest

URL = "https://mediator.example.org?_oob=eyJ0eXBlIjoiaHR0cHM6Ly9kaWRjb21tLm9yZyJ9"


def test_invite_prints_the_link_and_nothing_else(didmpc, agent):
    agent.answers("invite", url=URL, id="1", expires=0)
    result = didmpc("invite", "--expires", "2h", "--uses", "3")
    assert (result.status, result.out) == (0, f"{URL}\n".encode())
    assert "didmpc accept" in result.err
    assert agent.requests == [("invite", {"expires": 7200, "uses": 3})]
    assert "█" not in result.err


def test_invite_shows_a_qr_code_on_request_and_writes_a_private_file(didmpc, agent):
    agent.answers("invite", url=URL, id="1", expires=0)
    result = didmpc("invite", "--qr", "--file", "link.txt", env={"PYTHONIOENCODING": "utf-8"})
    assert result.out == f"{URL}\n".encode()
    assert "█" in result.err
    file = didmpc.folder / "link.txt"
    assert file.read_text() == f"{URL}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_qr_code_does_not_need_a_unicode_terminal(didmpc, agent):
    agent.answers("invite", url=URL, id="1", expires=0)
    result = didmpc("invite", "--qr", env={"PYTHONIOENCODING": "ascii"})
    assert (result.status, result.out) == (0, f"{URL}\n".encode())


def test_accept_takes_a_link_or_a_file(didmpc, agent):
    agent.answers("accept", name="Bob", did="did:peer:4z")
    (didmpc.folder / "link.txt").write_text(f"\n{URL}\n")
    assert didmpc("accept", URL, "--as", "Bob").status == 0
    assert didmpc("accept", "link.txt").status == 0
    sent = [params for _, params in agent.requests]
    assert sent == [{"invitation": URL, "name": "Bob"}, {"invitation": URL, "name": None}]


@pytest.mark.parametrize(
    "content", [None, b"\xff\xfe", b"x" * 70_000], ids=["missing", "no text", "too long"]
)
def test_a_file_that_holds_no_invitation_is_refused(didmpc, agent, content):
    if content is not None:
        (didmpc.folder / "link.txt").write_bytes(content)
    result = didmpc("accept", "link.txt")
    assert (result.status, result.out) == (1, b"")
    assert "not an invitation" in result.err
    assert agent.requests == []


def test_an_error_of_the_agent_is_passed_on_in_full(didmpc, agent):
    agent.methods["accept"] = lambda conversation, params: conversation.error(
        "This invitation is damaged.", "A part is missing.", "Ask for it again."
    )
    result = didmpc("accept", URL)
    assert result.status == 1
    for part in ("This invitation is damaged.", "A part is missing.", "Ask for it again."):
        assert part in result.err


def test_contacts_as_a_table_and_as_json(didmpc, agent):
    known = [{"name": "Bob", "did": "did:peer:4zBob", "label": "Bob's desktop", "since": 1700000000}]
    agent.answers("contacts", contacts=known)
    plain = didmpc("contacts")
    assert plain.out == b""
    assert "Bob's desktop" in plain.err
    assert didmpc("contacts", "--json").json == {"contacts": known}


def test_names_of_others_cannot_steer_the_terminal(didmpc, agent):
    evil = "Bob\x1b[2J\x1b]0;owned\x07\u202egnp"
    agent.answers(
        "contacts", contacts=[{"name": evil, "did": "did:peer:4z", "label": "[red]x[/red]", "since": 0}]
    )
    result = didmpc("contacts")
    assert "\x1b" not in result.err
    assert "\u202e" not in result.err
    assert "[red]x[/red]" in result.err


def test_ping_shows_each_round_trip_and_a_summary(didmpc, agent):
    def ping(conversation, params):
        conversation.event("pong", n=1, ms=31.2)
        conversation.event("lost", n=2)
        conversation.event("pong", n=3, ms=4.26)
        conversation.result(sent=3, received=2, min=4.26, avg=17.7, max=31.2)

    agent.methods["ping"] = ping
    agent.answers("status", mediator={"host": "mediator.example.org"})
    result = didmpc("ping", "Bob", "--count", "3")
    assert (result.status, result.out) == (0, b"")
    assert "Bob: no answer within 10.0 s" in result.err
    assert "Bob: 31 ms via mediator.example.org" in result.err
    assert "2 of 3 came back: least 4.3 ms" in result.err
    assert agent.requests[0] == ("ping", {"contact": "Bob", "count": 3, "timeout": 10.0})


def test_a_ping_that_never_came_back_is_a_failure(didmpc, agent):
    agent.answers("ping", sent=3, received=0, min=None, avg=None, max=None)
    result = didmpc("ping", "Bob", "--json")
    assert result.status == 1
    assert result.json["received"] == 0
    assert "Bob did not answer" in result.err


def test_the_did_stands_alone_on_stdout(didmpc, agent):
    agent.answers("did", did="did:peer:4zLong")
    assert didmpc("agent", "did").out == b"did:peer:4zLong\n"
    assert didmpc("agent", "did", "--json").json == {"did": "did:peer:4zLong"}


def test_doctor_without_an_agent_names_what_failed_and_the_fix(didmpc):
    result = didmpc("doctor", "--json")
    assert result.status == 1
    checks = {check["name"]: check for check in result.json["checks"]}
    assert not checks["agent"]["ok"]
    assert "didmpc agent start" in checks["agent"]["fix"]
    assert checks["home"]["ok"]
    assert {"clock", "versions"} <= set(checks)


def test_doctor_tries_the_sandbox_and_says_how_to_get_a_better_one(didmpc, tmp_path):
    checks = {check["name"]: check for check in didmpc("doctor", "--json").json["checks"]}
    assert checks["sandbox"]["detail"].startswith(("bubblewrap: ", "landlock: ", "none: "))
    result = didmpc("doctor", "--json", env={"PATH": str(tmp_path)})
    without = {check["name"]: check for check in result.json["checks"]}["sandbox"]
    assert without["detail"].startswith(("landlock: ", "none: "))
    assert "apt install bubblewrap" in without["detail"] + without["fix"]


def test_doctor_adds_what_the_agent_finds(didmpc, agent):
    os.chmod(didmpc.home / "agent.sock", 0o600)
    os.chmod(didmpc.home / "channel.sock", 0o600)
    agent.answers(
        "doctor", checks=[{"name": "mediator", "ok": False, "detail": "it is down", "fix": "Wait."}]
    )
    result = didmpc("doctor")
    assert result.status == 1
    assert "it is down" in result.err
    assert "Wait." in result.err
    fine = [{"name": name, "ok": True, "detail": "23 ms", "fix": ""} for name in ("mediator", "sandbox")]
    agent.answers("doctor", checks=fine)
    assert didmpc("doctor").status == 0


def test_doctor_sees_files_that_others_may_read(didmpc):
    file = didmpc.home / "wallet.json"
    file.write_text("{}")
    file.chmod(0o644)
    checks = {check["name"]: check for check in didmpc("doctor", "--json").json["checks"]}
    assert not checks["home"]["ok"]
    assert "chmod" in checks["home"]["fix"]


def test_a_passphrase_file_that_others_can_read_is_refused(didmpc):
    file = didmpc.folder / "passphrase"
    file.write_text("correct horse\n")
    file.chmod(0o644)
    result = didmpc("agent", "start", "--passphrase-file", str(file))
    assert (result.status, result.out) == (1, b"")
    assert f"chmod 600 {file}" in result.err
    assert "correct horse" not in result.err
