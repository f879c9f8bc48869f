"""Writes the vectors of session/1.0 and relay/1.0 into this folder, from docs/session-extension.md alone.

    python tests/vectors/session-1.0/generate.py [folder]

Uses the primitives of `cryptography` and the standard library, and no line of didmpc: so that a mistake
of the implementation cannot hide in the vectors. Every seed is SHA-256 of a name, so each run writes the
same bytes; only ML-KEM encapsulation draws its own randomness: what it gave once stands in `mlkem768.json`.
"""

import base64
import hashlib
import hmac
import json
import struct
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

CLASSICAL = "X25519-HKDFSHA256-A256GCM"
HYBRID = "X25519MLKEM768-HKDFSHA256-A256GCM"
LABELS = ("confirm r", "exp", "i2r", "r2i", "json i2r", "json r2i")
TYP = "application/didcomm-encrypted+json"
NAMESPACE = "https://w3id.org/didmpc"


# --- bytes


def seed(name, size=32):
    out = b""
    while len(out) < size:
        out += hashlib.sha256(f"didmpc session/1.0 vectors {name} {len(out)}".encode()).digest()
    return out[:size]


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def base58(data):
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = alphabet[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


def lp(data):
    return struct.pack(">I", len(data)) + data


def expand(secret, info, size=32):
    return HKDFExpand(SHA256(), size, info).derive(secret)


def mac(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def compact(value):
    return json.dumps(value, separators=(",", ":"))


# --- parties


class Party:
    """A DID with one keyAgreement key that the handshake uses."""

    def __init__(self, name, method="did:peer:4"):
        self.private = seed(f"{name} static")
        if method == "P-256":
            key = derive_private_key(int.from_bytes(self.private, "big"), SECP256R1())
            self.public = key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
            codec = b"\x80\x24"
        else:
            key = X25519PrivateKey.from_private_bytes(self.private)
            self.public = key.public_key().public_bytes_raw()
            codec = b"\xec\x01"
        multikey = "z" + base58(codec + self.public)
        if method == "did:key":
            self.did = self.short = f"did:key:{multikey}"
            fragment = multikey
        else:
            ed25519 = Ed25519PrivateKey.from_private_bytes(seed(f"{name} signing")).public_key()
            signing = "z" + base58(b"\xed\x01" + ed25519.public_bytes_raw())
            document = {
                "@context": ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"],
                "verificationMethod": [
                    {"id": "#key-1", "type": "Multikey", "publicKeyMultibase": multikey},
                    {"id": "#key-2", "type": "Multikey", "publicKeyMultibase": signing},
                ],
                "authentication": ["#key-2"],
                "keyAgreement": ["#key-1"],
                "service": [],
            }
            encoded = "z" + base58(b"\x80\x04" + compact(document).encode())
            digest = b"\x12\x20" + hashlib.sha256(encoded.encode()).digest()
            self.short = f"did:peer:4z{base58(digest)}"
            self.did = f"{self.short}:{encoded}"
            fragment = "key-1"
        self.kid = f"{self.short}#{fragment}"

    def described(self):
        return {
            "did": self.did,
            "canonical": self.short,
            "kid": self.kid,
            "public": self.public.hex(),
            "private": self.private.hex(),
        }


# --- handshakes


class Handshake:
    """One handshake, computed from its seeds."""

    def __init__(
        self,
        name,
        suite=CLASSICAL,
        wire="binary",
        *,
        alice,
        bob,
        kem,
        link,
        offered_suites=None,
        offered_wires=("binary",),
        caps=(),
        earlier=None,
        unusual=False,
    ):
        self.name, self.suite, self.wire = name, suite, wire
        self.alice, self.bob, self.earlier = alice, bob, earlier
        self.open_id = f"open-{name}"
        self.e_i, self.k_i, self.sid_i = (
            seed(f"{name} e_i"),
            seed(f"{name} k_i"),
            seed(f"{name} sid_i", 8),
        )
        self.e_r, self.k_r, self.sid_r = (
            seed(f"{name} e_r"),
            seed(f"{name} k_r"),
            seed(f"{name} sid_r", 8),
        )
        suites = list(offered_suites or [suite])
        self.kem = kem if HYBRID in suites else None
        private = X25519PrivateKey.from_private_bytes
        e_i_public = private(self.e_i).public_key().public_bytes_raw()
        e_r_public = private(self.e_r).public_key().public_bytes_raw()

        def terms(own_caps, role):
            proof = {}
            if earlier is not None:
                key = earlier.export("continue", 32)
                proof = {"continues": b64(mac(key, role.encode() + self.open_id.encode()))}
            return {
                "link": link,
                "limits": {},
                "policy": {},
                "caps": list(own_caps),
                "kid_i": alice.kid,
                "kid_r": bob.kid,
                **proof,
            }

        self.hello_i = {
            "v": 1,
            "suites": suites,
            "wire": list(offered_wires),
            "e": b64(e_i_public),
            **({"kem_pk": kem["public"]} if self.kem else {}),
            "k": b64(self.k_i),
            "sid": b64(self.sid_i),
            **terms((), "i"),
        }
        self.hello_r = {
            "v": 1,
            "suite": suite,
            "wire": wire,
            "e": b64(e_r_public),
            **({"kem_ct": kem["ciphertext"]} if suite == HYBRID else {}),
            "k": b64(self.k_r),
            "sid": b64(self.sid_r),
            **terms(caps, "r"),
        }
        text_i = compact(self.hello_i)
        if unusual:  # other white space and order, a member of a later version, text beyond ASCII
            text_i = json.dumps(
                {
                    "later": {"é": [1.5, None, True]},
                    "suite": 7,
                    "kem_ct": "",
                    **dict(reversed(self.hello_i.items())),
                },
                indent=1,
                ensure_ascii=False,
            )
        self.hs_i, self.hs_r = b64(text_i.encode()), b64(compact(self.hello_r).encode())

        parts = (
            alice.short.encode(),
            bob.short.encode(),
            alice.kid.encode(),
            alice.public,
            bob.kid.encode(),
            bob.public,
            self.open_id.encode(),
            self.hs_i.encode(),
            self.hs_r.encode(),
        )
        self.th = hashlib.sha256(b"didmpc session/1.0" + b"".join(map(lp, parts))).digest()
        self.ee = private(self.e_i).exchange(X25519PublicKey.from_public_bytes(e_r_public))
        self.kem_secret = bytes.fromhex(kem["secret"]) if suite == HYBRID else b""
        continued = b"" if earlier is None else earlier.export("continue", 32)
        self.ikm = lp(self.kem_secret) + self.ee + self.k_i + self.k_r + continued
        self.prk = mac(b"didmpc session/1.0 " + suite.encode(), self.ikm)
        self.outputs = {
            label: expand(self.prk, b"didmpc s1 " + label.encode() + b"\0" + self.th) for label in LABELS
        }
        self.exporter = self.outputs["exp"]

    def export(self, label, size):
        return expand(self.exporter, b"didmpc s1 export " + label.encode() + b"\0", size)

    def accept_body(self):
        return {"hs": self.hs_r, "confirm": b64(self.outputs["confirm r"])}

    def described(self):
        prefix = "json " if self.wire == "json" else ""
        ready_ping = b"\x02" + frame_ping(4, 0, b'{"state":"computing"}')
        answer = b"\x02" + frame_ack(0, 0, 1, []) + frame_ping(5, 0, b"{}")
        record = frame_record(0, 0, b"forty bytes of somebody's secret shares.")
        return {
            "name": self.name,
            "suite": self.suite,
            "wire": self.wire,
            "continues": None if self.earlier is None else self.earlier.name,
            "initiator": {
                **self.alice.described(),
                "e": self.e_i.hex(),
                "kem_seed": self.kem["seed"] if self.kem else None,
                "k": self.k_i.hex(),
                "sid": self.sid_i.hex(),
            },
            "responder": {
                **self.bob.described(),
                "e": self.e_r.hex(),
                "k": self.k_r.hex(),
                "sid": self.sid_r.hex(),
            },
            "open": {
                "type": f"{NAMESPACE}/session/1.0/open",
                "id": self.open_id,
                "from": self.alice.did,
                "to": [self.bob.did],
                "expires_time": 1_900_000_000,
                "body": {"hs": self.hs_i},
            },
            "accept": {
                "type": f"{NAMESPACE}/session/1.0/accept",
                "id": f"accept-{self.name}",
                "thid": self.open_id,
                "from": self.bob.did,
                "to": [self.alice.did],
                "body": self.accept_body(),
            },
            "hs_i": self.hello_i,
            "hs_r": self.hello_r,
            "ee": self.ee.hex(),
            "kem_secret": self.kem_secret.hex(),
            "th": self.th.hex(),
            "ikm": self.ikm.hex(),
            "prk": self.prk.hex(),
            "labels": {label: output.hex() for label, output in self.outputs.items()},
            "exports": [
                {"label": label, "size": size, "output": self.export(label, size).hex()}
                for label, size in (("continue", 32), ("https://example.org/app", 80))
            ],
            "directions": {
                "i2r": direction(
                    self.outputs[f"{prefix}i2r"],
                    self.sid_r,
                    self.wire,
                    [[padded(ready_ping), padded(record)], [padded(record)], [b""]],
                ),
                "r2i": direction(
                    self.outputs[f"{prefix}r2i"], self.sid_i, self.wire, [[padded(answer)], [padded(record)]]
                ),
            },
        }


def direction(secret, sid, wire, epochs):
    """The packets of one direction: a list of plaintexts for each epoch."""
    sealer, listed, packets = Sealer(secret, sid, wire), [], []
    for epoch, plaintexts in enumerate(epochs):
        key, iv = sealer.keys(epoch)
        listed.append({"secret": sealer.secrets[epoch].hex(), "key": key.hex(), "iv": iv.hex()})
        for plaintext in plaintexts:
            number = len(packets)
            packet = sealer.seal(epoch, number, plaintext)
            packets.append(
                {"epoch": epoch, "number": str(number), "plaintext": plaintext.hex(), "packet": packet}
            )
    return {"sid": sid.hex(), "epochs": listed, "packets": packets}


class Sealer:
    """Seals any number in any epoch: a generator of vectors needs what an implementation must not have."""

    def __init__(self, secret, sid, wire="binary"):
        self.secrets, self.sid, self.wire = [secret], sid, wire

    def keys(self, epoch):
        while len(self.secrets) <= epoch:
            self.secrets.append(expand(self.secrets[-1], b"next"))
        return expand(self.secrets[epoch], b"key"), expand(self.secrets[epoch], b"iv", 12)

    def nonce(self, epoch, number):
        iv = self.keys(epoch)[1]
        return bytes(a ^ b for a, b in zip(iv, bytes(4) + struct.pack(">Q", number), strict=True))

    def seal(self, epoch, number, plaintext, **other):
        key, nonce = self.keys(epoch)[0], self.nonce(epoch, number)
        if self.wire == "binary":
            header = struct.pack(">B8sIQ", 1, self.sid, epoch, number)
            return (header + AESGCM(key).encrypt(nonce, plaintext, header)).hex()
        header = {"alg": "dir", "enc": "A256GCM", "kid": f"{b64(self.sid)}.{epoch}", "typ": TYP, **other}
        protected = b64(compact(header).encode())
        sealed = AESGCM(key).encrypt(nonce, plaintext, protected.encode())
        return compact(
            {
                "protected": protected,
                "recipients": [{}],
                "iv": b64(nonce),
                "ciphertext": b64(sealed[:-16]),
                "tag": b64(sealed[-16:]),
            }
        )


# --- frames


def frame_record(number, start, data):
    return struct.pack(">BQII", 1, number, start, len(data)) + data


def frame_ack(flags, packet, following, ranges):
    head = struct.pack(">BBQQB", 3, flags, packet, following, len(ranges))
    return head + b"".join(struct.pack(">QQ", *pair) for pair in ranges)


def frame_ping(kind, number, state):
    return struct.pack(">BIH", kind, number, len(state)) + state


def frame_close(records):
    return struct.pack(">BQ", 6, records)


def frame_abort(cause):
    return struct.pack(">BH", 7, len(cause)) + cause


def frame_contact(proofs):
    return struct.pack(">BH", 8, len(proofs)) + b"".join(proofs)


def padded(frames):
    return frames + bytes(padded_length(len(frames)) - len(frames))


def padded_length(length):
    if length < 1024:
        return -(-length // 64) * 64
    exponent = 0
    while 2 ** (exponent + 1) <= length:
        exponent += 1
    significant = 0
    while 2 ** (significant + 1) <= exponent:
        significant += 1
    step = 2 ** (exponent - (significant + 1))
    return -(-length // step) * step


def frames_file():
    data, most = b"some bytes", 2**64 - 1
    proofs = [seed(f"proof {number}") for number in range(64)]
    said = {"type": "RECORD", "number": "7", "start": 1, "data": data.hex()}
    state = compact({"state": "waiting", "for": "é"}).encode()

    def ping(kind, number, text):
        return {"type": kind, "id": number, "state": json.loads(text)}

    def ack(flags, packet, following, ranges):
        return {
            "type": "ACK",
            "closed": bool(flags & 1),
            "contacts": bool(flags & 2),
            "packet": str(packet),
            "next": str(following),
            "ranges": [[str(first), str(end)] for first, end in ranges],
        }

    many = [(2 * number + 1, 2 * number + 2) for number in range(32)]
    good = [
        ("nothing", b"", []),
        ("only padding", bytes(64), []),
        ("padding is not looked at", b"\x02\x00\x09\xff", [{"type": "READY"}]),
        ("ready", b"\x02", [{"type": "READY"}]),
        ("a record", frame_record(7, 1, data), [said]),
        (
            "an empty record, highest numbers",
            frame_record(most, 2**32 - 1, b""),
            [{"type": "RECORD", "number": str(most), "start": 2**32 - 1, "data": ""}],
        ),
        (
            "two records and padding",
            padded(frame_record(7, 1, data) + frame_record(8, 1, data)),
            [said, {**said, "number": "8"}],
        ),
        ("acknowledgement", frame_ack(0, 3, 9, []), [ack(0, 3, 9, [])]),
        ("acknowledgement, flags", frame_ack(3, 3, 9, []), [ack(3, 3, 9, [])]),
        (
            "acknowledgement, ranges",
            frame_ack(1, most, 9, [(10, 11), (12, most)]),
            [ack(1, most, 9, [(10, 11), (12, most)])],
        ),
        ("acknowledgement, 32 ranges", frame_ack(2, 0, 0, many), [ack(2, 0, 0, many)]),
        ("ping", frame_ping(4, 2**32 - 1, state), [ping("PING", 2**32 - 1, state)]),
        ("pong", frame_ping(5, 0, b"{}"), [ping("PONG", 0, b"{}")]),
        (
            "longest state",
            frame_ping(4, 1, b'{"a":"%b"}' % (b"x" * 4088)),
            [ping("PING", 1, b'{"a":"%b"}' % (b"x" * 4088))],
        ),
        ("close", frame_close(12), [{"type": "CLOSE", "records": "12"}]),
        ("abort", frame_abort(b'{"kind":"killed"}'), [{"type": "ABORT", "cause": {"kind": "killed"}}]),
        (
            "contact, 64 proofs",
            frame_contact(proofs),
            [{"type": "CONTACT", "proofs": [proof.hex() for proof in proofs]}],
        ),
        (
            "contact",
            frame_contact(proofs[:16]),
            [{"type": "CONTACT", "proofs": [proof.hex() for proof in proofs[:16]]}],
        ),
        (
            "one of each",
            padded(
                b"\x02"
                + frame_ack(0, 3, 9, [])
                + frame_ping(5, 1, b"{}")
                + frame_ping(4, 2, b"{}")
                + frame_close(8)
                + frame_record(7, 1, data)
            ),
            [
                {"type": "READY"},
                ack(0, 3, 9, []),
                ping("PONG", 1, b"{}"),
                ping("PING", 2, b"{}"),
                {"type": "CLOSE", "records": "8"},
                said,
            ],
        ),
    ]
    bad = [
        ("an unknown frame", b"\x09"),
        ("an unknown frame after a good one", frame_record(7, 1, data) + b"\xff"),
        ("a record cut short", frame_record(7, 1, data)[:-1]),
        ("a record header cut short", frame_record(7, 1, data)[:10]),
        ("a record longer than it may be", struct.pack(">BQII", 1, 7, 1, 262_128), 262_128),
        ("an acknowledgement cut short", frame_ack(0, 3, 9, [(10, 11)])[:-1]),
        ("flags that do not exist", frame_ack(4, 3, 9, [])),
        ("33 ranges", frame_ack(0, 0, 0, [*many, (65, 66)])),
        ("a range at next", frame_ack(0, 0, 9, [(9, 10)])),
        ("an empty range", frame_ack(0, 0, 9, [(10, 10)])),
        ("ranges that touch", frame_ack(0, 0, 9, [(10, 12), (12, 13)])),
        ("ranges out of order", frame_ack(0, 0, 9, [(20, 21), (12, 13)])),
        ("two acknowledgements", frame_ack(0, 3, 9, []) * 2),
        ("two pings", frame_ping(4, 1, b"{}") * 2),
        ("two closes", frame_close(1) * 2),
        ("two aborts", frame_abort(b"{}") * 2),
        ("two contacts", frame_contact(proofs[:16]) * 2),
        ("a state that is no object", frame_ping(4, 1, b"[]")),
        ("a state that is no JSON", frame_ping(4, 1, b"{")),
        ("a state with a member twice", frame_ping(5, 1, b'{"a":1,"a":2}')),
        ("a state with NaN", frame_ping(5, 1, b'{"a":NaN}')),
        ("a state in another encoding", frame_ping(4, 1, '{"a":1}'.encode("utf-16"))),
        ("a state that is no UTF-8", frame_ping(4, 1, b'{"a":"\xff"}')),
        ("a state too long", frame_ping(4, 1, b'{"a":"%b"}' % (b"x" * 4089))),
        ("a state cut short", frame_ping(4, 1, b"{}")[:-1]),
        ("an empty state", frame_ping(4, 1, b"")),
        ("a cause that is no object", frame_abort(b"7")),
        ("a cause too long", frame_abort(b'{"a":"%b"}' % (b"x" * 4089))),
        ("a close cut short", frame_close(1)[:-1]),
        ("no proofs", frame_contact([])),
        ("17 proofs", frame_contact(proofs[:17])),
        ("2048 proofs", struct.pack(">BH", 8, 2048), 2048 * 32),
        ("proofs cut short", frame_contact(proofs[:16])[:-1]),
    ]
    return {
        "what": "Plaintexts of a link's packets, and their frames. u64 are texts. `zeros`: so many more.",
        "frames": [
            {"name": name, "plaintext": plaintext.hex(), "frames": frames} for name, plaintext, frames in good
        ],
        "refused": [
            {
                "name": name,
                "plaintext": plaintext.hex(),
                **({"zeros": zeros[0]} if zeros else {}),
                "error": "e.p.session.frame",
            }
            for name, plaintext, *zeros in bad
        ],
    }


def link_file():
    """What a link that sends nothing itself makes of the plaintexts of its peer."""
    piece = [f"data of record {number}".encode() for number in range(100)]

    def records(*numbers):
        return b"".join(frame_record(number, 1, piece[number % 100]) for number in numbers)

    def step(plaintext, delivers=(), following=0, ranges=(), closed=False, contacts=False, **events):
        return {
            "plaintext": plaintext.hex(),
            "delivers": [
                {"start": 1, "data": piece[number].hex()} if isinstance(number, int) else number
                for number in delivers
            ],
            **events,
            "ack": {
                "next": str(following),
                "ranges": [[str(first), str(end)] for first, end in ranges],
                "closed": closed,
                "contacts": contacts,
            },
        }

    def refused(plaintext):
        return {"plaintext": plaintext.hex(), "error": "e.p.session.frame"}

    ready, close = b"\x02", frame_close
    odd = [(number, number + 1) for number in range(1, 65, 2)]
    cause = {"kind": "interrupted"}
    aborted = frame_abort(compact(cause).encode())
    proofs = [frame_contact([seed(f"proof {name} {number}") for number in range(16)]) for name in "ab"]
    other = {"start": 2, "data": ""}
    default = {"window_records": 8192, "window_bytes": 33_554_432}
    narrow = {"window_records": 16, "window_bytes": 100}
    cases = [
        (
            "order, gaps and duplicates",
            default,
            [
                step(ready),
                step(records(0), [0], 1),
                step(records(2, 3), [], 1, [(2, 4)]),
                step(records(6), [], 1, [(2, 4), (6, 7)]),
                step(records(3, 6), [], 1, [(2, 4), (6, 7)]),
                step(records(0), [], 1, [(2, 4), (6, 7)]),
                step(records(1), [1, 2, 3], 4, [(6, 7)]),
                step(records(5, 4), [4, 5, 6], 7),
                step(padded(records(7, 8)), [7, 8], 9),
            ],
        ),
        (
            "generations, and empty records",
            default,
            [step(records(0) + frame_record(1, 2, b"") + frame_record(2, 1, piece[2]), [0, other, 2], 3)],
        ),
        (
            "more gaps than an acknowledgement holds",
            default,
            [
                step(records(*range(1, 81, 2)), [], 0, odd),
                step(records(0), [0, 1], 2, [(number, number + 1) for number in range(3, 67, 2)]),
            ],
        ),
        (
            "a close before its records",
            default,
            [
                step(close(2), [], 0, closed=True),
                step(records(1), [], 0, [(1, 2)], closed=True),
                step(records(0), [0, 1], 2, closed=True, ends=True),
                step(close(2), [], 2, closed=True),
                step(records(1), [], 2, closed=True),
                refused(close(3)),
                refused(close(1)),
                refused(records(2)),
            ],
        ),
        ("a close of nothing", default, [step(close(0), [], 0, closed=True, ends=True)]),
        (
            "a close below what came",
            default,
            [
                step(records(5), [], 0, [(5, 6)]),
                refused(close(5)),
                refused(records(0) + close(5)),
                step(close(6), [], 0, [(5, 6)], closed=True),
                refused(records(6)),
            ],
        ),
        (
            "a window of 16 records",
            narrow,
            [
                refused(frame_record(16, 1, b"")),
                step(frame_record(15, 1, b""), [], 0, [(15, 16)]),
                step(records(0), [0], 1, [(15, 16)]),
                step(frame_record(16, 1, b""), [], 1, [(15, 17)]),
                refused(frame_record(17, 1, b"")),
            ],
        ),
        (
            "a window of 100 bytes",
            narrow,
            [
                step(frame_record(1, 1, bytes(60)), [], 0, [(1, 2)]),
                refused(frame_record(2, 1, bytes(41))),
                step(frame_record(1, 1, bytes(60)), [], 0, [(1, 2)]),  # held already
                step(frame_record(3, 1, bytes(40)), [], 0, [(1, 2), (3, 4)]),
                step(
                    frame_record(0, 1, bytes(1000)),
                    [{"start": 1, "data": bytes(size).hex()} for size in (1000, 60)],
                    2,
                    [(3, 4)],
                ),
            ],
        ),
        (
            "a wrong frame refuses the whole packet",
            default,
            [
                refused(records(0) + b"\x09"),
                refused(records(0) + frame_ack(0, 0, 1, [])),
                refused(records(0) + frame_ack(0, 0, 0, [(1, 2)])),
                step(records(0), [0], 1),
            ],
        ),
        (
            "contacts count once",
            default,
            [
                step(proofs[0], [], 0, contacts=True, proofs=[proofs[0][3:35].hex()]),
                step(proofs[1], [], 0, contacts=True),
            ],
        ),
        (
            "an abort",
            default,
            [
                step(records(0), [0], 1),
                step(records(1) + aborted, [1], 2, aborts=cause),
                step(records(2), [], 2),
            ],
        ),
    ]
    return {
        "what": "Plaintexts as they come to a link that sends no records, with its limits: what it "
        "delivers, that the peer's end has come (`ends`), the first of the proofs, the cause of an abort; "
        "and what its next ACK says. What is refused changes nothing.",
        "links": [{"name": name, "limits": limits, "steps": steps} for name, limits, steps in cases],
    }


def padding_file():
    lengths = [0, 1, 63, 64, 65, 960, 961, 1023, 1024, 1025, 1056, 1057, 2047, 2048, 2049, 4096, 4097]
    lengths += [65_535, 65_536, 65_537, 262_143, 262_144, 262_145, 1_000_000]
    return {
        "what": "Lengths of the frames of a packet, and of its plaintext after padding.",
        "padding": [{"frames": length, "plaintext": padded_length(length)} for length in lengths],
    }


# --- packets that come in some order


def sequence(name, sealer, steps):
    return {
        "name": name,
        "secret": sealer.secrets[0].hex(),
        "sid": sealer.sid.hex(),
        "steps": steps,
    }


def opens(packet, plaintext):
    return {"packet": packet, "opens": plaintext.hex()}


def refused(packet, code):
    return {"packet": packet, "error": code}


def order_cases(wire):
    """What both forms have alike: replay and epochs."""
    text = b"\x02"

    def fresh(name):
        return Sealer(seed(f"{wire} {name}"), seed(f"{wire} {name} sid", 8), wire)

    one = fresh("replay")
    packets = [one.seal(0, number, text) for number in range(3)]
    cases = [
        sequence(
            "each packet once, in any order",
            one,
            [
                opens(packets[2], text),
                opens(packets[0], text),
                refused(packets[0], "e.p.session.replay"),
                refused(packets[2], "e.p.session.replay"),
                opens(packets[1], text),
                refused(packets[1], "e.p.session.replay"),
            ],
        )
    ]
    one = fresh("window")
    cases.append(
        sequence(
            "16,384 or more below the highest",
            one,
            [
                opens(one.seal(0, 16_384, text), text),
                refused(one.seal(0, 0, text), "e.p.session.replay"),
                opens(one.seal(0, 1, text), text),
                opens(one.seal(0, 2**64 - 1, text), text),
                refused(one.seal(0, 16_383, text), "e.p.session.replay"),
                opens(one.seal(0, 2**64 - 16_384, text), text),
            ],
        )
    )
    one = fresh("epochs")
    cases.append(
        sequence(
            "epochs e-1, e and e+1",
            one,
            [
                refused(one.seal(2, 9, text), "e.p.session.epoch"),
                opens(one.seal(1, 3, text), text),
                opens(one.seal(0, 0, text), text),
                refused(one.seal(3, 10, text), "e.p.session.epoch"),
                opens(one.seal(2, 9, text), text),
                refused(one.seal(0, 1, text), "e.p.session.epoch"),
                opens(one.seal(1, 4, text), text),
                opens(one.seal(3, 11, text), text),
                refused(one.seal(1, 5, text), "e.p.session.epoch"),
            ],
        )
    )
    return cases, fresh


def binary_file():
    cases, fresh = order_cases("binary")
    one, text = fresh("altered"), b"\x02" + bytes(63)
    packet = bytes.fromhex(one.seal(0, 0, text))
    other = Sealer(one.secrets[0], seed("another sid", 8))

    def flipped(position):
        return (packet[:position] + bytes([packet[position] ^ 1]) + packet[position + 1 :]).hex()

    forged_step = bytes.fromhex(one.seal(1, 1, text))
    steps = [
        refused("", "e.p.session.packet"),
        refused(packet[:36].hex(), "e.p.session.packet"),
        {"packet": packet.hex(), "zeros": 2**20 + 1 - len(packet), "error": "e.p.session.packet"},
        refused(flipped(0), "e.p.session.unknown"),
        refused(other.seal(0, 0, text), "e.p.session.unknown"),
        refused(flipped(12), "e.p.trust.crypto"),  # epoch 1
        refused(flipped(20), "e.p.trust.crypto"),  # number 1
        refused(flipped(21), "e.p.trust.crypto"),
        refused(flipped(len(packet) - 1), "e.p.trust.crypto"),
        refused(packet[:-1].hex(), "e.p.trust.crypto"),
        refused((forged_step[:-1] + bytes([forged_step[-1] ^ 1])).hex(), "e.p.trust.crypto"),
        refused(one.seal(2, 2, text), "e.p.session.epoch"),  # the forgery took no step
        opens(packet.hex(), text),
        opens(one.seal(0, 1, b""), b""),
    ]
    cases.append(sequence("altered packets change nothing", one, steps))
    return {
        "what": "Packets in the binary form as they come to one receiver, in order. `zeros`: so many more.",
        "sequences": cases,
    }


def json_file():
    cases, fresh = order_cases("json")
    one, text = fresh("altered"), b"\x02" + bytes(63)
    packet = one.seal(0, 0, text)
    value = json.loads(packet)
    sid = b64(one.sid)

    def outer(**members):
        changed = {**value, **members}
        return compact({name: member for name, member in changed.items() if member is not None})

    def malformed(**header):
        """Well sealed, under another protected header."""
        return refused(one.seal(0, 0, text, **header), "e.p.session.packet")

    def unb64(text):
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

    nonce = unb64(value["iv"])
    last_bits = value["tag"][:-1] + chr(ord(value["tag"][-1]) + 1)  # the same bytes, spelled otherwise
    assert unb64(last_bits) == unb64(value["tag"])
    wrong = "e.p.session.packet"
    steps = [
        refused("", wrong),
        refused("{", wrong),
        refused("[]", wrong),
        refused(packet[:-1] + f',"iv":"{value["iv"]}"}}', wrong),
        refused(outer(iv=None), wrong),
        refused(outer(tag=None), wrong),
        refused(outer(protected=None), wrong),
        refused(outer(ciphertext=None), wrong),
        refused(outer(recipients=None), wrong),
        refused(outer(recipients=[]), wrong),
        refused(outer(recipients=[{}, {}]), wrong),
        refused(outer(recipients={}), wrong),
        refused(outer(recipients=[{"encrypted_key": ""}]), wrong),
        refused(outer(recipients=[{"header": {"kid": "x"}}]), wrong),
        refused(outer(aad="AA"), wrong),
        refused(outer(unprotected={}), wrong),
        refused(outer(iv=value["iv"][:-4]), wrong),
        refused(outer(iv=12), wrong),
        refused(outer(tag=value["tag"][:-2]), wrong),
        refused(outer(tag=value["tag"] + "=="), wrong),
        refused(outer(tag=last_bits), wrong),
        refused(outer(ciphertext=value["ciphertext"][:-1] + "+"), wrong),
        refused(outer(protected=value["protected"] + "=="), wrong),
        refused(outer(protected=b64(b"[]")), wrong),
        refused(outer(protected=b64(b'{"alg":"dir","alg":"dir"}')), wrong),
        {"packet": packet, "spaces": 2**20 + 1 - len(packet), "error": wrong},
        malformed(alg="A256KW"),
        malformed(enc="A128GCM"),
        malformed(typ="JWE"),
        malformed(zip="DEF"),
        malformed(crit=["zip"]),
        malformed(apv="AA"),
        malformed(kid=7),
        malformed(kid=sid),
        malformed(kid=f"{sid}."),
        malformed(kid=f"{sid}.00"),
        malformed(kid=f"{sid}.+0"),
        malformed(kid=f"{sid}.0.0"),
        malformed(kid=f"{sid}.4294967296"),
        malformed(kid=f"{sid}=.0"),
        malformed(kid=f"{b64(one.sid + b'x')}.0"),
        malformed(kid=f"{one.sid.hex()}.0"),
        refused(
            Sealer(one.secrets[0], seed("another sid", 8), "json").seal(0, 0, text), "e.p.session.unknown"
        ),
        refused(outer(tag=b64(bytes(16))), "e.p.trust.crypto"),
        refused(outer(ciphertext=b64(unb64(value["ciphertext"])[:-1])), "e.p.trust.crypto"),
        refused(outer(iv=b64(nonce[:-1] + bytes([nonce[-1] ^ 1]))), "e.p.trust.crypto"),
        refused(outer(iv=b64(bytes([nonce[0] ^ 1]) + nonce[1:])), "e.p.trust.crypto"),
        refused(
            outer(
                protected=b64(
                    compact({"alg": "dir", "enc": "A256GCM", "kid": f"{sid}.1", "typ": TYP}).encode()
                )
            ),
            "e.p.trust.crypto",
        ),
        refused(one.seal(2, 2, text), "e.p.session.epoch"),  # the forgery took no step
        opens(json.dumps(dict(reversed(value.items())), indent=2), text),
    ]
    cases.append(sequence("altered packets change nothing", one, steps))
    return {
        "what": "Packets in the JSON form as they come to one receiver, in order. `spaces`: so many more.",
        "sequences": cases,
    }


# --- bound to a session


def contact_file(handshake):
    secrets = [seed(f"pair secret {number}") for number in range(3)]

    def proofs(role):
        context = b"didmpc s1 contact " + role.encode() + b"\0" + handshake.exporter
        return [mac(secret, context).hex() for secret in secrets]

    return {
        "what": "Contact proofs of both roles under some pair secrets, in the session of a handshake.",
        "handshake": handshake.name,
        "exporter": handshake.exporter.hex(),
        "pair_secrets": [secret.hex() for secret in secrets],
        "i": proofs("i"),
        "r": proofs("r"),
    }


# --- the hop


def hop_file(handshake):
    rebind = Ed25519PrivateKey.from_private_bytes(seed("rebind"))
    capability, channel = seed("capability"), 0x01020304
    public = rebind.public_key().public_bytes_raw()
    signed = b"didmpc relay/1.0 bind\0" + handshake.exporter + capability
    bind = struct.pack(">BI", 2, channel) + capability + public + rebind.sign(signed)
    other = struct.pack(">BI", 2, channel) + capability + public
    other += rebind.sign(b"didmpc relay/1.0 bind\0" + seed("another exporter") + capability)

    def head(kind, number=channel):
        return struct.pack(">BI", kind, number)

    def frame(name, data, **members):
        return {"name": name, "frame": data.hex(), **members}

    number = {"channel": channel}
    good = [
        frame("data", head(1) + b"packet", type="DATA", **number, packet=b"packet".hex()),
        frame("empty data", head(1, 2**32 - 1), type="DATA", channel=2**32 - 1, packet=""),
        frame(
            "bind",
            bind,
            type="BIND",
            **number,
            capability=capability.hex(),
            rebind_key=public.hex(),
            signature=bind[-64:].hex(),
        ),
        frame("bound", head(3) + b"\x00\x08\x00\x00", type="BOUND", **number, credit=2**19),
        *(
            frame(f"unbound {reason}", head(4) + bytes([reason]), type="UNBOUND", **number, reason=reason)
            for reason in (1, 2, 3, 4)
        ),
        frame("credit", head(5) + b"\xff\xff\xff\xff", type="CREDIT", **number, bytes=2**32 - 1),
        *(
            frame(f"error {code}", head(6) + bytes([code]), type="ERROR", **number, code=code)
            for code in range(1, 9)
        ),
        frame("ping", head(7, 0) + b"12345678", type="PING", token=b"12345678".hex()),
        frame("pong", head(8, 0) + b"12345678", type="PONG", token=b"12345678".hex()),
    ]
    bad = {
        "nothing": b"",
        "a header cut short": head(1)[:-1],
        "type 0": head(0) + b"x",
        "type 9": head(9) + b"x",
        "a bind cut short": bind[:-1],
        "a bind too long": bind + b"x",
        "bound without credit": head(3),
        "bound too long": head(3) + bytes(5),
        "unbound without reason": head(4),
        "unbound 0": head(4) + b"\0",
        "unbound 5": head(4) + b"\x05",
        "credit too long": head(5) + bytes(5),
        "error 0": head(6) + b"\0",
        "error 9": head(6) + b"\x09",
        "error without code": head(6),
        "ping with a channel": head(7) + bytes(8),
        "ping too short": head(7, 0) + bytes(7),
        "pong too long": head(8, 0) + bytes(9),
    }
    secret = handshake.outputs["i2r"]
    sealer = Sealer(secret, handshake.sid_r)
    return {
        "what": "Hop frames, a BIND for the hop session of a handshake, and what is refused.",
        "handshake": handshake.name,
        "exporter": handshake.exporter.hex(),
        "rebind_private": seed("rebind").hex(),
        "bind": {"frame": bind.hex(), "signed": signed.hex(), "packet": sealer.seal(0, 0, bind)},
        "bind_refused": [
            {"name": "for another hop session", "frame": other.hex(), "error": "e.p.relay.proof"},
            {
                "name": "for another capability",
                "frame": (bind[:5] + seed("another capability") + bind[37:]).hex(),
                "error": "e.p.relay.proof",
            },
            {
                "name": "with another key",
                "frame": (bind[:37] + seed("no key") + bind[69:]).hex(),
                "error": "e.p.relay.proof",
            },
        ],
        "frames": good,
        "refused": [frame(name, data, error="e.p.relay.frame") for name, data in bad.items()],
    }


# --- refusals of the handshake


def small_order_points():
    """Public keys of X25519 whose shared secret is zero (RFC 7748, section 6.1)."""
    known = (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    )
    return [bytes.fromhex(point) for point in known]


def refusals_file(classical, hybrid, continued):
    opens, accepts = [], []

    def of_open(name, base, code, text=None, *, body=None, expects=True, **members):
        if body is None:
            body = {"hs": text if text is not None else hs(base.hello_i, members)}
        opens.append(
            {
                "name": name,
                "handshake": base.name,
                "wires": [base.wire],
                "expects": base.hello_i["link"] if expects else None,
                "body": body,
                "error": code,
            }
        )

    def of_accept(name, base, code, text=None, *, body=None, **members):
        if body is None:
            body = {**base.accept_body(), "hs": text if text is not None else hs(base.hello_r, members)}
        accepts.append({"name": name, "handshake": base.name, "body": body, "error": code})

    def hs(hello, members):
        changed = {**hello, **members}
        return b64(compact({name: value for name, value in changed.items() if value != "left out"}).encode())

    plain = compact(classical.hello_i).encode()
    wrong, suite, roster = "e.p.session.hs", "e.p.session.suite", "e.p.session.roster"
    crypto, policy = "e.p.trust.crypto", "e.p.session.policy"

    of_open("no hs", classical, wrong, body={})
    of_open("hs is no text", classical, wrong, body={"hs": 7})
    of_open("hs is empty", classical, wrong, "")
    of_open(
        "hs is padded",
        classical,
        wrong,
        base64.urlsafe_b64encode(plain + b" " * (4 - len(plain) % 3)).decode(),
    )
    of_open("hs in the other alphabet", classical, wrong, classical.hs_i + "+/")
    of_open("hs is too long", classical, wrong, b64(plain + b" " * 32_768))
    of_open("hs is no JSON", classical, wrong, b64(plain[:-1]))
    of_open("hs is no object", classical, wrong, b64(b"[]"))
    of_open("hs in UTF-16", classical, wrong, b64(plain.decode().encode("utf-16")))
    of_open("hs is no UTF-8", classical, wrong, b64(plain[:-1] + b',"x":"\xff"}'))
    of_open("a member twice", classical, wrong, b64(plain[:-1] + b',"v":1}'))
    of_open("a member of a member twice", classical, wrong, b64(plain[:-1] + b',"x":{"a":1,"a":1}}'))
    of_open("NaN", classical, wrong, b64(plain[:-1] + b',"x":NaN}'))
    of_open("Infinity", classical, wrong, b64(plain[:-1] + b',"x":-Infinity}'))
    of_open("version 2", classical, suite, v=2)
    of_open("version as text", classical, suite, v="1")
    of_open("no version", classical, suite, v="left out")
    of_open("unknown suites", classical, suite, suites=["X448-HKDFSHA512-A256GCM"])
    of_open("no suites", classical, suite, suites=[])
    of_open("suites no list", classical, wrong, suites=CLASSICAL)
    of_open("a suite that is no text", classical, wrong, suites=[7])
    of_open("a suite with too long a name", classical, wrong, suites=[CLASSICAL, "x" * 101])
    of_open("33 suites", classical, wrong, suites=[CLASSICAL] * 33)
    of_open("unknown wire forms", classical, suite, wire=["cbor"])
    of_open("a wire form that is not accepted", classical, suite, wire=["json"])
    of_open("wire no list", classical, wrong, wire="binary")
    of_open("hybrid without its key", hybrid, suite, kem_pk="left out")
    of_open("a key without hybrid", hybrid, suite, suites=[CLASSICAL])
    of_open("a short ML-KEM key", hybrid, wrong, kem_pk=b64(bytes(1183)))
    of_open("an ML-KEM key out of range", hybrid, crypto, kem_pk=b64(b"\xff" * 1184))
    for member, size in (("e", 32), ("k", 32), ("sid", 8)):
        of_open(f"{member} too short", classical, wrong, **{member: b64(bytes(size - 1))})
        of_open(f"{member} too long", classical, wrong, **{member: b64(bytes(size + 1))})
        of_open(f"no {member}", classical, wrong, **{member: "left out"})
    of_open("k in another spelling", classical, wrong, k=b64(bytes(32))[:-1] + "B")
    for number, point in enumerate(small_order_points()):
        of_open(f"e of small order, {number}", classical, crypto, e=b64(point))
    of_open("link is a list", classical, wrong, link=[])
    of_open("no link", classical, wrong, link="left out")
    of_open("another computation", classical, roster, link={**classical.hello_i["link"], "attempt": "b"})
    for name, pids in (
        ("the higher opens", (3, 1)),
        ("below 0", (-1, 1)),
        ("alike", (1, 1)),
        ("as text", ("0", "1")),
        ("only one", (0, None)),
    ):
        link = {**classical.hello_i["link"], "pid_i": pids[0], "pid_r": pids[1]}
        stated = {key: value for key, value in link.items() if value is not None}
        of_open(f"pids: {name}", classical, roster, expects=False, link=stated)
    of_open("kid_i of another", classical, crypto, kid_i=classical.hello_i["kid_r"])
    of_open("kid_r of another", classical, crypto, kid_r=classical.hello_i["kid_i"])
    of_open("no kid", classical, wrong, kid_i="left out")
    of_open("kid too long", classical, wrong, kid_i="x" * 9217)
    for name, limits in (
        ("zero", {"window_bytes": 0}),
        ("too high", {"window_bytes": 2**53}),
        ("no number", {"window_bytes": "1"}),
        ("a truth", {"window_bytes": True}),
        ("a fraction", {"window_bytes": 1.5}),
        ("33", {f"l{number}": 1 for number in range(33)}),
    ):
        of_open(f"limits: {name}", classical, wrong, limits=limits)
    of_open("limits no object", classical, wrong, limits=[])
    of_open("no policy", classical, wrong, policy="left out")
    of_open("33 caps", classical, wrong, caps=[{}] * 33)
    of_open("caps no list", classical, wrong, caps={})
    of_open("continues what is not there", classical, roster, continues=b64(bytes(32)))
    of_open("continues without proof", continued, policy, continues=b64(bytes(32)))
    of_open("does not continue what is there", continued, roster, continues="left out")
    of_open("continues too short", continued, wrong, continues=b64(bytes(31)))

    of_accept("no confirm", classical, wrong, body={"hs": classical.hs_r})
    of_accept("confirm too short", classical, wrong, body={"hs": classical.hs_r, "confirm": b64(bytes(31))})
    of_accept("another confirm", classical, crypto, body={"hs": classical.hs_r, "confirm": b64(bytes(32))})
    of_accept("no hs", classical, wrong, body={"confirm": b64(bytes(32))})
    of_accept(
        "the same JSON, written otherwise",
        classical,
        crypto,
        b64(json.dumps(classical.hello_r).encode()),
    )
    of_accept("an unknown member added", classical, crypto, x=1)
    of_accept("another k", classical, crypto, k=b64(bytes(32)))
    of_accept(
        "another e",
        classical,
        crypto,
        e=b64(X25519PrivateKey.from_private_bytes(seed("x")).public_key().public_bytes_raw()),
    )
    of_accept("e of small order", classical, crypto, e=b64(bytes(32)))
    of_accept("version 2", classical, suite, v=2)
    of_accept("a suite that was not offered", classical, suite, suite=HYBRID)
    of_accept("a form that was not offered", classical, suite, wire="json")
    of_accept("suite no text", classical, wrong, suite=[CLASSICAL])
    of_accept("hybrid without ciphertext", hybrid, suite, kem_ct="left out")
    of_accept("a ciphertext without hybrid", hybrid, suite, suite=CLASSICAL)
    of_accept("a ciphertext too short", hybrid, wrong, kem_ct=b64(bytes(1087)))
    of_accept("another ciphertext", hybrid, crypto, kem_ct=b64(bytes(1088)))
    of_accept("classical where hybrid was meant", hybrid, crypto, suite=CLASSICAL, kem_ct="left out")
    of_accept("another link", classical, roster, link={})
    of_accept("another key", classical, crypto, kid_r=classical.hello_r["kid_i"])
    of_accept("does not continue", continued, policy, continues="left out")
    of_accept("continues without proof", continued, policy, continues=b64(bytes(32)))
    of_accept("continues by the wrong role", continued, policy, continues=continued.hello_i["continues"])
    of_accept("continues what is not there", classical, policy, continues=b64(bytes(32)))
    return {
        "what": "Bodies of `open` (to the responder of a handshake, which takes the forms in `wires` and "
        "expects the members of a link in `expects`) and of `accept` (to its initiator), and the code of "
        "the refusal.",
        "open": opens,
        "accept": accepts,
    }


# --- all


def encapsulated(folder):
    """What ML-KEM-768 gave for a fixed seed: drawn once, then kept."""
    kem_seed = seed("ml-kem", 64)
    private = MLKEM768PrivateKey.from_seed_bytes(kem_seed)
    public = private.public_key().public_bytes_raw()
    path = folder / "mlkem768.json"
    if path.exists():
        ciphertext = json.loads(path.read_text())["ciphertext"]
        raw = base64.urlsafe_b64decode(ciphertext + "=" * (-len(ciphertext) % 4))
        secret = private.decapsulate(raw)
    else:
        secret, raw = MLKEM768PublicKey.from_public_bytes(public).encapsulate()
        assert private.decapsulate(raw) == secret
    return {"seed": kem_seed.hex(), "public": b64(public), "ciphertext": b64(raw), "secret": secret.hex()}


def files(folder):
    kem = encapsulated(folder)
    alice, bob = Party("alice"), Party("bob")
    contacts = {"id": b64(seed("link", 16)), "protocol": "https://example.org/chat/1.0"}
    computation = {
        "attempt": "attempt-1",
        "manifest_sha256": seed("manifest").hex(),
        "pid_i": 0,
        "pid_r": 2,
    }
    relay = {"type": "relay/1.0", "mediator": Party("mediator").did, "capability": b64(seed("far"))}
    both = {"alice": alice, "bob": bob, "kem": kem}
    first = Handshake("x25519-binary", **both, link=computation, caps=[relay])
    classical = [
        first,
        Handshake("x25519-json", wire="json", **both, link=contacts, offered_wires=["json", "binary"]),
        Handshake(
            "x25519-rekey-to-json",
            wire="json",
            **both,
            link=computation,
            offered_wires=["json"],
            earlier=first,
        ),
        Handshake("x25519-hop", alice=Party("leg", "did:key"), bob=Party("mediator"), kem=kem, link=None),
        Handshake("x25519-unusual-text", **both, link=contacts, unusual=True),
        Handshake("x25519-p256-static", alice=alice, bob=Party("carol", "P-256"), kem=kem, link=contacts),
        Handshake("x25519-chosen-from-both", **both, link=contacts, offered_suites=[HYBRID, CLASSICAL]),
    ]
    hybrid = [
        Handshake("mlkem-binary", HYBRID, **both, link=computation, offered_suites=[HYBRID, CLASSICAL]),
        Handshake("mlkem-json", HYBRID, "json", **both, link=contacts, offered_wires=["json"]),
    ]
    what = "Handshakes from their seeds, with every value of the key schedule, and the first packets."
    return {
        "mlkem768.json": {"what": "ML-KEM-768 for a fixed seed (FIPS 203: d || z).", **kem},
        "handshake-x25519.json": {"what": what, "handshakes": [each.described() for each in classical]},
        "handshake-x25519mlkem768.json": {
            "what": what,
            "handshakes": [each.described() for each in hybrid],
        },
        "packets-binary.json": binary_file(),
        "packets-json.json": json_file(),
        "frames.json": frames_file(),
        "link.json": link_file(),
        "padding.json": padding_file(),
        "contact.json": contact_file(first),
        "hop.json": hop_file(classical[3]),
        "refusals.json": refusals_file(first, hybrid[0], classical[2]),
    }


def main(folder):
    for name, content in files(folder).items():
        (folder / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
