"""Every vector of the folder against this reading of the specification."""

import json

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from . import frames, hop, schedule
from .handshake import HYBRID, Initiator, check_open, read_hs, shared_secret
from .links import ReceivingLink
from .packets import Receiver
from .reading import Refused, agreement_key, canonical, to_b64url

HANDSHAKES = ("handshake-x25519.json", "handshake-x25519mlkem768.json")


class Mismatch(Exception):
    """A vector and the specification contradict each other."""


class Verifier:
    """Counts what it has compared; raises `Mismatch` with the place of the first difference."""

    def __init__(self, folder):
        self.folder = folder
        self.compared = 0
        self.cases = {}
        for name in HANDSHAKES:
            for case in self.load(name)["handshakes"]:
                self.cases[case["name"]] = case

    def load(self, name):
        return json.loads((self.folder / name).read_text("utf-8"))

    def same(self, place, found, stated):
        self.compared += 1
        found = found.hex() if isinstance(found, bytes) else found
        if found != stated:
            raise Mismatch(f"{place}: computed {found!r}, stated {stated!r}")

    def refuses(self, place, code, act, *arguments, **options):
        try:
            act(*arguments, **options)
        except Refused as refusal:
            self.same(place, refusal.code, code)
        else:
            raise Mismatch(f"{place}: nothing is wrong with it, stated {code}")

    def run(self):
        self.kem()
        for case in self.cases.values():
            self.handshake(case)
        self.sequences("packets-binary.json", "binary")
        self.sequences("packets-json.json", "json")
        self.frames()
        for item in self.load("padding.json")["padding"]:
            self.same(f"padding {item['frames']}", frames.padded(item["frames"]), item["plaintext"])
        self.links()
        self.contacts()
        self.hop()
        self.refusals()
        return self.compared

    def kem(self):
        kem = self.load("mlkem768.json")
        private = MLKEM768PrivateKey.from_seed_bytes(bytes.fromhex(kem["seed"]))
        self.same("ML-KEM key", to_b64url(private.public_key().public_bytes_raw()), kem["public"])
        (case,) = (item for item in self.cases.values() if item["name"] == "mlkem-binary")
        self.same("ML-KEM ciphertext", case["hs_r"]["kem_ct"], kem["ciphertext"])
        self.same("ML-KEM secret", case["kem_secret"], kem["secret"])

    def exporter_before(self, case):
        before = case["continues"]
        return bytes.fromhex(self.cases[before]["labels"]["exp"]) if before else None

    def handshake(self, case):
        name = case["name"]
        for role in ("initiator", "responder"):
            party = case[role]
            kid, public = agreement_key(party["did"])
            self.same(f"{name} {role} kid", kid, party["kid"])
            self.same(f"{name} {role} key", public, party["public"])
            self.same(f"{name} {role} private key", public_of(party["private"], public), public.hex())
            self.same(f"{name} {role} did", canonical(party["did"]), party["canonical"])
        i, r = case["initiator"], case["responder"]
        opened, accepted = case["open"], case["accept"]
        self.same(f"{name} thread", accepted["thid"], opened["id"])
        self.same(f"{name} from and to", [opened["from"], *opened["to"]], [i["did"], r["did"]])
        self.same(f"{name} back", [accepted["from"], *accepted["to"]], [r["did"], i["did"]])
        for message, stated in (("open", case["hs_i"]), ("accept", case["hs_r"])):
            hello = read_hs(case[message]["body"]["hs"], message)
            for member, value in stated.items():
                there = hello[member]
                self.same(f"{name} {member}", to_b64url(there) if isinstance(there, bytes) else there, value)
        hello_i = read_hs(opened["body"]["hs"], "open")
        hello_r = read_hs(accepted["body"]["hs"], "accept")
        for hello, party in ((hello_i, i), (hello_r, r)):
            self.same(f"{name} k", hello["k"], party["k"])
            self.same(f"{name} sid", hello["sid"], party["sid"])
        self.same(f"{name} suite", hello_r["suite"], HYBRID if case["suite"] == HYBRID else case["suite"])
        self.same(f"{name} wire", hello_r["wire"], case["wire"])
        self.same(f"{name} wire, the first that the initiator named", hello_i["wire"][0], case["wire"])
        before = self.exporter_before(case)
        check_open(
            opened["body"],
            kids=(i["kid"], r["kid"]),
            wires=[case["wire"]],
            link=case["hs_i"]["link"],
            open_id=opened["id"],
            exporters=[before] if before else [],
        )
        ee = shared_secret(bytes.fromhex(i["e"]), hello_r["e"])
        self.same(f"{name} ee", ee, case["ee"])
        self.same(
            f"{name} ee of the responder", shared_secret(bytes.fromhex(r["e"]), hello_i["e"]), case["ee"]
        )
        prk, th, ikm, kem = Initiator(case, before).take_accept(accepted["body"])
        for part, value in (("kem_secret", kem), ("th", th), ("ikm", ikm), ("prk", prk)):
            self.same(f"{name} {part}", value, case[part])
        for label, stated in case["labels"].items():
            self.same(f"{name} {label}", schedule.output(prk, label, th), stated)
        exporter = schedule.output(prk, "exp", th)
        for item in case["exports"]:
            found = schedule.export(exporter, item["label"], item["size"])
            self.same(f"{name} export {item['label']}", found, item["output"])
        for label, receiver in (("i2r", r), ("r2i", i)):
            secret = schedule.first_secret(prk, label, case["wire"], th)
            self.direction(f"{name} {label}", case, secret, receiver["sid"], case["directions"][label])

    def direction(self, place, case, secret, sid, stated):
        self.same(f"{place} sid", sid, stated["sid"])
        receiver = Receiver(secret, bytes.fromhex(sid), case["wire"])
        for number, epoch in enumerate(stated["epochs"]):
            key, iv = receiver.keys(number)
            self.same(f"{place} secret {number}", receiver.secrets[number], epoch["secret"])
            self.same(f"{place} key {number}", key, epoch["key"])
            self.same(f"{place} iv {number}", iv, epoch["iv"])
        for packet in stated["packets"]:
            number, epoch, plaintext = receiver.open(of_text(packet["packet"], case["wire"]))
            self.same(f"{place} number", str(number), packet["number"])
            self.same(f"{place} epoch", epoch, packet["epoch"])
            self.same(f"{place} plaintext", plaintext, packet["plaintext"])
            if plaintext:
                self.same(f"{place} frames", bool(frames.read(plaintext)), True)

    def sequences(self, name, wire):
        for case in self.load(name)["sequences"]:
            receiver = Receiver(bytes.fromhex(case["secret"]), bytes.fromhex(case["sid"]), wire)
            for index, step in enumerate(case["steps"]):
                place = f"{name}, {case['name']}, step {index}"
                packet = of_text(step["packet"], wire)
                packet += bytes(step.get("zeros", 0)) + b" " * step.get("spaces", 0)
                if "error" in step:
                    self.refuses(place, step["error"], receiver.open, packet)
                else:
                    self.same(place, receiver.open(packet)[2], step["opens"])

    def frames(self):
        stated = self.load("frames.json")
        for item in stated["frames"]:
            self.same(item["name"], frames.read(bytes.fromhex(item["plaintext"])), item["frames"])
        for item in stated["refused"]:
            plaintext = bytes.fromhex(item["plaintext"]) + bytes(item.get("zeros", 0))
            self.refuses(item["name"], item["error"], frames.read, plaintext)

    def links(self):
        for case in self.load("link.json")["links"]:
            link = ReceivingLink(**case["limits"])
            for index, step in enumerate(case["steps"]):
                place = f"link, {case['name']}, step {index}"
                plaintext = bytes.fromhex(step["plaintext"])
                if "error" in step:
                    self.refuses(place, step["error"], link.take, plaintext)
                    continue
                found = link.take(plaintext)
                for name in ("delivers", "ends", "proofs", "aborts"):
                    self.same(f"{place} {name}", found.get(name), step.get(name))
                self.same(f"{place} ack", link.ack(), step["ack"])

    def contacts(self):
        stated = self.load("contact.json")
        exporter = bytes.fromhex(stated["exporter"])
        self.same("contact exporter", exporter, self.cases[stated["handshake"]]["labels"]["exp"])
        for role in ("i", "r"):
            for secret, proof in zip(stated["pair_secrets"], stated[role], strict=True):
                found = schedule.contact_proof(bytes.fromhex(secret), role, exporter)
                self.same(f"contact proof {role}", found, proof)

    def hop(self):
        stated = self.load("hop.json")
        case = self.cases[stated["handshake"]]
        exporter = bytes.fromhex(stated["exporter"])
        self.same("hop exporter", exporter, case["labels"]["exp"])
        bind = bytes.fromhex(stated["bind"]["frame"])
        self.same("bind", hop.check_bind(bind, exporter), stated["bind"]["signed"])
        secret = bytes.fromhex(case["labels"]["i2r"])
        receiver = Receiver(secret, bytes.fromhex(case["responder"]["sid"]), "binary")
        self.same("bind, sealed", receiver.open(bytes.fromhex(stated["bind"]["packet"]))[2], bind.hex())
        key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(stated["rebind_private"])).public_key()
        self.same("rebind key", key.public_bytes_raw(), bind[37:69].hex())
        for item in stated["bind_refused"]:
            frame = bytes.fromhex(item["frame"])
            self.refuses(f"bind {item['name']}", item["error"], hop.check_bind, frame, exporter)
        for item in stated["frames"]:
            expected = {name: value for name, value in item.items() if name not in ("name", "frame")}
            self.same(f"hop frame {item['name']}", hop.read(bytes.fromhex(item["frame"])), expected)
        for item in stated["refused"]:
            frame = bytes.fromhex(item["frame"])
            self.refuses(f"hop frame {item['name']}", item["error"], hop.read, frame)

    def refusals(self):
        stated = self.load("refusals.json")
        for item in stated["open"]:
            case = self.cases[item["handshake"]]
            before = self.exporter_before(case)
            self.refuses(
                f"open: {item['name']}",
                item["error"],
                check_open,
                item["body"],
                kids=(case["initiator"]["kid"], case["responder"]["kid"]),
                wires=item["wires"],
                link=item["expects"],
                open_id=case["open"]["id"],
                exporters=[before] if before else [],
            )
        for item in stated["accept"]:
            case = self.cases[item["handshake"]]
            initiator = Initiator(case, self.exporter_before(case))
            self.refuses(f"accept: {item['name']}", item["error"], initiator.take_accept, item["body"])


def public_of(private, public):
    """The public key of a private one: P-256 (compressed) where the stated one has 33 bytes, else X25519."""
    if len(public) == 33:
        key = derive_private_key(int(private, 16), SECP256R1()).public_key()
        return key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    return X25519PrivateKey.from_private_bytes(bytes.fromhex(private)).public_key().public_bytes_raw()


def of_text(packet, wire):
    return bytes.fromhex(packet) if wire == "binary" else packet.encode()
