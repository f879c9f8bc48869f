"""A fuzz target, and the fixed people that all of them know."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from didmpc.protocols.crypto.keys import Curve, PrivateKey
from didmpc.protocols.did import Service
from didmpc.protocols.identity import Identity


@dataclass(frozen=True)
class Target:
    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    """Inputs that reach deep: what the fuzzer starts from."""
    is_json: bool = True
    """Whether most inputs are JSON, which is then changed value by value instead of byte by byte."""


def key(name: str, curve: Curve = "X25519") -> PrivateKey:
    """The same key in every run, so that inputs that were found stay what they are."""
    size = 48 if curve == "P-384" else 32
    return PrivateKey(curve, b"\0" + hashlib.sha512(name.encode()).digest()[: size - 1])


def person(name: str, *services: Service, curve: Curve = "X25519") -> Identity:
    return Identity.peer4_of([key(name, curve), key(f"{name} signs", "Ed25519")], services)


ALICE = person("alice")
BOB = person("bob", Service("https://bob.example/didcomm"))
ERIN = person("erin", curve="P-256")


def to_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def from_json(data: bytes) -> Any:
    """The JSON of an input; None where it is none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
