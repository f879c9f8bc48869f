"""From a manifest to m signatures, and to words that people can compare.

Each party signs the manifest together with a commitment H(r) to a random value of its own, and reveals r
only once it holds all m signatures. So nobody, not even the host, could search for a manifest or a value
that gives two groups of people the same words.
"""

import hashlib
import hmac
import os
from collections.abc import Mapping
from typing import Any

from didmpc.protocols.did import resolve
from didmpc.protocols.encoding import b64url
from didmpc.protocols.errors import DidmpcError, LocalMisuse, MessageError, RemoteViolation
from didmpc.protocols.identity import Identity
from didmpc.protocols.mpc.manifest import Manifest
from didmpc.protocols.mpc.messages import octets
from didmpc.protocols.mpc.words import words_of


def _signed_bytes(manifest: Manifest, commitment: bytes) -> bytes:
    return b"didmpc manifest/1.0\0" + bytes.fromhex(manifest.sha256) + commitment


def _commitment(r: bytes) -> bytes:
    return hashlib.sha256(b"didmpc commitment/1.0\0" + r).digest()


class Agreement:
    """One party's view of who has signed what. Messages may arrive in any order and more than once."""

    def __init__(self, manifest: Manifest, pid: int, identity: Identity) -> None:
        self.manifest = manifest
        self.pid = pid
        self._r = os.urandom(32)
        self._commitments: dict[int, bytes] = {}
        self._signatures: dict[int, bytes] = {}
        self._reveals: dict[int, Mapping[str, Any]] = {}
        self._values: dict[int, bytes] = {}
        commitment = _commitment(self._r)
        _, key = identity.signing_key
        self._take(pid, commitment, key.sign(_signed_bytes(manifest, commitment)))

    def signature(self) -> dict[str, Any]:
        """The body of our `signature`."""
        return {
            "manifest_sha256": self.manifest.sha256,
            "commitment": b64url(self._commitments[self.pid]),
            "signature": b64url(self._signatures[self.pid]),
        }

    def take_signature(self, pid: int, body: Mapping[str, Any]) -> None:
        """Check party `pid`'s signature; raises `MessageError` and changes nothing when it does not hold."""
        if body.get("manifest_sha256") != self.manifest.sha256:
            raise MessageError(f"{self.manifest.roster[pid].name} signed another manifest than ours.")
        commitment = octets(body, "commitment", 32, exactly=32)
        signature = octets(body, "signature", 96)
        if pid in self._signatures:
            if not hmac.compare_digest(commitment, self._commitments[pid]):
                raise MessageError(f"{self.manifest.roster[pid].name} signed twice, differently.")
            return
        document = resolve(self.manifest.roster[pid].did)
        if not document.authentication:
            raise MessageError(f"{self.manifest.roster[pid].name} has no key to sign with.")
        try:
            document.authentication[0].public.verify(signature, _signed_bytes(self.manifest, commitment))
        except RemoteViolation:
            raise MessageError(f"{self.manifest.roster[pid].name}'s signature does not hold.") from None
        self._take(pid, commitment, signature)
        for other, waiting in list(self._reveals.items()):
            if self.signed:
                self.take_reveal(other, waiting)

    def _take(self, pid: int, commitment: bytes, signature: bytes) -> None:
        self._commitments[pid] = commitment
        self._signatures[pid] = signature

    @property
    def signed(self) -> bool:
        """Whether all m signatures are here."""
        return len(self._signatures) == self.manifest.m

    @property
    def unsigned(self) -> list[int]:
        """The pids whose signature is missing."""
        return [pid for pid in range(self.manifest.m) if pid not in self._signatures]

    @property
    def unrevealed(self) -> list[int]:
        """The pids whose value is missing."""
        return [pid for pid in range(self.manifest.m) if pid not in self._values]

    def _set_hash(self) -> bytes:
        digest = hashlib.sha256(b"didmpc signatures/1.0\0" + bytes.fromhex(self.manifest.sha256))
        for pid in range(self.manifest.m):
            digest.update(self._commitments[pid])
        return digest.digest()

    def reveal(self) -> dict[str, Any]:
        """The body of our `reveal`; only once all have signed."""
        if not self.signed:
            raise LocalMisuse("Nothing may be revealed before all parties have signed.")
        self._values[self.pid] = self._r
        return {"r": b64url(self._r), "commitments_sha256": b64url(self._set_hash())}

    def take_reveal(self, pid: int, body: Mapping[str, Any]) -> None:
        """Check party `pid`'s reveal against its commitment, and against the commitments that we hold.

        One that arrives before the last signature waits: mediators promise no order. It names the set of
        commitments that its sender saw, so a party that committed differently to two others is caught.
        """
        if not self.signed:
            self._reveals.setdefault(pid, body)
            return
        self._reveals.pop(pid, None)
        r = octets(body, "r", 32, exactly=32)
        name = self.manifest.roster[pid].name
        if not hmac.compare_digest(_commitment(r), self._commitments[pid]):
            raise MessageError(f"{name} revealed another value than it had committed to.")
        if not hmac.compare_digest(octets(body, "commitments_sha256", 32, exactly=32), self._set_hash()):
            raise DidmpcError(
                f"{name} saw other commitments than we did.",
                why="Somebody told the parties different things.",
                fix="Do not go on with these people before you have spoken to them.",
            )
        self._values[pid] = r

    @property
    def words(self) -> tuple[str, ...] | None:
        """What the parties may read to each other; None until all have revealed."""
        if len(self._values) < self.manifest.m:
            return None
        digest = hashlib.sha256(b"didmpc words/1.0\0" + self._set_hash())
        for pid in range(self.manifest.m):
            digest.update(self._values[pid])
        return words_of(digest.digest())
