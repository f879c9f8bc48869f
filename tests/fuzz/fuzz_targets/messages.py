"""The message layer: plaintext messages, and the body of every protocol that is spoken."""

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import didmpc.protocols
from didmpc.protocols.errors import LocalMisuse, MessageError, RemoteViolation
from didmpc.protocols.message import Attachment, Message
from didmpc.protocols.messages import (
    basic_message,
    mediation,
    out_of_band,
    pickup,
    problem_report,
    relay_control,
    shorten_url,
)
from didmpc.protocols.messages.discover_features import Feature, Query, disclose, queries
from didmpc.protocols.messages.out_of_band import Invitation
from didmpc.protocols.messages.routing import forward
from didmpc.protocols.messages.shorten_url import ShortLink
from didmpc.protocols.messages.trust_ping import ping
from didmpc.protocols.mpc.messages import PROPOSE, Join
from didmpc.protocols.mpc.proposal import Proposal
from didmpc.protocols.mpc.statement import Ask, Role, Statement
from fuzz_targets.target import ALICE, BOB, Target, to_json

Parse = Callable[[Message], Any]

HASH = "0" * 64


@cache
def parsers() -> dict[str, list[Parse]]:
    """By message type every function of the protocols that takes apart a message of that type.

    They are found, not listed: a protocol that is added is fuzzed from then on.
    """
    modules = [
        importlib.import_module(module.name)
        for module in pkgutil.walk_packages(didmpc.protocols.__path__, "didmpc.protocols.")
    ]
    types = {type for module in modules for value in vars(module).values() for type in _types(value)}
    found: dict[str, list[Parse]] = {type: [] for type in types}
    for module in modules:
        for name, function in vars(module).items():
            if name.startswith("parse") and function.__module__ == module.__name__ and _reads(function):
                for type in types:
                    if _takes(function, type):
                        found[type].append(function)
    found[PROPOSE].append(Proposal.of)
    found[out_of_band.INVITATION].append(Invitation.from_message)
    found[f"{PROPOSE.rpartition('/')[0]}/join"].append(lambda message: Join.of(message.body))
    return {type: readers for type, readers in found.items() if readers}


def _types(value: Any) -> Iterator[str]:
    """Message types in a constant of a module, or in the members of one (the version of a protocol)."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for name in dir(value):
            if not name.startswith("_"):
                yield from _types(getattr(value, name))
    elif isinstance(value, str) and value.startswith("https://") and value.count("/") >= 5:
        yield value


def _reads(function: Parse) -> bool:
    """Whether it is a function of one message."""
    needed = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    return len(needed) == 1 and needed[0].annotation in (Message, "Message")


def _takes(parse: Parse, type: str) -> bool:
    try:
        parse(Message(type=type))
    except MessageError as error:
        return error.code != "e.p.msg.unsupported"
    return True


def message(data: bytes) -> None:
    try:
        read = Message.decode(data)
    except MessageError:
        return
    # What was taken in can be written, and reads the same.
    assert Message.decode(read.encode()) == read
    for parse in parsers().get(read.type, ()):
        try:
            parse(read)
        except RemoteViolation as problem:
            assert problem.code.startswith(("e.", "w."))
            problem_report.report_on(read, problem).encode()


def invitation(data: bytes) -> None:
    """What a person pasted, found in a mail or behind a QR code."""
    pasted = data.decode("utf-8", "replace")
    ShortLink.find(pasted)
    try:
        found = out_of_band.from_text(pasted)
    except LocalMisuse as problem:
        assert problem.what
        return
    assert out_of_band.from_text(found.to_url("https://example.org/")).from_ == found.from_


def _message_seeds() -> Iterator[bytes]:
    headers = {"from_": ALICE.did, "to": BOB.did}
    query = queries([Query("protocol", "https://didcomm.org/*")], **headers)
    change = mediation.keylist_update([(ALICE.did, "add")], **headers)
    asked = mediation.keylist_query(mediation.Page(10), **headers)
    fetch = pickup.delivery_request(3, ALICE.did, **headers)
    channels = relay_control.channel_create(2, 2**31, **headers)
    link = shorten_url.request("https://example.org/?_oob=eyJ", 3600)
    mail = [("1", b"{}"), ("2", b"{}")]
    samples = [
        ping(ALICE.did, BOB.did),
        query,
        disclose(query, [Feature("protocol", "https://didcomm.org/x/1.0", ("a",), "1")]),
        mediation.mediate_request(**headers),
        mediation.mediate_grant(mediation.mediate_request(**headers), BOB.did),
        change,
        mediation.keylist_update_response(change, [mediation.Updated(ALICE.did, "add", "success")]),
        asked,
        mediation.keylist(asked, [ALICE.did, BOB.did], mediation.Page(1)),
        pickup.status_request(ALICE.did, **headers),
        pickup.status(fetch, pickup.Status(2, ALICE.did, True, 1, 2, 3, 4)),
        fetch,
        pickup.delivery(mail, request=fetch, recipient_did=ALICE.did),
        pickup.messages_received(["1", "2"], **headers),
        pickup.live_delivery_change(True, **headers),
        forward(ALICE.did, [b'{"a":1}'], BOB.did, expires_time=2**31, delay_milli=-5),
        problem_report.report(problem_report.ProblemReport("e.p.x", "{1} and {9}", ("a", "b"), "mailto:x@y")),
        channels,
        relay_control.channel_created(
            channels, [relay_control.Channel("a", bytes(32), bytes(range(32)))], 2**31
        ),
        relay_control.channel_revoke(["a"], **headers),
        basic_message.message("hello", 1, **headers),
        link,
        shorten_url.shortened(link, "https://example.org/?_oobid=x", 2**31),
        Invitation(from_=ALICE.did, goal_code="x", goal="y", label="z").to_message(),
        Message(type=PROPOSE, body=_proposal().body()),
        Message(type=f"{PROPOSE.rpartition('/')[0]}/join", body=_join()),
        Message(
            type="t",
            thid="a",
            pthid="b",
            created_time=1,
            expires_time=2,
            return_route="thread",
            please_ack=("",),
            ack=("x",),
            from_prior="a.b.c",
            attachments=(
                Attachment(data_json=[{}], links=("https://x",), hash="h", media_type="m", filename="f"),
            ),
        ),
    ]
    samples += [_as(mediation.V3, sample) for sample in samples if sample.type.startswith(mediation.PROTOCOL)]
    samples += [_as(pickup.V4, sample) for sample in samples if sample.type.startswith(pickup.PROTOCOL)]
    for index, sample in enumerate(samples):
        yield to_json({**sample.to_json(), "id": str(index)})
    for type in sorted(parsers()):
        yield to_json({"id": "1", "type": type, "body": {}})


def _as(version: Any, sample: Message) -> Message:
    """A message of the protocol in another version, where that has one of the same name."""
    name = sample.type.rpartition("/")[2].replace("keylist-", "recipient-").replace("keylist", "recipient")
    return dataclasses.replace(sample, type=f"{version.protocol}/{name}")


def _proposal() -> Proposal:
    files = [{"path": "a.py", "sha256": HASH, "size": 1, "lines": 1}]
    return Proposal(
        attempt="0" * 32,
        program={
            "sha256": HASH,
            "entry": "a.py",
            "title": "t",
            "lines": 1,
            "imports": ["numpy"],
            "files": files,
        },
        arguments=("-x",),
        parties=("alice", "bob", "carol"),
        threshold=1,
        free_threshold=False,
        mode="session",
        expires=1,
        statement=Statement(
            "host", "x", Ask("number"), (Role("a", "0"), Role("b", "1..m-1")), least=3, odd=True
        ),
        source={"kind": "git", "repository": "https://example.org/x", "commit": "a" * 40, "path": "a.py"},
        roles={"bob": "a"},
        versions={"mpyc": "0.11"},
        you="bob",
    )


def _join() -> dict[str, Any]:
    return Join(ALICE.did, "alice", "example.org", True, {"mpyc": "0.11"}).body()


def _invitation_seeds() -> Iterator[bytes]:
    made = Invitation(from_=ALICE.did, id="1", goal_code="x", goal="y", label="z")
    yield made.to_url("https://example.org/").encode()
    yield made.to_message().encode()
    yield b"https://example.org/?_oobid=abc#def"
    yield b"http://[::1/?_oob=eyJ"
    yield b"eyJhIjoxfQ"


TARGETS = (
    Target("message", message, _message_seeds),
    Target("invitation", invitation, _invitation_seeds),
)
