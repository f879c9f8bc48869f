"""The rules of NATs and firewalls, in the kernel: who gets in, what gets out, which ports others see."""

import json
import os
import shutil
from pathlib import Path

import pytest

from didmpc.bench.compare.hosts import PYTHON, wait_until
from didmpc.bench.compare.isolate import run_isolated
from didmpc.bench.compare.lab import Site, lab

SERVE = """
import socket, threading
def accept(port):
    server = socket.create_server(("", port), backlog=99)
    while True:
        server.accept()
for port in (80, 443):
    threading.Thread(target=accept, args=(port,)).start()
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 7777))
while True:
    data, address = s.recvfrom(100)
    s.sendto(repr(address[1]).encode(), address)
"""
TRY = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def connects(address, port, patience):
    try:
        socket.create_connection((address, port), patience).close()
        return True
    except TimeoutError:
        return False
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("", 5555))
def port_seen_by(address, patience):
    udp.settimeout(patience)
    udp.sendto(b"?", (address, 7777))
    try:
        return int(udp.recv(100))
    except TimeoutError:
        return None
asked = json.loads(sys.argv[1])
with ThreadPoolExecutor(20) as pool:
    tcp = [pool.submit(connects, *each) for each in asked["tcp"]]
    udp_said = [port_seen_by(*each) for each in asked["udp"]]
    print(json.dumps({"tcp": [each.result() for each in tcp], "udp": udp_said}))
"""
GETS_THROUGH, STAYS_OUT = 60.0, 1.0
"""Seconds to wait for what must come, and for what must not."""
BEHIND = (Site.PORT_RESTRICTED, Site.SYMMETRIC, Site.ONLY_443)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """An open party and one behind each kind of NAT, on one network: what each of them reaches."""
    if os.geteuid() != 0 or not all(
        shutil.which(name, path="/usr/sbin:/sbin:/usr/bin") for name in ("ip", "nft")
    ):
        pytest.skip("needs root, iproute2 and nftables")
    folder = tmp_path_factory.mktemp("nat")

    def attempt(host, tcp, udp=()):
        return json.loads(host.quietly(PYTHON, "-c", TRY, json.dumps({"tcp": tcp, "udp": udp}), within=200))

    def body():
        with lab(folder / "lab", parties=4, sites=(Site.OPEN, *BEHIND)) as made:
            outside, *inside = made.network.parties
            servers = made.network.servers
            for host in made.network.hosts:
                running = host.start(PYTHON, "-c", SERVE)
                wait_until(
                    lambda host=host, it=running: host.listens(it, 7777, udp=True), "Serving", within=60
                )
                wait_until(lambda host=host, it=running: host.listens(it, 443), "Serving", within=60)
            kept = {"in": attempt(outside, [(each.address, 443, STAYS_OUT) for each in inside])["tcp"]}
            kept["in from a server"] = attempt(
                servers[0], [(each.address, 443, STAYS_OUT) for each in inside]
            )["tcp"]
            for site, host in zip(BEHIND, inside, strict=True):
                patience = STAYS_OUT if site is Site.ONLY_443 else GETS_THROUGH
                kept[site] = attempt(
                    host,
                    [(servers[0].address, 443, GETS_THROUGH), (servers[0].address, 80, patience)],
                    [(server.address, patience) for server in servers],
                )
            # Who was written to may answer; still nobody else gets in.
            kept["in afterwards"] = attempt(outside, [(each.address, 443, STAYS_OUT) for each in inside])[
                "tcp"
            ]
            (folder / "kept").write_text(json.dumps(kept))

    run_isolated(body)
    return json.loads(Path(folder / "kept").read_text())


@pytest.mark.parametrize("when", ["in", "in from a server", "in afterwards"])
def test_nobody_gets_in_who_was_not_asked(found, when):
    assert found[when] == [False] * len(BEHIND)


@pytest.mark.parametrize("site", BEHIND)
def test_port_443_gets_out_everywhere_and_others_where_they_may(found, site):
    everything = site is not Site.ONLY_443
    assert found[site]["tcp"] == [True, everything]
    assert [port is not None for port in found[site]["udp"]] == [everything] * 2


def test_a_port_restricted_nat_shows_all_peers_the_same_port(found):
    assert found[Site.PORT_RESTRICTED]["udp"] == [5555, 5555]


def test_a_symmetric_nat_shows_each_peer_another_port(found):
    first, second = found[Site.SYMMETRIC]["udp"]
    assert first != second
