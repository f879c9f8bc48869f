"""out-of-band/2.0: invitations, as the URL or the text that people pass on.

The URL carries the plaintext message in base64url: `https://host/path?_oob=...` ("Standard Message
Encoding"). What a person pastes is often broken or something else; each case gets its own sentence.
"""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from didmpc.protocols import did as dids
from didmpc.protocols.crypto.encoding import b64url, unb64url
from didmpc.protocols.errors import DidError, DidmpcError, LocalMisuse, MessageError
from didmpc.protocols.message import Message, decode_json, new_id
from didmpc.protocols.messages.body import many, optional, text

PROTOCOL = "https://didcomm.org/out-of-band/2.0"
INVITATION = f"{PROTOCOL}/invitation"

MAX_INVITATION = 65_536
"""Longest text that is looked at."""

_ASK_AGAIN = "Ask for the invitation again and copy it whole."
_DIDCOMM_1 = ("out-of-band/1.", "connections/1.", "didexchange/1.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """An invitation to write to `from_`; the answer carries its `id` as `pthid`."""

    from_: str
    id: str = field(default_factory=new_id)
    goal_code: str | None = None
    goal: str | None = None
    label: str | None = None
    """How the inviter wishes to be called. Nothing proves it."""
    accept: tuple[str, ...] = ("didcomm/v2",)
    created_time: int | None = None
    expires_time: int | None = None

    def expired(self, now: float) -> bool:
        return self.expires_time is not None and now >= self.expires_time

    def to_message(self) -> Message:
        texts = {"goal_code": self.goal_code, "goal": self.goal, "label": self.label}
        return Message(
            type=INVITATION,
            id=self.id,
            from_=self.from_,
            body={**{k: v for k, v in texts.items() if v is not None}, "accept": list(self.accept)},
            created_time=self.created_time,
            expires_time=self.expires_time,
        )

    def to_url(self, base_url: str) -> str:
        """The invitation as a URL below `base_url`."""
        joint = "&" if urlsplit(base_url).query else "?"
        return f"{base_url}{joint}_oob={b64url(self.to_message().encode())}"

    @classmethod
    def from_message(cls, message: Message) -> "Invitation":
        """Raises `MessageError` or `DidError` when the message is no invitation that can be answered."""
        if not _is_invitation(message.type):
            raise MessageError("This is a DIDComm message, but not an invitation.")
        if message.from_ is None:
            raise MessageError("An invitation does not say whom it is from.")
        dids.resolve(message.from_)
        accept: tuple[str, ...] = optional(message, "accept", many(text, 16), ())
        if accept and not any(profile.startswith("didcomm/v2") for profile in accept):
            raise MessageError("An invitation accepts no DIDComm version 2 messages.")
        return cls(
            from_=message.from_,
            id=message.id,
            goal_code=optional(message, "goal_code", text, "") or None,
            goal=optional(message, "goal", text, "") or None,
            label=optional(message, "label", text, "") or None,
            accept=accept,
            created_time=message.created_time,
            expires_time=message.expires_time,
        )


def from_url(url: str) -> Invitation:
    """The invitation in a URL. Raises `LocalMisuse` that says what is wrong with it and what to do."""
    try:
        parts = urlsplit(url)
        query = parse_qs(parts.query, max_num_fields=64)
    except ValueError:
        raise _not_an_invitation("it is not a URL") from None
    if "_oob" in query:
        return _from_encoded(query["_oob"][0])
    if "_oobid" in query:
        raise LocalMisuse(
            "This is a shortened invitation.",
            why="the URL only points to the invitation",
            fix="Open it in a browser, and copy the URL you are sent to.",
        )
    if query.keys() & {"oob", "c_i", "d_m"}:
        raise _version_1()
    raise _not_an_invitation("the URL has no _oob in it")


def from_text(pasted: str) -> Invitation:
    """The invitation in what a person pasted, or a file holds: a URL, the JSON, or its base64url."""
    if len(pasted) > MAX_INVITATION:
        raise _not_an_invitation("it is far too long")
    stripped = pasted.strip().strip("<>\"'`")
    if stripped.startswith("{"):
        return _from_json(stripped.encode("utf-8", "replace"))
    compact = "".join(stripped.split())  # mail programs break long lines
    if not compact:
        raise _not_an_invitation("it is empty")
    if "://" in compact[:64]:
        return from_url(compact)
    if compact.startswith("did:"):
        raise _not_an_invitation("it is a DID")
    if compact.startswith("eyJ"):  # base64 of `{"`
        return _from_encoded(compact)
    raise _not_an_invitation("it is neither a URL nor JSON")


def _from_encoded(encoded: str) -> Invitation:
    try:
        return _from_json(unb64url(encoded))
    except ValueError:
        raise _damaged("its text is cut off or was changed") from None


def _from_json(data: bytes) -> Invitation:
    try:
        value = decode_json(data, MAX_INVITATION)
    except MessageError:
        raise _damaged("its text is cut off or was changed") from None
    kind = _kind(value)
    if any(old in kind for old in _DIDCOMM_1):
        raise _version_1()
    if isinstance(value, dict) and not _is_invitation(kind):
        raise _not_an_invitation(f"its type is {kind[:80]!r}" if kind else "it has no type")
    try:
        return Invitation.from_message(Message.from_json(value))
    except DidError as error:
        if error.code == "e.p.did.unsupported":
            raise LocalMisuse(
                "The invitation is from a DID of a kind that is not supported here.", why=error.why
            ) from None
        raise _damaged(error.what) from None
    except MessageError as error:
        raise _damaged(error.what) from None


def _kind(value: Any) -> str:
    kind = value.get("type", value.get("@type")) if isinstance(value, dict) else None
    return kind if isinstance(kind, str) else ""


def _is_invitation(kind: str) -> bool:
    # A higher minor version means optional additions only ("Semver Rules for Message Types").
    head, _, name = kind.rpartition("/")
    return name == "invitation" and head.rpartition(".")[0] == PROTOCOL.rpartition(".")[0]


def _not_an_invitation(why: str) -> DidmpcError:
    return LocalMisuse(
        "This is not an invitation.",
        why=why,
        fix="An invitation is a URL with ?_oob= in it, or a file with one.",
    )


def _damaged(why: str) -> DidmpcError:
    return LocalMisuse("This invitation is damaged.", why=why, fix=_ASK_AGAIN)


def _version_1() -> DidmpcError:
    return LocalMisuse(
        "This is an invitation of DIDComm version 1.",
        why="didmpc speaks version 2, which has other keys and envelopes",
        fix="Ask for an invitation of version 2 (out-of-band/2.0).",
    )
