"""The real program process, locked in by its witness: limits that the witness keeps, and its end."""

import asyncio
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from didmpc.agent.channel.witness import Program, explain_exit
from didmpc.agent.program.wire import FrameType, encode, encode_json
from didmpc.agent.sandbox import disk
from didmpc.agent.sandbox.choice import policy_for
from didmpc.agent.sandbox.policy import MIB, Limits, Mechanism, Policy
from didmpc.agent.sandbox.start import start

from .conftest import search_path

LIMITS = Limits(disk=8 * MIB, file=4 * MIB, entries=100, cpu_seconds=60)


@pytest.fixture(autouse=True)
def modules_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", search_path())


def begin(
    folder: Path, source: str, mechanism: Mechanism, limits: Limits = LIMITS
) -> tuple[Program, socket.socket]:
    """A program alone in its run, as a channel process starts it."""
    bundle = folder / "bundle"
    bundle.mkdir(mode=0o700)
    (bundle / "program.py").write_text(source)
    (bundle / "data").mkdir()
    (bundle / "data" / "table.csv").write_text("1,2\n")
    ours, theirs = socket.socketpair()
    with theirs:
        program = Program(folder, theirs, mechanism, limits)
    config = {
        "pid": 0, "m": 1, "threshold": 0, "entry": "program.py", "arguments": [], "names": ["Alice"],
    }  # fmt: skip
    ours.sendall(encode_json(FrameType.CONFIG, config) + encode(FrameType.GO))
    return program, ours


def place_for(folder: Path, mechanism: Mechanism, limits: Limits | None = None) -> Policy:
    for name in ("bundle", "output"):
        (folder / name).mkdir()
    return policy_for(mechanism, folder / "bundle", folder / "output", limits)


def gone(pids: list[int]) -> bool:
    def running(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    return not any(map(running, pids))


async def test_a_program_finds_its_bundle_and_leaves_its_files_in_the_output(
    mechanism: Mechanism, tmp_path: Path
) -> None:
    source = """
import os, sys, tempfile
import numpy
from pathlib import Path
print(Path(__file__).parent.joinpath("data/table.csv").read_text().strip(), open("data/table.csv").read()[:3])
with tempfile.TemporaryFile() as f: f.write(b"x")
with tempfile.NamedTemporaryFile("w", delete=False, dir=".") as f: f.write("atomic")
os.replace(f.name, "result.csv")
print(numpy.ones((200, 200)).dot(numpy.ones((200, 200)))[0][0], sys.stdin.read())
"""
    program, ours = begin(tmp_path, source, mechanism)
    with ours:
        program.stdin.write(b"own input")
        program.stdin.close()
        said, errors = await asyncio.gather(
            *(asyncio.to_thread(each.read) for each in (program.stdout, program.stderr))
        )
        assert (await program.exited(), errors) == (0, b"")
    assert said == b"1,2 1,2\n200.0 own input\n"
    assert (tmp_path / "output" / "result.csv").read_text() == "atomic"


FILLS = {
    "many files": "n = 0\nwhile True:\n    n += 1\n    open(f'{n}', 'w').write('x')\n",
    "large files": """
n = 0
while True:
    n += 1
    open(f"{n}", "wb").write(bytes(4 << 20))
    time.sleep(0.02)
""",
    "files without a name": """
while True:
    with open("x", "wb") as file:
        os.unlink("x")
        file.write(os.urandom(4 << 20))
    time.sleep(0.02)
""",
    "folders without a bottom": "while True:\n    os.mkdir('a'); os.chdir('a'); time.sleep(0.0005)\n",
}


@pytest.mark.parametrize("what", FILLS)
async def test_a_program_that_fills_the_disk_is_found_out(
    mechanism: Mechanism, tmp_path: Path, what: str
) -> None:
    program, ours = begin(tmp_path, "import os, time\n" + FILLS[what], mechanism)
    with ours:
        excess = await asyncio.wait_for(program.goes_too_far(), 240)
        assert excess == (
            "It wrote more than 8 MiB to files." if "files" in what and what != "many files" else
            "It made more than 100 files."
        )  # fmt: skip
        await program.end(0.2)
    disk.remove(tmp_path / "output")
    assert not (tmp_path / "output").exists()


async def test_a_program_that_will_not_end_is_ended_with_all_that_is_its(
    mechanism: Mechanism, tmp_path: Path
) -> None:
    source = """
import ctypes, os, signal, threading, time
for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
for escape in (os.setsid, os.fork, lambda: os.setpgid(0, 0)):
    try:
        escape()
    except OSError:
        pass
ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
threading.Thread(target=lambda: [time.sleep(1) for _ in range(600)]).start()
print("ready", flush=True)
"""
    program, ours = begin(tmp_path, source, mechanism)
    with ours:
        assert await asyncio.to_thread(program.stdout.readline) == b"ready\n"
        pids = list(disk.descendants(program._process.pid))
        assert not gone(pids)
        await program.end(0.2)
        async with asyncio.timeout(120):  # the kernel ends a namespace of processes with its first
            while not gone(pids):
                await asyncio.sleep(0.01)
        assert explain_exit(await program.exited())[0] == "killed"


async def test_a_program_that_eats_memory_is_refused_more(mechanism: Mechanism, tmp_path: Path) -> None:
    source = """
hoard = []
try:
    while True:
        hoard.append(bytes(64 << 20))
except MemoryError:
    print("no more after", len(hoard) < 32)
"""
    program, ours = begin(tmp_path, source, mechanism, Limits(memory=2048 * MIB))
    with ours:
        assert await asyncio.to_thread(program.stdout.readline) == b"no more after True\n"
        assert await program.exited() == 0


@pytest.mark.parametrize(
    ("before", "number"),
    [
        ("pass", signal.SIGXCPU),
        ("import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)", signal.SIGKILL),
    ],
    ids=["told so", "that does not listen"],
)
def test_a_program_that_computes_for_too_long_is_ended(
    mechanism: Mechanism, tmp_path: Path, before: str, number: signal.Signals
) -> None:
    policy = place_for(tmp_path, mechanism, Limits(cpu_seconds=1))
    with start(policy, "timeit", ["-s", before, "while True: pass"], environment=os.environ) as process:
        assert process.wait(60) in (-number, 128 + number)


def test_a_locked_in_process_has_no_name_of_a_path_in_lists_of_processes(
    mechanism: Mechanism, tmp_path: Path
) -> None:
    policy = place_for(tmp_path, mechanism)
    pipe = subprocess.PIPE
    with start(policy, "code", [], environment=os.environ, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        shown = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in disk.descendants(process.pid)]
        assert process.stdin is not None
        process.stdin.close()
    assert shown and not [line for line in shown if str(tmp_path).encode() in line]
