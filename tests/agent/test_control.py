"""The control socket: one request per connection, events, answers, errors and hanging up."""

import asyncio
import json
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from didmpc.agent.control import server as control
from didmpc.agent.control.client import Call, call
from didmpc.agent.control.server import ControlServer, Stream
from didmpc.agent.wallet.home import Home
from didmpc.local import unix_socket
from didmpc.protocols.errors import DidmpcError, LocalMisuse

Serve = Callable[..., Awaitable[ControlServer]]
PATIENCE = 60.0


@pytest.fixture
async def serve(home: Home) -> AsyncIterator[Serve]:
    servers = []

    async def serve(**methods: Any) -> ControlServer:
        server = ControlServer(home.socket, methods)
        await server.start()
        servers.append(server)
        return server

    yield serve
    for server in servers:
        await server.close()


async def test_a_result_and_an_error_reach_the_caller(serve: Serve, home: Home) -> None:
    async def double(params: dict[str, Any], stream: Stream) -> dict[str, Any]:
        return {"value": params["value"] * 2}

    async def fail(params: dict[str, Any], stream: Stream) -> dict[str, Any]:
        raise LocalMisuse("It failed.", why="It had to.", fix="Try again.")

    await serve(double=double, fail=fail)
    assert await asyncio.to_thread(call, "double", {"value": 21}, home=home) == {"value": 42}
    with pytest.raises(DidmpcError) as caught:
        await asyncio.to_thread(call, "fail", home=home)
    assert (caught.value.what, caught.value.why, caught.value.fix) == (
        "It failed.",
        "It had to.",
        "Try again.",
    )


async def test_an_error_of_our_own_shows_no_traceback(serve: Serve, home: Home) -> None:
    async def broken(params: dict[str, Any], stream: Stream) -> dict[str, Any]:
        raise ZeroDivisionError("secret detail")

    await serve(broken=broken)
    with pytest.raises(DidmpcError) as caught:
        await asyncio.to_thread(call, "broken", home=home)
    assert "secret detail" not in str(caught.value)


async def test_events_are_seen_and_questions_answered(serve: Serve, home: Home) -> None:
    async def ask(params: dict[str, Any], stream: Stream) -> dict[str, Any]:
        await stream.event({"event": "note", "n": 1})
        await stream.event({"event": "question"})
        return {"heard": await stream.answer()}

    await serve(ask=ask)
    seen: list[str] = []
    result = await asyncio.to_thread(
        call,
        "ask",
        home=home,
        on_event=lambda event: seen.append(event["event"]),
        answers={"question": lambda event: {"consent": True}},
    )
    assert seen == ["note", "question"] and result == {"heard": {"consent": True}}


async def test_hanging_up_cancels_the_request(serve: Serve, home: Home) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def wait(params: dict[str, Any], stream: Stream) -> dict[str, Any]:
        started.set()
        try:
            await stream.answer()
        finally:
            cancelled.set()
        return {}

    await serve(wait=wait)
    request = Call("wait", home=home)
    await asyncio.wait_for(started.wait(), PATIENCE)
    request.close()
    await asyncio.wait_for(cancelled.wait(), PATIENCE)


async def test_an_unknown_method_is_an_error(serve: Serve, home: Home) -> None:
    await serve()
    with pytest.raises(DidmpcError, match="does not know 'nonsense'"):
        await asyncio.to_thread(call, "nonsense", home=home)


@pytest.mark.parametrize(
    "line", [b"nonsense\n", b"[]\n", b'{"method":5}\n', b'{"method":"x","params":[]}\n', b"[" * 5000 + b"\n"]
)
async def test_a_malformed_request_is_answered_and_harms_nobody(
    serve: Serve, home: Home, line: bytes
) -> None:
    async def hello(params: dict[str, Any], stream: Stream) -> dict[str, Any]:
        return {"hello": True}

    await serve(hello=hello)
    reader, writer = await asyncio.open_unix_connection(str(home.socket))
    writer.write(line)
    assert "error" in json.loads(await reader.readline())
    writer.close()
    assert await asyncio.to_thread(call, "hello", home=home) == {"hello": True}


async def test_an_endless_line_is_refused(serve: Serve, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "LONGEST_LINE", 4096)
    await serve()
    reader, writer = await asyncio.open_unix_connection(str(home.socket))
    writer.write(b"x" * 100_000)
    assert b"error" in await reader.readline()
    writer.close()


async def test_no_agent_says_how_to_start_one(home: Home) -> None:
    with pytest.raises(LocalMisuse, match="No agent is running") as caught:
        call("status", home=home)
    assert "didmpc agent start" in caught.value.fix


async def test_an_agent_that_goes_away_is_an_error(serve: Serve, home: Home) -> None:
    async def wait(params: dict[str, Any], stream: Stream) -> dict[str, Any]:
        await stream.answer()
        return {}

    server = await serve(wait=wait)
    asking = asyncio.create_task(asyncio.to_thread(call, "wait", home=home))
    await asyncio.sleep(0.1)
    await server.close(grace=0.1)
    with pytest.raises(DidmpcError, match="went away"):
        await asking


async def test_a_call_gives_up_in_time(serve: Serve, home: Home) -> None:
    async def wait(params: dict[str, Any], stream: Stream) -> dict[str, Any]:
        await stream.answer()
        return {}

    await serve(wait=wait)
    with pytest.raises(DidmpcError, match="did not answer within"):
        await asyncio.to_thread(call, "wait", home=home, timeout=0.2)


async def test_only_the_owner_can_reach_the_socket(serve: Serve, home: Home) -> None:
    await serve()
    assert stat.S_IMODE(home.socket.stat().st_mode) == 0o600


async def test_the_socket_of_a_killed_agent_is_replaced(serve: Serve, home: Home) -> None:
    unix_socket.listen(home.socket).close()  # closed, and its file left behind
    assert home.socket.exists() and not unix_socket.is_served(home.socket)
    await serve()
    assert unix_socket.is_served(home.socket)


async def test_the_socket_of_a_living_agent_is_not(serve: Serve, home: Home) -> None:
    await serve()
    with pytest.raises(LocalMisuse):
        unix_socket.listen(home.socket)


def test_a_file_in_the_way_is_not_deleted(home: Home) -> None:
    home.socket.write_text("mine")
    with pytest.raises(LocalMisuse, match="in the way"):
        unix_socket.listen(home.socket)
    assert home.socket.read_text() == "mine"


async def test_a_home_may_be_deeper_than_a_socket_path(tmp_path: Path) -> None:
    home = Home(tmp_path / ("d" * 80) / ("e" * 80))
    home.prepare()

    async def hello(params: dict[str, Any], stream: Stream) -> dict[str, Any]:
        return {"hello": True}

    server = ControlServer(home.socket, {"hello": hello})
    await server.start()
    assert await asyncio.to_thread(call, "hello", home=home) == {"hello": True}
    await server.close()
    assert not home.socket.exists()
