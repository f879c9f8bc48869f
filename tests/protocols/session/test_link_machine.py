"""Two links and a network that drops, doubles, delays, reorders, corrupts and breaks down; and crashes.

Whatever it does: exactly once, in order, nothing before READY, bounded buffers, no truncation; and when
it behaves for a while, everything arrives. The AEAD fails on a second use of any (key, nonce).

The long run, of 100,000 steps or as many as STEPS says:  STEPS=300000 make soak PYTEST_FLAGS='-k steps'
"""

import os
from collections import Counter

import hypothesis.strategies as st
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from didmpc.protocols.errors import SessionError
from didmpc.protocols.identity import Identity
from didmpc.protocols.session.handshake import WIRE_JSON, WIRES, Initiation, Party, respond
from didmpc.protocols.session.link import (
    Closed,
    Contacts,
    Data,
    Link,
    LinkLimits,
    PeerState,
    PeerViolation,
    Ready,
    Renewed,
    SessionOver,
)
from didmpc.protocols.session.packet import EpochLimits

ONE, OTHER = Party.of(Identity.peer4()), Party.of(Identity.peer4())
WINDOW_RECORDS, WINDOW_BYTES = 24, 6000
IDLE = LinkLimits().idle_seconds
SIDES = st.sampled_from((0, 1))
FORMS = st.sampled_from(WIRES)
TOTALS: Counter[str] = Counter()
"""What all examples so far have done."""


class AdversarialNetwork(RuleBasedStateMachine):
    @initialize()
    def start(self):
        self.now = 0.0
        self.network = [[], []]  # packets on their way to side 0 and to side 1
        sealed = self.sealed = set()

        class RecordingAead:
            def __init__(self, key):
                self.key, self.aead = key, AESGCM(key)
                self.decrypt = self.aead.decrypt

            def encrypt(self, nonce, data, associated_data):
                assert (self.key, nonce) not in sealed, "a (key, nonce) was sealed under twice"
                sealed.add((self.key, nonce))
                return self.aead.encrypt(nonce, data, associated_data)

        self.aead = RecordingAead
        self.connect()

    def connect(self):
        """A new attempt. What is on its way from an earlier one still arrives."""
        initiation = Initiation(ONE, OTHER, "id")
        accept, responder = respond(OTHER, ONE, "id", initiation.body)
        limits = LinkLimits(
            window_records=WINDOW_RECORDS,
            window_bytes=WINDOW_BYTES,
            packet_bytes=500,
            epoch=EpochLimits(packets=16),
        )
        self.links = [
            Link(session, now=self.now, limits=limits, aead=self.aead)
            for session in (initiation.finish(accept), responder)
        ]
        self.sealed_before = len(self.sealed)
        self.epochs = {}  # by session and side, the last one seen
        self.accepts = []  # new sessions whose accept is still on its way to side 0
        self.sent = [[], []]  # what side i was told to send
        self.received = [[], []]  # what side i delivered
        self.ready = [False, False]
        self.recognised = [False, False]
        self.closed = [False, False]
        self.peer_closed = [False, False]

    @staticmethod
    def proofs(side):
        return tuple(bytes((side, n)) * 16 for n in range(16))

    def speak(self, side, budget=None):
        packets = self.links[side].packets(self.now, budget)
        if side == 1 and not self.ready[1]:
            assert packets == [], "the responder spoke before the initiator was confirmed"
        proposal = None if budget is not None else self.links[side].proposal(self.now)
        self.network[1 - side] += packets if proposal is None else [*packets, proposal]

    def hear(self, side, packet):
        """Deliver one packet; a second copy of it, or a damaged one, must change nothing."""
        try:
            events = self.links[side].receive(packet, self.now)
        except PeerViolation:
            raise AssertionError("an honest peer was taken for a dishonest one") from None
        except SessionError:
            return False
        for event in events:
            match event:
                case Ready():
                    assert not self.ready[side]
                    self.ready[side] = True
                case Data():
                    assert self.ready[side], "data before READY"
                    assert not self.peer_closed[side], "data after the close"
                    self.received[side].append((event.start, event.data))
                case Closed():
                    assert self.received[side] == self.sent[1 - side], "a close truncated"
                    assert self.closed[1 - side]
                    self.peer_closed[side] = True
                case Contacts():
                    assert not self.recognised[side], "proofs came twice"
                    assert event.proofs == self.proofs(1 - side)
                    self.recognised[side] = True
                case PeerState() | Renewed():
                    pass
                case _:
                    raise AssertionError(event)
        return True

    @rule(side=SIDES, start=st.integers(1, 3), sizes=st.lists(st.integers(0, 700), min_size=1, max_size=12))
    def send(self, side, start, sizes):
        if self.closed[side]:
            return
        for size in sizes:
            data = len(self.sent[side]).to_bytes(4, "big") * (size // 4 + 1)
            self.links[side].send(start, data)
            self.sent[side].append((start, data))

    @rule(side=SIDES, budget=st.none() | st.integers(0, 3000))
    def say(self, side, budget):
        before = len(self.network[1 - side])
        self.speak(side, budget)
        if budget is not None:
            assert sum(map(len, self.network[1 - side][before:])) <= budget

    @rule(side=SIDES, count=st.integers(1, 20))
    def deliver(self, side, count):
        for packet in self.network[side][:count]:
            self.hear(side, packet)
        del self.network[side][:count]

    @rule(turns=st.integers(1, 30))
    def talk(self, turns):
        """Both say a little, and most of it arrives at once: this is what crosses epochs."""
        for _ in range(turns):
            for side in (0, 1):
                self.send(side, 1, [9])
                self.speak(side)
                self.deliver(1 - side, 40)
            self.now += 0.02

    @precondition(lambda self: any(self.network))
    @rule(data=st.data())
    def deliver_one_out_of_order(self, data):
        side = data.draw(st.sampled_from([side for side in (0, 1) if self.network[side]]))
        index = data.draw(st.integers(0, len(self.network[side]) - 1))
        self.hear(side, self.network[side].pop(index))

    @precondition(lambda self: any(self.network))
    @rule(data=st.data())
    def double(self, data):
        side = data.draw(st.sampled_from([side for side in (0, 1) if self.network[side]]))
        packet = data.draw(st.sampled_from(self.network[side]))
        self.hear(side, packet)
        assert not self.hear(side, packet), "a packet was accepted twice"

    @precondition(lambda self: any(self.network))
    @rule(data=st.data())
    def corrupt(self, data):
        side = data.draw(st.sampled_from([side for side in (0, 1) if self.network[side]]))
        packet = self.network[side].pop(data.draw(st.integers(0, len(self.network[side]) - 1)))
        position = data.draw(st.integers(0, len(packet) - 1))
        damaged = packet[:position] + bytes([packet[position] ^ 0x40]) + packet[position + 1 :]
        assert not self.hear(side, damaged), "a damaged packet was accepted"

    @rule(side=SIDES, every=st.integers(1, 3))
    def drop(self, side, every):
        del self.network[side][::every]

    @rule(seconds=st.sampled_from((0.01, 0.1, 0.5, 1.1, 3.0, 20.0)))
    def wait(self, seconds):
        if all(self.now + seconds - link.last_heard < IDLE for link in self.links):
            self.now += seconds

    @rule(side=SIDES, wire=FORMS)
    def path_up(self, side, wire):
        self.links[side].path_up(self.now, wire, stored=wire == WIRE_JSON)

    @rule(side=SIDES, wire=FORMS)
    def path_down(self, side, wire):
        self.links[side].path_down(self.now, wire)

    @rule()
    def path_reset(self):
        self.network = [[], []]
        for link in self.links:
            for wire in WIRES:
                link.path_up(self.now, wire, stored=wire == WIRE_JSON)

    @rule(side=SIDES)
    def offer_contacts(self, side):
        self.links[side].offer_contacts(self.proofs(side))

    @precondition(lambda self: self.ready[0])
    @rule(wire=FORMS)
    def open_a_new_session(self, wire):
        initiation = Initiation(ONE, OTHER, "id", wires=[wire])
        accept, responder = respond(OTHER, ONE, "id", initiation.body, wires=WIRES)
        self.links[1].renew(responder, self.now)
        self.accepts.append(initiation.finish(accept))

    @precondition(lambda self: self.accepts)
    @rule()
    def its_accept_arrives(self):
        """Only that of the last open: earlier ones have been given up."""
        self.links[0].renew(self.accepts.pop(), self.now)
        self.accepts.clear()

    @precondition(lambda self: len(self.sealed) - self.sealed_before > 30)
    @rule(side=SIDES)
    def crash(self, side):
        """One process is gone, with its keys. The other one is not told: it notices by silence."""
        TOTALS["crashes"] += 1
        left = self.links[1 - side]
        over = left.last_heard + IDLE
        self.now = max(self.now, over - 1)
        self.speak(1 - side)
        self.now = over
        for use in (lambda: left.packets(over), lambda: left.receive(b"", over)):
            with pytest.raises(SessionOver):
                use()
        assert left._outbox.unacknowledged == 0 and not left._inbox._early, "an ended link still holds data"
        self.connect()

    @rule(side=SIDES)
    def close(self, side):
        self.links[side].close()
        self.closed[side] = True

    @rule(side=SIDES, word=st.sampled_from(("computing", "waiting")))
    def tell_state(self, side, word):
        self.links[side].set_state({"state": word})

    @rule()
    def behave(self):
        """A good network for a while: everything arrives, and both sides know."""
        self.path_reset()
        for _ in range(2000):
            for side in (0, 1):
                self.speak(side)
                for packet in self.network[1 - side]:
                    self.hear(1 - side, packet)
                self.network[1 - side] = []
            if self.settled():
                break
            self.now += 0.05
        assert self.settled(), [repr(link) for link in self.links]

    def settled(self):
        return all(
            self.received[1 - side] == self.sent[side]
            and self.links[side].unacknowledged == 0
            and self.peer_closed[1 - side] == self.closed[side]
            for side in (0, 1)
        )

    @invariant()
    def delivered_exactly_once_and_in_order(self):
        if hasattr(self, "links"):
            TOTALS["steps"] += 1
            for side in (0, 1):
                assert self.received[1 - side] == self.sent[side][: len(self.received[1 - side])]

    @invariant()
    def epochs_are_counted(self):
        if hasattr(self, "links"):
            for link in self.links:
                session = link._session
                crossed = session.epoch - self.epochs.get(session.sid_in, 0)
                self.epochs[session.sid_in] = session.epoch
                TOTALS["epochs crossed"] += crossed
                TOTALS["epochs at most in one session"] = max(
                    TOTALS["epochs at most in one session"], session.epoch
                )

    @invariant()
    def buffers_stay_bounded(self):
        if hasattr(self, "links"):
            for link in self.links:
                assert len(link._outbox._flight) <= WINDOW_RECORDS
                assert len(link._inbox._early) < WINDOW_RECORDS
                early = link._inbox._early.values()
                assert link._inbox._early_bytes == sum(len(data) for _, _, data in early) <= WINDOW_BYTES
                assert len(link._pings) <= 64
                for session in (link._session, link._proposed, link._retired):
                    assert session is None or len(session.opener._keys) <= 3

    def teardown(self):
        if hasattr(self, "links"):
            TOTALS["packets"] += len(self.sealed)
            if all(self.now - link.last_heard < IDLE - 100 for link in self.links):
                self.behave()


SHORT = settings(
    max_examples=40,
    stateful_step_count=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
AdversarialNetwork.TestCase.settings = SHORT
TestAdversarialNetwork = AdversarialNetwork.TestCase


@pytest.mark.soak
def test_a_hundred_thousand_steps():
    wanted, before = int(os.environ.get("STEPS") or 100_000), TOTALS["steps"]
    while (left := wanted - (TOTALS["steps"] - before)) > 0:
        each = 400
        run_state_machine_as_test(
            AdversarialNetwork,
            settings=settings(
                SHORT, derandomize=False, stateful_step_count=each, max_examples=max(1, left // each)
            ),
        )
    print(", ".join(f"{count:,} {what}" for what, count in TOTALS.items()))
    assert TOTALS["epochs crossed"] > wanted / 200 and TOTALS["crashes"] > 0
