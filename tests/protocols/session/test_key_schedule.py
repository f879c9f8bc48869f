"""The key schedule against a second, straightforward computation with fixed seeds."""

import base64
import hashlib
import hmac
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from didmpc.protocols.crypto.keys import PrivateKey
from didmpc.protocols.did import canonical, did_of
from didmpc.protocols.identity import Identity
from didmpc.protocols.session.handshake import CLASSICAL, HYBRID, Initiation, Party, respond
from didmpc.protocols.session.packet import EpochLimits, PacketSealer
from didmpc.protocols.session.schedule import length_prefixed


def hkdf_expand(key: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869, section 2.3, written out."""
    block, out, counter = b"", b"", 1
    while len(out) < length:
        block = hmac.new(key, block + info + bytes([counter]), hashlib.sha256).digest()
        out += block
        counter += 1
    return out[:length]


def lp(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def hello(body: dict[str, str]) -> dict[str, str]:
    value = json.loads(unb64(body["hs"]))
    assert isinstance(value, dict)
    return value


def fixed_identity(number: int) -> Identity:
    x25519 = PrivateKey("X25519", hashlib.sha256(b"x25519 %d" % number).digest())
    ed25519 = PrivateKey("Ed25519", hashlib.sha256(b"ed25519 %d" % number).digest())
    return Identity.peer4_of([x25519, ed25519])


@pytest.mark.parametrize("suite", [CLASSICAL, HYBRID])
def test_both_sides_hold_what_the_formulas_give(suite, seed):
    me, peer = Party.of(fixed_identity(1)), Party.of(fixed_identity(2))
    initiation = Initiation(me, peer, "open-7", link={"attempt": "a"}, suites=[suite], random=seed("i"))
    accept, responder = respond(peer, me, "open-7", initiation.body, random=seed("r"))
    initiator = initiation.finish(accept)

    # Again, from the seeds and the texts alone.
    draws_i, draws_r = seed("i"), seed("r")
    e_i, e_r = X25519PrivateKey.from_private_bytes(draws_i(32)), draws_r(32)
    kem = MLKEM768PrivateKey.from_seed_bytes(draws_i(64)) if suite == HYBRID else None
    k_i, sid_i, k_r, sid_r = draws_i(32), draws_i(8), draws_r(32), draws_r(8)
    hs_i, hs_r = initiation.body["hs"], accept["hs"]
    assert unb64(hello(accept)["k"]) == k_r
    e_r_public = X25519PrivateKey.from_private_bytes(e_r).public_key().public_bytes_raw()
    ee = e_i.exchange(X25519PublicKey.from_public_bytes(e_r_public))
    kem_secret = kem.decapsulate(unb64(hello(accept)["kem_ct"])) if kem else b""

    th = hashlib.sha256(
        b"didmpc session/1.0"
        + lp(canonical(me.did).encode())
        + lp(canonical(peer.did).encode())
        + lp(f"{canonical(me.did)}#{me.kid.split('#')[1]}".encode())
        + lp(me.public)
        + lp(f"{canonical(peer.did)}#{peer.kid.split('#')[1]}".encode())
        + lp(peer.public)
        + lp(b"open-7")
        + lp(hs_i.encode())
        + lp(hs_r.encode())
    ).digest()
    prk = hmac.new(
        b"didmpc session/1.0 " + suite.encode(), lp(kem_secret) + ee + k_i + k_r, hashlib.sha256
    ).digest()

    def x(label: bytes) -> bytes:
        return hkdf_expand(prk, b"didmpc s1 " + label + b"\x00" + th, 32)

    assert unb64(accept["confirm"]) == x(b"confirm r")
    assert initiator.transcript == responder.transcript == th
    assert initiator.secret_send == responder.secret_receive == x(b"i2r")
    assert initiator.secret_receive == responder.secret_send == x(b"r2i")
    assert initiator.exporter == responder.exporter == x(b"exp")
    assert (initiator.sid_in, responder.sid_in) == (sid_i, sid_r)
    assert (initiator.sid_out, responder.sid_out) == (sid_r, sid_i)


def test_the_classical_suite_with_fixed_seeds_gives_known_values(seed):
    """Pinned: a change of any byte of the transcript or of a label is a new protocol version."""
    me, peer = Party.of(fixed_identity(1)), Party.of(fixed_identity(2))
    assert did_of(me.kid) == me.did
    initiation = Initiation(me, peer, "open-7", suites=[CLASSICAL], random=seed("i"))
    _, responder = respond(peer, me, "open-7", initiation.body, random=seed("r"))
    assert responder.transcript.hex() == "f162a3508a841880b8b07d11d896d4bf413d98cbdc81e7bc5fc025a707e5fc4e"
    assert responder.exporter.hex() == "71bc9af2253fa271c0b9eef99aa805d64e0cb7dd2351e705714242b0f44fc08d"
    first = PacketSealer(responder.secret_send, responder.sid_out).seal(b"\x02" + bytes(63))
    assert (
        hashlib.sha256(first).hexdigest()
        == "efc5f65475b0f00a7a85c5a671de8a1f47c7ef7bfb50e72175c9da59cfb40580"
    )


def test_epochs_follow_from_each_other(seed):
    secret, sid = seed("s")(32), b"\x01" * 8
    sealer = PacketSealer(secret, sid, ordered=True, limits=EpochLimits(packets=2))
    packets = [sealer.seal(b"same") for _ in range(5)]
    secrets = [secret]
    for _ in range(3):
        secrets.append(hkdf_expand(secrets[-1], b"next", 32))
    for number, packet in enumerate(packets):
        epoch = number // 2
        header = b"\x01" + sid + epoch.to_bytes(4, "big") + number.to_bytes(8, "big")
        assert packet[:21] == header
        key, iv = hkdf_expand(secrets[epoch], b"key", 32), hkdf_expand(secrets[epoch], b"iv", 12)
        nonce = bytes(a ^ b for a, b in zip(iv, bytes(4) + number.to_bytes(8, "big"), strict=True))
        assert AESGCM(key).decrypt(nonce, packet[21:], header) == b"same"


def test_length_prefixes_keep_neighbours_apart():
    assert length_prefixed(b"ab") + length_prefixed(b"c") != length_prefixed(b"a") + length_prefixed(b"bc")
