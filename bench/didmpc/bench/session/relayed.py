"""Round trips and throughput between two processes: over a session through a mediator, and over what else is.

direct     one TCP connection            tls        the same with TLS
relay      through a raw TCP relay       tls-relay  the same, TLS on both of its connections
session    a link of a session: sealed end to end, sealed hops, through a real mediator process

All connections stay open in the same two processes, on uvloop like relay and mediator, and take turns.
"""

import asyncio
import datetime
import ipaddress
import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from didmpc.bench.mediator import host
from didmpc.bench.mediator.account import Account, connect, ws_url
from didmpc.bench.mediator.host import Generators, Load
from didmpc.bench.session.messages import established_pair
from didmpc.bench.session.splice import HOST
from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.messages import relay_control
from didmpc.protocols.session.handshake import Established

WAYS = ("direct", "tls", "relay", "tls-relay", "session")
SIZES = (40, 64, 1024, 64 * 1024, 1024 * 1024)
FEWEST = 5
TURNS = 4  # of each way in a leg
ENDS = "didmpc.bench.session.ends"

Result = dict[str, Any]


def measure(
    directory: Path,
    *,
    legs: int,
    trips: int,
    bulk: int,
    sizes: tuple[int, ...] = SIZES,
    say: Callable[[str], None] = lambda text: None,
) -> Result:
    """Medians of `legs` legs: round trips of each size (`trips` of the small ones), and `bulk` bytes sent.

    In a leg the ways take turns several times, in both orders.
    """
    tls = directory / "certificate.pem"
    tls.write_bytes(certificate())
    with host.mediator(directory, "relaying") as mediator, Generators(ENDS) as ends:
        near_link, far_link = asyncio.run(_links(mediator.did))
        with (
            ends.load("far", certificate=str(tls), link=far_link) as far,
            ends.load("relay", certificate=str(tls), routes=_routes(far_ports := far.ready())) as relay,
        ):
            plain, secure = relay.ready()["ports"]
            with ends.load(
                "near",
                certificate=str(tls),
                tcp={"direct": far_ports["port"], "relay": plain},
                tls={"tls": far_ports["tls_port"], "tls-relay": secure},
                link=near_link,
            ) as near:
                near.ready()
                found = _compare(near, legs, trips, bulk, sizes, say)
                near.go()
                near.result()
            for load in (relay, far):
                load.go()
                load.result()
    return found


def _compare(
    near: Load, legs: int, trips: int, bulk: int, sizes: tuple[int, ...], say: Callable[[str], None]
) -> Result:
    took: dict[int, dict[str, list[float]]] = {size: {way: [] for way in WAYS} for size in sizes}
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    for leg in range(-1, legs):  # the first one warms up
        say(f"relayed: leg {leg + 1} of {legs}" if leg >= 0 else "relayed: warming up")
        trips_took: dict[tuple[int, str], list[float]] = {(size, way): [] for size in sizes for way in WAYS}
        bulk_took: dict[str, list[float]] = {way: [] for way in WAYS}
        for turn in range(TURNS if leg >= 0 else 1):
            order = WAYS if turn % 2 else WAYS[::-1]
            for size, way in itertools.product(sizes, order):
                count = max(FEWEST, trips * 4096 // (4096 + size) // TURNS)
                trips_took[size, way] += near.ask(over=way, size=size, count=count)["took"]
            for way in order:
                bulk_took[way].append(near.ask(over=way, bulk=bulk // TURNS)["seconds"])
        if leg >= 0:
            for (size, way), each in trips_took.items():
                took[size][way].append(statistics.median(each))
            for way, seconds in bulk_took.items():
                rates[way].append(bulk // TURNS / statistics.median(seconds))
    return {
        "round_trip_us": {
            str(size): {way: 1e6 * statistics.median(each) for way, each in ways.items()}
            for size, ways in took.items()
        },
        "round_trip_ratio": {
            str(size): {way: ratio(ways[way], ways["relay"]) for way in WAYS} for size, ways in took.items()
        },
        "bytes_per_second": {way: statistics.median(each) for way, each in rates.items()},
        "throughput_ratio": {way: ratio(rates[way], rates["relay"]) for way in WAYS},
        "bulk": bulk // TURNS,  # in each turn
    }


def ratio(ours: list[float], theirs: list[float]) -> float:
    """The median of what was measured side by side: a machine that is busy for a while slows both."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def _routes(ports: Result) -> list[Result]:
    return [{"target": ports["port"]}, {"target": ports["tls_port"], "tls": True}]


async def _links(mediator: str) -> tuple[Result, Result]:
    """Both ends of one session over a channel of the mediator, as agents hand them to channel processes."""
    account = Account.new(mediator)
    connection = await connect(mediator)
    await account.enrol(connection)
    request = relay_control.channel_create(1, int(time.time()) + 3600)
    (channel,) = relay_control.parse_channel_created(await account.ask(connection, request))
    connection.close()
    one, other = established_pair()
    return link(mediator, one, channel.near), link(mediator, other, channel.far)


def link(mediator: str, established: Established, capability: bytes, *, ws: str | None = None) -> Result:
    """One end, as an agent hands it to its channel process; `ws`: where it dials, if not by the DID."""
    return {
        "pid": 0,
        "session": established.to_json(),
        "path": {
            "mediator": mediator,
            "ws": ws or ws_url(mediator),
            "capability": b64url(capability),
            "private": True,
        },
    }


def certificate() -> bytes:
    """Key and certificate for this machine's loopback, for an hour."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "didmpc bench")])
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return secret + made.public_bytes(serialization.Encoding.PEM)
