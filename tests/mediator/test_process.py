"""The mediator as a process: kill -9, restart, signals, and starts that cannot be."""

import asyncio
import itertools
import json
import signal
import socket
import sys
from pathlib import Path

import aiohttp
import pytest
from mediator_parts import PATIENCE, Client, Leg, Line, Process

from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.message import Message
from didmpc.protocols.messages import pickup
from didmpc.protocols.relay import hop
from didmpc.protocols.relay.hop import ErrorCode


async def command(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "didmpc.mediator.cli", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_acknowledged_mail_and_channels_survive_kill_9(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    process = await Process(tmp_path / "m").start("--port", "0")
    alice = await Client(http, process.ready["did"]).enrol()
    did = await alice.new_did()
    bob = Client(http, process.ready["did"])
    (channel,) = await alice.channels()
    async with alice.line() as line:
        leg = await Leg(line.ws).open(process.ready["did"])
        await leg.bind(1, channel.near)
        await leg.synchronise()
    taken: list[bytes] = []

    async def keep_sending() -> None:
        n = 0
        while True:
            n += 1
            body = f'{{"n":{n}}}'.encode()
            if await bob.send(did, body) == 202:
                taken.append(body)

    senders = [asyncio.create_task(keep_sending()) for _ in range(4)]
    while len(taken) < 40:
        await asyncio.sleep(0.01)
    await process.stop(signal.SIGKILL)
    for sender in senders:
        sender.cancel()
    await asyncio.gather(*senders, return_exceptions=True)

    again = await Process(tmp_path / "m").start()  # the port of the last time
    assert again.ready == process.ready
    got: list[bytes] = []
    while mail := await alice.fetch(50):
        got.extend(body for _, body in mail)
        await alice.acknowledge(*(name for name, _ in mail))
    assert set(taken) <= set(got)
    assert len(got) == len(set(got))
    async with alice.line() as line, alice.line() as other:
        fresh = await Leg(line.ws).open(again.ready["did"])
        fresh.rebind_key, thief = leg.rebind_key, await Leg(other.ws).open(again.ready["did"])
        await thief.bind(1, channel.near)
        assert await thief.hear() == hop.Error(1, ErrorCode.WRONG_REBIND_KEY)
        await fresh.bind(5, channel.near)
        await thief.bind(6, channel.far)
        assert isinstance(await fresh.hear(), hop.Bound)
    status, said = await again.stop(signal.SIGTERM)
    assert (status, said) == (0, "")


async def test_it_stops_quickly_with_sockets_open_and_130_for_ctrl_c(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    process = await Process(tmp_path / "m").start("--port", "0")
    alice = await Client(http, process.ready["did"]).enrol()
    async with alice.line() as line:
        await line.go_live()
        stopping = asyncio.create_task(process.stop(signal.SIGINT))
        closed = await line.ws.receive(timeout=PATIENCE)
        assert (closed.data, closed.extra) == (1012, "The mediator stops. Connect again.")
        async with asyncio.timeout(PATIENCE):
            status, _ = await stopping
    assert status == 130


async def test_did_and_invite_work_whether_it_runs_or_not(tmp_path: Path) -> None:
    home = ["--home", str(tmp_path / "m")]
    status, out, err = await command("did", *home)
    assert (status, out) == (1, "")
    assert "didmpc mediator start" in err and "Traceback" not in err
    process = await Process(tmp_path / "m").start("--port", "0")
    assert await command("did", *home) == (0, process.ready["did"] + "\n", "")
    await process.stop(signal.SIGTERM)
    assert await command("invite", *home) == (0, process.ready["invitation"] + "\n", "")
    _, out, _ = await command("invite", "--json", *home)
    assert json.loads(out) == {
        "invitation": process.ready["invitation"],
        "url": process.ready["url"],
    }


async def test_a_second_mediator_on_the_same_home_is_told_so(tmp_path: Path) -> None:
    process = await Process(tmp_path / "m").start("--port", "0")
    status, out, err = await command("start", "--home", str(tmp_path / "m"), "--port", "0")
    assert (status, out) == (1, "")
    assert "running already" in err and "Traceback" not in err
    await process.stop(signal.SIGTERM)


async def test_a_port_in_use_is_told_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, out, err = await command("start", "--home", str(tmp_path / "m"), "--port", port)
    assert (status, out) == (1, "")
    assert f"port {port}" in err and "--port" in err and "Traceback" not in err


@pytest.mark.parametrize("home", ["file/below", "file"])
async def test_a_home_that_cannot_be_is_told_so(tmp_path: Path, home: str) -> None:
    (tmp_path / "file").write_text("")
    status, _, err = await command("start", "--home", str(tmp_path / home), "--port", "0")
    assert status == 1
    assert "cannot be used" in err and "Traceback" not in err


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"version":1,"keys":[{}],"port":"x"}'])
async def test_damaged_keys_are_told_and_not_overwritten(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mediator.json").write_bytes(content)
    for arguments in (["start", "--port", "0"], ["did"]):
        status, _, err = await command(*arguments, "--home", str(tmp_path))
        assert status == 1
        assert "Traceback" not in err
    assert (tmp_path / "mediator.json").read_bytes() == content


async def test_a_damaged_store_is_told(tmp_path: Path) -> None:
    (tmp_path / "mediator.sqlite3").write_bytes(b"this is no database" * 100)
    status, _, err = await command("start", "--home", str(tmp_path), "--port", "0")
    assert status == 1
    assert "cannot be opened" in err and "Traceback" not in err


async def test_a_public_url_goes_into_the_did_and_is_kept(tmp_path: Path) -> None:
    home, url = tmp_path / "m", "https://mediator.example.org"
    process = await Process(home).start("--port", "0", "--public-url", url + "/")
    assert process.ready["url"] == url
    await process.stop(signal.SIGTERM)
    again = await Process(home).start()
    assert again.ready == process.ready
    await again.stop(signal.SIGTERM)
    local = await Process(home).start("--public-url", "")
    assert local.ready["url"].startswith("http://127.0.0.1:")
    await local.stop(signal.SIGTERM)


@pytest.mark.parametrize(
    "options",
    [
        ["--public-url", "ftp://x"],
        ["--public-url", "https://"],
        ["--public-url", "https://x/?a=b"],
        ["--host", "0.0.0.0"],
        ["--host", "no.such.host.invalid"],
        ["--host", "192.0.2.1"],
    ],
)
async def test_an_address_that_cannot_be_is_told_so(tmp_path: Path, options: list[str]) -> None:
    status, _, err = await command("start", "--home", str(tmp_path / "m"), "--port", "0", *options)
    assert status == (2 if "--public-url" in options else 1)  # one is no URL at all, the other not here
    assert "Traceback" not in err
    assert len(err.splitlines()) >= 2


async def test_people_get_words_on_stderr_and_nothing_on_stdout(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "didmpc.mediator.cli", "start", "--home", str(tmp_path), "--port", "0"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    said = ""
    async with asyncio.timeout(PATIENCE):
        while "Ready" not in said:
            said += (await process.stderr.readline()).decode()
        process.terminate()
        out, _ = await process.communicate()
    assert out == b""
    assert "didmpc agent start --mediator" in said


async def test_logs_at_debug_hold_neither_keys_nor_bodies(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    process = await Process(tmp_path / "m").start("--port", "0", "--log-level", "debug")
    alice = await Client(http, process.ready["did"]).enrol()
    did = await alice.new_did()
    await alice.send(did, b'{"secret":"in-the-body"}')
    await alice.post(b'{"secret":"in-the-envelope"}')
    (channel,) = await alice.channels()
    await alice.fetch()
    _, said = await process.stop(signal.SIGTERM)
    keys = json.loads((tmp_path / "m" / "mediator.json").read_text())["keys"]
    for secret in ("in-the-body", "in-the-envelope", b64url(channel.near), *(key["d"] for key in keys)):
        assert secret not in said


async def test_what_a_peer_wrote_cannot_steer_the_terminal_or_forge_a_line(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    process = await Process(tmp_path / "m").start("--port", "0", "--log-level", "info")
    alice = Client(http, process.ready["did"])
    await alice.post(alice.pack(Message(type="https://x.example/a/1.0/b\x1b[2J\nforged\u202e")))
    _, said = await process.stop(signal.SIGTERM)
    (line,) = [line for line in said.splitlines() if "refused" in line]
    assert r"\x1b[2J\nforged\u202e" in line
    assert said.replace("\n", "").isprintable()


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel")
async def test_the_keys_in_its_memory_are_closed_to_other_processes_and_core_dumps() -> None:
    ask = """if True:
        import ctypes, resource
        from didmpc.mediator.app import _close_to_others
        _close_to_others()
        PR_GET_DUMPABLE = 3
        print(ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE))
    """
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", ask, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert out == b"0 (0, 0)\n"


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel")
@pytest.mark.parametrize(("hard", "allowed", "warned"), [(4096, 2256, False), (1500, 1500, True)])
async def test_it_may_open_as_many_files_as_its_connections_need(
    hard: int, allowed: int, warned: bool
) -> None:
    ask = f"""if True:
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, {hard}))
        from didmpc.mediator.app import _allow_open_files
        _allow_open_files(2000)
        print(resource.getrlimit(resource.RLIMIT_NOFILE))
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ask, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert out.decode() == f"({allowed}, {hard})\n"
    assert (b"1500 files" in err) == warned


async def test_a_stop_under_load_loses_nothing_that_was_taken_in(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    process = await Process(tmp_path / "m").start("--port", "0", "--limits", "off")
    alice = await Client(http, process.ready["did"]).enrol()
    did = await alice.new_did()
    taken: set[bytes] = set()
    refused: set[int] = set()

    async def keep_posting(sender: int) -> None:
        for n in itertools.count():
            body = b'{"sender":%d,"n":%d}' % (sender, n)
            status = await alice.send(did, body)
            if status == 202:
                taken.add(body)
            else:
                refused.add(status)

    async def keep_asking(line: Line) -> aiohttp.WSMessage:
        """Mail on a socket, and after each piece a status that says how much is there."""
        for n in itertools.count():
            body = b'{"socket":%d}' % n
            await line.ws.send_str(alice.forward(did, body).decode())
            await line.tell(pickup.status_request())
            answer = await line.ws.receive(timeout=PATIENCE)
            if answer.type is not aiohttp.WSMsgType.TEXT:
                return answer
            taken.add(body)  # messages of one socket are handled one after the other
        raise AssertionError

    async with alice.line() as line, alice.line() as idle:
        posting = [asyncio.create_task(keep_posting(n)) for n in range(8)]
        asking = asyncio.create_task(keep_asking(line))
        while len(taken) < 100:
            await asyncio.sleep(0.01)
        status, said = await process.stop(signal.SIGTERM)
        ends = [await asking, await idle.ws.receive(timeout=PATIENCE)]
    for each in posting:
        each.cancel()
    await asyncio.gather(*posting, return_exceptions=True)
    assert status == 0
    assert "Traceback" not in said
    assert [(end.data, end.extra) for end in ends] == [(1012, "The mediator stops. Connect again.")] * 2
    assert refused <= {503}

    again = await Process(tmp_path / "m").start()
    got: set[bytes] = set()
    while mail := await alice.fetch(50):
        got |= {body for _, body in mail}
        await alice.acknowledge(*(name for name, _ in mail))
    assert taken <= got
    await again.stop(signal.SIGTERM)
