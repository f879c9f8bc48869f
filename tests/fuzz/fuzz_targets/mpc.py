"""What parties of a computation send each other: the manifest, and the values of their programs."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from mpyc import finfields, fingroups, gfpx, secpols
from mpyc.numpy import np

from didmpc.agent.program import codec
from didmpc.agent.program.wire import Decoder, Frame, FrameType, WireError, encode, encode_json
from didmpc.protocols.errors import MessageError
from didmpc.protocols.mpc.agreement import Agreed, commitment_to, signed_bytes
from didmpc.protocols.mpc.manifest import Manifest
from didmpc.protocols.mpc.messages import Join
from didmpc.protocols.mpc.receipt import Exchange, Opening, Receipt
from didmpc.protocols.mpc.statement import Ask, Role, Statement
from didmpc.protocols.mpc.terms import OPTIONS
from fuzz_targets.messages import HASH
from fuzz_targets.target import ALICE, BOB, Target

# The types that the local program has created. They must live as long as the targets.
FIELDS = [finfields.GF(101), finfields.GF(gfpx.GFpX(2)(283)), finfields.GF(2**61 - 1)]
GROUPS = [
    fingroups.SymmetricGroup(5),
    fingroups.QuadraticResidues(p=23),
    fingroups.SchnorrGroup(p=23, q=11, g=4),
    fingroups.EllipticCurve("Ed25519", "extended"),
    fingroups.EllipticCurve("secp256k1", "projective"),
    fingroups.EllipticCurve("secp256k1", "jacobian"),
    fingroups.ClassGroup(l=32),
    fingroups.EllipticCurve("Ed448", "affine"),
    fingroups.EllipticCurve("BN256_twist", "projective"),
    fingroups.HyperellipticCurve(p=103, genus=2),
    fingroups.HyperellipticCurve(p=103, genus=2, coordinates="extended"),
]


def _runtime() -> Any:
    """MPyC's runtime, which reads the command line and sets an event loop when it is imported."""
    argv, sys.argv = sys.argv, ["fuzz"]
    os.environ["MPYC_NOUVLOOP"] = "1"
    asyncio.set_event_loop(asyncio.new_event_loop())
    try:
        import mpyc.runtime
    finally:
        sys.argv = argv
        del os.environ["MPYC_NOUVLOOP"]
        asyncio.set_event_loop(None)
    return mpyc.runtime.mpc


def _secure_values() -> list[Any]:
    """One of each kind of secure type."""
    mpc = _runtime()
    numbers = [mpc.SecInt()(5), mpc.SecFld(101)(7), mpc.SecFld(256)(9), mpc.SecFxp()(1.5), mpc.SecFlt()(2.5)]
    groups = [
        mpc.SecSymmetricGroup(4),
        mpc.SecQuadraticResidues(p=23),
        mpc.SecSchnorrGroup(p=23, q=11, g=4),
        mpc.SecEllipticCurve("Ed25519", "projective"),
        mpc.SecHyperellipticCurve(p=103, genus=2),
        mpc.SecHyperellipticCurve(p=103, genus=2, coordinates="extended"),
        mpc.SecClassGroup(-23),
    ]
    arrays = [mpc.SecInt().array(np.array([[1, 2], [3, 4]])), mpc.SecFxp().array(np.array([0.5]))]
    polynomial = secpols.secpoly(gfpx.GFpX(101)("x^2+3"))
    return [*numbers, *(group.identity for group in groups), *arrays, polynomial, mpc.seclist(numbers[:1])]


SECURE = _secure_values()


def manifest(data: bytes) -> None:
    try:
        read = Manifest.decode(data)
    except MessageError:
        return
    assert read.encode() == data
    for pid, party in enumerate(read.roster):
        assert read.pid_of(party.did) == pid
        assert isinstance(read.uses_session(0, pid), bool)


def receipt(data: bytes) -> None:
    """A receipt from anywhere: read, it writes back the same, and only what is sound is said to hold."""
    try:
        read = Receipt.decode(data)
    except MessageError:
        return
    assert read.encode() == data
    verdict = read.verify()
    assert verdict.holds or verdict.words is None
    assert Receipt.decode(read.public().encode()).verify() == verdict


def value(data: bytes) -> None:
    """What `mpc.transfer()` takes from a peer: read it, and what was read writes back the same."""
    try:
        read = codec.loads(data)
    except codec.CodecError:
        return
    assert codec.dumps(read) == data


def wire(data: bytes) -> None:
    """What a program writes on its socket pair, in whatever pieces."""
    decoder, size = Decoder(), 1 + data[:1][0] % 64 if data else 1
    whole: list[Frame | None] = []
    pieces: list[Frame | None] = []
    for into, step in ((whole, len(data) or 1), (pieces, size)):
        decoder = Decoder()
        try:
            for at in range(0, len(data), step):
                into.extend(decoder.feed(data[at : at + step]))
        except WireError as error:
            into.extend((*error.before, None))
    assert whole == pieces, "frames depend on how their bytes were cut"
    for frame in whole:
        if frame is not None and frame.type in (FrameType.STATE, FrameType.FAILED, FrameType.STATS):
            _json(frame)


def _json(frame: Frame) -> None:
    with contextlib.suppress(WireError):
        assert isinstance(frame.json(), dict)


def _manifest_seeds() -> Iterator[bytes]:
    files = [{"path": "a.py", "sha256": HASH, "size": 1, "lines": 1}]
    program = {
        "sha256": HASH,
        "entry": "a.py",
        "title": "t",
        "lines": 1,
        "imports": ["numpy"],
        "files": files,
    }
    roster = tuple(
        Join(did, name, "example.org", True, {"mpyc": "0.11"})
        for did, name in ((ALICE.did, "alice"), (BOB.did, "bob"))
    )
    manifest = Manifest("0" * 32, program, ("-x",), 0, False, "session", dict(OPTIONS), roster, expires=1)
    yield manifest.encode()
    said = Statement(
        "host", "x", Ask("csv", "y", ("a",)), (Role("r", "0..t", "z", Ask("nothing")), Role("s", "m-1"))
    )
    source = {"kind": "git", "repository": "https://example.org/x", "commit": "a" * 40, "path": "a.py"}
    placed = tuple(replace(party, role=role) for party, role in zip(roster, ("r", "s"), strict=True))
    full = replace(
        manifest, statement=said, source=source, settings={"MPYC_NOGMPY": "1"}, roster=placed, host=1
    )
    assert Manifest.decode(full.encode()) == full
    yield full.encode()
    yield manifest.encode().replace(ALICE.did.encode(), b"did:")  # once a DidError


def _receipt_seeds() -> Iterator[bytes]:
    manifest = Manifest.decode(next(_manifest_seeds()))
    agreed = []
    for pid, identity in enumerate((ALICE, BOB)):
        commitment = commitment_to(bytes([pid]) * 32)
        signature = identity.signing_key[1].sign(signed_bytes(manifest.sha256, commitment))
        agreed.append(Agreed(commitment, signature, bytes([pid]) * 32))
    parties = [Exchange(manifest, tuple(agreed), pid, each) for pid, each in enumerate((ALICE, BOB))]
    claims = [party.claim(bytes(32), 1) for party in parties]
    parties[0].take_claim(1, claims[1])
    parties[0].endorse()
    yield parties[0].receipt().encode()
    parties[1].take_claim(0, claims[0])
    parties[0].take_endorsement(1, parties[1].endorse())
    yield parties[0].receipt(Opening(0, bytes(32))).encode()


def _value_seeds() -> Iterator[bytes]:
    plain = [None, True, -1, 1 << 200, 1.5, 2j, "x", b"y", [1], (2,), {"a": {3}}, frozenset([4])]
    arrays = [np.array([[1, 2]], dtype=np.int32), np.float64(1), np.array([1, 1 << 90], dtype=object)]
    elements = [field(5) for field in FIELDS] + [group.generator for group in GROUPS if group.generator]
    field_array = FIELDS[0].array([1, 2, 3])
    for each in (*plain, plain, *arrays, *elements, elements, field_array, range(3, -9, -2), *SECURE, SECURE):
        yield codec.dumps(each)


def _wire_seeds() -> Iterator[bytes]:
    yield encode(FrameType.DATA, 1, 1, b"abc") + encode(FrameType.END, 1, 1)
    yield encode_json(FrameType.STATE, {"state": "computing"}) + encode(FrameType.GO)


TARGETS = (
    Target("manifest", manifest, _manifest_seeds),
    Target("receipt", receipt, _receipt_seeds),
    Target("value", value, _value_seeds, is_json=False),
    Target("wire", wire, _wire_seeds, is_json=False),
)
