"""The handshake of `session/1.0`: `open` and `accept`, SKEME inside authcrypt.

Both messages travel as ordinary authcrypt messages; nothing here touches a static private key. Whoever
has a party's key can forge messages *to* that party, but learns the peer's secret `k` only with the
peer's key: so neither side can be impersonated to the other. The responder is confirmed by `confirm`,
the initiator by its first packet (docs/session-extension.md, "Handshake").
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.did import DIDDocument, canonical, did_of, fragment_of
from didmpc.protocols.errors import LocalMisuse, SessionError
from didmpc.protocols.identity import Identity
from didmpc.protocols.namespace import NAMESPACE
from didmpc.protocols.session.exports import continuation, continuation_key
from didmpc.protocols.session.hello import (
    CLASSICAL,
    HYBRID,
    KEM_PUBLIC_BYTES,
    MALFORMED,
    MAX_HELLO,
    SUITES,
    WIRE_BINARY,
    WIRE_JSON,
    WIRES,
    HelloI,
    HelloR,
    Terms,
    exact_b64,
)
from didmpc.protocols.session.schedule import Transcript, extract, label

PROTOCOL = f"{NAMESPACE}/session/1.0"
OPEN = f"{PROTOCOL}/open"
ACCEPT = f"{PROTOCOL}/accept"
DECLINE = f"{PROTOCOL}/decline"

Random = Callable[[int], bytes]
# Each form of packets has keys of its own.
_FORM_PREFIX = {WIRE_BINARY: "", WIRE_JSON: "json "}
DeclineCode = Literal["suite", "policy", "busy", "roster"]

__all__ = [
    "ACCEPT",
    "CLASSICAL",
    "DECLINE",
    "HYBRID",
    "OPEN",
    "PROTOCOL",
    "SUITES",
    "WIRES",
    "WIRE_BINARY",
    "WIRE_JSON",
    "Established",
    "Initiation",
    "Party",
    "Request",
    "decline_body",
    "read_open",
    "respond",
]


@dataclass(frozen=True, slots=True)
class Party:
    """One side as the handshake binds it: its DID, and the one keyAgreement key it uses."""

    did: str
    kid: str
    public: bytes

    @classmethod
    def of(cls, source: Identity | DIDDocument, kid: str | None = None) -> Party:
        """The party of an identity or a document; `kid` says which key where it is not the first.

        A responder names the key that the envelope was sent from (`Unpacked.sender_kid`).
        """
        document = source.document if isinstance(source, Identity) else source
        if kid is not None:
            method = document.agreement_key(kid)
        elif isinstance(source, Identity):
            method = document.agreement_key(source.agreement_key[0])
        elif document.key_agreement:
            method = document.key_agreement[0]
        else:
            raise SessionError("A DID without a keyAgreement key cannot have a session.", why=document.did)
        return cls(document.did, method.kid, method.public.raw)


@dataclass(frozen=True, slots=True, repr=False)
class Established:
    """A session both sides have the keys of. `secret_send` and `secret_receive` are the S[0].

    The responder's is not confirmed yet: it sends and releases nothing before the first valid packet.
    Made to be handed to one `Link` or one pair of sealer and opener, and then forgotten.
    """

    role: Literal["initiator", "responder"]
    suite: str
    wire: str
    sid_in: bytes
    sid_out: bytes
    secret_send: bytes
    secret_receive: bytes
    exporter: bytes
    peer_hs: dict[str, Any]  # link, caps, limits and policy as the peer stated them
    transcript: bytes
    continues: bytes | None = None  # the exporter of the session that it continues; no part of `to_json`

    @property
    def continuable(self) -> tuple[bytes, ...]:
        """The exporters that the next `open` of the link may continue: of this session and the one before.

        The one before, since this one's `accept` may get lost, however often.
        """
        return (self.exporter,) if self.continues is None else (self.continues, self.exporter)

    def __repr__(self) -> str:
        return f"<Established {self.role} {self.suite} {self.wire} keys redacted>"

    def to_json(self) -> dict[str, Any]:
        """For the pipe to the process that carries the link. Holds the secrets in clear."""
        return {
            "role": self.role,
            "suite": self.suite,
            "wire": self.wire,
            "peer_hs": self.peer_hs,
            **{name: b64url(getattr(self, name)) for name in _ESTABLISHED_BYTES},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Established:
        role, suite, wire = value.get("role"), value.get("suite"), value.get("wire")
        peer_hs = value.get("peer_hs")
        if (
            role not in ("initiator", "responder")
            or suite not in SUITES
            or wire not in WIRES
            or not isinstance(peer_hs, dict)
        ):
            raise LocalMisuse("This is no established session.")
        try:
            secrets = {name: exact_b64(value.get(name), size) for name, size in _ESTABLISHED_BYTES.items()}
        except SessionError as error:
            raise LocalMisuse("This is no established session.", why=error.what) from None
        return cls(role=role, suite=suite, wire=wire, peer_hs=peer_hs, **secrets)


_ESTABLISHED_BYTES = {
    "sid_in": 8,
    "sid_out": 8,
    "secret_send": 32,
    "secret_receive": 32,
    "exporter": 32,
    "transcript": 32,
}


class Initiation:
    """The initiator's side, from `open` (its `body`) to the `accept` that completes it.

    `link` says what the session is for: {attempt, manifest_sha256, pid_i, pid_r} between parties of an MPC.
    `wires` is in order of preference. `continues` is the exporter of the session whose link goes on.
    A refused `accept` leaves everything as it was, so a forged one does not end the attempt.
    """

    def __init__(
        self,
        me: Party,
        peer: Party,
        open_id: str,
        *,
        link: Mapping[str, Any] | None = None,
        caps: Sequence[Any] = (),
        limits: Mapping[str, int] | None = None,
        policy: Mapping[str, Any] | None = None,
        suites: Sequence[str] = SUITES,
        wires: Sequence[str] = (WIRE_BINARY,),
        continues: bytes | None = None,
        random: Random = os.urandom,
    ) -> None:
        _two_parties(me, peer)
        if not suites or not set(suites) <= set(SUITES):
            raise LocalMisuse("A session needs suites that exist.", why=f"asked for {list(suites)}")
        if not wires or not set(wires) <= set(WIRES):
            raise LocalMisuse("A session needs wire forms that exist.", why=f"asked for {list(wires)}")
        self._me = me
        self._peer = peer
        self._open_id = open_id
        self._x25519: X25519PrivateKey | None = X25519PrivateKey.from_private_bytes(random(32))
        self._kem = MLKEM768PrivateKey.from_seed_bytes(random(64)) if HYBRID in suites else None
        self._hello = HelloI(
            suites=tuple(suites),
            wire=tuple(wires),
            e=self._x25519.public_key().public_bytes_raw(),
            kem_pk=self._kem.public_key().public_bytes_raw() if self._kem else None,
            k=random(32),
            sid=random(8),
            terms=_terms(
                me,
                peer,
                link,
                caps,
                limits,
                policy,
                None if continues is None else continuation(continues, "i", open_id),
            ),
        )
        self._continues = continues
        self._hs = self._hello.encode()

    def __repr__(self) -> str:
        return f"<Initiation {self._open_id} keys redacted>"

    @property
    def body(self) -> dict[str, Any]:
        """The body of the `open` message."""
        return {"hs": self._hs}

    def finish(self, accept_body: Mapping[str, Any]) -> Established:
        """Complete with the body of the peer's `accept`; SessionError when it does not hold."""
        if self._x25519 is None:
            raise SessionError("This handshake was completed before.")
        hs = _hello_text(accept_body)
        confirm = exact_b64(accept_body.get("confirm"), 32)
        hello = HelloR.decode(hs)
        self._check(hello)
        kem_secret = b""
        if hello.kem_ct is not None and self._kem is not None:
            kem_secret = self._kem.decapsulate(hello.kem_ct)
        transcript = _transcript(self._me, self._peer, self._open_id, self._hs, hs)
        prk = extract(
            hello.suite,
            kem_secret=kem_secret,
            dh_secret=_exchange(self._x25519, hello.e),
            k_i=self._hello.k,
            k_r=hello.k,
            continued=b"" if self._continues is None else continuation_key(self._continues),
        )
        if not hmac.compare_digest(label(prk, "confirm r", transcript), confirm):
            raise SessionError(
                "The answer to a session request is not from its peer.", code="e.p.trust.crypto"
            )
        self._x25519 = self._kem = None
        return Established(
            role="initiator",
            suite=hello.suite,
            wire=hello.wire,
            sid_in=self._hello.sid,
            sid_out=hello.sid,
            secret_send=label(prk, _FORM_PREFIX[hello.wire] + "i2r", transcript),
            secret_receive=label(prk, _FORM_PREFIX[hello.wire] + "r2i", transcript),
            exporter=label(prk, "exp", transcript),
            peer_hs=hello.terms.public(),
            transcript=transcript,
            continues=self._continues,
        )

    def _check(self, hello: HelloR) -> None:
        if hello.suite not in self._hello.suites or hello.wire not in self._hello.wire:
            raise SessionError(
                "The peer chose a suite or form that was not offered.", code="e.p.session.suite"
            )
        if (hello.suite == HYBRID) != (hello.kem_ct is not None):
            raise SessionError("The peer's answer does not fit its suite.", code="e.p.session.suite")
        _check_terms(hello.terms, self._hello.terms)
        if hello.terms.link != self._hello.terms.link:
            raise SessionError("The peer answered for another link.", code="e.p.session.roster")
        proof = hello.terms.continues
        if self._continues is None:
            proven = proof is None
        else:
            expected = continuation(self._continues, "r", self._open_id)
            proven = proof is not None and hmac.compare_digest(proof, expected)
        if not proven:
            raise SessionError(
                "The peer does not prove the session that it continues.", code="e.p.session.policy"
            )


def respond(
    me: Party,
    peer: Party,
    open_id: str,
    open_body: Mapping[str, Any],
    *,
    link: Mapping[str, Any] | None = None,
    caps: Sequence[Any] = (),
    limits: Mapping[str, int] | None = None,
    policy: Mapping[str, Any] | None = None,
    suites: Sequence[str] = SUITES,
    wires: Sequence[str] = (WIRE_BINARY,),
    continues: Sequence[bytes] = (),
    random: Random = os.urandom,
) -> tuple[dict[str, Any], Established]:
    """Answer an `open`: the body of the `accept`, and the session.

    `peer` is the authenticated sender of the envelope. Every member of `link` that is given must be in
    the `open`, alike; its other members are taken as they are. `continues` are the exporters of the
    sessions that this link has already: then the `open` must continue one of them, else none. Store the
    body and send it again, byte for byte, when the same `open` comes again: a second call would make
    another session.
    """
    _two_parties(me, peer)
    hs_i = _hello_text(open_body)
    hello = HelloI.decode(hs_i)
    continued = _continued(hello.terms.continues, continues, open_id)
    proof = None if continued is None else continuation(continued, "r", open_id)
    own = _terms(me, peer, hello.terms.link, caps, limits, policy, proof, initiator=False)
    _check_terms(hello.terms, own)
    _check_link(hello.terms.link, link or {})
    suite = _choose_suite(hello, suites)
    wire = _choose_wire(hello, wires)

    x25519 = X25519PrivateKey.from_private_bytes(random(32))
    dh_secret = _exchange(x25519, hello.e)
    kem_secret, kem_ct = b"", None
    if suite == HYBRID and hello.kem_pk is not None:
        kem_secret, kem_ct = _encapsulate(hello.kem_pk)
    answer = HelloR(
        suite=suite,
        wire=wire,
        e=x25519.public_key().public_bytes_raw(),
        kem_ct=kem_ct,
        k=random(32),
        sid=random(8),
        terms=own,
    )
    hs_r = answer.encode()
    transcript = _transcript(peer, me, open_id, hs_i, hs_r)
    prk = extract(
        suite,
        kem_secret=kem_secret,
        dh_secret=dh_secret,
        k_i=hello.k,
        k_r=answer.k,
        continued=b"" if continued is None else continuation_key(continued),
    )
    established = Established(
        role="responder",
        suite=suite,
        wire=wire,
        sid_in=answer.sid,
        sid_out=hello.sid,
        secret_send=label(prk, _FORM_PREFIX[wire] + "r2i", transcript),
        secret_receive=label(prk, _FORM_PREFIX[wire] + "i2r", transcript),
        exporter=label(prk, "exp", transcript),
        peer_hs=hello.terms.public(),
        transcript=transcript,
        continues=continued,
    )
    return {"hs": hs_r, "confirm": b64url(label(prk, "confirm r", transcript))}, established


@dataclass(frozen=True, slots=True)
class Request:
    """What an `open` asks for, as far as one needs it to decide on an answer."""

    link: Mapping[str, Any]
    wires: tuple[str, ...]
    continues: bool


def read_open(open_body: Mapping[str, Any]) -> Request:
    """Look at an `open` before it is answered; SessionError when it is malformed."""
    hello = HelloI.decode(_hello_text(open_body))
    return Request(hello.terms.link or {}, hello.wire, hello.terms.continues is not None)


def decline_body(reason: SessionError | DeclineCode) -> dict[str, str]:
    """The body of a `decline`, from a code or from the error that `respond` raised."""
    if isinstance(reason, SessionError):
        last = reason.code.rpartition(".")[2]
        return {"code": last if last in ("suite", "busy", "roster") else "policy"}
    return {"code": reason}


def _choose_suite(hello: HelloI, suites: Sequence[str]) -> str:
    """The hybrid suite where both offer it, else the mandatory one."""
    for suite in SUITES:
        if suite in suites and suite in hello.suites:
            return suite
    raise SessionError("The peer offers no suite that is accepted here.", code="e.p.session.suite")


def _choose_wire(hello: HelloI, wires: Sequence[str]) -> str:
    """The first that the initiator names and that is accepted here."""
    for wire in hello.wire:
        if wire in wires:
            return wire
    raise SessionError("The peer offers no form of packets that is accepted here.", code="e.p.session.suite")


def _continued(proof: bytes | None, exporters: Sequence[bytes], open_id: str) -> bytes | None:
    """Which of the sessions the peer proves to continue (docs/session-extension.md, section 9)."""
    if proof is None:
        if exporters:
            raise SessionError("There is such a session already.", code="e.p.session.roster")
        return None
    if not exporters:
        raise SessionError("There is no session that could be continued.", code="e.p.session.roster")
    for exporter in exporters:
        if hmac.compare_digest(proof, continuation(exporter, "i", open_id)):
            return exporter
    raise SessionError("The peer does not prove the session that it continues.", code="e.p.session.policy")


def _check_link(stated: Mapping[str, Any] | None, expected: Mapping[str, Any]) -> None:
    stated = stated or {}
    for name, value in expected.items():
        if name not in stated or stated[name] != value:
            raise SessionError(
                "The peer asks for a session of another computation.",
                why=f"the member {name!r} of its link differs",
                code="e.p.session.roster",
            )
    pids = stated.get("pid_i"), stated.get("pid_r")
    if pids != (None, None):
        lower, higher = pids
        if type(lower) is not int or type(higher) is not int or not 0 <= lower < higher:
            raise SessionError("A session is opened by the lower pid.", code="e.p.session.roster")


def _check_terms(theirs: Terms, ours: Terms) -> None:
    """Both sides name the same two keys."""
    if (theirs.kid_i, theirs.kid_r) != (ours.kid_i, ours.kid_r):
        raise SessionError("A session names other keys than its envelope.", code="e.p.trust.crypto")


def _terms(
    me: Party,
    peer: Party,
    link: Mapping[str, Any] | None,
    caps: Sequence[Any],
    limits: Mapping[str, int] | None,
    policy: Mapping[str, Any] | None,
    continues: bytes | None,
    *,
    initiator: bool = True,
) -> Terms:
    first, second = (me, peer) if initiator else (peer, me)
    return Terms(
        link=None if link is None else dict(link),
        kid_i=_canonical_kid(first),
        kid_r=_canonical_kid(second),
        limits=dict(limits or {}),
        policy=dict(policy or {}),
        caps=tuple(caps),
        continues=continues,
    )


def _transcript(initiator: Party, responder: Party, open_id: str, hs_i: str, hs_r: str) -> bytes:
    return Transcript(
        did_i=canonical(initiator.did),
        did_r=canonical(responder.did),
        kid_i=_canonical_kid(initiator),
        public_i=initiator.public,
        kid_r=_canonical_kid(responder),
        public_r=responder.public,
        open_id=open_id,
        hs_i=hs_i.encode(),
        hs_r=hs_r.encode(),
    ).hash()


def _canonical_kid(party: Party) -> str:
    return f"{canonical(did_of(party.kid))}#{fragment_of(party.kid)}"


def _two_parties(me: Party, peer: Party) -> None:
    if canonical(me.did) == canonical(peer.did):
        raise SessionError("A session has two parties: from and to are the same.", code="e.p.session.policy")


def _hello_text(body: Mapping[str, Any]) -> str:
    text = body.get("hs")
    if not isinstance(text, str) or not 0 < len(text) <= MAX_HELLO or not text.isascii():
        raise SessionError("A session message has no proper `hs`.", code=MALFORMED)
    return text


def _exchange(private: X25519PrivateKey, public: bytes) -> bytes:
    """ee. The all-zero secret (a public key of small order) would leave it to the peer: refused."""
    try:
        secret = private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        secret = bytes(32)
    if secret == bytes(32):
        raise SessionError("The peer sent a key that makes no secret.", code="e.p.trust.crypto")
    return secret


def _encapsulate(public: bytes) -> tuple[bytes, bytes]:
    assert len(public) == KEM_PUBLIC_BYTES
    try:
        return MLKEM768PublicKey.from_public_bytes(public).encapsulate()
    except ValueError:
        raise SessionError("The peer sent a malformed ML-KEM key.", code="e.p.trust.crypto") from None
