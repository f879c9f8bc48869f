"""The comparison without root: all hosts are this machine; and what needs no hosts at all."""

import csv
import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections import Counter
from html import escape
from html.parser import HTMLParser
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from didmpc.bench.compare import compare as comparison
from didmpc.bench.compare import cpu, hosts, measure, report
from didmpc.bench.compare.aims import aims
from didmpc.bench.compare.capture import Frame, openings, parse, sight
from didmpc.bench.compare.command import Outputs, known_contenders, report_of, run
from didmpc.bench.compare.compare import Plan, chosen, chosen_networks, compare, ratios
from didmpc.bench.compare.contender import Requirement, contenders
from didmpc.bench.compare.delay import Direction
from didmpc.bench.compare.hosts import PYTHON, HostError, free_port, loopback, stop_all, wait_until
from didmpc.bench.compare.isolate import PREFIX, work_folder
from didmpc.bench.compare.lab import Site, nat_rules
from didmpc.bench.compare.method import method, not_measured
from didmpc.bench.compare.page import page
from didmpc.bench.compare.programs import MARK, MARKER
from didmpc.bench.compare.sheets import caution, failures, sheets
from didmpc.protocols.errors import LocalMisuse


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """Plain TCP and the raw relay, once, with little work."""
    plan = Plan(
        folder=tmp_path_factory.mktemp("compare"),
        names=("tcp", "relay", "wireguard"),
        profiles=("loopback",),
        repeats=1,
        rounds=5,
        size=1600,
        times=1,
        say=lambda text: None,
    )
    return compare(plan)


def test_each_run_stands_beside_plain_tcp_of_the_same_round(result):
    tcp, relay, _ = result["runs"]
    assert set(tcp["measured"][0]) == {"work", "tcp"}
    assert set(relay["measured"][0]) == {"work", "tcp", "relay"}
    run = relay["measured"][0]
    ratio = relay["ratios"]["tcp"]["micro round_ms"]
    assert ratio["min"] == ratio["max"] == pytest.approx(run["relay"]["round_ms"] / run["tcp"]["round_ms"])
    assert run["relay"]["cpu_seconds"] > 0


def test_what_cannot_take_part_says_why(result):
    reason = result["runs"][2]["skipped"]
    assert "apt install" in reason or "as root" in reason


def test_steps_are_evidence_of_what_was_done(result):
    effort = result["runs"][1]["effort"]
    daemons = [step for step in effort["evidence"] if step["kind"] == "daemon"]
    assert len(daemons) == 1
    assert "didmpc.bench.compare.splice" in daemons[0]["text"]
    assert effort["most_of_a_party"]["exchange"] == 1


def test_the_result_is_json_a_table_and_csv(result):
    assert json.loads(json.dumps(result)) == result
    out = io.StringIO()
    report.print_tables(result, Console(file=out, width=200))
    assert "raw TCP relay" in out.getvalue()
    rows = list(csv.DictReader(io.StringIO(report.as_csv(result))))
    rounds = [row for row in rows if row["part"] == "runs" and row["figure"] == "round_ms"]
    assert [(row["contender"], row["reference"]) for row in rounds] == [
        ("tcp", ""),
        ("relay", "tcp"),
        ("relay", ""),
    ]
    assert float(rounds[2]["value"]) == result["runs"][1]["measured"][0]["relay"]["round_ms"]
    of_relay = {row["figure"] for row in rows if (row["part"], row["contender"]) == ("set-up", "relay")}
    assert of_relay == {
        "setup_seconds", "added_round_ms", "processes",
        "command", "daemon", "configuration", "exchange", "steps",
    }  # fmt: skip
    assert [row["figure"] for row in rows if row["contender"] == "wireguard"] == ["skipped"]
    assert {"round_ms median", "bulk_seconds max"} <= {
        row["figure"] for row in rows if row["part"] == "ratios"
    }


def test_processes_are_counted_with_those_of_servers(result):
    tcp, relay, _ = result["runs"]
    # What Python starts for an instant may be among them.
    assert tcp["processes"] >= 3
    assert relay["processes"] >= 4


def test_cpu_time_is_told_by_what_processes_run(result):
    tcp, relay, _ = result["runs"]
    assert tcp["cpu_by_process"]["micro.py"] > 0
    assert set(relay["cpu_by_process"]) <= {"micro.py", "didmpc.bench.compare.splice", "python", "others"}
    rows = sheet_of(result, "Where the CPU time goes").rows
    assert rows[0][1].startswith("micro.py ")


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("/usr/bin/python3 -I -m didmpc.agent.channel 21", "didmpc.agent.channel"),
        ("/v/bin/python /v/bin/didmpc agent start --json", "didmpc agent"),
        ("python3.11 /tmp/a/micro.py -P x", "micro.py"),
        ("python -c print()", "python"),
        ("python -m", "python"),
        ("/usr/sbin/openvpn --config x", "openvpn"),
        ("", ""),
    ],
)
def test_a_process_is_called_by_what_it_runs(line, kind):
    assert cpu.kind(line.split()) == kind


def sheet_of(result, title):
    return next(each for each in sheets(result | {"machine": {"cores": 1}}) if each.title.startswith(title))


def entry(contender, network, trip, **ratios):
    """What a result says of a contender, as far as aims go."""
    names = {"rounds": "micro round_ms", "bulk": "micro bulk_seconds", "demo": "demo program_seconds"}
    return {
        "contender": contender,
        "title": contender,
        "network": network,
        "parties": 3,
        "processes": 17,
        "measured": [{"work": "micro", "tcp": {"round_ms": trip}}, {"work": "demo", "tcp": {}}],
        "ratios": {
            "relay": {
                names[name]: {"median": value, "min": value - 0.01, "max": value + 0.2}
                for name, value in ratios.items()
            }
        },
    }


def aimed(*entries):
    found = aims({"runs": entries, "machine": {"cores": 2}})
    return [(aim.what, aim.where, aim.wanted, aim.verdict()) for aim in found]


def test_aims_are_checked_where_they_hold():
    assert aimed(entry("didmpc", "metro", 15.6, rounds=1.04, demo=1.09, bulk=1.5)) == [
        ("rounds, times the relay", "metro, 3 parties", 1.05, "met"),
        ("demo, times the relay", "metro, 3 parties", 1.05, "missed by 0.040"),
        ("bulk at 100 Mbit/s, times the relay", "metro, 3 parties", 1.5, "met"),
    ]
    shared = "loopback, 3 parties; 2 cores, 17 processes"
    assert aimed(entry("didmpc", "loopback", 0.4, rounds=1.8, demo=1.2, bulk=9.0)) == [
        ("rounds, times the relay", shared, 1.6, "missed by 0.200"),
        ("demo, times the relay", shared, None, "reported"),
    ]
    assert [row[2:] for row in aimed(entry("didmpc", "mobile", 61.0, rounds=1.06, bulk=1.2))] == [
        (1.05, "missed by 0.010")
    ]


def test_the_price_of_having_no_session_is_shown_and_others_have_no_aims():
    assert aimed(entry("didmpc-didcomm", "world", 61.0, rounds=7.5)) == [
        ("rounds as DIDComm messages, times the relay", "world, 3 parties", None, "reported")
    ]
    assert (
        aimed(entry("wireguard", "world", 61.0, rounds=0.5), entry("didmpc-two", "lan", 0.3, rounds=2)) == []
    )
    assert aimed({"contender": "didmpc", "failed": "no luck"}) == []


@pytest.fixture(scope="module")
def whole(result):
    """A result that has something for every table, as `didmpc bench compare --json` writes it."""
    seen = {
        "pairs": ["party0 - vps"],
        "frames": 9,
        "sizes": 4,
        "median_gap_ms": 0.5,
        "contents_readable": False,
    }
    relay = {"contender": "relay", "title": "raw <TCP> relay"}
    exposure = relay | {
        "bytes_per_payload_byte": 2.1,
        "bytes_per_round_and_party": 99,
        "opened_from_outside": {"party1": ["tcp/11365"], "vps": ["tcp/7001"]},
        "eavesdropper": seen,
        "servers": {"vps": seen | {"contents_readable": True}},
        "frames_missed": 0,
        "reference": "socat(1)",
    }
    nat = [
        relay | {"site": "open", "works": True, "seconds": 2.5},
        relay | {"site": "symmetric", "works": False, "why": "No route."},
    ]
    return result | {
        "exposure": [exposure],
        "nat": nat,
        "cut": [relay | {"survived": False, "seconds": 90.0, "why": "It took too long."}],
        "machine": {"cores": 2, "processor": "a <b>fast</b> one", "load_before": 0.4, "other_work": 0.01},
        "software": {"tcp": {"mpyc": "0.11"}},
        "date": "2026-01-02T03:04:05+00:00",
        "command": "didmpc bench compare",
    }


def sheet(result, title):
    return next(each for each in sheets(result) if each.title.startswith(title))


def test_columns_are_what_was_observed(whole):
    assert sheet(whole, "Security").rows == [
        (
            "raw <TCP> relay", "not readable", "readable", "tcp/11365", "tcp/7001", "2.10", "9 (0 missed)",
        )
    ]  # fmt: skip
    assert sheet(whole, "Privacy").rows[0][1:4] == ("party0 - vps", "party0 - vps", "4")
    reach = sheet(whole, "What it works behind")
    assert reach.rows == [("raw <TCP> relay", "yes, 2.5 s", "no", "no")]
    assert reach.notes[0] == "raw <TCP> relay (symmetric): No route."
    assert [row[0] for row in sheet(whole, "Ease of use").rows] == ["MPyC over plain TCP", "raw TCP relay"]
    assert sheet(whole, "Software").rows == [
        ("MPyC over plain TCP", "mpyc 0.11", "https://github.com/lschoe/mpyc")
    ]


def test_many_ports_are_counted_and_the_same_failure_is_told_once(whole):
    exposure = whole["exposure"][0]
    many = {"party1": [f"udp/{port}" for port in range(1000, 1020)]}
    failed = [whole["nat"][1] | {"site": site, "why": "No way. " * 99} for site in ("open", "symmetric")]
    result = whole | {"exposure": [exposure | {"opened_from_outside": many}], "nat": failed}
    assert sheet(result, "Security").rows[0][3].endswith("udp/1005 and 14 more")
    notes = sheet(result, "What it works behind").notes
    assert notes[0].startswith("raw <TCP> relay (open, symmetric): No way. No way.")
    assert len(notes[0]) < 300


def test_what_is_not_in_the_result_is_said_with_its_reason(whole):
    said = "\n".join(not_measured(whole))
    assert "WireGuard (wireguard-go) (times): skipped, needs hosts with networks of their own" in said
    assert "Not asked for in this result (captures): MPyC over plain TCP" in said
    assert any("paired with the same work over plain TCP" in line for line in method(whole))
    assert "Rounds: 5 products" in " ".join(method(whole))


def test_a_busy_machine_is_said_to_have_been_busy(whole):
    assert caution(whole) == ""
    assert "load average 9 " in caution(whole | {"machine": {"cores": 2, "load_before": 9}})
    assert "30% of its CPU" in caution(whole | {"machine": {"cores": 2, "load_before": 0, "other_work": 0.3}})


class Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.attributes = Counter(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found[tag] += 1
        self.attributes += [(name, value or "") for name, value in attributes]


@pytest.fixture(scope="module")
def text(whole):
    return page(whole)


def test_the_page_holds_its_plots_and_loads_nothing(text, whole):
    elements = Elements(text)
    assert elements.found["svg"] == elements.found["figure"] >= 5
    assert not {"script", "link", "img", "iframe", "b"} & set(elements.found)
    assert "a &lt;b&gt;fast" in text
    ids = [value for name, value in elements.attributes if name == "id"]
    assert len(set(ids)) == len(ids)
    targets = [value for name, value in elements.attributes if name.endswith("href")]
    targets += [f"#{name}" for name in re.findall(r"url\(#([^)]*)\)", text)]
    assert targets
    assert {target.removeprefix("#") for target in targets} <= set(ids)
    assert page(whole) == text, "the same result makes the same page"


def test_all_colours_of_the_page_are_light_or_dark_as_the_reader_has_it(text):
    body = re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
    colours = re.findall(r"(?:fill|stroke|stop-color)[:=] ?\"?([^;\" ]+)", body)
    assert {each for each in colours if each.startswith("var(--")}
    assert {each for each in colours if not each.startswith("var(--")} <= {"none"}
    assert text.count("@media screen and (prefers-color-scheme: dark)") == 1 + text.count("<svg")


def test_the_page_shows_every_step_as_evidence(text, whole):
    steps = [each["text"] for entry in whole["runs"] for each in entry.get("effort", {}).get("evidence", ())]
    assert steps
    assert all(escape(step) in text for step in steps)


def test_a_document_is_made_from_a_kept_result(whole, tmp_path):
    kept = tmp_path / "result.json"
    kept.write_text(json.dumps(whole))
    (tmp_path / "pictures").mkdir()
    outputs = Outputs(csv=tmp_path / "a.csv", markdown=tmp_path / "a.md", plots=tmp_path / "pictures")
    report_of([kept], outputs)
    text = outputs.markdown.read_text()
    assert re.findall("^## (.*)", text, re.MULTILINE)[:3] == ["Method", "Machine", "Plots"]
    drawn = re.findall(r"!\[.*\]\(<(.*)>\)", text)
    assert drawn == [f"pictures/plot{number}.svg" for number in range(1, len(drawn) + 1)]
    assert [ElementTree.parse(tmp_path / each).getroot().tag[-3:] for each in drawn] == ["svg"] * len(drawn)
    assert "    party1 (exchange) to vps: its address and port" in text, "steps are evidence"
    assert "raw \\<TCP\\> relay | yes, 2.5 s | no | no |" in text
    assert f"didmpc bench report {kept} --markdown {outputs.markdown}" in text
    assert outputs.csv.read_bytes().decode() == report.as_csv(whole)


def test_results_of_several_commands_become_one(whole, tmp_path):
    second = whole | {
        "command": "didmpc bench compare tls",
        "date": "2026-01-02T04:00:00+00:00",
        "runs": [whole["runs"][0] | {"network": "metro"}],
        "exposure": [],
        "cut": [],
        "nat": [],
        "machine": whole["machine"] | {"load_before": 9.5, "other_work": 0.3},
        "software": {"tls": {"openssl": "3"}},
    }
    for name, each in (("a", whole), ("b", second)):
        (tmp_path / name).write_text(json.dumps(each))
    outputs = Outputs(json=tmp_path / "both.json", markdown=tmp_path / "both.md")
    report_of([tmp_path / "a", tmp_path / "b"], outputs)
    both = report.read(outputs.json)
    assert both["command"] == "didmpc bench compare && didmpc bench compare tls"
    assert both["date"] == "2026-01-02T03:04:05+00:00 to 2026-01-02T04:00:00+00:00"
    assert both["machine"]["load_before"] == whole["machine"]["load_before"]
    assert both["machine"]["other_work"] == 0.3
    assert set(both["software"]) == {"tcp", "tls"}
    assert [entry["network"] for entry in both["runs"]] == ["loopback"] * 3 + ["metro"]
    assert [row[0] for row in sheet(both, "Figures: metro").rows] == ["MPyC over plain TCP"]
    assert both["nat"] == whole["nat"]
    text = outputs.markdown.read_text()
    assert "## Figures: metro, 3 parties" in text
    assert f"`didmpc bench report {outputs.json} --markdown" in text


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"runs": 1}', "9" * 5000, "[" * 100_000])
def test_what_is_no_result_is_refused(tmp_path, text):
    file = tmp_path / "x"
    file.write_text(text)
    with pytest.raises(LocalMisuse, match="not a result of the comparison"):
        report_of([file], Outputs())


def test_a_result_with_something_missing_is_refused(whole, tmp_path):
    file = tmp_path / "x"
    file.write_text(json.dumps(whole | {"runs": [{"network": "lan"}]}))
    with pytest.raises(LocalMisuse, match="not a result of the comparison"):
        report_of([file], Outputs(markdown=tmp_path / "y"))


def test_without_matplotlib_it_is_said_how_to_install_it_before_anything_is_measured(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for outputs in (Outputs(html=tmp_path / "a.html"), Outputs(plots=tmp_path)):
        with pytest.raises(LocalMisuse) as refused:
            outputs.check()
        assert "make install-report" in refused.value.fix


def test_plots_go_into_a_folder_that_is_there(tmp_path):
    with pytest.raises(LocalMisuse, match="There is no folder"):
        Outputs(plots=tmp_path / "missing").check()


@pytest.mark.parametrize("name", ["", "missing/a.csv"])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path, name):
    with pytest.raises(LocalMisuse, match="cannot be written"):
        Outputs(csv=tmp_path / name).check()


def test_no_process_is_left(result):
    del result
    left = [
        child
        for task in Path("/proc/self/task").iterdir()
        for child in (task / "children").read_text().split()
        if b"compare.splice" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    assert left == []


def test_ratios_are_those_of_pairs():
    runs = [
        {"work": "micro", "tcp": {"round_ms": 1.0}, "own": {"round_ms": 2.0}},
        {"work": "micro", "tcp": {"round_ms": 10.0}, "own": {"round_ms": 11.0}},
        {"work": "micro", "tcp": {"round_ms": 2.0}, "own": {"round_ms": 3.0}},
    ]
    assert ratios(runs, "own", "tcp") == {"micro round_ms": {"median": 1.5, "min": 1.1, "max": 2.0}}


def test_a_contender_that_is_not_installed_names_its_package(tmp_path):
    one = contenders()["tls"]
    one = type("Missing", (type(one),), {"requires": (Requirement("no-such-command-77", "no-package"),)})()
    reason = one.reason_to_skip(loopback(tmp_path, 3))
    assert reason == "no-such-command-77 not installed; on Debian: apt install no-package"


def test_the_list_says_versions_and_how_to_install(monkeypatch):
    monkeypatch.setattr(hosts, "find_command", lambda name: None if name == "wg" else Path("/bin") / name)
    listed = {each["name"]: each for each in known_contenders()}
    assert listed["tcp"]["installed"]
    assert listed["tcp"]["versions"] == {"mpyc": metadata.version("mpyc")}
    assert listed["wireguard"]["missing"] == ["wg"]
    assert listed["wireguard"]["install"] == "apt install wireguard-tools"
    assert set(listed["wireguard"]["versions"]) >= {"wireguard-go", "wireguard-tools"}
    assert json.dumps(listed)


def test_captures_are_refused_without_root_before_anything_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    said = []
    plan = Plan(tmp_path, ("tcp",), profiles=("loopback",), exposure=True, say=said.append)
    with pytest.raises(LocalMisuse, match="need root"):
        run(plan)
    assert said == []


def test_free_ports_are_none_that_connections_get():
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    if first < 32_000:
        pytest.skip("this machine gives connections other ports than Linux does by default")
    assert max(ports) < first


def test_unknown_names_are_refused_with_those_that_there_are():
    with pytest.raises(LocalMisuse, match="no contender nothing"):
        chosen(["nothing"])
    with pytest.raises(LocalMisuse, match="no profile moon"):
        chosen_networks(["moon"])


def test_every_contender_has_a_file_and_a_name_of_its_own():
    found = contenders()
    assert next(iter(found)) == comparison.REFERENCE
    assert {"tcp", "tls", "relay", "ssh", "didmpc", "didmpc-two", "didmpc-didcomm"} <= set(found)
    assert all(each.name == name and each.title for name, each in found.items())


def test_without_root_test_hosts_are_refused_with_a_way_out():
    command = (
        "import os\n"
        "os.geteuid = lambda: 1000\n"
        "from didmpc.bench.compare.isolate import run_isolated\n"
        "from didmpc.protocols.errors import LocalMisuse\n"
        "try: run_isolated(lambda: None)\n"
        "except LocalMisuse as error: print(error.fix)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, timeout=60, check=True
    )
    assert "--profile loopback" in done.stdout


def test_folders_of_killed_runs_are_swept_and_those_in_use_are_not(tmp_path):
    killed = tmp_path / f"{PREFIX}killed"
    killed.mkdir()
    (killed / "lock").touch()
    with work_folder(tmp_path) as first:
        assert not killed.exists()
        with work_folder(tmp_path) as second:
            assert first.exists()
            assert second != first
    assert list(tmp_path.iterdir()) == []


def test_without_root_ports_that_need_it_are_replaced(tmp_path):
    network = loopback(tmp_path, 2)
    assert network.port(443) != 443, "hosts that are one machine share its ports"
    network.separate = True
    for host in network.hosts:
        host.is_root = True
    assert (network.port(443), network.port(7001)) == (443, 7001)
    network.vps.is_root = False
    assert (network.port(443), network.port(7001)) == (8443, 7001)


def test_who_fails_is_set_up_anew_once_and_both_are_told(tmp_path, whole):
    said, tried = [], []

    def body(one, stack):
        tried.append(one.name)
        if one.name == "relay" or tried == ["tcp"]:
            raise HostError("no luck")
        return {"works": True}

    plan = Plan(tmp_path, ("tcp", "relay"), say=said.append)
    tcp, relay = comparison._each(plan, loopback(tmp_path, 3), body)
    assert tried == ["tcp", "tcp", "relay", "relay"]
    assert (tcp["works"], tcp["failed_at_first"]) == (True, "no luck")
    assert relay["failed"] == "no luck"
    assert said[1] == f"{said[0]}, anew"
    words = list(failures(whole | {"cut": [tcp, relay]}))
    assert words == [
        "MPyC over plain TCP failed, and worked when it was set up anew (cut): no luck",
        "raw TCP relay failed twice (cut): no luck",
    ]


def test_a_program_that_fails_at_one_party_ends_at_all(tmp_path):
    network = loopback(tmp_path, 2)
    bad = network.parties[0].start(PYTHON, "-c", "raise SystemExit('no luck')")
    waits = network.parties[1].start(PYTHON, "-c", "import time; time.sleep(600)")
    with pytest.raises(HostError, match="status 1"):
        measure.finish(None, [bad, waits])
    assert waits.process.poll() is not None


def test_a_wrong_result_is_an_error_and_no_figure(tmp_path):
    class Says:
        def output(self, finished):
            return finished.stdout

    host = loopback(tmp_path, 1).parties[0]
    running = host.start("echo", MARK + json.dumps({"wrong": 1}))
    with pytest.raises(HostError, match="wrong result"):
        measure.finish(Says(), [running])


def test_the_relay_passes_bytes_both_ways_and_ends(tmp_path):
    host = loopback(tmp_path, 1).parties[0]
    with socket.create_server(("127.0.0.1", 0)) as far:
        port = free_port()
        relay = host.start(
            PYTHON, "-m", "didmpc.bench.compare.splice", f"{port}=127.0.0.1:{far.getsockname()[1]}"
        )
        wait_until(lambda: host.listens(relay, port), "The relay")
        far.settimeout(20)
        with socket.create_connection(("127.0.0.1", port), 20) as near:
            near.sendall(b"there")
            with far.accept()[0] as other:
                other.settimeout(20)
                assert other.recv(100) == b"there"
                block = os.urandom(3_000_000)
                sender = threading.Thread(target=other.sendall, args=(block,))
                sender.start()
                got = b""
                while len(got) < len(block):
                    got += near.recv(1 << 20)
                sender.join()
                assert got == block
            assert near.recv(1) == b""
        stop_all([relay])


def test_cpu_time_counts_processes_that_have_ended(tmp_path):
    host = loopback(tmp_path, 1).parties[0]
    before = cpu.seconds_below(os.getpid())
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    host.start(PYTHON, "-c", busy).wait(60)
    assert cpu.seconds_below(os.getpid()) - before >= 0.28


# --- the delay box and captures, without devices


def direction(**settings):
    values = {"delay": 0.0, "jitter": 0.0, "loss": 0.0, "rate": 0.0} | settings
    return Direction(0, 0, header=0, **values)


def test_a_rate_spaces_frames_and_a_full_queue_loses_them():
    link = direction(rate=8000.0, delay=1.0)
    for _ in range(3):
        link.accept(b"x" * 60, 100.0)  # 60 ms each; the third finds more than 100 ms waiting
    assert [due for due, _ in link.frames] == pytest.approx([101.06, 101.12])


def test_jitter_delays_and_never_reorders():
    link = direction(delay=0.01, jitter=0.02)
    for number in range(200):
        link.accept(b"%d" % number, number / 1000)
    dues = [due for due, _ in link.frames]
    assert dues == sorted(dues)
    assert [int(frame) for _, frame in link.frames] == list(range(200))
    assert all(due >= number / 1000 + 0.01 for number, due in enumerate(dues))


def test_loss_takes_about_its_part():
    link = direction(loss=0.5)
    for _ in range(2000):
        link.accept(b"x", 0.0)
    assert 800 < len(link.frames) < 1200


def tcp_frame(payload=b"", flags=0x02):
    header = bytes([0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0]) + bytes([10, 0, 0, 1, 10, 0, 0, 2])
    tcp = (1234).to_bytes(2, "big") + (443).to_bytes(2, "big") + bytes(8) + bytes([0x50, flags]) + bytes(6)
    return bytes(12) + b"\x08\x00" + header + tcp + payload


def test_a_frame_is_read_as_addresses_ports_size_and_marker():
    frame = parse(tcp_frame(MARKER.encode()), 5.0, "to-a")
    assert frame == Frame(5.0, "to-a", 54 + 16, "tcp", "10.0.0.1", 1234, "10.0.0.2", 443, True, True)
    assert parse(tcp_frame(flags=0x12), 5.0, "to-a").opens is False
    assert parse(bytes(14), 5.0, "to-a") is None


def test_later_fragments_have_no_ports():
    header = bytearray(tcp_frame(b"x" * 40))
    header[14 + 9] = 17  # UDP
    header[14 + 6 : 14 + 8] = (0x2000).to_bytes(2, "big")  # more fragments follow
    first = parse(bytes(header), 1.0, "to-b")
    assert (first.protocol, first.target_port, first.is_rest) == ("udp", 443, False)
    header[14 + 6 : 14 + 8] = (185).to_bytes(2, "big")  # from octet 1480 on
    rest = parse(bytes(header), 1.0, "to-b")
    assert (rest.target_port, rest.is_rest) == (0, True)
    assert openings([first, rest], {"10.0.0.2": "party1"}) == {"party1": ["udp/443"]}


def test_ports_count_as_opened_by_connections_and_first_datagrams_only():
    def udp(when, source, source_port, target, target_port):
        return Frame(when, "to", 60, "udp", source, source_port, target, target_port, False, False)

    frames = [
        Frame(1, "to", 60, "tcp", "A", 9, "B", 443, True, False),
        Frame(2, "to", 60, "tcp", "B", 443, "A", 9, False, False),
        udp(3, "A", 7, "B", 53),
        udp(4, "B", 53, "A", 7),
    ]
    assert openings(frames, {"A": "party0", "B": "vps"}) == {"vps": ["tcp/443", "udp/53"]}
    assert sight(frames, {"A": "party0", "B": "vps"})["pairs"] == ["party0 - vps"]
    assert sight(frames, {})["contents_readable"] is False


@pytest.mark.parametrize("site", [Site.PORT_RESTRICTED, Site.SYMMETRIC, Site.ONLY_443])
def test_every_gateway_drops_what_nobody_asked_for(site):
    rules = nat_rules(site)
    assert rules.count("policy drop") == 2
    assert ("fully-random" in rules) is (site is Site.SYMMETRIC)
    assert ("tcp dport 443" in rules) is (site is Site.ONLY_443)
