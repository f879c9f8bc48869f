"""From a manifest to m signatures, and to words that people can compare.

Each party signs the manifest together with a commitment H(r) to a random value of its own, and reveals r
only once it holds all m signatures. So nobody, not even the host, could search for a manifest or a value
that gives two groups of people the same words. A reveal names the hash of all m commitments and signatures:
one that was made before its sender held them, or by one who saw others, never passes.
"""

import hashlib
import hmac
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.did import resolve
from didmpc.protocols.errors import DidmpcError, LocalMisuse, MessageError, RemoteViolation
from didmpc.protocols.identity import Identity
from didmpc.protocols.mpc.manifest import Manifest
from didmpc.protocols.mpc.messages import octets
from didmpc.protocols.mpc.words import words_of


def signed_bytes(manifest_sha256: str, commitment: bytes) -> bytes:
    """What a party signs: the manifest, and its commitment."""
    return b"didmpc manifest/1.0\0" + bytes.fromhex(manifest_sha256) + commitment


def commitment_to(r: bytes) -> bytes:
    """H(r): said before r."""
    return hashlib.sha256(b"didmpc commitment/1.0\0" + r).digest()


@dataclass(frozen=True, slots=True)
class Agreed:
    """What one party said to the manifest: its commitment, its signature of both, and at last its value."""

    commitment: bytes
    signature: bytes
    r: bytes = field(default=b"", repr=False)


def agreed_sha256(manifest_sha256: str, parties: Sequence[Agreed]) -> bytes:
    """The hash of the manifest and of all m commitments and signatures, in the order of the pids."""
    digest = hashlib.sha256(b"didmpc signatures/1.0\0" + bytes.fromhex(manifest_sha256))
    for party in parties:
        digest.update(party.commitment + len(party.signature).to_bytes(2, "big") + party.signature)
    return digest.digest()


def words_for(manifest_sha256: str, parties: Sequence[Agreed]) -> tuple[str, ...]:
    """What the parties may read to each other: H(manifest || signatures || all r), as words."""
    digest = hashlib.sha256(b"didmpc words/1.0\0" + agreed_sha256(manifest_sha256, parties))
    for party in parties:
        digest.update(party.r)
    return words_of(digest.digest())


class Agreement:
    """One party's view of who has signed what. Messages may arrive in any order and more than once."""

    def __init__(self, manifest: Manifest, pid: int, identity: Identity) -> None:
        self.manifest = manifest
        self.pid = pid
        self._r = os.urandom(32)
        self._signed: dict[int, Agreed] = {}
        self._reveals: dict[int, Mapping[str, Any]] = {}
        self._values: dict[int, bytes] = {}
        commitment = commitment_to(self._r)
        _, key = identity.signing_key
        self._signed[pid] = Agreed(commitment, key.sign(signed_bytes(manifest.sha256, commitment)))

    def signature(self) -> dict[str, Any]:
        """The body of our `signature`."""
        return {
            "manifest_sha256": self.manifest.sha256,
            "commitment": b64url(self._signed[self.pid].commitment),
            "signature": b64url(self._signed[self.pid].signature),
        }

    def take_signature(self, pid: int, body: Mapping[str, Any]) -> None:
        """Check party `pid`'s signature; raises `MessageError` and changes nothing when it does not hold."""
        if body.get("manifest_sha256") != self.manifest.sha256:
            raise MessageError(f"{self.manifest.roster[pid].name} signed another manifest than ours.")
        commitment = octets(body, "commitment", 32, exactly=32)
        signature = octets(body, "signature", 96)
        if pid in self._signed:
            if not hmac.compare_digest(commitment, self._signed[pid].commitment):
                raise MessageError(f"{self.manifest.roster[pid].name} signed twice, differently.")
            return
        document = resolve(self.manifest.roster[pid].did)
        if not document.authentication:
            raise MessageError(f"{self.manifest.roster[pid].name} has no key to sign with.")
        try:
            document.authentication[0].public.verify(
                signature, signed_bytes(self.manifest.sha256, commitment)
            )
        except RemoteViolation:
            raise MessageError(f"{self.manifest.roster[pid].name}'s signature does not hold.") from None
        self._signed[pid] = Agreed(commitment, signature)
        for other, waiting in list(self._reveals.items()):
            if self.signed:
                self.take_reveal(other, waiting)

    @property
    def signed(self) -> bool:
        """Whether all m signatures are here."""
        return len(self._signed) == self.manifest.m

    @property
    def unsigned(self) -> list[int]:
        """The pids whose signature is missing."""
        return [pid for pid in range(self.manifest.m) if pid not in self._signed]

    @property
    def unrevealed(self) -> list[int]:
        """The pids whose value is missing."""
        return [pid for pid in range(self.manifest.m) if pid not in self._values]

    @property
    def _all_signed(self) -> list[Agreed]:
        return [self._signed[pid] for pid in range(self.manifest.m)]

    def _set_hash(self) -> bytes:
        return agreed_sha256(self.manifest.sha256, self._all_signed)

    def reveal(self) -> dict[str, Any]:
        """The body of our `reveal`; only once all have signed."""
        if not self.signed:
            raise LocalMisuse("Nothing may be revealed before all parties have signed.")
        self._values[self.pid] = self._r
        return {"r": b64url(self._r), "signatures_sha256": b64url(self._set_hash())}

    def take_reveal(self, pid: int, body: Mapping[str, Any]) -> None:
        """Check party `pid`'s reveal against its commitment, and against the signatures that we hold.

        One that arrives before the last signature waits: mediators promise no order. The hash in it shows
        what its sender held. So a party that revealed too early, or committed differently to two others,
        is caught; `MessageError` or `DidmpcError` says by whom.
        """
        if not self.signed:
            self._reveals.setdefault(pid, body)
            return
        self._reveals.pop(pid, None)
        r = octets(body, "r", 32, exactly=32)
        name = self.manifest.roster[pid].name
        if not hmac.compare_digest(commitment_to(r), self._signed[pid].commitment):
            raise MessageError(f"{name} revealed another value than it had committed to.")
        if not hmac.compare_digest(octets(body, "signatures_sha256", 32, exactly=32), self._set_hash()):
            raise DidmpcError(
                f"{name} saw other signatures than we did, or revealed before it had all of them.",
                why="Somebody told the parties different things.",
                fix="Do not go on with these people before you have spoken to them.",
            )
        self._values[pid] = r

    @property
    def record(self) -> tuple[Agreed, ...] | None:
        """What all parties said, in the order of the pids; None until all have revealed."""
        if len(self._values) < self.manifest.m:
            return None
        return tuple(replace(each, r=self._values[pid]) for pid, each in enumerate(self._all_signed))

    @property
    def words(self) -> tuple[str, ...] | None:
        """What the parties may read to each other; None until all have revealed."""
        record = self.record
        return None if record is None else words_for(self.manifest.sha256, record)
