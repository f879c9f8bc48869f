"""For all tests: asyncio's own event loop, no packet sealed twice under one key and nonce, no luck."""

import asyncio
import gc
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import HealthCheck, settings

from didmpc.protocols.session.packet import Aead, PacketSealer

# The same examples in each run, however slow the machine is; the long runs draw their own.
settings.register_profile(
    "suite", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")


class _OncePerNonce:
    """An AEAD whose `encrypt` fails where a (key, nonce) comes again."""

    def __init__(self, aead: Callable[[bytes], Aead], key: bytes, used: set[tuple[bytes, bytes]]) -> None:
        self._key, self._aead, self._used = key, aead(key), used
        self.decrypt = self._aead.decrypt

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        assert (self._key, nonce) not in self._used, "a (key, nonce) was sealed under twice"
        self._used.add((self._key, nonce))
        return self._aead.encrypt(nonce, data, associated_data)

    def encrypt_into(
        self, nonce: bytes, data: memoryview, associated_data: bytes | None, buf: memoryview
    ) -> int:
        assert (self._key, nonce) not in self._used, "a (key, nonce) was sealed under twice"
        self._used.add((self._key, nonce))
        return self._aead.encrypt_into(nonce, data, associated_data, buf)

    def decrypt_into(
        self, nonce: bytes, data: memoryview, associated_data: bytes | None, buf: memoryview
    ) -> int:
        return self._aead.decrypt_into(nonce, data, associated_data, buf)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """What a test may have left to the whole process.

    MPyC sets uvloop once a test imports it, and an agent lets nobody else read what it makes.
    """
    asyncio.set_event_loop_policy(None)
    os.umask(0o022)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Nothing is collected while a failure is put into words.

    What is collected may log a traceback, which parses source in the midst of pytest's own parsing; CPython
    before 3.11.8 then raises SystemError (python/cpython#106905), and the whole run ends.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def every_seal_is_recorded() -> Iterator[None]:
    make = PacketSealer.__init__

    def recording(sealer: PacketSealer, *arguments: Any, aead: Any = AESGCM, **options: Any) -> None:
        used: set[tuple[bytes, bytes]] = set()
        make(sealer, *arguments, aead=lambda key: _OncePerNonce(aead, key, used), **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(PacketSealer, "__init__", recording)
        yield
