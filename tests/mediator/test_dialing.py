"""Looking up names: at most so many at once, whoever waits for them, and never in the way of the end."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from didmpc.mediator.resolving.dialing import LOOKUPS_AT_ONCE, Names


class SlowNames:
    """The system's look-up, held up until it may go on."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go = threading.Event()

    def __call__(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked.append(host)
        self.go.wait()
        if host.startswith("no"):
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        if host.startswith("bad"):
            raise UnicodeError("label too long")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port))]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowNames]:
    slow = SlowNames()
    monkeypatch.setattr(socket, "getaddrinfo", slow)
    yield slow
    slow.go.set()


async def test_a_name_of_this_machine_is_found() -> None:
    found = await Names().resolve("localhost", 80, socket.AF_UNSPEC)
    assert {each["host"] for each in found} <= {"127.0.0.1", "::1"} and found


async def test_threads_are_bounded_also_when_nobody_waits_for_them_any_more(slow: SlowNames) -> None:
    names = Names()
    given_up = [asyncio.create_task(names.resolve(f"slow{n}", 80)) for n in range(LOOKUPS_AT_ONCE)]
    while len(slow.asked) < LOOKUPS_AT_ONCE:
        await asyncio.sleep(0.005)
    for task in given_up:
        task.cancel()
    await asyncio.gather(*given_up, return_exceptions=True)
    late = asyncio.create_task(names.resolve("late", 80))
    await asyncio.sleep(0)
    assert "late" not in slow.asked
    slow.go.set()
    assert (await asyncio.wait_for(late, 60))[0]["host"] == "192.0.2.1"


@pytest.mark.parametrize("host", ["nobody.example", "bad" + "x" * 80])
async def test_what_cannot_be_looked_up_is_an_error_of_the_network(slow: SlowNames, host: str) -> None:
    slow.go.set()
    with pytest.raises(OSError):
        await Names().resolve(host, 80)


async def test_a_look_up_does_not_hold_up_the_end_of_the_process(slow: SlowNames) -> None:
    before = set(threading.enumerate())
    asking = asyncio.create_task(Names().resolve("slow", 80))
    while not slow.asked:
        await asyncio.sleep(0.005)
    (thread,) = [each for each in set(threading.enumerate()) - before if each.name == "names"]
    assert thread.daemon
    asking.cancel()
