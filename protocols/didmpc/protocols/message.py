"""The plaintext message of DIDComm Messaging 2.1 ("Plaintext Message Structure") as an immutable value.

What `decode` gives has been checked header by header, and is bounded in size and depth. Unknown headers
are ignored, as the specification asks; a header that is JSON null counts as absent.
"""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec

from didmpc.protocols.crypto.encoding import b64url, unb64url
from didmpc.protocols.errors import LocalMisuse, MessageError

ENCRYPTED: Final = "application/didcomm-encrypted+json"
SIGNED: Final = "application/didcomm-signed+json"
PLAIN: Final = "application/didcomm-plain+json"

MAX_MESSAGE = 16 * 1024 * 1024
"""Largest plaintext in bytes."""
MAX_DEPTH = 64
MAX_BRACKETS = 50_000
"""Opening brackets and braces in the JSON of a message, those in its texts too: each may cost an object."""
MAX_ID = 256
MAX_TYPE = 512
MAX_RECIPIENTS = 64
MAX_ATTACHMENTS = 1024

ReturnRoute = Literal["none", "all", "thread"]


def new_id() -> str:
    """A message id: 32 unreserved characters, as version 2.1 limits it."""
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """An attachment ("Attachments"): content by value as JSON or as bytes, or by reference with its hash."""

    id: str = field(default_factory=new_id)
    data_json: Any | None = None
    data_base64: bytes | None = None
    """The content itself: it is base64 only on the wire."""
    links: tuple[str, ...] = ()
    hash: str | None = None
    media_type: str | None = None
    filename: str | None = None
    description: str | None = None
    format: str | None = None

    def content(self) -> bytes:
        """The content by value as bytes; JSON is serialised. Raises `MessageError` where there is none."""
        if self.data_base64 is not None:
            return self.data_base64
        if self.data_json is not None:
            return msgspec.json.encode(self.data_json)
        raise MessageError(f"The attachment {self.id[:40]!r} carries no content of its own.")

    def _to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {}
        if self.data_json is not None:
            data["json"] = self.data_json
        if self.data_base64 is not None:
            data["base64"] = b64url(self.data_base64)
        if self.links:
            data["links"] = list(self.links)
        if self.hash is not None:
            data["hash"] = self.hash
        texts = {name: text for name in _ATTACHMENT_TEXTS if (text := getattr(self, name)) is not None}
        return {"id": self.id, **texts, "data": data}

    @classmethod
    def _from_json(cls, value: Any) -> "Attachment":
        item = _Headers(value, "An attachment")
        data = _Headers(item.take("data", _is_object) or {}, "The data of an attachment")
        base64 = data.take("base64", _is_text)
        return cls(
            id=item.take("id", _is_id) or new_id(),
            data_json=data.value.get("json"),
            data_base64=None if base64 is None else _bytes_of(base64),
            links=tuple(data.take("links", _is_texts) or ()),
            hash=data.take("hash", _is_text),
            **{name: item.take(name, _is_text) for name in _ATTACHMENT_TEXTS},
        )


_ATTACHMENT_TEXTS = ("media_type", "filename", "description", "format")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A plaintext message. `from_` and `from_prior` are claims until an envelope has proven them."""

    type: str
    body: dict[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=new_id)
    from_: str | None = None
    to: tuple[str, ...] = ()
    thid: str | None = None
    pthid: str | None = None
    created_time: int | None = None
    expires_time: int | None = None
    attachments: tuple[Attachment, ...] = ()
    lists_attachments: bool = field(default=False, compare=False)
    """Whether an empty list of attachments is written out too, as message-pickup/4.0 asks."""
    return_route: ReturnRoute | None = None
    please_ack: tuple[str, ...] | None = None
    ack: tuple[str, ...] | None = None
    from_prior: str | None = None

    @property
    def thread(self) -> str:
        """The thread this message belongs to: without `thid` it starts one of its own id."""
        return self.thid if self.thid is not None else self.id

    def reply(self, type: str, body: dict[str, Any] | None = None, **headers: Any) -> "Message":
        """An answer in this thread, to its sender and from its recipient. `headers` override."""
        addresses = {"to": (self.from_,) if self.from_ else (), "from_": self.to[0] if self.to else None}
        return Message(type=type, body=body or {}, **{"thid": self.thread, **addresses, **headers})

    def to_json(self) -> dict[str, Any]:
        """The message as JSON; headers that are not set are left out."""
        value: dict[str, Any] = {"typ": PLAIN, "id": self.id, "type": self.type}
        optional = {
            "from": self.from_,
            "to": list(self.to) or None,
            "thid": self.thid,
            "pthid": self.pthid,
            "created_time": self.created_time,
            "expires_time": self.expires_time,
            "return_route": self.return_route,
            "please_ack": self.please_ack,
            "ack": self.ack,
            "from_prior": self.from_prior,
        }
        value.update((name, item) for name, item in optional.items() if item is not None)
        value["body"] = self.body
        if self.attachments or self.lists_attachments:
            value["attachments"] = [attachment._to_json() for attachment in self.attachments]
        return value

    def encode(self) -> bytes:
        try:
            return msgspec.json.encode(self.to_json())
        except (TypeError, ValueError, RecursionError) as error:
            raise LocalMisuse("A message holds what JSON cannot carry.", why=str(error)) from None

    @classmethod
    def decode(cls, data: bytes) -> "Message":
        """Read a plaintext message. Raises `MessageError`."""
        return cls.from_json(decode_json(data, MAX_MESSAGE))

    @classmethod
    def from_json(cls, value: Any) -> "Message":
        headers = _Headers(value, "A message")
        headers.take("typ", _is_plain)
        attachments = headers.take("attachments", _is_list(MAX_ATTACHMENTS)) or ()
        return cls(
            type=headers.require("type", _is_type),
            id=headers.require("id", _is_id),
            body=headers.take("body", _is_object) or {},
            from_=headers.take("from", _is_text),
            to=tuple(headers.take("to", _is_texts) or ()),
            thid=headers.take("thid", _is_id),
            pthid=headers.take("pthid", _is_id),
            created_time=headers.take("created_time", _is_time),
            expires_time=headers.take("expires_time", _is_time),
            attachments=tuple(Attachment._from_json(item) for item in attachments),
            lists_attachments=value.get("attachments") is not None,
            return_route=headers.take("return_route", _is_return_route),
            please_ack=_tuple(headers.take("please_ack", _is_texts)),
            ack=_tuple(headers.take("ack", _is_texts)),
            from_prior=headers.take("from_prior", _is_text),
        )


def decode_json(data: bytes, limit: int) -> Any:
    """JSON of a peer, bounded in size and in depth. Raises `MessageError`."""
    if len(data) > limit:
        raise MessageError(
            f"A message is larger than {limit} bytes.", code="e.p.me.res.storage.message_too_big"
        )
    brackets = data.count(b"{") + data.count(b"[")
    if brackets > MAX_BRACKETS:
        raise MessageError(f"A message has more than {MAX_BRACKETS} brackets.")
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError("A message is not JSON.", why=str(error)) from None
    # Fewer brackets than the limit cannot nest deeper: most messages need no walk.
    if brackets > MAX_DEPTH:
        _check_depth(value)
    return value


def _check_depth(value: Any) -> None:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        level = [
            item
            for parent in level
            for item in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(item, dict | list)
        ]
        if not level:
            return
    raise MessageError(f"A message is nested deeper than {MAX_DEPTH} levels.")


class _Headers:
    """Takes members out of a JSON object, each through its check."""

    def __init__(self, value: Any, what: str) -> None:
        if not isinstance(value, dict):
            raise MessageError(f"{what} is not a JSON object.")
        self.value: Mapping[str, Any] = value
        self.what = what

    def take(self, name: str, check: Callable[[Any], bool]) -> Any:
        item = self.value.get(name)
        if item is not None and not check(item):
            raise MessageError(f"{self.what} has a wrong {name}.", why=f"it is {item!r:.60}")
        return item

    def require(self, name: str, check: Callable[[Any], bool]) -> Any:
        item = self.take(name, check)
        if item is None:
            raise MessageError(f"{self.what} has no {name}.")
        return item


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_id(value: Any) -> bool:
    # 2.1 allows 32 unreserved characters; dashed UUIDs and longer ids are common, so only the length is held.
    return isinstance(value, str) and 0 < len(value) <= MAX_ID


def _is_type(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_TYPE


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MAX_RECIPIENTS and all(map(_is_text, value))


def _is_time(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_return_route(value: Any) -> bool:
    return value in ("none", "all", "thread")


def _is_plain(value: Any) -> bool:
    return value in (PLAIN, PLAIN.removeprefix("application/"))


def _is_list(limit: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) <= limit


def _tuple(value: list[str] | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(value)


def _bytes_of(base64: str) -> bytes:
    try:
        return unb64url(base64)
    except ValueError as error:
        raise MessageError("An attachment is damaged.", why=str(error)) from None
