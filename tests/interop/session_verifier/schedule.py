"""Section 7: the key schedule, with HKDF written out on HMAC (RFC 5869)."""

import hashlib
import hmac
import struct


def mac(key, *parts):
    return hmac.new(key, b"".join(parts), hashlib.sha256).digest()


def expand(key, info, size):
    out, block, counter = b"", b"", 0
    while len(out) < size:
        counter += 1
        block = mac(key, block, info, bytes([counter]))
        out += block
    return out[:size]


def lp(data):
    return struct.pack("!L", len(data)) + data


def transcript(did_i, did_r, kid_i, pub_i, kid_r, pub_r, open_id, hs_i, hs_r):
    state = hashlib.sha256(b"didmpc session/1.0")
    for part in (did_i, did_r, kid_i, pub_i, kid_r, pub_r, open_id, hs_i, hs_r):
        state.update(lp(part if isinstance(part, bytes) else part.encode("utf-8")))
    return state.digest()


def material(kem, ee, k_i, k_r, continued):
    return lp(kem) + ee + k_i + k_r + continued


def extract(suite, ikm):
    return mac(f"didmpc session/1.0 {suite}".encode(), ikm)


def output(prk, label, th):
    return expand(prk, b"didmpc s1 " + label.encode() + b"\x00" + th, 32)


def export(exporter, label, size):
    return expand(exporter, f"didmpc s1 export {label}\0".encode(), size)


def continuation_key(exporter):
    return export(exporter, "continue", 32)


def continuation(exporter, role, open_id):
    return mac(continuation_key(exporter), role.encode(), open_id.encode())


def contact_proof(secret, role, exporter):
    return mac(secret, f"didmpc s1 contact {role}\0".encode(), exporter)


def first_secret(prk, direction, wire, th):
    return output(prk, direction if wire == "binary" else f"json {direction}", th)


def epoch(secret):
    """key, iv and the next secret."""
    return expand(secret, b"key", 32), expand(secret, b"iv", 12), expand(secret, b"next", 32)
