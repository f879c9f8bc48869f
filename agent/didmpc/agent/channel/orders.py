"""What the daemon tells the channel process, one JSON object a line, as frozen values.

{"hello": {"attempt", "ui_socket"}}        the first line
{"session": {...}}                         who, how, what program; the program is spawned at once
{"link": {"pid", "session", "path"}}       one per peer whose pair has a session
{"link": {"pid", "didcomm": true}}         one per peer whose pair goes by messages of the daemon
{"renewal": {"pid", "session"}}            a new session for a link that there is
{"packet": {"pid", "data"}}                a packet that came through the mailbox
{"recognised": {"pid", "name"}}            a party has proven to be this contact
{"frame": {"pid", "n", "start", "data"}}   one message of MPyC in mode didcomm
{"cost": {"envelopes", "seconds"}}         what those messages cost the daemon, in increments
{"abort": {"pid", "cause"}}                the run ends now
{"signature": {"signature"}}               our abort, signed as the channel process asked for
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from didmpc.agent.channel.evidence import Evidence
from didmpc.agent.channel.lines import Line
from didmpc.agent.sandbox.policy import Limits, Mechanism
from didmpc.protocols.crypto.encoding import unb64url
from didmpc.protocols.errors import DidmpcError, LocalMisuse
from didmpc.protocols.mpc.terms import DEADLOCK_GRACE
from didmpc.protocols.session.handshake import Established
from didmpc.protocols.session.link import LinkLimits


@dataclass(frozen=True, slots=True)
class Hello:
    attempt: str
    ui_socket: Path


@dataclass(frozen=True, slots=True)
class Session:
    me: int
    names: Mapping[int, str]
    evidence: Evidence
    mode: str
    resume_limit: float
    deadlock_grace: float
    renew_seconds: float
    directory: Path
    sandbox: Mechanism
    limits: Limits
    """What the program may use up."""
    output: Path | None
    """Where the files go that the program writes, if its person wants them."""
    config: Mapping[str, Any]
    input: Path | None
    log: bool


@dataclass(frozen=True, slots=True)
class RelayPath:
    """Where a link runs: a channel of this mediator, bound by this capability."""

    mediator: str
    url: str
    capability: bytes = field(repr=False)
    private: bool
    """Whether the mediator may be at a private address: the peer may have chosen it."""


@dataclass(frozen=True, slots=True)
class SessionLink:
    """`path` is None where packets go through the mailbox of the agent."""

    pid: int
    established: Established = field(repr=False)
    path: RelayPath | None
    contacts: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Renewal:
    pid: int
    established: Established = field(repr=False)


@dataclass(frozen=True, slots=True)
class Packet:
    pid: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Recognised:
    pid: int
    name: str


@dataclass(frozen=True, slots=True)
class DidcommLink:
    pid: int


@dataclass(frozen=True, slots=True)
class Frame:
    pid: int
    n: int
    start: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AbortOrder:
    pid: int | None
    cause: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Signature:
    signature: str


@dataclass(frozen=True, slots=True)
class Cost:
    envelopes: int
    seconds: float


Order = (
    Hello
    | Session
    | SessionLink
    | DidcommLink
    | Renewal
    | Packet
    | Recognised
    | Frame
    | Cost
    | AbortOrder
    | Signature
)


def parse(line: Line) -> Order:
    """The one order of this line. The daemon is ours: a line that does not parse is a fault, no attack."""
    if len(line) != 1:
        raise LocalMisuse("The agent sent a line that is not one order.")
    ((name, body),) = line.items()
    parser = _PARSERS.get(name)
    if parser is None or not isinstance(body, dict):
        raise LocalMisuse(f"The agent sent an order that this version does not know: {name!r}.")
    try:
        return parser(body)
    except DidmpcError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise LocalMisuse(f"The agent sent a malformed order: {name!r}.", why=repr(error)) from error


def _hello(body: Line) -> Hello:
    return Hello(attempt=str(body["attempt"]), ui_socket=Path(body["ui_socket"]))


def _session(body: Line) -> Session:
    names = {int(party["pid"]): str(party["name"]) for party in body["parties"]}
    me = int(body["me"])
    if me not in names or len(names) != len(body["parties"]):
        raise ValueError("we are not one of the parties, or two have one pid")
    if body["mode"] not in ("session", "didcomm", "auto"):
        raise ValueError("unknown mode")
    return Session(
        me=me,
        names=names,
        evidence=_evidence(body),
        mode=body["mode"],
        resume_limit=float(body["resume_limit"]),
        deadlock_grace=float(body.get("deadlock_grace", DEADLOCK_GRACE)),
        renew_seconds=float(body.get("renew_seconds", LinkLimits().renew_seconds)),
        directory=Path(body["directory"]),
        sandbox=Mechanism(body["sandbox"]),
        limits=Limits(**{name: int(most) for name, most in body.get("limits", {}).items()}),
        output=None if body.get("output") is None else Path(body["output"]),
        config=dict(body["config"]),
        input=None if body.get("input") is None else Path(body["input"]),
        log=bool(body.get("log", False)),
    )


def _evidence(body: Line) -> Evidence:
    dids = {int(party["pid"]): str(party["did"]) for party in body["parties"] if "did" in party}
    return Evidence(str(body.get("manifest_sha256", "")), dids)


def _link(body: Line) -> SessionLink | DidcommLink:
    pid = int(body["pid"])
    if body.get("didcomm") is True:
        return DidcommLink(pid)
    path = body["path"]
    relay = None
    if path.get("mailbox") is not True:
        relay = RelayPath(
            mediator=str(path["mediator"]),
            url=str(path["ws"]),
            capability=unb64url(path["capability"]),
            private=bool(path["private"]),
        )
    return SessionLink(
        pid=pid,
        established=Established.from_json(body["session"]),
        path=relay,
        contacts=tuple(unb64url(proof) for proof in body.get("contacts", ())),
    )


def _renewal(body: Line) -> Renewal:
    return Renewal(pid=int(body["pid"]), established=Established.from_json(body["session"]))


def _packet(body: Line) -> Packet:
    return Packet(pid=int(body["pid"]), data=unb64url(body["data"]))


def _recognised(body: Line) -> Recognised:
    return Recognised(pid=int(body["pid"]), name=str(body["name"]))


def _frame(body: Line) -> Frame:
    return Frame(
        pid=int(body["pid"]),
        n=int(body["n"]),
        start=int(body["start"]),
        data=unb64url(body["data"]),
    )


def _cost(body: Line) -> Cost:
    return Cost(envelopes=int(body["envelopes"]), seconds=float(body["seconds"]))


def _abort(body: Line) -> AbortOrder:
    pid = body["pid"]
    return AbortOrder(pid=None if pid is None else int(pid), cause=dict(body["cause"]))


def _signature(body: Line) -> Signature:
    return Signature(str(body["signature"]))


_PARSERS: Mapping[str, Callable[[Line], Order]] = {
    "hello": _hello,
    "session": _session,
    "link": _link,
    "renewal": _renewal,
    "packet": _packet,
    "recognised": _recognised,
    "frame": _frame,
    "cost": _cost,
    "abort": _abort,
    "signature": _signature,
}
