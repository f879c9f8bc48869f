"""A fleet: the file of hosts, and the same work over a real SSH server on loopback.

Over network namespaces and sshd: `make test-netlab`.
"""

import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from ssh_server import ssh_server

from didmpc.bench.compare import compare as comparison
from didmpc.bench.compare.compare import Plan, compare
from didmpc.bench.compare.contender import contenders
from didmpc.bench.compare.fleet import keeper, network
from didmpc.bench.compare.fleet.far import FarHost
from didmpc.bench.compare.fleet.plan import read
from didmpc.bench.compare.hosts import HostError
from didmpc.bench.compare.isolate import PREFIX
from didmpc.bench.compare.sheets import sheets
from didmpc.protocols.errors import LocalMisuse

HERE = 'address = "127.0.0.1"'
SMALLEST = f"[[servers]]\n{HERE}\n[[parties]]\n{HERE}\n[[parties]]\n{HERE}\n"


def file(folder, text):
    path = folder / "hosts.toml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ssh")
    with ssh_server(folder) as port:
        yield folder, port


@pytest.fixture(scope="module")
def fleet(server):
    folder, port = server
    head = f'name = "here"\nport = {port}\nkey = "{folder}/id"\nknown_hosts = "known_hosts"\n'
    return read(file(folder, f'{head}user = "me"\npython = "{sys.executable}"\n{SMALLEST}'))


def everywhere(fleet, **settings):
    def changed(places):
        return tuple(dataclasses.replace(place, **settings) for place in places)

    return dataclasses.replace(fleet, servers=changed(fleet.servers), parties=changed(fleet.parties))


def refused(fleet):
    with pytest.raises(HostError) as error, network.connected(fleet, lambda text: None):
        pass
    return error.value


# --- the file


def test_a_file_of_hosts_is_read_with_what_stands_above_for_all(tmp_path):
    path = file(
        tmp_path,
        'user = "ann"\nport = 2222\n[[servers]]\naddress = "192.0.2.1"\n[[servers]]\naddress = "192.0.2.2"\n'
        '[[parties]]\naddress = "192.0.2.3"\nuser = "bob"\nssh = "a.example"\nsudo = true\n'
        '[[parties]]\naddress = "192.0.2.4"\nlabel = "Helsinki"\n',
    )
    found = read(path)
    assert found.name == "hosts"
    assert found.known_hosts == Path.home() / ".ssh" / "known_hosts"
    assert [place.name for place in found.servers + found.parties] == ["vps", "vps1", "party0", "party1"]
    first, second = found.parties
    assert (first.user, first.ssh, first.port, first.sudo) == ("bob", "a.example", 2222, True)
    assert (second.user, second.ssh, second.label) == ("ann", "192.0.2.4", "Helsinki")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nonsense", "Expected"),
        (SMALLEST + "pasword = 1", "pasword is no setting"),
        ('port = "22"\n' + SMALLEST, "port must be a number"),
        ("sudo = 1\n" + SMALLEST, "sudo must be true or false"),
        ("port = 70000\n" + SMALLEST, "no port"),
        (f"[[servers]]\n{HERE}\n[[parties]]\n{HERE}", r"two \[\[parties\]\]"),
        (f"[[parties]]\n{HERE}\n[[parties]]\n{HERE}", r"no \[\[servers\]\]"),
        (SMALLEST + "[[parties]]\n", "has no address"),
        (SMALLEST + '[[parties]]\naddress = "192.0.2.1"', "the same address"),
        (SMALLEST + '[[parties]]\naddress = "a.example"', "no IPv4 address"),
        ('user = "-oProxyCommand=x"\n' + SMALLEST, "is no name"),
        ("servers = 1\n", "must be a list"),
        ("servers = [1]\nparties = []\n", "is no table"),
        ("#" * 70_000, "larger than"),
        (SMALLEST + f"[[parties]]\n{HERE}\n" * 40, "more than"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_the_place(tmp_path, text, why):
    with pytest.raises(LocalMisuse) as error:
        read(file(tmp_path, text))
    assert re.search(why, error.value.why, re.IGNORECASE), error.value.why


def test_more_parties_than_there_are_hosts_are_refused(tmp_path):
    with pytest.raises(LocalMisuse, match="not 3 parties"):
        read(file(tmp_path, SMALLEST)).with_parties(3)


# --- hosts


@pytest.fixture(scope="module")
def result(fleet, tmp_path_factory):
    plan = Plan(
        folder=tmp_path_factory.mktemp("compare"),
        names=("tcp", "didmpc-two", "wireguard"),
        parties=(2,),
        repeats=1,
        rounds=5,
        size=1600,
        times=1,
        fleet=fleet,
        say=lambda text: None,
    )
    return compare(plan)


def test_the_work_is_the_same_and_so_is_the_result(result):
    tcp, two, wireguard = result["runs"]
    assert (tcp["network"], tcp["parties"]) == ("here", 2)
    assert tcp["figures"]["micro"]["round_ms"] > 0
    assert tcp["figures"]["micro"]["cpu_seconds"] > 0
    assert tcp["effort"]["most_of_a_party"]["exchange"] == 1
    assert two["skipped"] == "needs 2 servers"
    assert "root" in wireguard["skipped"] or "not installed on" in wireguard["skipped"]


def test_a_contender_that_some_hosts_have_not_got_is_skipped_with_their_names(fleet, monkeypatch):
    asked = FarHost.missing

    def missing(host, commands):
        return asked(host, commands) if host.name == "party0" else ["openssl"]

    monkeypatch.setattr(FarHost, "missing", missing)
    with network.connected(fleet, lambda text: None) as hosts:
        reason = contenders()["tls"].reason_to_skip(hosts)
    assert reason == "openssl not installed on party1, vps; on Debian: apt install openssl"


def test_the_result_tells_each_host_and_its_software(result):
    assert [host["host"] for host in result["hosts"]] == ["vps", "party0", "party1"]
    assert all(host["cores"] >= 1 and "load_after" in host for host in result["hosts"])
    assert set(result["software"]) == {"tcp"}
    whole = result | {"machine": {"cores": 1, "load_before": 0.0}}
    hosts = next(sheet for sheet in sheets(whole) if sheet.title == "Hosts")
    assert [row[0] for row in hosts.rows] == ["vps", "party0", "party1"]


def test_files_pass_in_pieces_and_stay_below_the_folder(fleet):
    with network.connected(fleet, lambda text: None) as made:
        host, other = made.parties
        data = os.urandom(keeper.PIECE + 77)
        host.put("a/b", data)
        host.pass_to(other, "a/b")
        assert other.get("a/b") == data
        assert (Path(host.folder) / "a" / "b").stat().st_mode & 0o077 == 0
        with pytest.raises(HostError, match="could not do"):
            host.put("../outside", b"x")
        with pytest.raises(HostError, match="could not do"):
            host.get("missing")
        assert host.quietly("sh", "-c", "echo $0; cat a/b | wc -c").split()[1] == str(len(data))
        with pytest.raises(HostError, match="with status 3") as failed:
            host.quietly("sh", "-c", "echo no luck >&2; exit 3")
        assert "no luck" in failed.value.why
        with pytest.raises(HostError, match="could not do"):
            host.quietly("no-such-command-77")
        made.stop()
        assert not other.exists("a/b")


def test_an_unknown_host_key_is_never_accepted(fleet, tmp_path):
    (tmp_path / "known_hosts").write_text("")
    error = refused(dataclasses.replace(fleet, known_hosts=tmp_path / "known_hosts"))
    assert "host key of vps" in error.what
    assert "is not known" in error.what
    assert "fingerprint" in error.fix


def test_another_host_key_than_the_known_one_is_told_apart(fleet, server, tmp_path):
    import asyncssh

    key = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{server[1]} {key}")
    error = refused(dataclasses.replace(fleet, known_hosts=tmp_path / "known_hosts"))
    assert "another host key" in error.what
    assert "ssh-keygen -R" in error.fix


def test_without_a_file_of_known_hosts_nothing_is_dialed(fleet, tmp_path):
    assert "There is no file" in refused(dataclasses.replace(fleet, known_hosts=tmp_path / "none")).what


def test_a_key_that_is_not_let_in_is_named(fleet, tmp_path):
    import asyncssh

    asyncssh.generate_private_key("ssh-ed25519").write_private_key(tmp_path / "other")
    error = refused(everywhere(fleet, key=tmp_path / "other"))
    assert "lets nobody in" in error.what
    assert "authorized_keys" in error.fix


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"key": Path("/no/such/key")}, "There is no key"),
        ({"key": Path(__file__)}, "cannot be used"),
        ({"port": 1}, "cannot be reached"),
        ({"python": "/no/such/python"}, "does not run on vps"),
    ],
)
def test_what_stands_in_the_way_is_said_with_a_way_out(fleet, server, change, said):
    if "port" in change:
        (server[0] / "known_hosts").open("a").close()
    error = refused(everywhere(fleet, **change))
    assert said in error.what
    assert error.fix


def test_another_version_of_didmpc_is_refused(fleet, monkeypatch):
    monkeypatch.setattr("didmpc.bench.compare.fleet.wire.metadata.version", lambda name: "7.7")
    error = refused(fleet)
    assert "didmpc 7.7 does not run" in error.what
    assert "and this is 7.7" in error.why


def left(mark):
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def eventually(condition, what):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.02)


def test_kill_9_of_the_bench_leaves_nothing_on_the_hosts(fleet, server, tmp_path):
    """Neither processes, also those that left their group, nor files; and what was to be undone is undone."""
    undone, long = tmp_path / "undone", 900_000 + os.getpid()  # no other run's
    script = f"""
import sys, time
from pathlib import Path
from didmpc.bench.compare.fleet import network
from didmpc.bench.compare.fleet.plan import read
with network.connected(read(Path({str(server[0] / "hosts.toml")!r})), lambda text: None) as made:
    host = made.parties[0]
    host.run("true", undo=("touch", {str(undone)!r}))
    host.start("sh", "-c", "setsid sleep {long} & trap '' TERM; sleep {long}")
    host.put("secret", b"x")
    print(host.folder, flush=True)
    time.sleep(600)
"""
    bench = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        folder = Path(bench.stdout.readline().strip())
        assert folder.name.startswith(PREFIX)
        eventually(lambda: len(left(b"sleep\x00%d" % long)) == 2, "two processes")
        assert (folder / "secret").exists()
    finally:
        bench.send_signal(signal.SIGKILL)
        bench.wait()
    eventually(lambda: not left(b"sleep\x00%d" % long), "the end of all processes")
    eventually(lambda: not folder.exists(), "the end of the folder")
    assert undone.exists()


def test_a_host_that_is_lost_fails_the_contender_in_words(fleet, tmp_path):
    plan = Plan(folder=tmp_path, names=("tcp",), parties=(2,), fleet=fleet, say=lambda text: None)
    with network.connected(fleet, plan.say) as made:
        host = made.parties[1]
        left = host.start("sleep", "600")
        os.kill(int(host.quietly("sh", "-c", "echo $PPID")), signal.SIGKILL)
        (entry,) = comparison._compare_on(made, plan)
    # `kill -9` of the keeper is what leaves something behind.
    os.kill(left.pid, signal.SIGKILL)
    shutil.rmtree(host.folder)
    assert "connection to party1" in entry["failed"]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"nonsense",
        b"[]",
        b"1",
        b"{}",
        b'{"id": 1}',
        b'{"id": 1, "do": "serve"}',
        b'{"id": 1, "do": "_path", "name": "x"}',
        b'{"id": 1, "do": "start"}',
    ],
)
def test_the_keeper_answers_what_it_does_not_know_with_an_error(tmp_path, line):
    answer = keeper.Keeper(tmp_path).answer(line)
    assert answer["error"]
