"""Receipts: who agreed to which manifest, and who claimed which output when, signed by all.

    party i                                         party j
     | -- output: H(salt || bytes), time, signed -> |   each about its own output
     | <- output ---------------------------------- |
     | -- receipt: signature of the list ---------> |   over all outputs that its sender has
     | <- receipt --------------------------------- |

    file: {version, manifest, manifest_sha256, missing, parties: [{pid, name, commitment, signature, r,
           output: {commitment, at, signature}?, list: {covers, signature}?}], opening?: {pid, salt, check}}

A file has one encoding; whatever is changed in it is refused or named. It proves who claimed what and when,
not that a result is right: MPyC is secure against parties that follow the program.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.did import resolve
from didmpc.protocols.errors import DidmpcError, LocalMisuse, MessageError
from didmpc.protocols.identity import Identity
from didmpc.protocols.mpc.agreement import Agreed, commitment_to, signed_bytes, words_for
from didmpc.protocols.mpc.manifest import MAX_MANIFEST, Manifest
from didmpc.protocols.mpc.messages import MAX_PARTIES, PREFIX, hexadecimal, number, octets

OUTPUT = PREFIX + "output"
RECEIPT = PREFIX + "receipt"

VERSION = "didmpc receipt/1.0"
MAX_RECEIPT = 4 * MAX_MANIFEST  # indented, with 64 parties
SALT_BYTES = 32
MAX_SIGNATURE = 96
LATEST = 1 << 40  # seconds since 1970


def output_hash(salt: bytes) -> "hashlib._Hash":
    """The hash to give the bytes of an output to; its digest is the commitment H(salt || bytes)."""
    return hashlib.sha256(b"didmpc output/1.0\0" + salt)


@dataclass(frozen=True, slots=True)
class Claim:
    """A party's word on its own output: the commitment, and when its run ended by its own clock."""

    commitment: bytes
    at: int
    signature: bytes

    def body(self) -> dict[str, Any]:
        """As it is sent and stored."""
        return {
            "commitment": b64url(self.commitment),
            "at": self.at,
            "signature": b64url(self.signature),
        }

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "Claim":
        """Read one; raises `MessageError`."""
        return cls(
            octets(body, "commitment", 32, exactly=32),
            number(body, "at", 0, LATEST),
            octets(body, "signature", MAX_SIGNATURE),
        )


@dataclass(frozen=True, slots=True)
class Endorsement:
    """A party's signature of the list: the claims of the parties `covers`."""

    covers: tuple[int, ...]
    signature: bytes

    def body(self) -> dict[str, Any]:
        """As it is sent and stored."""
        return {"covers": list(self.covers), "signature": b64url(self.signature)}

    @classmethod
    def of(cls, body: Mapping[str, Any], m: int) -> "Endorsement":
        """Read one; raises `MessageError`."""
        covers = body.get("covers")
        if not isinstance(covers, list) or not 0 < len(covers) <= m:
            raise MessageError("“covers” must list the parties whose outputs were signed.")
        pids = tuple(number({"covers": pid}, "covers", 0, m - 1) for pid in covers)
        if any(a >= b for a, b in pairwise(pids)):
            raise MessageError("“covers” must name each party once, in their order.")
        return cls(pids, octets(body, "signature", MAX_SIGNATURE))


@dataclass(frozen=True, slots=True)
class Opening:
    """What only its owner keeps: the salt that opens the commitment of party `pid`."""

    pid: int
    salt: bytes = field(repr=False)

    def body(self) -> dict[str, Any]:
        """As it is stored; `check` tells when a byte of it was changed."""
        check = hashlib.sha256(b"didmpc opening/1.0\0" + self.pid.to_bytes(2, "big") + self.salt)
        return {"pid": self.pid, "salt": b64url(self.salt), "check": check.hexdigest()}

    @classmethod
    def of(cls, body: Mapping[str, Any], m: int) -> "Opening":
        """Read one; raises `MessageError`."""
        opening = cls(number(body, "pid", 0, m - 1), octets(body, "salt", SALT_BYTES, exactly=SALT_BYTES))
        if hexadecimal(body, "check", 64) != opening.body()["check"]:
            raise MessageError("The opening was changed: its salt or its party is not what it was.")
        return opening


def _claim_bytes(manifest_sha256: str, pid: int, commitment: bytes, at: int) -> bytes:
    head = b"didmpc claim/1.0\0" + bytes.fromhex(manifest_sha256)
    return head + pid.to_bytes(2, "big") + at.to_bytes(8, "big") + commitment


def _list_bytes(manifest_sha256: str, claims: Mapping[int, Claim], covers: Sequence[int]) -> bytes:
    parts = [b"didmpc receipt/1.0\0", bytes.fromhex(manifest_sha256), len(covers).to_bytes(2, "big")]
    for pid in covers:
        claim = claims[pid]
        parts += [pid.to_bytes(2, "big"), claim.at.to_bytes(8, "big"), claim.commitment]
    return b"".join(parts)


def _signed_by(manifest: Manifest, pid: int, signature: bytes, data: bytes) -> bool:
    try:
        key = resolve(manifest.roster[pid].did).authentication[0].public
        key.verify(signature, data)
    except (DidmpcError, IndexError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class Fault:
    """Something in a receipt that does not hold; of party `pid`, or of the receipt as a whole."""

    pid: int | None
    what: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a receipt is worth: it holds without faults, and is complete where nobody is missing."""

    faults: tuple[Fault, ...]
    claimed: tuple[int, ...]
    signed: tuple[int, ...]
    missing: tuple[int, ...]
    partial: tuple[int, ...]
    words: tuple[str, ...] | None

    @property
    def holds(self) -> bool:
        return not self.faults

    @property
    def complete(self) -> bool:
        return self.holds and not self.missing and not self.partial


@dataclass(frozen=True, slots=True)
class Receipt:
    """One receipt. `agreed[pid]` is what party `pid` said to the manifest; the rest may lack parties."""

    manifest: Manifest
    manifest_sha256: str
    agreed: tuple[Agreed, ...]
    claims: Mapping[int, Claim]
    endorsements: Mapping[int, Endorsement]
    opening: Opening | None = None

    @property
    def missing(self) -> tuple[int, ...]:
        """The parties who claimed no output, or signed no list."""
        present = self.claims.keys() & self.endorsements.keys()
        return tuple(pid for pid in range(self.manifest.m) if pid not in present)

    @property
    def partial(self) -> tuple[int, ...]:
        """The parties who signed a list in which somebody is missing."""
        m = self.manifest.m
        return tuple(pid for pid, each in sorted(self.endorsements.items()) if len(each.covers) < m)

    def public(self) -> "Receipt":
        """Without the salt: to be given away."""
        return Receipt(self.manifest, self.manifest_sha256, self.agreed, self.claims, self.endorsements)

    def encode(self) -> bytes:
        """The one encoding: JSON with sorted keys, a value on each line."""
        parties = []
        for pid, agreed in enumerate(self.agreed):
            claim, endorsement = self.claims.get(pid), self.endorsements.get(pid)
            parties.append(
                {
                    "pid": pid,
                    "name": self.manifest.roster[pid].name,
                    "commitment": b64url(agreed.commitment),
                    "signature": b64url(agreed.signature),
                    "r": b64url(agreed.r),
                    "output": None if claim is None else claim.body(),
                    "list": None if endorsement is None else endorsement.body(),
                }
            )
        value: dict[str, Any] = {
            "version": VERSION,
            "manifest": json.loads(self.manifest.encode()),
            "manifest_sha256": self.manifest_sha256,
            "parties": parties,
            "missing": list(self.missing),
        }
        if self.opening is not None:
            value["opening"] = self.opening.body()
        return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def decode(cls, raw: bytes) -> "Receipt":
        """Read a receipt; raises `MessageError` that names what is wrong. It is not verified yet."""
        if len(raw) > MAX_RECEIPT:
            raise MessageError(f"A receipt of {len(raw):,} bytes is too large.")
        try:
            value = json.loads(raw)
        except (ValueError, RecursionError) as problem:
            line = getattr(problem, "lineno", None)
            raise MessageError(
                "This is no receipt: it is not JSON.", why=f"Line {line} cannot be read." if line else ""
            ) from None
        if not isinstance(value, dict) or not isinstance(value.get("manifest"), dict):
            raise MessageError("This is no receipt: it has no manifest.")
        if value.get("version") != VERSION:
            raise MessageError("This is not a receipt of a version that we know.")
        receipt = cls._of(value)
        canonical = receipt.encode()
        if canonical != raw:
            line = _first_difference(canonical, raw)
            raise MessageError(f"The receipt was changed: line {line} is not as it was written.")
        return receipt

    @classmethod
    def _of(cls, value: Mapping[str, Any]) -> "Receipt":
        try:
            text = json.dumps(value["manifest"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            manifest = Manifest.decode(text.encode())
        except DidmpcError as error:
            raise MessageError(f"The manifest in the receipt cannot be read: {error.what}") from None
        except (UnicodeEncodeError, RecursionError):
            raise MessageError("The manifest in the receipt cannot be read.") from None
        m, parties = manifest.m, value.get("parties")
        if not isinstance(parties, list) or len(parties) != m or m > MAX_PARTIES:
            raise MessageError("The receipt's parties are not those of its manifest.")
        agreed, claims, endorsements = [], {}, {}
        for pid, party in enumerate(parties):
            if not isinstance(party, dict):
                raise MessageError("A party of the receipt is malformed.")
            name = manifest.roster[pid].name
            try:
                agreed.append(
                    Agreed(
                        octets(party, "commitment", 32, exactly=32),
                        octets(party, "signature", MAX_SIGNATURE),
                        octets(party, "r", 32, exactly=32),
                    )
                )
                if party.get("output") is not None:
                    claims[pid] = Claim.of(_object(party, "output"))
                if party.get("list") is not None:
                    endorsements[pid] = Endorsement.of(_object(party, "list"), m)
            except MessageError as error:
                raise MessageError(f"What {name} said cannot be read: {error.what}") from None
        opening = Opening.of(_object(value, "opening"), m) if "opening" in value else None
        sha256 = hexadecimal(value, "manifest_sha256", 64)
        return cls(manifest, sha256, tuple(agreed), claims, endorsements, opening)

    def verify(self) -> Verdict:
        """Check every hash and signature, with nothing but the DIDs in the receipt."""
        manifest, sha256 = self.manifest, self.manifest_sha256
        faults: list[Fault] = []
        if manifest.sha256 != sha256:
            faults.append(
                Fault(None, "The manifest is not the one of the receipt: it or its hash was changed.")
            )
        claimed, signed = [], []
        for pid, agreed in enumerate(self.agreed):
            name = manifest.roster[pid].name
            if not hmac.compare_digest(commitment_to(agreed.r), agreed.commitment):
                faults.append(Fault(pid, f"{name}'s value r is not the one it had committed to."))
            if not _signed_by(manifest, pid, agreed.signature, signed_bytes(sha256, agreed.commitment)):
                faults.append(Fault(pid, f"{name}'s signature of the manifest does not hold."))
            claim, endorsement = self.claims.get(pid), self.endorsements.get(pid)
            if claim is not None:
                data = _claim_bytes(sha256, pid, claim.commitment, claim.at)
                if _signed_by(manifest, pid, claim.signature, data):
                    claimed.append(pid)
                else:
                    faults.append(
                        Fault(pid, f"{name}'s claim (commitment, time or signature) does not hold.")
                    )
            if endorsement is not None:
                if self._list_is_signed(pid, endorsement):
                    signed.append(pid)
                else:
                    faults.append(Fault(pid, f"{name}'s signature of the list does not hold."))
        words = words_for(sha256, self.agreed) if not faults else None
        return Verdict(tuple(faults), tuple(claimed), tuple(signed), self.missing, self.partial, words)

    def _list_is_signed(self, pid: int, endorsement: Endorsement) -> bool:
        if any(covered not in self.claims for covered in endorsement.covers):
            return False
        data = _list_bytes(self.manifest_sha256, self.claims, endorsement.covers)
        return _signed_by(self.manifest, pid, endorsement.signature, data)

    def opens(self, output: bytes) -> bool:
        """Whether `output` is what the owner of this copy committed to. LocalMisuse without a salt."""
        if self.opening is None:
            raise LocalMisuse(
                "This copy of the receipt has no salt.",
                why="Only the copy of the party whose output it is opens the commitment.",
                fix="Take the one in your agent's home:  didmpc session receipt",
            )
        claim = self.claims.get(self.opening.pid)
        hashed = output_hash(self.opening.salt)
        hashed.update(output)
        return claim is not None and hmac.compare_digest(hashed.digest(), claim.commitment)


def _object(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    if not isinstance(found, dict):
        raise MessageError(f"“{name}” must be an object.")
    return found


def _first_difference(one: bytes, other: bytes) -> int:
    """The number of the first line in which they differ."""
    ours, theirs = one.split(b"\n"), other.split(b"\n")
    for number_, (a, b) in enumerate(zip(ours, theirs, strict=False), start=1):
        if a != b:
            return number_
    return min(len(ours), len(theirs)) + 1


class Exchange:
    """One party's view of the receipt while it comes about. Messages may arrive in any order, and twice."""

    def __init__(self, manifest: Manifest, agreed: tuple[Agreed, ...], pid: int, identity: Identity) -> None:
        self._manifest = manifest
        self._sha256 = manifest.sha256
        self._agreed = agreed
        self._pid = pid
        _, self._key = identity.signing_key
        self._claims: dict[int, Claim] = {}
        self._endorsements: dict[int, Endorsement] = {}
        self._early: dict[int, Endorsement] = {}
        self.problems: dict[int, str] = {}
        """By pid: why what a party sent does not count."""

    @property
    def unclaimed(self) -> list[int]:
        """The pids whose claim is missing."""
        return [pid for pid in range(self._manifest.m) if pid not in self._claims]

    @property
    def complete(self) -> bool:
        """Whether all have signed the whole list."""
        receipt = self.receipt()
        return not receipt.missing and not receipt.partial

    def claim(self, commitment: bytes, at: int) -> dict[str, Any]:
        """Our own word; the body of our `output`."""
        data = _claim_bytes(self._sha256, self._pid, commitment, at)
        self._claims[self._pid] = Claim(commitment, at, self._key.sign(data))
        self._look_again()
        return self._claims[self._pid].body()

    def take_claim(self, pid: int, body: Mapping[str, Any]) -> None:
        """Another party's; raises `MessageError` and changes nothing but `problems`."""
        with _Noting(self, pid):
            claim = Claim.of(body)
            name = self._manifest.roster[pid].name
            known = self._claims.get(pid)
            if known is not None:
                if (known.commitment, known.at) != (claim.commitment, claim.at):
                    raise MessageError(f"{name} claimed two different outputs.")
                return
            data = _claim_bytes(self._sha256, pid, claim.commitment, claim.at)
            if not _signed_by(self._manifest, pid, claim.signature, data):
                raise MessageError(f"{name}'s claim is not signed by it.")
            self._claims[pid] = claim
            self._look_again()

    def endorse(self) -> dict[str, Any]:
        """Sign the list as far as it is here, our own claim in it; the body of our `receipt`."""
        if self._pid not in self._claims:
            raise LocalMisuse("Nobody signs a list without an output of its own.")
        covers = tuple(sorted(self._claims))
        signature = self._key.sign(_list_bytes(self._sha256, self._claims, covers))
        self._endorsements[self._pid] = Endorsement(covers, signature)
        return self._endorsements[self._pid].body()

    def take_endorsement(self, pid: int, body: Mapping[str, Any]) -> None:
        """Another party's signature; raises `MessageError` and changes nothing but `problems`.

        One that covers claims which are not here yet waits for them.
        """
        with _Noting(self, pid):
            endorsement = Endorsement.of(body, self._manifest.m)
            if any(covered not in self._claims for covered in endorsement.covers):
                self._early[pid] = endorsement
                return
            data = _list_bytes(self._sha256, self._claims, endorsement.covers)
            if not _signed_by(self._manifest, pid, endorsement.signature, data):
                raise MessageError(
                    f"{self._manifest.roster[pid].name} signed another list of outputs than ours."
                )
            known = self._endorsements.get(pid)
            if known is None or len(known.covers) < len(endorsement.covers):
                self._endorsements[pid] = endorsement

    def _look_again(self) -> None:
        """A claim has come: those who signed it before may count now."""
        early, self._early = self._early, {}
        for pid, endorsement in early.items():
            try:
                self.take_endorsement(pid, endorsement.body())
            except MessageError:
                continue  # noted

    def receipt(self, opening: Opening | None = None) -> Receipt:
        """What we have so far."""
        return Receipt(
            self._manifest, self._sha256, self._agreed, dict(self._claims), dict(self._endorsements), opening
        )


class _Noting:
    """Notes why what a party sent does not count, and lets the error pass."""

    def __init__(self, exchange: Exchange, pid: int) -> None:
        self._exchange = exchange
        self._pid = pid

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, MessageError):
            self._exchange.problems[self._pid] = error.what
