"""Test hosts in network namespaces: distance, cuts, what is left. Needs root: `make test-netlab`."""

import ast
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from didmpc.bench.compare import compare as comparison
from didmpc.bench.compare import measure, programs
from didmpc.bench.compare.command import observed
from didmpc.bench.compare.compare import Plan
from didmpc.bench.compare.contender import contenders
from didmpc.bench.compare.fleet import network
from didmpc.bench.compare.fleet.plan import read
from didmpc.bench.compare.hosts import PYTHON, HostError, wait_until
from didmpc.bench.compare.isolate import run_isolated
from didmpc.bench.compare.lab import Site, lab
from didmpc.bench.compare.profiles import MEGABIT, Profile

pytestmark = pytest.mark.netlab

DEMOS = Path(__file__).resolve().parents[2] / "agent" / "program" / "mpyc_demos"
ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 7777))
while True:
    data, address = s.recvfrom(2000)
    s.sendto(data, address)
"""
PING = """
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(float(sys.argv[3]))
s.bind(("", 5555))
times = []
for turn in range(int(sys.argv[2])):
    began = time.perf_counter()
    s.sendto(b"x" * 100, (sys.argv[1], 7777))
    try:
        s.recv(2000)
    except TimeoutError:
        continue
    times.append(time.perf_counter() - began)
print(times)
"""


@pytest.fixture(autouse=True)
def _needs_root_and_tools():
    if os.geteuid() != 0 or shutil.which("ip") is None or not Path("/dev/net/tun").exists():
        pytest.skip("needs root, iproute2 and /dev/net/tun")


@pytest.fixture
def on_hosts(tmp_path):
    """Run a function of a lab in namespaces of its own; what it returns comes back as JSON."""

    def run(function, **settings):
        kept = tmp_path / "kept.json"

        def inside():
            with lab(tmp_path / "lab", **settings) as made:
                kept.write_text(json.dumps(function(made)))

        run_isolated(inside)
        return json.loads(kept.read_text())

    return run


def needs(*commands):
    if missing := [name for name in commands if shutil.which(name, path="/usr/sbin:/usr/bin") is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")


def echo(host):
    running = host.start(PYTHON, "-c", ECHO)
    wait_until(lambda: host.listens(running, 7777, udp=True), "The echo")


def ping(host, address, *, times=1, patience=1.0):
    """Seconds that each answer took."""
    said = host.quietly(PYTHON, "-c", PING, address, str(times), str(patience))
    return ast.literal_eval(said)


def serve(host, port):
    running = host.start(PYTHON, "-m", "http.server", str(port))
    wait_until(lambda: host.listens(running, port), "The server")


# --- distance


def test_the_delay_box_adds_the_distance_once(on_hosts):
    def body(made):
        host, far = made.network.parties[:2]
        echo(far)
        return sorted(ping(host, far.address, times=30, patience=10))

    times = on_hosts(body, parties=2, profile=Profile("far", round_trip=0.040), netem=False)
    assert len(times) == 30
    assert times[0] >= 0.040, "earlier than the distance allows"
    # The least disturbed one: on a busy machine most come later.
    assert times[0] < 0.080, "the distance was added twice"


def test_the_delay_box_loses_what_it_should(on_hosts):
    def body(made):
        host, far = made.network.parties[:2]
        echo(far)
        return len(ping(host, far.address, times=100, patience=0.15))

    # Four passages, each loses a tenth: two thirds of the answers come.
    answered = on_hosts(body, parties=2, profile=Profile("lossy", loss=0.1), netem=False)
    assert 40 <= answered <= 88


def test_a_rate_bounds_what_passes(on_hosts):
    def body(made):
        host, far = made.network.parties[:2]
        (far.folder / "block").write_bytes(bytes(1_000_000))
        serve(far, 8000)
        fetch = f"import urllib.request as u; print(len(u.urlopen('http://{far.address}:8000/block').read()))"
        began = time.monotonic()
        assert host.quietly(PYTHON, "-c", fetch).strip() == "1000000"
        return time.monotonic() - began

    # 8 Mbit at 8 Mbit/s; buffers let the last 100 ms of each of two links pass unseen.
    assert on_hosts(body, parties=2, profile=Profile("slow", rate=8 * MEGABIT), netem=False) > 0.8


# --- cuts, ends


def test_a_cut_is_silent_and_can_be_mended(on_hosts):
    def body(made):
        host, far = made.network.parties[:2]
        echo(far)
        before = len(ping(host, far.address, patience=30))
        made.cut(far)
        between = len(ping(host, far.address, patience=0.5))
        made.mend(far)
        return before, between, len(ping(host, far.address, patience=30))

    assert on_hosts(body, parties=2) == [1, 0, 1]


def test_errors_come_back_from_inside(on_hosts):
    with pytest.raises(Exception, match="no-such-command"):
        on_hosts(lambda made: made.network.vps.quietly("no-such-command"))


def namespaces():
    out = subprocess.run(["lsns", "-n", "-t", "net", "-o", "NS"], capture_output=True, text=True, check=True)
    return set(out.stdout.split())


@pytest.mark.parametrize("victim", ["command", "holder"])
def test_kill_9_leaves_no_process_and_no_namespace(tmp_path, victim):
    """Whichever of its processes is killed."""
    mark = tmp_path / "ready"
    script = f"""
import time
from pathlib import Path
from didmpc.bench.compare.isolate import run_isolated
from didmpc.bench.compare.lab import lab
from didmpc.bench.compare.profiles import PROFILES
def body():
    with lab(Path({str(tmp_path)!r}) / "lab", profile=PROFILES["metro"], netem=False) as made:
        made.network.vps.start("sleep", "987654")
        Path({str(mark)!r}).touch()
        time.sleep(600)
run_isolated(body)
"""
    command = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    try:
        wait_until(mark.exists, "The hosts", within=60)
        children = Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text().split()
        inside = processes_with(str(tmp_path)) | processes_with("sleep\x00987654")
        assert len(inside) >= 2
        networks = {os.readlink(f"/proc/{pid}/ns/net") for pid in inside} - {os.readlink("/proc/self/ns/net")}
        assert networks
        os.kill(command.pid if victim == "command" else int(children[0]), signal.SIGKILL)
        command.wait(20)
        wait_until(lambda: not processes_with("sleep\x00987654"), "The end of the processes")
        left = {name.strip("net:[]") for name in networks}
        wait_until(lambda: not (left & namespaces()), "The end of the namespaces")
    finally:
        if command.poll() is None:
            command.kill()
            command.wait()


def processes_with(text):
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (entry / "cmdline").read_bytes() and int(entry.name) != os.getpid():
                found.add(int(entry.name))
        except OSError:
            continue
    return found


# --- every contender, once


@functools.cache
def names():
    return tuple(contenders())


@pytest.mark.parametrize("name", names())
def test_a_contender_connects_three_parties_and_what_it_shows_is_captured(on_hosts, tmp_path, name):
    one = contenders()[name]
    if missing := one.missing():
        pytest.skip(f"not installed: {', '.join(each.command for each in missing)}")
    plan = Plan(folder=tmp_path / "plan", names=(name,), repeats=1, say=lambda text: None)

    def body(made):
        with ExitStack() as stack:
            stack.callback(made.network.stop)
            return comparison._exposure(plan, made, one, stack) | {
                "effort": measure.effort(made.network)["most_of_a_party"]
            }

    found = on_hosts(body, exact=True)
    # Everybody sends everybody the block: less than that on the wire would be a capture that misses frames.
    assert found["bytes_per_payload_byte"] > 1.0
    assert found["effort"]["steps"] > 0
    assert found["eavesdropper"]["contents_readable"] is (name in ("tcp", "relay", "coturn"))
    readable = any(server["contents_readable"] for server in found["servers"].values())
    # Whoever runs the server can read what is relayed raw, or where tunnels end.
    assert readable is (name in ("relay", "coturn", "ssh", "openvpn"))
    if one.relayed:
        assert not [pair for pair in found["eavesdropper"]["pairs"] if "vps" not in pair]


def test_a_session_outlives_a_cut_of_ten_seconds(on_hosts, tmp_path):
    plan = Plan(folder=tmp_path / "plan", names=("didmpc",), say=lambda text: None)

    def body(made):
        with ExitStack() as stack:
            stack.callback(made.network.stop)
            return comparison._cut(plan, made, contenders()["didmpc"], stack)

    found = on_hosts(body, profile=Profile("cut", round_trip=0.02), netem=False)
    assert found["survived"], found["why"]
    assert found["seconds"] > 10


def test_sessions_compute_behind_a_firewall_that_lets_out_443_only(on_hosts, tmp_path):
    needs("nft")
    plan = Plan(folder=tmp_path / "plan", names=("didmpc", "tcp"), say=lambda text: None)

    def body(made):
        found = {}
        for name in plan.names:
            with ExitStack() as stack:
                stack.callback(made.network.stop)
                patience = 120 if name == "didmpc" else 10
                reached = comparison._reach(plan, made.network, contenders()[name], stack, patience)
                found[name] = reached["works"]
        return found

    assert on_hosts(body, sites=(Site.ONLY_443,)) == {"didmpc": True, "tcp": False}


# --- a fleet


CONTROL = "198.18.0.254"
"""Of the bridge, from where the bench logs in."""


@pytest.fixture
def sshd_on(tmp_path):
    """Start a real sshd on each host of a lab; returns the file of hosts that tells them."""
    needs("ssh-keygen", "sshd")

    def start(made, *, python=PYTHON, options=""):
        subprocess.run(["ip", "address", "add", f"{CONTROL}/24", "dev", "internet"], check=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "id"], check=True)
        Path("/run/sshd").mkdir(exist_ok=True)  # our own /run
        known, running = [], {}
        for host in made.network.hosts:
            host.quietly("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "host_key")
            configuration = host.put(
                "sshd_config",
                f"Port 22\nListenAddress {host.address}\nHostKey {host.folder}/host_key\nPidFile none\n"
                f"StrictModes no\nAuthorizedKeysFile {tmp_path}/id.pub\nPasswordAuthentication no\n"
                f"PermitRootLogin prohibit-password\nUsePAM no\n{options}".encode(),
            )
            running[host.name] = sshd = host.start("/usr/sbin/sshd", "-D", "-e", "-f", configuration)
            wait_until(lambda host=host, sshd=sshd: host.listens(sshd, 22), f"sshd at {host.name}")
            known.append(f"{host.address} {host.text('host_key.pub')}\n")
        (tmp_path / "known_hosts").write_text("".join(known))
        head = f'key = "{tmp_path}/id"\nknown_hosts = "known_hosts"\npython = "{python}"\nname = "fleet"\n'
        places = [f'[[servers]]\naddress = "{host.address}"\n' for host in made.network.servers]
        places += [f'[[parties]]\naddress = "{host.address}"\n' for host in made.network.parties]
        (tmp_path / "hosts.toml").write_text(head + "".join(places))
        return read(tmp_path / "hosts.toml"), running

    return start


def test_a_fleet_does_the_same_work_with_each_contender(on_hosts, sshd_on, tmp_path):
    """All that can share this machine's file system and settings, over sshd, as root, at a distance."""

    def body(made):
        fleet, _ = sshd_on(made)
        plan = Plan(
            folder=tmp_path / "plan",
            names=tuple(name for name in names() if name != "tor"),
            parties=(3,),
            repeats=1,
            rounds=10,
            size=4096,
            fleet=fleet,
            say=lambda text: None,
        )
        return comparison.compare(plan)

    result = on_hosts(body, profile=Profile("far", round_trip=0.01), netem=False)
    assert [host["address"] for host in result["hosts"]] == [
        "198.18.0.1", "198.18.0.2", "198.18.0.101", "198.18.0.102", "198.18.0.103",
    ]  # fmt: skip
    assert [(run["contender"], run["failed"]) for run in result["runs"] if "failed" in run] == []
    measured = {run["contender"]: run for run in result["runs"] if "figures" in run}
    assert {"tcp", "tls", "relay", "didmpc", "didmpc-two", "didmpc-didcomm", "ssh"} <= set(measured)
    assert all("not installed" in run["skipped"] for run in result["runs"] if "skipped" in run)
    assert measured["tcp"]["figures"]["micro"]["round_ms"] > 10, "a round crosses the distance"
    assert measured["relay"]["ratios"]["tcp"]["micro round_ms"]["median"] > 1.2
    assert all(run["effort"]["evidence"] for run in measured.values())
    assert {run["network"] for run in result["runs"]} == {"fleet"}


def test_a_fleet_ends_in_words_when_a_host_is_gone(on_hosts, sshd_on, tmp_path):
    """Cut off for longer than a connection is held, in the midst of a program."""

    def body(made):
        fleet, _ = sshd_on(made)
        plan = Plan(folder=tmp_path / "plan", names=("tcp",), fleet=fleet, say=lambda text: None)
        work = programs.micro(tmp_path / "long", rounds=100_000, size=16, times=1)
        with network.connected(fleet, plan.say) as far, ExitStack() as stack:
            hello = measure.hello(tmp_path / "hello")
            one = measure.connect(stack, contenders()["tcp"], far, hello)
            running = one.connection.start(work)
            wait_until(lambda: "The rounds begin." in running[-1].stderr, "The rounds")
            made.cut(made.network.parties[1])
            with pytest.raises(HostError) as error:
                measure.finish(one.connection, running, within=110)
            began = time.monotonic()
            far.stop()
        made.mend(made.network.parties[1])
        return str(error.value), time.monotonic() - began

    said, _ = on_hosts(body)
    assert "party1" in said
    assert "was lost" in said


def test_what_several_observe_at_once_is_one_result(tmp_path):
    needs("nft")
    plan = Plan(folder=tmp_path, names=("tcp", "relay", "tls"), exposure=True, say=lambda text: None)
    result = observed(plan)
    assert [entry["contender"] for entry in result["exposure"]] == ["tcp", "relay", "tls"]
    assert [entry["eavesdropper"]["contents_readable"] for entry in result["exposure"]] == [True, True, False]
    assert result["cut"] == result["nat"] == []


def test_when_one_of_several_fails_the_others_end(tmp_path):
    def waits():
        (tmp_path / "pid").write_text(str(os.getpid()))
        subprocess.run(["sleep", "987652"], check=False)

    def fails():
        raise HostError("no luck")

    with pytest.raises(Exception, match="no luck"):
        run_isolated(fails, waits, at_once=2)
    wait_until(lambda: not processes_with("sleep\x00987652"), "The end of the processes")
