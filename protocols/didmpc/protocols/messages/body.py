"""Reading the body of a protocol message: each field through a check, a wrong one is a `MessageError`."""

from collections.abc import Callable
from typing import Any, TypeVar

from didmpc.protocols.errors import MessageError
from didmpc.protocols.message import Message

T = TypeVar("T")

MAX_TEXT = 8192
MAX_ITEMS = 1024

Check = Callable[[Any], T]
"""Returns the value it was given, in its type, or raises `ValueError` that says what it must be."""


def expect(message: Message, *types: str) -> None:
    """Raise unless the message is of one of these types."""
    if message.type not in types:
        raise MessageError(
            f"A message of the type {message.type[:120]!r} came where {' or '.join(types)} was due.",
            code="e.p.msg.unsupported",
        )


def required(message: Message, name: str, check: Check[T]) -> T:
    """The checked field `name` of the body."""
    if message.body.get(name) is None:
        raise MessageError(f"A message {_kind(message)} lacks {name}.", code="e.p.msg.bad-body")
    return _checked(message, name, message.body[name], check)


def optional(message: Message, name: str, check: Check[T], default: T) -> T:
    """The checked field `name` of the body; absent or null gives `default`."""
    value = message.body.get(name)
    return default if value is None else _checked(message, name, value, check)


def text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise ValueError(f"must be a text of at most {MAX_TEXT} characters")
    return value


def whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise ValueError("must be a whole number, not negative")
    return value


def truth(value: Any) -> bool:
    """A boolean; the texts that some peers send in its place are taken too."""
    if value in ("true", "True"):
        return True
    if value in ("false", "False"):
        return False
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("must be an object")
    return value


def one_of(*allowed: str) -> Check[str]:
    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return value

    return check


def many(item: Check[T], limit: int = MAX_ITEMS) -> Check[tuple[T, ...]]:
    def check(value: Any) -> tuple[T, ...]:
        if not isinstance(value, list) or len(value) > limit:
            raise ValueError(f"must be a list of at most {limit}")
        return tuple(item(element) for element in value)

    return check


def _checked(message: Message, name: str, value: Any, check: Check[T]) -> T:
    try:
        return check(value)
    except ValueError as error:
        raise MessageError(
            f"A message {_kind(message)} has a wrong {name}: it {error}.", code="e.p.msg.bad-body"
        ) from None


def _kind(message: Message) -> str:
    return message.type.rpartition("://")[2][:120]
