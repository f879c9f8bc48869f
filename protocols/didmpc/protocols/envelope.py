"""DIDComm envelopes: packing, and unpacking with every check that the specification asks for.

DIDComm Messaging 2.1, "Message Encryption", "Message Signing" and "Message Layer Addressing Consistency".
The layers may be nested in these ways and in no other (M is the plaintext):

    signed(M)   authcrypt(M)   anoncrypt(M)   authcrypt(signed(M))   anoncrypt(signed(M))
    anoncrypt(authcrypt(M))   anoncrypt(authcrypt(signed(M)))

A message that `unpack` returns is consistent: nobody has to compare `from` with a key again. What is
left to the caller is whether it wants an unauthenticated message at all, and the clock (`expires_time`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from didmpc.protocols import did as dids
from didmpc.protocols.crypto import jose
from didmpc.protocols.crypto.encoding import b64url, unb64url
from didmpc.protocols.crypto.keys import AGREEMENT_CURVES, RECEIVED_ONLY, PrivateKey, PublicKey
from didmpc.protocols.did import DIDDocument, Resolve, VerificationMethod, did_of, same_party
from didmpc.protocols.errors import DidError, EnvelopeError, LocalMisuse, MessageError
from didmpc.protocols.identity import Identity, Secrets
from didmpc.protocols.message import ENCRYPTED, SIGNED, Message, decode_json

MAX_ENVELOPE = 32 * 1024 * 1024
"""Largest envelope in bytes that is looked at, where the caller names no smaller limit."""
MAX_RECIPIENTS = 32

_MAX_KID = 9000
# What PyPI didcomm-messaging 0.1.1 writes with its askar backend, in envelopes that are right otherwise.
_ALSO_TYP = {ENCRYPTED: "application/didcomm+encrypted"}


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A message and what its envelope has proven about it."""

    message: Message
    sender: str | None
    """The DID that authcrypt proves, as the envelope wrote it; None when nobody is proven."""
    sender_kid: str | None
    recipient_kid: str | None
    """The key of ours that opened it; None when it was only signed."""
    signer: str | None
    """The DID that signed, which anyone can be shown; None without a signature."""
    enc: str | None
    """The content encryption of the innermost encrypted layer."""

    @property
    def encrypted(self) -> bool:
        return self.recipient_kid is not None

    @property
    def authenticated(self) -> bool:
        """Whether authcrypt has proven the sender (a signature alone is `signer`)."""
        return self.sender is not None


def pack_authcrypt(message: Message | bytes, sender: Identity, recipient: DIDDocument) -> bytes:
    """Encrypt to `recipient` so that it knows the sender. Bytes must be a signed message."""
    if isinstance(message, Message):
        if message.from_ is None or not same_party(message.from_, sender.did):
            raise LocalMisuse("A message is to be encrypted by somebody else than its `from`.")
        _check_addressed(message, recipient)
    skid, key, recipients = _matching_keys(sender, recipient)
    protected = {
        "typ": ENCRYPTED,
        "alg": jose.AUTHCRYPT,
        "enc": "A256CBC-HS512",
        "skid": skid,
        "apu": b64url(skid.encode()),
        "apv": jose.apv_of([kid for kid, _ in recipients]),
    }
    return msgspec.json.encode(jose.encrypt(protected, _plaintext(message), recipients, key))


def pack_anoncrypt(
    message: Message | bytes, recipient: DIDDocument, enc: str = "A256CBC-HS512", kid: str | None = None
) -> bytes:
    """Encrypt to `recipient` without saying who sends; to its key `kid` alone where one is named.

    Bytes must be a signed message, or an authcrypted one whose sender is to be hidden.
    """
    if enc not in jose.ANONCRYPT_ENC:
        raise LocalMisuse(f"{enc} is no content encryption of DIDComm.")
    if isinstance(message, Message):
        _check_addressed(message, recipient)
    methods = (recipient.agreement_key(kid),) if kid else recipient.key_agreement
    methods = tuple(method for method in methods if method.public.curve not in RECEIVED_ONLY)
    if not methods:
        raise DidError("A DID has no keyAgreement key that we use, so nothing can be encrypted to it.")
    recipients = _of_curve(methods, methods[0].public)
    protected = {
        "typ": ENCRYPTED,
        "alg": jose.ANONCRYPT,
        "enc": enc,
        "apv": jose.apv_of([name for name, _ in recipients]),
    }
    return msgspec.json.encode(jose.encrypt(protected, _plaintext(message), recipients, None))


def pack_signed(message: Message, signer: Identity) -> bytes:
    """Sign a message, for whoever it may be shown to. To be encrypted afterwards it must have a `to`."""
    if message.from_ is None or not same_party(message.from_, signer.did):
        raise LocalMisuse("A message is to be signed by somebody else than its `from`.")
    kid, key = signer.signing_key
    protected, payload, signature = jose.sign({"typ": SIGNED}, message.encode(), key).split(".")
    signatures = [{"protected": protected, "signature": signature, "header": {"kid": kid}}]
    return msgspec.json.encode({"payload": payload, "signatures": signatures})


def unpack(
    envelope: bytes, secrets: Secrets, resolve: Resolve = dids.resolve, max_size: int = MAX_ENVELOPE
) -> Unpacked:
    """Open an envelope and check it. Raises `EnvelopeError`, `MessageError` or `DidError`, nothing else."""
    value = _object(envelope, max_size)
    if not _is_encrypted(value) and not _is_signed(value):
        raise EnvelopeError("A message came in the clear: neither encrypted nor signed.")
    layers: list[_Opened] = []
    while _is_encrypted(value):
        layers.append(_open(value, secrets, resolve, inside=layers[-1] if layers else None))
        value = _object(layers[-1].plaintext, max_size)
    signer_kid = None
    if _is_signed(value):
        payload, signer_kid = _verify(value, resolve)
        value = _object(payload, max_size)
    message = Message.from_json(value)
    _check_consistency(message, layers, signer_kid)
    innermost = layers[-1] if layers else None
    sender_kid = innermost.sender_kid if innermost else None
    return Unpacked(
        message=message,
        sender=did_of(sender_kid) if sender_kid else None,
        sender_kid=sender_kid,
        recipient_kid=innermost.recipient_kid if innermost else None,
        signer=did_of(signer_kid) if signer_kid else None,
        enc=innermost.enc if innermost else None,
    )


def envelope_recipients(envelope: bytes, max_size: int = MAX_ENVELOPE) -> tuple[str, ...]:
    """The key ids an encrypted envelope is for, without opening it. Raises `EnvelopeError`."""
    return tuple(kid for kid, _ in _recipients(_object(envelope, max_size)))


# --- packing


def _plaintext(message: Message | bytes) -> bytes:
    return message.encode() if isinstance(message, Message) else message


def _check_addressed(message: Message, recipient: DIDDocument) -> None:
    if message.to and not any(same_party(to, recipient.did) for to in message.to):
        raise LocalMisuse("A message is to be encrypted for somebody who is not in its `to`.")


def _matching_keys(
    sender: Identity, recipient: DIDDocument
) -> tuple[str, PrivateKey, list[tuple[str, PublicKey]]]:
    """The sender's first key whose curve the recipient has too, and the recipient's keys of that curve."""
    for method in sender.document.key_agreement:
        if method.public.curve in RECEIVED_ONLY:
            continue
        recipients = _of_curve(recipient.key_agreement, method.public)
        if recipients and method.kid in sender.keys:
            return method.kid, sender.keys[method.kid], recipients
    raise DidError("Sender and recipient have no keyAgreement keys of one curve.")


def _of_curve(methods: tuple[VerificationMethod, ...], like: PublicKey) -> list[tuple[str, PublicKey]]:
    return [(method.kid, method.public) for method in methods if method.public.curve == like.curve]


# --- unpacking


@dataclass(frozen=True, slots=True)
class _Opened:
    """One encrypted layer after it was opened."""

    plaintext: bytes
    sender_kid: str | None
    recipient_kid: str
    enc: str


def _object(data: bytes, max_size: int) -> dict[str, Any]:
    value = decode_json(data, max_size)
    if not isinstance(value, dict):
        raise EnvelopeError("An envelope is not a JSON object.")
    return value


def _is_encrypted(value: Mapping[str, Any]) -> bool:
    return "ciphertext" in value


def _is_signed(value: Mapping[str, Any]) -> bool:
    return "payload" in value and ("signatures" in value or "signature" in value)


def _open(value: dict[str, Any], secrets: Secrets, resolve: Resolve, inside: _Opened | None) -> _Opened:
    """Open one encrypted layer. Inside an anonymous one only an authenticated one may stand, once."""
    for name in ("protected", "iv", "ciphertext", "tag"):
        if not isinstance(value.get(name), str):
            raise EnvelopeError(f"An encrypted envelope has no {name}.")
    if "unprotected" in value or "aad" in value:
        raise EnvelopeError("An encrypted envelope has members that DIDComm does not use.")
    header = _protected(value["protected"], ENCRYPTED)
    authenticated = header.get("alg") == jose.AUTHCRYPT
    if not authenticated and header.get("alg") != jose.ANONCRYPT:
        raise EnvelopeError(
            f"An envelope uses the key agreement {header.get('alg')!r:.40}, which is not allowed."
        )
    if inside is not None and not (authenticated and inside.sender_kid is None):
        raise EnvelopeError("An envelope is nested in a way that DIDComm does not allow.")
    enc = header.get("enc")
    if not isinstance(enc, str) or enc not in (jose.AUTHCRYPT_ENC if authenticated else jose.ANONCRYPT_ENC):
        raise EnvelopeError(
            f"An envelope uses the content encryption {enc!r:.40}, which is not allowed here."
        )
    recipients = _recipients(value)
    if "apv" not in header:
        raise EnvelopeError("An envelope does not bind its recipients: it has no apv.")
    if header["apv"] != jose.apv_of([kid for kid, _ in recipients]):
        raise EnvelopeError("An envelope's apv is not the hash of its recipients' key ids.")
    ephemeral = _ephemeral_key(header)
    recipient_kid, key, encrypted_key = _own_key(recipients, secrets, ephemeral)
    sender_kid, sender = _sender(header, resolve, key) if authenticated else (None, None)
    plaintext = jose.decrypt(header, value, encrypted_key, key, ephemeral, sender)
    return _Opened(plaintext, sender_kid, recipient_kid, enc)


def _protected(text: str, typ: str) -> dict[str, Any]:
    if len(text) > jose.MAX_PROTECTED:
        raise EnvelopeError("An envelope's protected header is too large.")
    try:
        header = decode_json(unb64url(text), jose.MAX_PROTECTED)
    except (ValueError, MessageError):
        raise EnvelopeError("An envelope's protected header is not base64url of JSON.") from None
    if not isinstance(header, dict):
        raise EnvelopeError("An envelope's protected header is not an object.")
    # RFC 7515, 4.1.9: "application/" may be left out.
    if header.get("typ") not in (None, typ, typ.removeprefix("application/"), _ALSO_TYP.get(typ)):
        raise EnvelopeError(f"An envelope's typ is {header.get('typ')!r:.60} instead of {typ}.")
    for name in ("crit", "zip", "b64"):
        if name in header:
            raise EnvelopeError(f"An envelope's protected header has {name}, which DIDComm does not use.")
    return header


def _recipients(value: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Key id and encrypted key of each recipient."""
    items = value.get("recipients")
    if not isinstance(items, list) or not 0 < len(items) <= MAX_RECIPIENTS:
        raise EnvelopeError(f"An envelope must have between 1 and {MAX_RECIPIENTS} recipients.")
    found: list[tuple[str, str]] = []
    for item in items:
        header = item.get("header") if isinstance(item, dict) else None
        kid = header.get("kid") if isinstance(header, dict) else None
        encrypted_key = item.get("encrypted_key") if isinstance(item, dict) else None
        if not isinstance(kid, str) or not isinstance(encrypted_key, str) or len(kid) > _MAX_KID:
            raise EnvelopeError("An envelope has a recipient without a key id or an encrypted key.")
        found.append((kid, encrypted_key))
    return found


def _ephemeral_key(header: Mapping[str, Any]) -> PublicKey:
    epk = header.get("epk")
    if not isinstance(epk, dict):
        raise EnvelopeError("An envelope's protected header has no ephemeral key (epk).")
    try:
        key = PublicKey.from_jwk(epk)
    except DidError as error:
        raise EnvelopeError("An envelope's ephemeral key is not valid.", why=str(error)) from None
    if key.curve not in AGREEMENT_CURVES:
        raise EnvelopeError("An envelope's ephemeral key is of a curve that only signs.")
    return key


def _own_key(
    recipients: list[tuple[str, str]], secrets: Secrets, ephemeral: PublicKey
) -> tuple[str, PrivateKey, str]:
    """The first key of ours among the recipients."""
    for kid, encrypted_key in recipients:
        key = secrets.find(kid)
        if key is None:
            continue
        if key.curve != ephemeral.curve:
            raise EnvelopeError("An envelope's ephemeral key is of another curve than its recipient's.")
        return kid, key, encrypted_key
    raise EnvelopeError("An envelope is for none of the keys that are held here.")


def _sender(header: Mapping[str, Any], resolve: Resolve, own: PrivateKey) -> tuple[str, PublicKey]:
    """The sender's key id and key: from `skid`, or from `apu` where there is no `skid`."""
    skid, apu = header.get("skid"), header.get("apu")
    try:
        named = unb64url(apu).decode() if isinstance(apu, str) else None
    except ValueError:
        named = None
    if named is None or (skid is not None and skid != named):
        raise EnvelopeError("An authenticated envelope must name its sender in apu, the same as in skid.")
    if len(named) > _MAX_KID:
        raise EnvelopeError("A sender's key id is too long.")
    public = resolve(did_of(named)).agreement_key(named).public
    if public.curve != own.curve:
        raise EnvelopeError("An envelope's sender key is of another curve than its recipient's.")
    return named, public


def _verify(value: Mapping[str, Any], resolve: Resolve) -> tuple[bytes, str]:
    """The payload of a signed message with one signature, and the key id that signed it."""
    signatures = value.get("signatures", [value])  # a single signature may be written flattened
    if not isinstance(signatures, list) or len(signatures) != 1 or not isinstance(signatures[0], dict):
        raise EnvelopeError("A signed message must have exactly one signature.")
    parts = [signatures[0].get("protected"), value["payload"], signatures[0].get("signature")]
    texts = [part for part in parts if isinstance(part, str)]
    unprotected = signatures[0].get("header") or {}
    if len(texts) != len(parts) or not isinstance(unprotected, dict):
        raise EnvelopeError("A signed message is malformed.")
    header = _protected(texts[0], SIGNED)
    kid = header.get("kid", unprotected.get("kid"))
    if not isinstance(kid, str) or len(kid) > _MAX_KID or unprotected.get("kid", kid) != kid:
        raise EnvelopeError("A signed message must name one key that signed it.")
    public = resolve(did_of(kid)).authentication_key(kid).public
    return jose.verify(".".join(texts), public), kid


def _check_consistency(message: Message, layers: list[_Opened], signer_kid: str | None) -> None:
    """ "Message Layer Addressing Consistency": the layers and the plaintext must name the same parties."""
    for layer in layers:
        if message.to and not any(_same(to, layer.recipient_kid) for to in message.to):
            raise EnvelopeError("A message is encrypted for somebody who is not in its `to`.")
        if layer.sender_kid and not (message.from_ and _same(message.from_, layer.sender_kid)):
            raise EnvelopeError("A message's `from` is not the sender that its envelope proves.")
    if signer_kid and not (message.from_ and _same(message.from_, signer_kid)):
        raise EnvelopeError("A message's `from` is not the one that signed it.")
    if signer_kid and layers and not message.to:
        # Without it whoever reads a signed message could encrypt it anew for somebody else.
        raise EnvelopeError("A message that is signed and encrypted must name its recipient in `to`.")


def _same(one: str, other: str) -> bool:
    try:
        return same_party(one, other)
    except DidError:
        return False
