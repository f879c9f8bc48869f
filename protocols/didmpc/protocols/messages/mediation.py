"""coordinate-mediation 2.0 and 3.0: asking a mediator to take messages in for one's DIDs.

    2.0                                                 3.0
    mediate-request {}                                  the same
      -> mediate-grant {routing_did: DID}                 -> mediate-grant {routing_did: [DID]}
      |  mediate-deny {}                                  |  mediate-deny {}
    keylist-update {updates}                            recipient-update {updates}
      -> keylist-update-response {updated}                -> recipient-update-response {updated}
    keylist-query {paginate?: {limit, offset}}          recipient-query {paginate?}
      -> keylist {keys, pagination?}                      -> recipient {dids, pagination?}

    updates     [{recipient_did, action: add | remove, proof?}]
    updated     [{recipient_did, action, result: success | no_change | client_error | server_error}]
    keys, dids  [{recipient_did}]

Both say the same, so there is one set of functions: a request is built in the version that is named, an
answer in that of its request, and whatever is read may be of either. `proof` is ours (`binding_proof`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from didmpc.protocols.did import did_of
from didmpc.protocols.errors import DidError, MessageError
from didmpc.protocols.message import Message
from didmpc.protocols.messages.body import expect, many, mapping, one_of, optional, required, text, whole

MAX_UPDATES = 256
MAX_PROOF = 32_768
"""Longest proof in characters: with keys and DIDs in their long forms it is longer than other texts."""

Action = Literal["add", "remove"]
Result = Literal["success", "no_change", "client_error", "server_error"]

_action = one_of("add", "remove")
_result = one_of("success", "no_change", "client_error", "server_error")


@dataclass(frozen=True, slots=True)
class Version:
    """What one version calls its messages, and the list in its answer to a query."""

    protocol: str
    update: str
    query: str
    listing: str
    entries: str
    lists_routing_dids: bool

    @property
    def request(self) -> str:
        return f"{self.protocol}/mediate-request"

    @property
    def grant(self) -> str:
        return f"{self.protocol}/mediate-grant"

    @property
    def deny(self) -> str:
        return f"{self.protocol}/mediate-deny"

    @property
    def update_response(self) -> str:
        return f"{self.update}-response"


_V2 = "https://didcomm.org/coordinate-mediation/2.0"
_V3 = "https://didcomm.org/coordinate-mediation/3.0"
V2 = Version(_V2, f"{_V2}/keylist-update", f"{_V2}/keylist-query", f"{_V2}/keylist", "keys", False)
V3 = Version(_V3, f"{_V3}/recipient-update", f"{_V3}/recipient-query", f"{_V3}/recipient", "dids", True)
VERSIONS = (V2, V3)

# 2.0 is what our own agent speaks.
PROTOCOL = V2.protocol
MEDIATE_REQUEST, MEDIATE_GRANT, MEDIATE_DENY = V2.request, V2.grant, V2.deny
KEYLIST_UPDATE, KEYLIST_UPDATE_RESPONSE = V2.update, V2.update_response
KEYLIST_QUERY, KEYLIST = V2.query, V2.listing


@dataclass(frozen=True, slots=True)
class Update:
    """One wish for a change of the key list."""

    recipient_did: str
    action: Action
    proof: str | None = None
    """By which the DID itself names the account (`binding_proof`)."""


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


def mediate_request(
    from_: str | None = None, to: str | None = None, *, version: Version = V2, pthid: str | None = None
) -> Message:
    """`pthid` is the id of the mediator's invitation that this answers."""
    return _message(version.request, {}, from_, to, pthid=pthid)


def mediate_grant(request: Message, routing_did: str) -> Message:
    """`routing_did` goes into the service of the account's DIDs."""
    version = _version_of(request)
    value = [routing_did] if version.lists_routing_dids else routing_did
    return request.reply(version.grant, {"routing_did": value})


def mediate_deny(request: Message) -> Message:
    return request.reply(_version_of(request).deny)


def parse_mediate_grant(message: Message) -> str:
    """The routing DID. Raises `MessageError`, for a `mediate-deny` too."""
    if message.type in (V2.deny, V3.deny):
        raise MessageError(
            "The mediator refused to take messages in for this agent.", code="e.p.req.not_enroll"
        )
    expect(message, *(version.grant for version in VERSIONS))
    return required(message, "routing_did", _one_did)


def keylist_update(
    changes: Iterable[tuple[str, Action] | Update],
    from_: str | None = None,
    to: str | None = None,
    *,
    version: Version = V2,
) -> Message:
    updates = [change if isinstance(change, Update) else Update(*change) for change in changes]
    return _message(version.update, {"updates": [_update_json(update) for update in updates]}, from_, to)


def parse_keylist_update(message: Message) -> tuple[Update, ...]:
    expect(message, *(version.update for version in VERSIONS))
    return required(message, "updates", many(_update, MAX_UPDATES))


def keylist_update_response(update: Message, outcome: Sequence[Updated]) -> Message:
    updated = [
        {"recipient_did": item.recipient_did, "action": item.action, "result": item.result}
        for item in outcome
    ]
    return update.reply(_version_of(update).update_response, {"updated": updated})


def parse_keylist_update_response(message: Message) -> tuple[Updated, ...]:
    expect(message, *(version.update_response for version in VERSIONS))
    return required(message, "updated", many(_updated, MAX_UPDATES))


def keylist_query(
    page: Page | None = None, from_: str | None = None, to: str | None = None, *, version: Version = V2
) -> Message:
    body = {"paginate": {"limit": page.limit, "offset": page.offset}} if page else {}
    return _message(version.query, body, from_, to)


def parse_keylist_query(message: Message) -> Page | None:
    """The page that is asked for; None for all."""
    expect(message, *(version.query for version in VERSIONS))
    return optional(message, "paginate", _page, None)


def keylist(query: Message, dids: Sequence[str], page: Page | None = None) -> Message:
    """The answer to a query: all of `dids`, or the page of them."""
    version = _version_of(query)
    entries = [{"recipient_did": did} for did in dids]
    if page is None:
        return query.reply(version.listing, {version.entries: entries})
    shown = entries[page.offset : page.offset + page.limit]
    remaining = max(0, len(entries) - page.offset - len(shown))
    pagination = {"count": len(shown), "offset": page.offset, "remaining": remaining}
    return query.reply(version.listing, {version.entries: shown, "pagination": pagination})


def parse_keylist(message: Message) -> Keylist:
    expect(message, *(version.listing for version in VERSIONS))
    return Keylist(
        recipient_dids=required(message, _version_of(message).entries, many(_entry)),
        remaining=optional(message, "pagination", _remaining, 0),
    )


def _version_of(message: Message) -> Version:
    return V3 if message.type.startswith(f"{_V3}/") else V2


def _message(type: str, body: dict[str, Any], from_: str | None, to: str | None, **headers: Any) -> Message:
    return Message(type=type, body=body, from_=from_, to=(to,) if to else (), **headers)


def _update_json(update: Update) -> dict[str, str]:
    proof = {} if update.proof is None else {"proof": update.proof}
    return {"recipient_did": update.recipient_did, "action": update.action, **proof}


def _did(value: Any) -> str:
    try:
        return did_of(text(value))
    except DidError:
        raise ValueError("must name DIDs") from None


def _one_did(value: Any) -> str:
    # Some mediators mix the versions: one entry in a list says the same as a text.
    return _did(value[0] if isinstance(value, list) and len(value) == 1 else value)


def _entry(value: Any) -> str:
    return _did(mapping(value).get("recipient_did"))


def _update(value: Any) -> Update:
    proof = mapping(value).get("proof")
    action = cast(Action, _action(value.get("action")))
    return Update(_entry(value), action, None if proof is None else _proof(proof))


def _proof(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_PROOF:
        raise ValueError(f"must have proofs that are texts of at most {MAX_PROOF} characters")
    return value


def _updated(value: Any) -> Updated:
    action, result = _action(mapping(value).get("action")), _result(value.get("result"))
    return Updated(_entry(value), cast(Action, action), cast(Result, result))


def _remaining(value: Any) -> int:
    return whole(mapping(value).get("remaining", 0))


def _page(value: Any) -> Page | None:
    item = mapping(value)
    return Page(whole(item.get("limit")), whole(item.get("offset", 0)))
