"""What is said of whom: causes, silence, and the words of peers."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from didmpc.agent.channel.causes import BODY_LIMIT, Cause, readable
from didmpc.agent.channel.clock import Wakefulness
from didmpc.agent.channel.evidence import Evidence
from didmpc.agent.channel.limits import Limits
from didmpc.agent.channel.liveness import Liveness
from didmpc.agent.channel.peer import Presence
from didmpc.agent.channel.states import Doing
from didmpc.agent.channel.witness import explain_exit
from didmpc.protocols.errors import MessageError
from didmpc.protocols.identity import Identity
from didmpc.protocols.mpc import abort
from didmpc.protocols.session.frames import MAX_CAUSE

NAMES = {0: "Alice", 1: "Bob", 2: "Carol"}


def test_a_peers_word_is_told_under_our_name_for_it():
    cause = Cause.told({"kind": "killed", "what": "The Great Bob was killed", "why": "signal 9"}, 1, NAMES)
    assert cause.what == "Bob's program was killed." and cause.why == "signal 9" and cause.pid == 1
    assert not cause.hint


def test_a_word_about_a_third_party_is_a_hint_and_shown_as_one():
    cause = Cause.told(Cause.of_peer("unreachable", 2, "Caroline").body(), 1, NAMES)
    assert cause.hint and cause.pid == 2
    assert cause.what == "Bob says: Carol stopped answering."


@pytest.mark.parametrize("third", [1, 7, "2", True, None, 2.0])
def test_only_another_party_of_this_run_can_be_spoken_about(third: object):
    cause = Cause.told({"kind": "killed", "about": third}, 1, NAMES)
    assert cause.pid == 1 and not cause.hint


def test_a_peers_words_cannot_move_the_cursor_or_fill_the_screen():
    cause = Cause.told({"kind": "odd", "what": "\x1b[2Jhi\u202e\n" + "x" * 9999, "why": ["no"]}, 1, NAMES)
    assert cause.what.startswith("Bob ended the run: [2Jhi") and len(cause.what) < 400
    assert cause.why == "" and cause.what.isprintable()
    assert readable(None, 10) == ""


@pytest.mark.parametrize("why", ["x" * 10_000, "\N{SNOWMAN}" * 5_000, '"\\' * 3_000])
def test_an_abort_always_fits_into_its_frame(why: str):
    body = Cause.ours("raised", "Alice", why, told=why).body()
    assert len(json.dumps(body)) <= BODY_LIMIT and body["kind"] == "raised" and body["why"]


def test_signed_words_of_another_fit_into_the_same_frame():
    signed = {"pid": 2, **Cause.ours("raised", "Carol", told="x" * 10_000).body(), "signature": "s" * 86}
    cause = replace(Cause.told(signed, 2, NAMES), evidence=signed)
    told = cause.body() | {"signature": "s" * 86}
    assert told["signed"] == signed
    assert len(json.dumps(told, separators=(",", ":"))) <= MAX_CAUSE


def test_only_what_a_party_has_signed_itself_is_evidence():
    bob, carol = Identity.peer4(), Identity.peer4()
    evidence = Evidence("5e" * 32, {1: bob.did, 2: carol.did})
    said = Cause.ours("killed", "Carol").body()
    signed = said | {"pid": 2, "signature": abort.sign(carol, "5e" * 32, 2, said)}
    assert evidence.of(2, signed) == signed and evidence.of(2, said) is None
    assert evidence.passed_on({"kind": "killed", "signed": signed}) == signed
    for nothing in (
        None,
        [],
        {"pid": 1} | said,
        signed | {"pid": 1},
        signed | {"why": "x"},
        signed | {"pid": True},
    ):
        assert evidence.passed_on({"kind": "killed", "signed": nothing}) is None
    with pytest.raises(MessageError, match="does not hold"):
        evidence.of(1, signed)


def test_exit_codes_in_words():
    assert explain_exit(0) is None
    assert explain_exit(-9)[:2] == ("killed", "It was ended by signal 9 (SIGKILL).")
    assert explain_exit(3) == ("failed", "Its exit code was 3.", "")
    assert "signal 60" in explain_exit(-60)[1]


def test_silence_while_we_slept_is_our_own():
    wakefulness = Wakefulness(0.0)
    assert not wakefulness.beat(0.1, 0.1)
    assert wakefulness.silence(0.0, 4.0) == 4.0
    assert wakefulness.beat(600.0, 0.1)
    assert wakefulness.silence(0.0, 600.0) == 0.0
    assert not wakefulness.beat(600.1, 0.1)
    assert wakefulness.silence(0.0, 603.0) == 3.0
    assert wakefulness.silence(602.0, 603.0) == 1.0


class FakePeer:
    """A peer of which only silence matters."""

    name, pid, rtt_ms, path_reason = "Bob", 1, 2.5, "The mediator does not answer."

    def __init__(self) -> None:
        self.heard, self.closed, self.presence = 0.0, False, Presence.CONNECTED
        self.link = SimpleNamespace(last_heard=0.0)

    def silence(self, now: float, wakefulness: Wakefulness) -> float:
        return wakefulness.silence(self.heard, now)

    def judge(self, silence: float, limits: Limits) -> Presence | None:
        if self.closed:
            return None
        after = Presence.UNREACHABLE if silence > limits.unreachable else Presence.CONNECTED
        if after is self.presence:
            return None
        self.presence = after
        return after


class Judge:
    """A Liveness whose words are kept."""

    def __init__(self, resume_limit: float = 20.0) -> None:
        self.told: list[tuple[str, dict]] = []
        self.causes: list[Cause] = []
        self.liveness = Liveness(
            NAMES, 0, resume_limit, 30, Limits(), tell=self._tell, end=self.causes.append
        )
        self.wakefulness = Wakefulness(0.0)
        self.peer = FakePeer()

    def _tell(self, event: str, **details: object) -> None:
        if event != "states":
            self.told.append((event, details))

    def at(self, now: float) -> None:
        if not self.wakefulness.beat(now, 1.0):
            self.liveness.beat([self.peer], now, self.wakefulness)

    def until(self, now: int) -> None:
        for second in range(int(self.wakefulness._last_beat) + 1, now + 1):
            self.at(float(second))


def test_a_silent_peer_is_shown_and_at_the_limit_it_ends_the_run():
    judge = Judge()
    judge.until(5)
    assert judge.told == [] and judge.causes == []
    judge.until(6)
    assert judge.told[0][1]["state"] == "unreachable" and judge.told[0][1]["seconds_left"] == 14.0
    judge.until(20)
    assert judge.causes == []
    judge.until(21)
    assert judge.causes[0].kind == "unreachable" and judge.causes[0].pid == 1
    assert "mediator does not answer" in judge.causes[0].why


def test_a_peer_that_is_heard_again_is_back():
    judge = Judge()
    judge.until(8)
    judge.peer.heard = 8.5
    judge.until(9)
    assert [details["state"] for _, details in judge.told] == ["unreachable", "back"]
    assert judge.told[1][1]["rtt_ms"] == 2.5


def test_computing_is_never_a_fault_however_long():
    judge = Judge()
    for second in range(1, 2000):
        judge.peer.heard = second - 0.5
        judge.at(float(second))
    assert judge.told == [] and judge.causes == []


def test_waiting_is_shown_after_a_while_and_not_too_often():
    judge = Judge()
    judge.peer.heard = 100.0
    judge.liveness.own_state({"state": "waiting", "for": {"1": 4, "9": 1, "x": 2}}, 0.0)
    judge.until(25)
    shown = [details for event, details in judge.told if event == "waiting"]
    assert [details["seconds"] for details in shown] == [3.0, 13.0, 23.0]
    assert shown[0]["for"] == ["Bob"] and shown[0]["states"] == {"Bob": "computing"}


@pytest.mark.parametrize("labels", [None, 3, [], {}, {"x": 1}, {"1": "many"}, {"99": 1}, {"1": -1}])
def test_what_makes_no_sense_in_a_state_is_left_out(labels: object):
    said = {
        "state": "waiting",
        "since": "noon",
        "for": labels,
        "also": 5,
        "sent": labels,
        "got": 1,
        "left": [9],
    }
    doing = Doing.read(said, {1, 2})
    assert doing.waits == {} and doing.since == 0 and doing.snapshot is None
    assert Doing.read({**said, "state": "odd"}, {1, 2}) == Doing()
    assert Doing.read({"state": ["waiting"]}, {1}) == Doing()


def test_waiting_for_one_that_has_properly_left_ends_the_run_by_its_name():
    judge = Judge()
    judge.peer.closed = True
    judge.until(100)
    assert judge.causes == []  # its silence is no fault
    judge.liveness.own_state({"state": "waiting", "for": {"1": 1}}, 100.0)
    judge.until(105)
    judge.liveness.own_state({"state": "computing"}, 105.5)
    judge.until(110)
    assert judge.causes == []
    judge.liveness.own_state({"state": "waiting", "for": {"1": 1}}, 110.0)
    judge.until(117)
    assert judge.causes[0].kind == "left" and judge.causes[0].pid == 1
