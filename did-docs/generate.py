"""Writes the examples of this folder from the product's own code, with fixed keys and ids.

    python did-docs/generate.py

A test makes them anew and compares: an example here is what the code really writes.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from didmpc.protocols import binding_proof, from_prior
from didmpc.protocols.crypto.keys import Curve, PrivateKey
from didmpc.protocols.did import Service, canonical, peer4, resolve
from didmpc.protocols.identity import Identity
from didmpc.protocols.message import Message
from didmpc.protocols.messages import (
    basic_message,
    discover_features,
    empty,
    mediation,
    pickup,
    problem_report,
    relay_control,
    routing,
    trust_ping,
)
from didmpc.protocols.messages.discover_features import Feature, Query
from didmpc.protocols.messages.mediation import Page, Update, Updated
from didmpc.protocols.messages.out_of_band import Invitation
from didmpc.protocols.messages.pickup import Status
from didmpc.protocols.messages.problem_report import ProblemReport
from didmpc.protocols.messages.relay_control import Channel
from didmpc.protocols.namespace import NAMESPACE

HERE = Path(__file__).parent
NOW = 1_700_000_000


def secret(name: str) -> bytes:
    """Thirty-two bytes that everyone knows: for examples only."""
    return hashlib.sha256(f"didmpc example {name}".encode()).digest()


def keys(name: str, *curves: Curve) -> list[PrivateKey]:
    return [PrivateKey(curve, secret(f"{name} {curve}")) for curve in curves]


MEDIATOR_SERVICES = (Service("https://mediator.example"), Service("wss://mediator.example/ws"))
MEDIATOR_KEYS = keys("mediator", "X25519", "Ed25519")
MEDIATOR = Identity.peer2_of(MEDIATOR_KEYS, MEDIATOR_SERVICES)
AGENT_KEYS = keys("agent", "X25519", "Ed25519")
AGENT = Identity.peer4_of(AGENT_KEYS, [Service(MEDIATOR.did)])
OLDER = Identity.peer4_of(keys("older", "X25519", "Ed25519"), [Service(MEDIATOR.did)])
DELIVERIES = [version.delivery for version in pickup.VERSIONS]
A, M = canonical(AGENT.did), MEDIATOR.did
ENVELOPE = {"protected": "eyJ0eXAi...", "recipients": ["..."], "iv": "...", "ciphertext": "...", "tag": "..."}


def documents() -> dict[str, Any]:
    identities = {
        "agent.did-peer-4": AGENT,
        "agent.did-peer-2": Identity.peer2_of(AGENT_KEYS, [Service(MEDIATOR.did)]),
        "agent-nist-curves.did-peer-4": Identity.peer4_of(
            [
                PrivateKey("P-256", secret("agent P-256")),
                PrivateKey("P-384", bytes(16) + secret("agent P-384")),
            ],
            [Service(MEDIATOR.did)],
        ),
        "mediator.did-peer-2": MEDIATOR,
        "mediator.did-peer-4": Identity.peer4_of(MEDIATOR_KEYS, MEDIATOR_SERVICES),
        "throwaway.did-key": Identity.key_of(PrivateKey("X25519", secret("throwaway"))),
    }
    files: dict[str, Any] = {}
    for name, identity in identities.items():
        entry = {"did": identity.did, "document": identity.document.to_json()}
        if identity.did.startswith(peer4.PREFIX):
            short = canonical(identity.did)
            under_short = resolve(short, {short: identity.did}.get).to_json()
            entry = {
                "did": identity.did,
                "short": short,
                **entry,
                "document under the short form": under_short,
            }
        files[f"{name}.json"] = entry
    return files


def invitations() -> dict[str, Any]:
    to_agent = Invitation(
        id="11111111111111111111111111111111",
        from_=AGENT.did,
        goal_code="didmpc.contact",
        goal="Become contacts, to compute together",
        label="Ann",
        created_time=NOW,
        expires_time=NOW + 7 * 24 * 3600,
    )
    to_mediator = Invitation(
        id="22222222222222222222222222222222",
        from_=MEDIATOR.did,
        goal_code="request-mediate",
        goal="Use this mediator",
    )
    return {
        f"invitation.{name}.json": {
            "url": invitation.to_url("https://mediator.example/invitation"),
            "message": invitation.to_message().to_json(),
        }
        for name, invitation in (("agent", to_agent), ("mediator", to_mediator))
    }


def messages() -> dict[str, Any]:
    request = mediation.mediate_request(A, M)
    update = mediation.keylist_update([(A, "add"), (canonical(OLDER.did), "remove")], A, M)
    query = mediation.keylist_query(Page(limit=10), A, M)
    status_request = pickup.status_request(from_=A, to=M)
    queries = discover_features.queries(
        [Query("protocol", f"{NAMESPACE}/*"), Query("constraint")], from_=A, to=M
    )
    ping = trust_ping.ping(A, M)
    create = relay_control.channel_create(1, NOW + 3600, from_=A, to=M)
    features = [
        Feature("protocol", f"{NAMESPACE}/session/1.0"),
        Feature("protocol", f"{NAMESPACE}/relay/1.0"),
        Feature("constraint", "max_receive_bytes", value="1048576"),
    ]
    rotated = replace(trust_ping.ping(AGENT.did, M), from_prior=from_prior.create(OLDER, AGENT.did, NOW))
    examples = {
        "empty": replace(empty.empty(), from_=A, to=(M,), return_route="all"),
        "trust-ping.ping": ping,
        "trust-ping.ping-response": trust_ping.respond(ping),
        "from-prior": rotated,
        "discover-features.queries": queries,
        "discover-features.disclose": discover_features.disclose(queries, features),
        "report-problem.problem-report": problem_report.report(
            ProblemReport("e.p.req.not_enroll", "No mediation for {1}.", (A,), about="3" * 32),
            from_=M,
            to=(A,),
        ),
        "coordinate-mediation.mediate-request": request,
        "coordinate-mediation.mediate-grant": mediation.mediate_grant(request, M),
        "coordinate-mediation.mediate-deny": mediation.mediate_deny(request),
        "coordinate-mediation.keylist-update": update,
        "coordinate-mediation.keylist-update-response": mediation.keylist_update_response(
            update, [Updated(A, "add", "success"), Updated(canonical(OLDER.did), "remove", "no_change")]
        ),
        "coordinate-mediation.keylist-query": query,
        "coordinate-mediation.keylist": mediation.keylist(query, [A], Page(limit=10)),
        **mediation_3(),
        "messagepickup.status-request": status_request,
        "messagepickup.status": pickup.status(
            status_request, Status(1, live_delivery=False, total_bytes=1234)
        ),
        "messagepickup.delivery-request": pickup.delivery_request(10, from_=A, to=M),
        "messagepickup.delivery": pickup.delivery([("4" * 32, json.dumps(ENVELOPE).encode())], from_=M, to=A),
        "messagepickup.messages-received": pickup.messages_received(["4" * 32], from_=A, to=M),
        "messagepickup.live-delivery-change": pickup.live_delivery_change(True, from_=A, to=M),
        **pickup_4(),
        "basicmessage.message": basic_message.message("May I have an account?", NOW, from_=A, to=M),
        "routing.forward": routing.forward(A, [json.dumps(ENVELOPE).encode()], M, expires_time=NOW + 60),
        "relay.channel-create": create,
        "relay.channel-created": relay_control.channel_created(
            create, [Channel("5" * 32, near=secret("near"), far=secret("far"))], NOW + 3600
        ),
        "relay.channel-revoke": relay_control.channel_revoke(["5" * 32], from_=A, to=M),
    }
    return {
        f"messages/{name}.json": settled(message).to_json() for name, message in examples.items() if message
    }


def mediation_3() -> dict[str, Message]:
    """coordinate-mediation 3.0, and the proof that a DID wants this account."""
    request = mediation.mediate_request(A, M, version=mediation.V3, pthid="2" * 32)
    proof = binding_proof.create(AGENT, A, M, NOW)
    update = mediation.keylist_update([Update(AGENT.did, "add", proof)], A, M, version=mediation.V3)
    query = mediation.keylist_query(Page(limit=10), A, M, version=mediation.V3)
    made = (
        request,
        mediation.mediate_grant(request, M),
        mediation.mediate_deny(request),
        update,
        mediation.keylist_update_response(update, [Updated(AGENT.did, "add", "success")]),
        query,
        mediation.keylist(query, [AGENT.did], Page(limit=10)),
    )
    return {f"coordinate-mediation-3.{message.type.rpartition('/')[2]}": message for message in made}


def pickup_4() -> dict[str, Message]:
    """message-pickup 4.0."""
    asked = pickup.status_request(from_=A, to=M, version=pickup.V4)
    wanted = pickup.delivery_request(10, from_=A, to=M, version=pickup.V4)
    made = (
        asked,
        pickup.status(asked, Status(1, newest_received_time=NOW + 0.25, oldest_received_time=NOW + 0.25)),
        wanted,
        pickup.messages_received(["4" * 32], from_=A, to=M, version=pickup.V4),
        pickup.live_delivery_change(True, from_=A, to=M, version=pickup.V4),
    )
    mail = [("4" * 32, json.dumps(ENVELOPE).encode())]
    return {
        **{f"message-pickup-4.{message.type.rpartition('/')[2]}": message for message in made},
        "message-pickup-4.delivery": pickup.delivery(mail, from_=M, to=A, version=pickup.V4),
        "message-pickup-4.delivery-of-nothing": pickup.delivery([], request=wanted),
    }


def settled(message: Message) -> Message:
    """The message with ids that do not change from one run to the next."""
    attachments = tuple(
        attachment if message.type in DELIVERIES else replace(attachment, id="6" * 32)
        for attachment in message.attachments
    )
    thid = message.thid and "7" * 32
    return replace(message, id="8" * 32, thid=thid, attachments=attachments)


def examples() -> dict[str, str]:
    """Each file's path below this folder, and what it holds."""
    made = {**documents(), **invitations(), **messages()}
    return {path: json.dumps(value, indent=2, ensure_ascii=False) + "\n" for path, value in made.items()}


def main() -> None:
    written = examples()
    for old in {*HERE.glob("*.json"), *HERE.glob("messages/*.json")} - {HERE / path for path in written}:
        old.unlink()
    for path, text in written.items():
        (HERE / path).parent.mkdir(exist_ok=True)
        (HERE / path).write_text(text)


if __name__ == "__main__":
    main()
