"""run and join in the foreground: what goes where, consent, input, and every way to end."""

import base64
import contextlib
import json
import os
import pty
import select
import signal
import threading
import time

import pytest

from .conftest import PATIENCE

PROPOSAL = {
    "title": "Average salary: everyone learns the average.",
    "program": "salaries.py",
    "sha256": "9f2c" * 16,
    "lines": 41,
    "m": 3,
    "threshold": 1,
    "private_unless": 2,
    "parties": ["Alice", "Bob", "Carol"],
    "mode": "session",
    "sandbox": "bubblewrap",
}
KILLED = {
    "party": "Bob",
    "kind": "killed",
    "what": "Bob's program was killed (signal 9).",
    "why": "Out of memory.",
}
STATS = {"seconds": 6.8, "rounds": 1204, "bytes": 2_100_000, "crypto_us_per_message": 1.1}


@pytest.fixture
def program(didmpc):
    (didmpc.folder / "salaries.py").write_text('"""Average salary."""\n')
    return "salaries.py"


def session(agent, play, *, proposal=PROPOSAL, method="run"):
    """Let `method` gather, start, and hand the channel to `play`; returns what the person answered."""
    answers = []

    def gather(conversation, params):
        conversation.event("channel", socket=str(agent.home / "channel.sock"))
        channel = agent.channel()
        conversation.event("proposal", **proposal)
        answers.append(conversation.answer())
        if not answers[-1]["consent"]:
            conversation.error("You declined.")
            return
        conversation.event("party", name="Bob", state="joined")
        conversation.event("words", words=["amber", "falcon", "walnut", "42"])
        conversation.event("started")
        conversation.result(attempt="a" * 32)
        channel.send({"event": "started"})
        play(channel)

    agent.methods[method] = gather
    return answers


def test_stdout_holds_the_bytes_of_the_program_and_nothing_else(didmpc, agent, program):
    def play(channel):
        channel.out(b"Average: \xff\x00")
        channel.out(b"a warning of the program\n", "stderr")
        channel.out(b" 3412\n")
        channel.end(**STATS)

    answers = session(agent, play)
    result = didmpc("run", program, "--with", "bob,carol", "--yes", "--", "-n", "10", "--with", "x")
    assert (result.status, result.out) == (0, b"Average: \xff\x00 3412\n")
    assert answers == [{"consent": True}]
    last = result.err.strip().splitlines()[-1].strip()
    assert last == "Done in 6.8 s: 3 parties, 1,204 rounds, 2.1 MB, 1.1 us of cryptography per message"
    for part in ("a warning of the program", "private unless 2 work together", "amber falcon walnut 42"):
        assert part in result.err
    method, params = agent.requests[0]
    assert method == "run"
    expected = {
        "program": str(didmpc.folder / program),
        "with": ["bob", "carol"],
        "threshold": None,
        "free_threshold": False,
        "input": None,
        "output": None,
        "mode": "session",
        "wire": "binary",
        "resume_limit": 120,
        "wait": 600,
        "deadlock_grace": 30,
        "no_prss": False,
        "no_privacy": False,
        "memory": None,
        "time_limit": None,
        "no_sandbox": False,
        "asks": False,
        "arguments": ["-n", "10", "--with", "x"],
        "cwd": str(didmpc.folder),
    }
    assert {name: params[name] for name in expected} == expected


def test_with_json_stdout_is_one_object_that_holds_the_output(didmpc, agent, program):
    def play(channel):
        channel.out(b"Average: 3412\n")
        channel.end(**STATS)

    session(agent, play)
    result = didmpc("run", program, "--yes", "--json")
    assert result.status == 0
    assert result.json == {
        "ok": True,
        "attempt": "a" * 32,
        "parties": ["Alice", "Bob", "Carol"],
        "output": "Average: 3412\n",
        "cause": None,
        "stats": STATS,
        "receipt": None,
    }


def test_with_json_lines_every_event_is_an_object_and_the_last_is_the_result(didmpc, agent, program):
    def play(channel):
        assert channel.receive() == {"progress": 0.5}
        channel.send({"event": "progress", "rounds": 7})
        channel.out(b"Average: 3412\n")
        channel.end(**STATS)

    session(agent, play)
    result = didmpc("run", program, "--yes", "--json-lines")
    assert result.status == 0, result.err
    told = [json.loads(line) for line in result.out.splitlines()]
    assert [each["event"] for each in told] == [
        "channel", "proposal", "party", "words", "started", "started", "progress", "output", "result",
    ]  # fmt: skip
    assert told[-2] == {"event": "output", "stream": "stdout", "text": "Average: 3412\n"}
    assert told[-1]["ok"] is True and told[-1]["output"] == "Average: 3412\n"


def test_two_parties_are_told_that_nothing_stays_private(didmpc, agent):
    proposal = PROPOSAL | {"m": 2, "threshold": 0, "private_unless": 1, "from": "Alice", "verified": True}
    session(agent, lambda channel: channel.end(), proposal=proposal, method="join")
    result = didmpc("join", "--yes")
    assert result.status == 0
    assert "NOTHING STAYS PRIVATE" in result.err
    assert "private unless" not in result.err


def test_who_is_killed_is_named_with_the_next_command(didmpc, agent, program):
    session(agent, lambda channel: channel.end(ok=False, cause=KILLED))
    result = didmpc("run", program, "--with", "bob,carol", "--yes")
    assert (result.status, result.out) == (1, b"")
    assert "Bob's program was killed (signal 9)." in result.err
    assert "Out of memory." in result.err
    assert f"didmpc run {program} --with bob,carol" in result.err


def test_the_cause_is_in_the_json(didmpc, agent, program):
    session(agent, lambda channel: channel.end(ok=False, cause=KILLED))
    result = didmpc("run", program, "--yes", "--json")
    assert result.status == 1
    assert result.json["cause"] == KILLED
    assert result.json["ok"] is False


def test_a_channel_process_that_dies_without_a_word_is_a_failure(didmpc, agent, program):
    session(agent, lambda channel: channel.close())
    result = didmpc("run", program, "--yes")
    assert result.status == 1
    assert "ended without a word" in result.err


def test_a_session_that_never_came_about_is_told_with_the_agents_words(didmpc, agent, program):
    agent.methods["run"] = lambda conversation, params: conversation.error(
        "Carol did not come within 10 min.", "Her agent may be off.", "Ask her."
    )
    result = didmpc("run", program, "--yes", "--json")
    assert result.status == 1
    assert result.json["cause"]["what"] == "Carol did not come within 10 min."
    assert "Ask her." in result.err


def test_who_is_waited_for_is_named(didmpc, agent, program):
    def gather(conversation, params):
        for left in (600, 590):
            conversation.event("waiting", **{"for": ["Bob", "Carol"], "seconds_left": left})
        conversation.error("They did not come.")

    agent.methods["run"] = gather
    result = didmpc("run", program, "--yes")
    assert result.err.count("Waiting for Bob and Carol (10 min left)") == 1


def test_consent_needs_a_terminal_or_yes(didmpc, agent, program):
    for arguments in (["run", program], ["join"]):
        result = didmpc(*arguments)
        assert (result.status, result.out) == (2, b"")
        assert "--yes" in result.err
    assert agent.requests == []


# --- input


def echo(agent):
    """A program that repeats its input until its end."""

    def play(channel):
        while (line := channel.receive()) is not None:
            if "in" in line:
                channel.out(base64.b64decode(line["in"]))
            elif "in_eof" in line:
                channel.end()
                return

    session(agent, play)


def test_stdin_reaches_the_program_with_its_end(didmpc, agent, program):
    echo(agent)
    sent = bytes(range(256)) * 1000
    result = didmpc("run", program, "--yes", input=sent)
    assert (result.status, result.out) == (0, sent)


def test_stdin_may_be_a_file_or_nothing(didmpc, agent, program):
    echo(agent)
    (didmpc.folder / "salary.txt").write_text("3412\n")
    with (didmpc.folder / "salary.txt").open("rb") as file:
        assert didmpc("run", program, "--yes", stdin=file).out == b"3412\n"
    assert didmpc("run", program, "--yes").out == b""  # the null device


def test_closed_stdin_is_an_empty_one(didmpc, agent, program):
    echo(agent)
    result = didmpc("run", program, "--yes", stdin=None, preexec_fn=lambda: os.close(0))
    assert (result.status, result.out) == (0, b"")


def test_with_an_input_file_stdin_is_left_alone(didmpc, agent, program):
    seen = []

    def play(channel):
        seen.append(channel.says_something_within(0.5))
        channel.end()

    session(agent, play)
    (didmpc.folder / "salary.txt").write_text("3412\n")
    result = didmpc("run", program, "--yes", "--input", "salary.txt", input=b"other\n")
    assert result.status == 0
    assert seen == [False]
    assert agent.requests[0][1]["input"] == str(didmpc.folder / "salary.txt")


def test_an_open_stdin_does_not_keep_the_command_from_ending(didmpc, agent, program, finish):
    session(agent, lambda channel: channel.end())
    reading, writing = os.pipe()
    result = finish(didmpc.start("run", program, "--yes", stdin=reading))
    os.close(writing)
    os.close(reading)
    assert result.status == 0


# --- output that nobody takes


def test_a_reader_of_the_output_that_went_away_does_not_end_the_run(didmpc, agent, program):
    def play(channel):
        for _ in range(5):
            channel.out(b"line\n")
        channel.end(**STATS)

    session(agent, play)
    reading, writing = os.pipe()
    os.close(reading)
    result = didmpc("run", program, "--yes", stdout=writing)
    os.close(writing)
    assert result.status == 0
    assert "Nobody reads the output any more" in result.err


# --- Ctrl-C


def until_interrupted(agent, *, answered=True):
    """A run that goes on until it is interrupted; returns what the channel was told."""
    told = []
    running = threading.Event()

    def play(channel):
        running.set()
        while (line := channel.receive()) is not None:
            told.append(line)
            if "interrupt" in line and answered:
                channel.end(ok=False, cause={"party": None, "kind": "interrupted", "what": "You stopped it."})

    session(agent, play)
    return told, running


def test_ctrl_c_tells_everybody_and_says_so(didmpc, agent, program, finish):
    told, running = until_interrupted(agent)
    process = didmpc.start("run", program, "--yes")
    assert running.wait(PATIENCE)
    result = finish(process, interrupt=1)
    assert (result.status, result.out) == (130, b"")
    assert {"interrupt": "Ctrl-C"} in told
    assert "Stopped: you pressed Ctrl-C; all parties are told." in result.err
    assert result.err.count("Stopped") == 1


def test_ctrl_c_with_json_is_one_object_too(didmpc, agent, program, finish):
    _, running = until_interrupted(agent)
    process = didmpc.start("run", program, "--yes", "--json")
    assert running.wait(PATIENCE)
    result = finish(process, interrupt=1)
    assert result.status == 130
    assert result.json["cause"]["kind"] == "interrupted"


def test_a_second_ctrl_c_leaves_at_once(didmpc, agent, program, finish):
    _, running = until_interrupted(agent, answered=False)
    process = didmpc.start("run", program, "--yes")
    assert running.wait(PATIENCE)
    result = finish(process, interrupt=2)
    assert result.status == 130


def test_ctrl_c_works_while_nobody_takes_the_output(didmpc, agent, program, finish):
    told, running = [], threading.Event()

    def play(channel):
        running.set()
        with contextlib.suppress(BrokenPipeError):
            for _ in range(64):
                channel.out(b"x" * 65536)
        while (line := channel.receive()) is not None:
            told.append(line)

    session(agent, play)
    reading, writing = os.pipe()
    process = didmpc.start("run", program, "--yes", stdout=writing)
    os.close(writing)
    assert running.wait(PATIENCE)
    time.sleep(0.3)
    result = finish(process, interrupt=2)
    os.close(reading)
    assert result.status == 130


def test_ctrl_c_while_people_gather_hangs_up(didmpc, agent, program, finish):
    waiting, hung_up = threading.Event(), threading.Event()

    def gather(conversation, params):
        conversation.event("waiting", **{"for": ["Bob"], "seconds_left": 600})
        waiting.set()
        if conversation.receive() is None:
            hung_up.set()

    agent.methods["run"] = gather
    process = didmpc.start("run", program, "--yes")
    assert waiting.wait(PATIENCE)
    result = finish(process, interrupt=1)
    assert result.status == 130
    assert "Stopped: you pressed Ctrl-C." in result.err
    assert hung_up.wait(PATIENCE)


# --- a terminal


class Terminal:
    """A pseudo terminal, and everything that was shown on it."""

    def __init__(self, didmpc, *arguments, **environment):
        self._mine, theirs = pty.openpty()
        self.process = didmpc.start(*arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
        os.close(theirs)
        self.shown = ""

    def wait_for(self, text, seconds=PATIENCE):
        deadline = time.monotonic() + seconds
        while text not in self.shown:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} never came in: {self.shown!r}"
            self._read(left)

    def type(self, text):
        os.write(self._mine, text.encode())

    def finish(self):
        while self._read(PATIENCE):
            pass
        os.close(self._mine)
        assert "Traceback" not in self.shown
        return self.process.wait(PATIENCE)

    def _read(self, seconds):
        if not select.select([self._mine], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._mine, 65536)
        except OSError:
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)


@pytest.mark.parametrize(
    ("typed", "consent"), [("y\n", True), ("Yes\n", True), ("n\n", False), ("\n", False)]
)
def test_consent_is_asked_for_and_the_default_is_no(didmpc, agent, typed, consent):
    answers = session(agent, lambda channel: channel.end(**STATS), method="join")
    terminal = Terminal(didmpc, "join")
    terminal.wait_for("[y/N]")
    assert "41 lines" in terminal.shown
    terminal.type(typed)
    assert terminal.finish() == (0 if consent else 1)
    assert answers == [{"consent": consent}]


def test_the_person_hears_what_a_sandbox_keeps_from_a_program_and_what_not(didmpc, agent):
    session(agent, lambda channel: channel.end(**STATS), method="join")
    result = didmpc("join", "--yes")
    assert "Locked in (bubblewrap): no network, no file of yours but its input." in result.err
    assert "No sandbox can keep it from sending your input to the other parties" in " ".join(
        result.err.split()
    )


def test_what_became_of_a_programs_files_is_said(didmpc, agent, program):
    session(agent, lambda channel: channel.send({"event": "ended", "ok": True, "files": 2}))
    assert "wrote 2 files, which are gone now. To keep such: --output DIR" in " ".join(
        didmpc("run", program, "--yes").err.split()
    )
    wanted = didmpc.folder / "results"
    result = didmpc("run", program, "--yes", "--output", str(wanted))
    assert "The program wrote 2 files:" in result.err and str(wanted) in "".join(result.err.split())
    assert agent.requests[-1][1]["output"] == str(wanted)
    wanted.mkdir()
    (wanted / "mine").touch()
    result = didmpc("run", program, "--yes", "--output", str(wanted))
    assert result.status == 2 and "not empty" in " ".join(result.err.split())


UNLOCKED = PROPOSAL | {
    "sandbox": "none",
    "sandbox_why": "bubblewrap is not installed.",
    "sandbox_fix": "Install bubblewrap (apt install bubblewrap).",
}


@pytest.mark.parametrize(("typed", "consent"), [("unlocked\n", True), ("y\n", False), ("\n", False)])
def test_without_a_sandbox_the_person_is_asked_in_so_many_words(didmpc, agent, typed, consent):
    answers = session(agent, lambda channel: channel.end(**STATS), method="join", proposal=UNLOCKED)
    terminal = Terminal(didmpc, "join")
    terminal.wait_for("Type unlocked to agree")
    shown = " ".join(terminal.shown.split())
    assert "NO SANDBOX: the program runs as you." in shown and "apt install bubblewrap" in shown
    terminal.type(typed)
    assert terminal.finish() == (0 if consent else 1)
    assert answers == [{"consent": True, "no_sandbox": True} if consent else {"consent": False}]


NOT_PRIVATE = PROPOSAL | {"m": 2, "threshold": 0, "private_unless": 1}


@pytest.mark.parametrize(("typed", "consent"), [("not private\n", True), ("y\n", False)])
def test_with_threshold_0_the_person_is_asked_in_so_many_words(didmpc, agent, typed, consent):
    answers = session(agent, lambda channel: channel.end(**STATS), method="join", proposal=NOT_PRIVATE)
    terminal = Terminal(didmpc, "join")
    terminal.wait_for("Type not private to agree")
    assert "NOTHING STAYS PRIVATE" in " ".join(terminal.shown.split())
    terminal.type(typed)
    assert terminal.finish() == (0 if consent else 1)
    assert answers == [{"consent": True, "no_privacy": True} if consent else {"consent": False}]


def test_yes_alone_never_agrees_to_a_program_without_a_sandbox(didmpc, agent, program):
    """The agent refuses such a run; what it is told does not say otherwise."""
    answers = session(agent, lambda channel: channel.end(**STATS), proposal=UNLOCKED)
    didmpc("run", program, "--yes")
    assert answers == [{"consent": True}]
    session(agent, lambda channel: channel.end(**STATS), proposal=UNLOCKED | {"sandbox_refused": True})
    assert didmpc("run", program, "--yes", "--no-sandbox").status == 0
    asked = [(params["no_sandbox"], params["asks"]) for _, params in agent.requests]
    assert asked == [(False, False), (True, False)]


def test_what_was_typed_before_the_question_is_no_answer(didmpc, agent):
    asked = threading.Event()
    answers = []

    def gather(conversation, params):
        conversation.event("waiting", **{"for": [], "seconds_left": 600})
        assert asked.wait(PATIENCE)
        conversation.event("proposal", **PROPOSAL)
        answers.append(conversation.answer())
        conversation.error("You declined.")

    agent.methods["join"] = gather
    terminal = Terminal(didmpc, "join")
    terminal.wait_for("Waiting")
    terminal.type("y\n")
    asked.set()
    terminal.wait_for("[y/N]")
    terminal.type("\n")
    assert terminal.finish() == 1
    assert answers == [{"consent": False}]


def test_a_proposal_that_is_withdrawn_ends_the_question(didmpc, agent):
    def gather(conversation, params):
        conversation.event("proposal", **PROPOSAL)
        time.sleep(0.5)
        conversation.error("Alice withdrew the proposal.")

    agent.methods["join"] = gather
    terminal = Terminal(didmpc, "join")
    terminal.wait_for("Alice withdrew the proposal.")
    assert terminal.finish() == 1


def test_a_line_of_ours_never_continues_an_unfinished_line_of_the_program(didmpc, agent):
    def play(channel):
        channel.out(b"Your salary: ")
        channel.send({"event": "peer", "name": "Bob", "state": "unreachable"})
        channel.end(**STATS)

    session(agent, play, method="join")
    terminal = Terminal(didmpc, "join", "--yes")
    assert terminal.finish() == 0
    assert "Your salary: \r\n" in terminal.shown


def test_a_run_has_a_panel_that_makes_way_for_output_and_prompts(didmpc, agent):
    progress = {
        "event": "progress", "seconds": 1.0, "rounds": 7, "messages": 14, "bytes": 2000, "envelopes": 0,
        "crypto_us_per_message": 1.1, "state": "computing", "waiting": {"for": [], "seconds": 0}, "peers": [],
    }  # fmt: skip
    seen = threading.Event()
    asked = []

    def play(channel):
        asked.append(channel.receive())
        channel.send(progress)
        assert seen.wait(PATIENCE)
        channel.out(b"step 1\nYour number: ")
        while (line := channel.receive()) is not None:
            if "in" in line:
                channel.send(progress | {"rounds": 8})
                channel.out(b"Sum: 7\n")
                channel.end(**STATS)
                return

    session(agent, play, method="join")
    terminal = Terminal(didmpc, "join", "--yes")
    terminal.wait_for("round 7")
    seen.set()
    terminal.wait_for("Your number: ")
    before, prompt = terminal.shown.index("step 1"), terminal.shown.index("Your number: ")
    assert terminal.shown[:before].endswith("\x1b[J")  # the panel was taken away first
    time.sleep(0.6)  # two drawings that must not come
    assert "Running" not in terminal.shown[prompt:]
    terminal.type("7\n")
    assert terminal.finish() == 0
    assert asked == [{"progress": 0.5}]
    assert "Your number: 7\r\n" in terminal.shown and "Sum: 7" in terminal.shown


def test_no_color_is_respected(didmpc, agent):
    session(agent, lambda channel: channel.end(**STATS), method="join")
    terminal = Terminal(didmpc, "join", "--yes", NO_COLOR="1")
    assert terminal.finish() == 0
    assert "\x1b[31" not in terminal.shown
    assert "\x1b[32" not in terminal.shown
    assert "\x1b[1;32" not in terminal.shown


def test_a_killed_command_hangs_up_on_the_channel(didmpc, agent, program):
    told, running, hung_up = [], threading.Event(), threading.Event()

    def play(channel):
        running.set()
        while (line := channel.receive()) is not None:
            told.append(line)
        hung_up.set()

    session(agent, play)
    process = didmpc.start("run", program, "--yes")
    assert running.wait(PATIENCE)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert hung_up.wait(PATIENCE)
    assert {"interrupt": "Ctrl-C"} not in told
