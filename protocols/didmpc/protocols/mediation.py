"""coordinate-mediation/2.0: asking a mediator to take messages in for one's DIDs.

mediate-request {}                         -> mediate-grant {routing_did} | mediate-deny {}
keylist-update {updates: [{recipient_did, action}]}
                                           -> keylist-update-response {updated: [{..., result}]}
keylist-query {paginate?: {limit, offset}} -> keylist {keys: [{recipient_did}], pagination?}
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from didmpc.protocols.body import expect, many, mapping, one_of, optional, required, text, whole
from didmpc.protocols.did import did_of
from didmpc.protocols.errors import DidError, MessageError
from didmpc.protocols.message import Message

PROTOCOL = "https://didcomm.org/coordinate-mediation/2.0"
MEDIATE_REQUEST = f"{PROTOCOL}/mediate-request"
MEDIATE_GRANT = f"{PROTOCOL}/mediate-grant"
MEDIATE_DENY = f"{PROTOCOL}/mediate-deny"
KEYLIST_UPDATE = f"{PROTOCOL}/keylist-update"
KEYLIST_UPDATE_RESPONSE = f"{PROTOCOL}/keylist-update-response"
KEYLIST_QUERY = f"{PROTOCOL}/keylist-query"
KEYLIST = f"{PROTOCOL}/keylist"

MAX_UPDATES = 256

Action = Literal["add", "remove"]
Result = Literal["success", "no_change", "client_error", "server_error"]

_action = one_of("add", "remove")
_result = one_of("success", "no_change", "client_error", "server_error")


@dataclass(frozen=True, slots=True)
class Update:
    """One wish for a change of the key list."""

    recipient_did: str
    action: Action


@dataclass(frozen=True, slots=True)
class Updated:
    """What became of one wish."""

    recipient_did: str
    action: Action
    result: Result


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the key list: at most `limit` entries from `offset` on."""

    limit: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Keylist:
    """The DIDs an account has registered; `remaining` more follow after this page."""

    recipient_dids: tuple[str, ...]
    remaining: int = 0


def mediate_request(from_: str | None = None, to: str | None = None) -> Message:
    return _message(MEDIATE_REQUEST, {}, from_, to)


def mediate_grant(request: Message, routing_did: str) -> Message:
    """`routing_did` goes into the service of the account's DIDs; here a string, in 3.0 a list."""
    return request.reply(MEDIATE_GRANT, {"routing_did": routing_did})


def mediate_deny(request: Message) -> Message:
    return request.reply(MEDIATE_DENY)


def parse_mediate_grant(message: Message) -> str:
    """The routing DID. Raises `MessageError`, for a `mediate-deny` too."""
    if message.type == MEDIATE_DENY:
        raise MessageError(
            "The mediator refused to take messages in for this agent.", code="e.p.req.not_enroll"
        )
    expect(message, MEDIATE_GRANT)
    return required(message, "routing_did", _one_did)


def keylist_update(
    changes: Iterable[tuple[str, Action]], from_: str | None = None, to: str | None = None
) -> Message:
    updates = [{"recipient_did": did, "action": action} for did, action in changes]
    return _message(KEYLIST_UPDATE, {"updates": updates}, from_, to)


def parse_keylist_update(message: Message) -> tuple[Update, ...]:
    expect(message, KEYLIST_UPDATE)
    return required(message, "updates", many(_update, MAX_UPDATES))


def keylist_update_response(update: Message, outcome: Sequence[Updated]) -> Message:
    updated = [
        {"recipient_did": item.recipient_did, "action": item.action, "result": item.result}
        for item in outcome
    ]
    return update.reply(KEYLIST_UPDATE_RESPONSE, {"updated": updated})


def parse_keylist_update_response(message: Message) -> tuple[Updated, ...]:
    expect(message, KEYLIST_UPDATE_RESPONSE)
    return required(message, "updated", many(_updated, MAX_UPDATES))


def keylist_query(page: Page | None = None, from_: str | None = None, to: str | None = None) -> Message:
    body = {"paginate": {"limit": page.limit, "offset": page.offset}} if page else {}
    return _message(KEYLIST_QUERY, body, from_, to)


def parse_keylist_query(message: Message) -> Page | None:
    """The page that is asked for; None for all."""
    expect(message, KEYLIST_QUERY)
    return optional(message, "paginate", _page, None)


def keylist(query: Message, dids: Sequence[str], page: Page | None = None) -> Message:
    """The answer to a query: all of `dids`, or the page of them."""
    keys = [{"recipient_did": did} for did in dids]
    if page is None:
        return query.reply(KEYLIST, {"keys": keys})
    shown = keys[page.offset : page.offset + page.limit]
    remaining = max(0, len(keys) - page.offset - len(shown))
    pagination = {"count": len(shown), "offset": page.offset, "remaining": remaining}
    return query.reply(KEYLIST, {"keys": shown, "pagination": pagination})


def parse_keylist(message: Message) -> Keylist:
    expect(message, KEYLIST)
    return Keylist(
        recipient_dids=required(message, "keys", many(_entry)),
        remaining=optional(message, "pagination", _remaining, 0),
    )


def _message(type: str, body: dict[str, Any], from_: str | None, to: str | None) -> Message:
    return Message(type=type, body=body, from_=from_, to=(to,) if to else ())


def _did(value: Any) -> str:
    try:
        return did_of(text(value))
    except DidError:
        raise ValueError("must name DIDs") from None


def _one_did(value: Any) -> str:
    # A mediator that mixes versions sends the list of 3.0: one entry in it says the same.
    return _did(value[0] if isinstance(value, list) and len(value) == 1 else value)


def _entry(value: Any) -> str:
    return _did(mapping(value).get("recipient_did"))


def _update(value: Any) -> Update:
    return Update(_entry(value), cast(Action, _action(value.get("action"))))


def _updated(value: Any) -> Updated:
    action, result = _action(value.get("action")), _result(value.get("result"))
    return Updated(_entry(value), cast(Action, action), cast(Result, result))


def _remaining(value: Any) -> int:
    return whole(mapping(value).get("remaining", 0))


def _page(value: Any) -> Page | None:
    item = mapping(value)
    return Page(whole(item.get("limit")), whole(item.get("offset", 0)))
