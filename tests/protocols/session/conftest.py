"""Sessions in memory. Every seal goes through an AEAD that fails on a second use of a (key, nonce)."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from didmpc.protocols.identity import Identity
from didmpc.protocols.session.handshake import WIRES, Established, Initiation, Party, respond
from didmpc.protocols.session.link import Link, LinkLimits
from didmpc.protocols.session.packet import EpochLimits

Pair = tuple[Established, Established]


class RecordingAead:
    """AES-GCM that remembers every (key, nonce) it sealed under."""

    sealed: set[tuple[bytes, bytes]]

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._aead = AESGCM(key)

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        assert (self._key, nonce) not in self.sealed, "a (key, nonce) was sealed under twice"
        self.sealed.add((self._key, nonce))
        return self._aead.encrypt(nonce, data, associated_data)

    def decrypt(self, nonce: bytes, data: bytes | memoryview, associated_data: bytes | None) -> bytes:
        return self._aead.decrypt(nonce, data, associated_data)

    def encrypt_into(
        self, nonce: bytes, data: memoryview, associated_data: bytes | None, buf: memoryview
    ) -> int:
        assert (self._key, nonce) not in self.sealed, "a (key, nonce) was sealed under twice"
        self.sealed.add((self._key, nonce))
        return self._aead.encrypt_into(nonce, data, associated_data, buf)

    def decrypt_into(
        self, nonce: bytes, data: memoryview, associated_data: bytes | None, buf: memoryview
    ) -> int:
        return self._aead.decrypt_into(nonce, data, associated_data, buf)


def recording_aead() -> type[RecordingAead]:
    return type("Recording", (RecordingAead,), {"sealed": set()})


def seeded(name: str) -> Callable[[int], bytes]:
    """A random source that gives the same bytes in every run."""
    blocks = (hashlib.sha256(f"{name} {count}".encode()).digest() for count in range(10**6))
    buffer = bytearray()

    def take(size: int) -> bytes:
        while len(buffer) < size:
            buffer.extend(next(blocks))
        taken = bytes(buffer[:size])
        del buffer[:size]
        return taken

    return take


def shake_hands(initiator: Party, responder: Party, **options: Any) -> Pair:
    initiation = Initiation(initiator, responder, "open-1", **options)
    accept, established = respond(responder, initiator, "open-1", initiation.body, wires=WIRES)
    return initiation.finish(accept), established


@pytest.fixture
def recording() -> type[RecordingAead]:
    return recording_aead()


@pytest.fixture(scope="session")
def parties() -> tuple[Party, Party]:
    return Party.of(Identity.peer4()), Party.of(Identity.peer4())


@pytest.fixture(scope="session")
def pair(parties: tuple[Party, Party]) -> Pair:
    return shake_hands(*parties)


@pytest.fixture(scope="session")
def new_pair(parties: tuple[Party, Party]) -> Callable[[], Pair]:
    return lambda: shake_hands(*parties)


@pytest.fixture(scope="session")
def new_json_pair(parties: tuple[Party, Party]) -> Callable[[], Pair]:
    return lambda: shake_hands(*parties, wires=["json"])


@pytest.fixture(scope="session")
def seed() -> Callable[[str], Callable[[int], bytes]]:
    return seeded


class Wire:
    """Two links and a path between them that delivers at once, under a clock of the test."""

    def __init__(self, pair: Pair, **limits: Any) -> None:
        aead = recording_aead()
        bounds = LinkLimits(**{"epoch": EpochLimits(packets=16), **limits})
        self.now = 1000.0
        self.near = Link(pair[0], now=self.now, limits=bounds, aead=aead)
        self.far = Link(pair[1], now=self.now, limits=bounds, aead=aead)
        self.near_events: list[Any] = []
        self.far_events: list[Any] = []

    def connect(self) -> None:
        self.near.path_up(self.now)
        self.far.path_up(self.now)
        self.pump()

    def pump(self) -> None:
        """Deliver until both have nothing to say."""
        while self._step():
            pass

    def _step(self) -> bool:
        out, back = self._said(self.near), self._said(self.far)
        for packet in out:
            self.far_events += self.far.receive(packet, self.now)
        for packet in back:
            self.near_events += self.near.receive(packet, self.now)
        return bool(out or back)

    def _said(self, link: Link) -> list[bytes]:
        proposal = link.proposal(self.now)
        return [*link.packets(self.now), *([] if proposal is None else [proposal])]

    def connect_json(self) -> None:
        """Both get a path for packets in JSON as well."""
        for link in (self.near, self.far):
            link.path_up(self.now, "json", stored=True)

    def wait(self, seconds: float, step: float = 0.05) -> None:
        for _ in range(round(seconds / step)):
            self.now += step
            self.pump()

    def renew(self, pair: Pair) -> None:
        """Both links get a new session, the responder first, as it is with an accept on its way."""
        self.far.renew(pair[1], self.now)
        self.near.renew(pair[0], self.now)

    def drop(self) -> list[bytes]:
        """What the near link says now is lost."""
        return self.near.packets(self.now)


@pytest.fixture
def wire_of(pair: Pair) -> Callable[..., Wire]:
    return lambda **limits: Wire(pair, **limits)


@pytest.fixture
def wire(pair: Pair) -> Iterator[Wire]:
    made = Wire(pair)
    made.connect()
    made.near_events.clear()
    made.far_events.clear()
    yield made
