"""Section 5: what a responder checks of an `open`, and an initiator of an `accept`."""

import hmac

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from . import schedule
from .reading import Refused, from_b64url, object_of

CLASSICAL, HYBRID = "X25519-HKDFSHA256-A256GCM", "X25519MLKEM768-HKDFSHA256-A256GCM"
HS, SUITE, ROSTER = "e.p.session.hs", "e.p.session.suite", "e.p.session.roster"
POLICY, CRYPTO = "e.p.session.policy", "e.p.trust.crypto"


def shared_secret(private, public):
    """ee; all-zero is refused."""
    try:
        secret = X25519PrivateKey.from_private_bytes(private).exchange(
            X25519PublicKey.from_public_bytes(public)
        )
    except ValueError:
        raise Refused(CRYPTO) from None
    if not any(secret):
        raise Refused(CRYPTO)
    return secret


def read_hs(text, message):
    """The members of `hs` of an "open" or "accept", with their types and bounds; binary ones decoded."""
    if not isinstance(text, str) or not 1 <= len(text) <= 32_768:
        raise Refused(HS)
    hello = object_of(from_b64url(text, HS), HS)
    if type(hello.get("v")) is not int or hello["v"] != 1:
        raise Refused(SUITE)
    for name in ("suites", "wire") if message == "open" else ():
        value = hello.get(name)
        if not isinstance(value, list) or len(value) > 32:
            raise Refused(HS)
        if not all(isinstance(item, str) and len(item) <= 100 for item in value):
            raise Refused(HS)
    for name in ("suite", "wire") if message == "accept" else ():
        if not isinstance(hello.get(name), str):
            raise Refused(HS)
    for name, size in (("e", 32), ("k", 32), ("sid", 8)):
        hello[name] = from_b64url(hello.get(name), HS, size)
    kem = ("kem_pk", 1184) if message == "open" else ("kem_ct", 1088)
    for name, size in (kem, ("continues", 32)):
        hello[name] = from_b64url(hello[name], HS, size) if name in hello else None
    if "link" not in hello or not (hello["link"] is None or isinstance(hello["link"], dict)):
        raise Refused(HS)
    for name in ("kid_i", "kid_r"):
        if not isinstance(hello.get(name), str) or not 1 <= len(hello[name]) <= 9216:
            raise Refused(HS)
    for name in ("limits", "policy"):
        if not isinstance(hello.get(name), dict) or len(hello[name]) > 32:
            raise Refused(HS)
    if not all(type(item) is int and 1 <= item < 2**53 for item in hello["limits"].values()):
        raise Refused(HS)
    if not isinstance(hello.get("caps"), list) or len(hello["caps"]) > 32:
        raise Refused(HS)
    return hello


def check_open(body, *, kids, wires, link, open_id, exporters):
    """All that a responder can refuse; both suites are accepted."""
    hello = read_hs(body.get("hs"), "open")
    if (HYBRID in hello["suites"]) != (hello["kem_pk"] is not None):
        raise Refused(SUITE)
    if hello["continues"] is None and exporters:
        raise Refused(ROSTER)
    if hello["continues"] is not None:
        if not exporters:
            raise Refused(ROSTER)
        if hello["continues"] not in [schedule.continuation(item, "i", open_id) for item in exporters]:
            raise Refused(POLICY)
    if (hello["kid_i"], hello["kid_r"]) != kids:
        raise Refused(CRYPTO)
    stated = hello["link"] or {}
    if "pid_i" in stated or "pid_r" in stated:
        pids = stated.get("pid_i"), stated.get("pid_r")
        if not all(type(pid) is int for pid in pids) or not 0 <= pids[0] < pids[1]:
            raise Refused(ROSTER)
    if any(stated.get(name) != value for name, value in (link or {}).items()):
        raise Refused(ROSTER)
    if not {CLASSICAL, HYBRID} & set(hello["suites"]) or not set(wires) & set(hello["wire"]):
        raise Refused(SUITE)
    shared_secret(bytes(range(32)), hello["e"])
    if hello["kem_pk"] is not None:
        try:
            MLKEM768PublicKey.from_public_bytes(hello["kem_pk"]).encapsulate()
        except ValueError:
            raise Refused(CRYPTO) from None
    return hello


class Initiator:
    """What the initiator holds between its `open` and the `accept`."""

    def __init__(self, case, earlier_exporter):
        me, peer = case["initiator"], case["responder"]
        self.e, self.k = bytes.fromhex(me["e"]), bytes.fromhex(me["k"])
        self.kem_seed = bytes.fromhex(me["kem_seed"]) if me["kem_seed"] else None
        self.open_id, self.hs = case["open"]["id"], case["open"]["body"]["hs"]
        self.parties = (
            me["canonical"],
            peer["canonical"],
            me["kid"],
            bytes.fromhex(me["public"]),
            peer["kid"],
            bytes.fromhex(peer["public"]),
        )
        self.earlier = earlier_exporter

    def take_accept(self, body):
        """PRK and TH, or Refused."""
        offered, hello = read_hs(self.hs, "open"), read_hs(body.get("hs"), "accept")
        confirm = from_b64url(body.get("confirm"), HS, 32)
        if hello["suite"] not in offered["suites"] or hello["wire"] not in offered["wire"]:
            raise Refused(SUITE)
        if (hello["suite"] == HYBRID) != (hello["kem_ct"] is not None):
            raise Refused(SUITE)
        if (hello["kid_i"], hello["kid_r"]) != (offered["kid_i"], offered["kid_r"]):
            raise Refused(CRYPTO)
        if hello["link"] != offered["link"]:
            raise Refused(ROSTER)
        expected = schedule.continuation(self.earlier, "r", self.open_id) if self.earlier else None
        if hello["continues"] != expected:
            raise Refused(POLICY)
        kem = b""
        if hello["kem_ct"] is not None:
            kem = MLKEM768PrivateKey.from_seed_bytes(self.kem_seed).decapsulate(hello["kem_ct"])
        th = schedule.transcript(*self.parties, self.open_id, self.hs, body["hs"])
        before = schedule.continuation_key(self.earlier) if self.earlier else b""
        ikm = schedule.material(kem, shared_secret(self.e, hello["e"]), self.k, hello["k"], before)
        prk = schedule.extract(hello["suite"], ikm)
        if not hmac.compare_digest(schedule.output(prk, "confirm r", th), confirm):
            raise Refused(CRYPTO)
        return prk, th, ikm, kem
