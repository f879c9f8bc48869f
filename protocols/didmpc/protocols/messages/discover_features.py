"""discover-features/2.0: which protocols, goal codes and other features a party supports."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from didmpc.protocols.message import Message
from didmpc.protocols.messages.body import expect, many, mapping, required, text

PROTOCOL = "https://didcomm.org/discover-features/2.0"
QUERIES = f"{PROTOCOL}/queries"
DISCLOSE = f"{PROTOCOL}/disclose"

MAX_QUERIES = 32
MAX_PATTERN = 256


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature: its type (`protocol`, `goal-code`, `constraint`, ...) and its id."""

    feature_type: str
    id: str
    roles: tuple[str, ...] = ()
    value: str | None = None
    """What a constraint is set to, for example `max_receive_bytes`."""

    def _to_json(self) -> dict[str, Any]:
        entry: dict[str, Any] = {"feature-type": self.feature_type, "id": self.id}
        if self.roles:
            entry["roles"] = list(self.roles)
        if self.value is not None:
            entry["value"] = self.value
        return entry


@dataclass(frozen=True, slots=True)
class Query:
    """A question: features of one type whose id matches a pattern, in which only `*` is special."""

    feature_type: str
    match: str = "*"

    def admits(self, feature: Feature) -> bool:
        return self.feature_type == feature.feature_type and _matches(self.match, feature.id)


def queries(questions: Iterable[Query], *, from_: str | None = None, to: str | None = None) -> Message:
    asked = [{"feature-type": question.feature_type, "match": question.match} for question in questions]
    return Message(type=QUERIES, from_=from_, to=(to,) if to else (), body={"queries": asked})


def parse_queries(message: Message) -> tuple[Query, ...]:
    expect(message, QUERIES)
    return required(message, "queries", many(_query, MAX_QUERIES))


def disclose(message: Message, features: Iterable[Feature]) -> Message:
    """The answer to `queries`: those of `features` that were asked for, each once."""
    questions = parse_queries(message)
    found = [feature for feature in features if any(question.admits(feature) for question in questions)]
    return message.reply(DISCLOSE, {"disclosures": [feature._to_json() for feature in found]})


def parse_disclose(message: Message) -> tuple[Feature, ...]:
    expect(message, DISCLOSE)
    return required(message, "disclosures", many(_feature))


def _query(value: Any) -> Query:
    item = mapping(value)
    pattern = text(item.get("match", "*"))
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"must have patterns of at most {MAX_PATTERN} characters")
    return Query(text(item.get("feature-type")), pattern)


def _feature(value: Any) -> Feature:
    item = mapping(value)
    setting = item.get("value")
    return Feature(
        feature_type=text(item.get("feature-type")),
        id=text(item.get("id")),
        roles=many(text, 16)(item.get("roles") or []),
        value=None if setting is None else str(setting)[:MAX_PATTERN],
    )


def _matches(pattern: str, name: str) -> bool:
    """Greedy from the left, so the cost stays linear whatever the pattern."""
    first, *parts = pattern.split("*")
    if not parts:
        return name == pattern
    last = parts.pop()
    if len(name) < len(first) + len(last) or not (name.startswith(first) and name.endswith(last)):
        return False
    rest = name[len(first) : len(name) - len(last)]
    for part in parts:
        _, found, rest = rest.partition(part) if part else ("", "*", rest)
        if not found:
            return False
    return True
