"""An agent that was given no mediator runs a real one, as processes that people would start."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from didmpc.agent.control.client import call
from didmpc.agent.embedded import EmbeddedMediator
from didmpc.agent.mailbox.mailbox import Mailbox, Standing
from didmpc.agent.wallet.home import Home
from didmpc.agent.wallet.wallet import Wallet
from didmpc.protocols.envelope import Unpacked
from didmpc.protocols.errors import DidmpcError
from didmpc.protocols.message import Message

NOTE = "https://example.org/note/1.0/note"
PATIENCE = 90.0

PROGRAM = """
import json, sys
from pathlib import Path
from didmpc.agent.daemon import StartOptions, run
options = json.load(sys.stdin)
run(
    StartOptions(home=Path(options.pop("home")), **options),
    on_ready=lambda facts: print(json.dumps(facts), flush=True),
    on_notice=lambda text: print(text, file=sys.stderr),
)
"""


class Process:
    """An agent in a process of its own."""

    def __init__(self, home: Path, **options: Any) -> None:
        self.home = Home(home)
        started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({"home": str(home), **options}).encode())
        self.process.stdin.close()
        line = self.process.stdout.readline()
        self.seconds = time.monotonic() - started
        if not line:
            assert self.process.stderr is not None
            raise AssertionError(self.process.stderr.read().decode())
        self.ready = json.loads(line)

    def __call__(self, method: str, **params: Any) -> dict[str, Any]:
        return call(method, params, home=self.home, timeout=PATIENCE)

    def mediators(self) -> list[int]:
        """Process ids of the mediators that run in this home."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes().split(b"\0")
                if b"didmpc.agent.embedded_child" in command and os.fsencode(self.home.mediator) in command:
                    found.append(int(entry.name))
        return found

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


Launch = Callable[..., Process]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    processes: list[Process] = []

    def launch(name: str, **options: Any) -> Process:
        processes.append(Process(tmp_path / name, **options))
        return processes[-1]

    yield launch
    for process in processes:
        if process.process.poll() is None:
            process.end()
        for pipe in (process.process.stdout, process.process.stderr):
            assert pipe is not None
            pipe.close()


def wait_until(condition: Callable[[], bool], within: float = PATIENCE) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_agents_with_mediators_of_their_own_meet(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "DIDMPC_MEDIATOR_REGISTRATION", "allow-list"
    )  # of a mediator that is hosted for others
    alice, bob = launch("alice", label="Alice"), launch("bob", label="Bob")
    assert alice.ready["embedded"] and alice.ready["connected"]
    assert alice.ready["mediator"] != bob.ready["mediator"]
    contact = bob("accept", invitation=alice("invite")["url"], name=None)
    assert contact["name"] == "Alice"
    assert alice("ping", contact="Bob", count=3)["received"] == 3
    checks = alice("doctor")["checks"]  # whether there is a sandbox is a matter of the machine
    assert all(check["ok"] for check in checks if check["name"] != "sandbox")


def test_two_agents_on_one_mediator_meet(launch: Launch) -> None:
    alice = launch("alice", label="Alice")
    bob = launch("bob", label="Bob", mediator=alice.ready["mediator"])
    assert not bob.ready["embedded"]
    bob("accept", invitation=alice("invite")["url"], name=None)
    assert bob("ping", contact="Alice", count=3)["received"] == 3


def test_its_address_is_kept_over_a_restart(launch: Launch) -> None:
    alice, bob = launch("alice", label="Alice"), launch("bob", label="Bob")
    bob("accept", invitation=alice("invite")["url"], name=None)
    assert alice.end() == 0
    again = launch("alice")
    assert again.ready["mediator"] == alice.ready["mediator"] and again.ready["did"] == alice.ready["did"]
    assert bob("ping", contact="Alice", count=1)["received"] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_it_never_outlives_its_agent(launch: Launch, number: signal.Signals) -> None:
    alice = launch("alice")
    assert len(alice.mediators()) == 1
    alice.end(number)
    wait_until(lambda: not alice.mediators())


def test_after_a_kill_the_agent_starts_again_as_if_nothing_had_been(launch: Launch) -> None:
    alice, bob = launch("alice", label="Alice"), launch("bob", label="Bob")
    bob("accept", invitation=alice("invite")["url"], name=None)
    alice.end(signal.SIGKILL)
    assert alice.home.socket.exists()
    again = launch("alice")
    assert again("ping", contact="Bob", count=1)["received"] == 1


def test_a_mediator_that_is_killed_is_started_again(launch: Launch) -> None:
    alice, bob = launch("alice", label="Alice"), launch("bob", label="Bob")
    bob("accept", invitation=alice("invite")["url"], name=None)
    (mediator,) = alice.mediators()
    os.kill(mediator, signal.SIGKILL)
    wait_until(lambda: alice.mediators() not in ([], [mediator]))
    assert bob("ping", contact="Alice", count=1, timeout=PATIENCE)["received"] == 1


def test_stop_ends_everything(launch: Launch) -> None:
    alice = launch("alice")
    alice("stop")
    assert alice.process.wait(PATIENCE) == 0
    assert not alice.mediators() and not alice.home.socket.exists()


def test_nothing_secret_stands_on_a_command_line(launch: Launch) -> None:
    alice = launch("alice", passphrase="sesame-open")
    for pid in (alice.process.pid, *alice.mediators()):
        for name in ("cmdline", "environ"):
            assert b"sesame-open" not in Path(f"/proc/{pid}/{name}").read_bytes()


def test_a_home_on_which_an_agent_runs_is_refused_to_another(launch: Launch) -> None:
    launch("alice")
    with pytest.raises(AssertionError, match="already runs"):
        launch("alice")


def test_a_deleted_key_file_is_an_error_that_says_so(launch: Launch) -> None:
    alice = launch("alice")
    alice.end()
    alice.home.key_file.unlink()
    with pytest.raises(AssertionError, match="key file"):
        launch("alice")
    with pytest.raises(DidmpcError, match="No agent is running"):
        alice("status")


async def test_nothing_is_lost_or_doubled_when_the_mediator_is_killed(tmp_path: Path) -> None:
    """What it took is on its disk; what it did not take is sent again."""
    home = Home(tmp_path / "mediator-owner")
    home.prepare()
    mediator = EmbeddedMediator(home)
    ready = await mediator.start(first_time=True)
    arrived: list[int] = []

    async def on_note(unpacked: Unpacked) -> None:
        arrived.append(unpacked.message.body["n"])

    async with aiohttp.ClientSession() as http:
        boxes = []
        for name in ("alice", "bob"):
            place = Home(tmp_path / name)
            place.prepare()
            boxes.append(Mailbox(Wallet.open(place), ready.did, http))
            assert await boxes[-1].start(PATIENCE)
        alice, bob = boxes
        alice.on(NOTE, on_note)
        alice.standing = lambda unpacked: Standing.CONTACT  # who may send much at once
        theirs, mine = await alice.new_identity(keep=False), await bob.new_identity(keep=False)

        async def send(number: int) -> None:
            await asyncio.sleep(number * 0.02)
            await bob.send(Message(type=NOTE, body={"n": number}), mine, theirs.did, timeout=PATIENCE)

        async def kill() -> None:
            for _ in range(2):
                await alice.connected.wait()
                await asyncio.sleep(0.1)
                assert mediator._process is not None
                with contextlib.suppress(ProcessLookupError):  # it may be down from the last time still
                    mediator._process.kill()
                await asyncio.sleep(0.1)

        await asyncio.gather(kill(), *(send(number) for number in range(80)))
        async with asyncio.timeout(PATIENCE):
            while len(arrived) < 80:
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        for box in boxes:
            await box.close()
    await mediator.close()
    assert sorted(arrived) == list(range(80))
