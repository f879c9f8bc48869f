"""Section 13: hop frames and the proof of a BIND."""

import struct

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from .reading import Refused

MALFORMED, PROOF = "e.p.relay.frame", "e.p.relay.proof"


def read(frame):
    if len(frame) < 5:
        raise Refused(MALFORMED)
    kind, channel = struct.unpack("!BL", frame[:5])
    payload = frame[5:]
    if kind == 1:
        return {"type": "DATA", "channel": channel, "packet": payload.hex()}
    sizes = {2: 128, 3: 4, 4: 1, 5: 4, 6: 1, 7: 8, 8: 8}
    if len(payload) != sizes.get(kind):
        raise Refused(MALFORMED)
    number = int.from_bytes(payload, "big")
    match kind:
        case 2:
            return {
                "type": "BIND",
                "channel": channel,
                "capability": payload[:32].hex(),
                "rebind_key": payload[32:64].hex(),
                "signature": payload[64:].hex(),
            }
        case 3:
            return {"type": "BOUND", "channel": channel, "credit": number}
        case 4 if 1 <= number <= 4:
            return {"type": "UNBOUND", "channel": channel, "reason": number}
        case 5:
            return {"type": "CREDIT", "channel": channel, "bytes": number}
        case 6 if 1 <= number <= 8:
            return {"type": "ERROR", "channel": channel, "code": number}
        case 7 | 8 if channel == 0:
            return {"type": "PING" if kind == 7 else "PONG", "token": payload.hex()}
    raise Refused(MALFORMED)


def check_bind(frame, exporter):
    """What was signed, or Refused."""
    capability, key, signature = frame[5:37], frame[37:69], frame[69:]
    signed = b"didmpc relay/1.0 bind" + bytes(1) + exporter + capability
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, signed)
    except (InvalidSignature, ValueError):
        raise Refused(PROOF) from None
    return signed
