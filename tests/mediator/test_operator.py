"""The operator's commands, while the mediator runs and while it does not."""

import asyncio
import contextlib
import json
import os
import pty
import signal
import socket
import stat
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from mediator_parts import PATIENCE, Client, Leg, Process, code_of, figures
from operator_parts import mediator_command

from didmpc.mediator.app import Running, running
from didmpc.mediator.host.home import Home
from didmpc.mediator.operator import control
from didmpc.mediator.store import Admission
from didmpc.protocols.errors import DidmpcError
from didmpc.protocols.identity import Identity
from didmpc.protocols.messages import basic_message, mediation, pickup
from didmpc.protocols.messages.out_of_band import from_url
from didmpc.protocols.relay import hop


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "mediator"


@asynccontextmanager
async def admitting(home: Path, who: Admission) -> AsyncIterator[Running]:
    async with running(Home(home), port=0, admission=who) as mediator:
        yield mediator


async def asks(client: Client, ticket: str | None = None) -> str:
    """What a mediate-request is answered with."""
    answer = await client.ask(mediation.mediate_request(pthid=ticket))
    return answer.type.rpartition("/")[2]


async def test_status_tells_what_it_does_and_that_it_stopped(http: aiohttp.ClientSession, home: Path) -> None:
    async with admitting(home, "open") as mediator:
        alice = await Client(http, mediator.did).enrol()
        await alice.send(await alice.new_did(), b"{}")
        told = await mediator_command(home, "status")
        found = (await mediator_command(home, "status", "--json")).json
    assert (found["running"], found["pid"], found["obstacles"]) == (True, os.getpid(), [])
    assert (found["accounts"], found["mailboxes"], found["queued"], found["queued_bytes"]) == (1, 1, 1, 2)
    assert found["messages_in"] == 3
    assert "1 with 1 mailboxes" in told.out and ", ready" in told.out
    assert "\x1b" not in told.out  # colours are for terminals
    stopped = (await mediator_command(home, "status", "--json")).json
    assert (stopped["running"], stopped["queued"]) == (False, 1)
    assert "didmpc mediator start" in (await mediator_command(home, "status")).out


async def test_accounts_are_listed_by_the_names_that_logs_have(
    http: aiohttp.ClientSession, home: Path
) -> None:
    async with admitting(home, "open") as mediator:
        alice, bob = [await Client(http, mediator.did).enrol() for _ in range(2)]
        await alice.send(await alice.new_did(), b"12345")
        rows = (await mediator_command(home, "accounts", "--json")).json["accounts"]
        text = (await mediator_command(home, "accounts")).out
    assert [(row["keys"], row["messages"], row["bytes"]) for row in rows] == [(1, 1, 5), (0, 0, 0)]
    assert rows[0]["name"] != rows[1]["name"]
    assert rows[0]["name"] in text and rows[0]["did"] in text
    assert "\n" not in json.dumps(rows[0])
    assert bob.identity.did.startswith(rows[1]["did"])


async def test_many_accounts_come_page_by_page(
    http: aiohttp.ClientSession, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("didmpc.mediator.operator.methods.PAGE", 2)
    async with admitting(home, "open") as mediator:
        for _ in range(5):
            await Client(http, mediator.did).enrol()
        rows = (await mediator_command(home, "accounts", "--json")).json["accounts"]
        for number in range(3):
            await mediator_command(home, "deny", f"did:web:{number}.example")
        rules = (await mediator_command(home, "rules", "--json")).json["rules"]
    assert len({row["did"] for row in rows}) == 5
    assert [rule["did"] for rule in rules] == [f"did:web:{number}.example" for number in range(3)]


async def test_a_denied_did_gets_nothing_at_once_and_everything_again_when_that_is_undone(
    http: aiohttp.ClientSession, home: Path
) -> None:
    async with admitting(home, "open") as mediator:
        alice = await Client(http, mediator.did).enrol()
        denied = await mediator_command(home, "deny", alice.identity.did)
        assert "evict" in denied.err  # what to do about the account that is there
        assert code_of(await alice.ask(pickup.status_request()))
        assert await asks(alice) == "mediate-deny"
        assert (await mediator_command(home, "rules")).out.startswith("deny   did:peer:4")
        await mediator_command(home, "deny", "--undo", alice.identity.did)
        assert await asks(alice) == "mediate-grant"
        assert await alice.waiting() == 0


async def test_by_allow_list_only_who_is_on_it_gets_an_account(
    http: aiohttp.ClientSession, home: Path
) -> None:
    async with admitting(home, "allow-list") as mediator:
        alice, bob = Client(http, mediator.did), Client(http, mediator.did)
        assert [await asks(alice), await asks(bob)] == ["mediate-deny", "mediate-deny"]
        await mediator_command(home, "allow", alice.identity.did)
        assert [await asks(alice), await asks(bob)] == ["mediate-grant", "mediate-deny"]


async def test_an_invitation_opens_as_many_accounts_as_it_says_and_no_more(
    http: aiohttp.ClientSession, home: Path
) -> None:
    async with admitting(home, "invitation") as mediator:
        clients = [Client(http, mediator.did) for _ in range(4)]
        assert await asks(clients[0]) == "mediate-deny"
        assert await asks(clients[0], from_url(mediator.settings.invitation).id) == "mediate-deny"
        made = (await mediator_command(home, "invite", "--uses", "2", "--expires", "2 h", "--json")).json
        invitation = from_url(made["invitation"])
        assert invitation.expires_time == made["expires"]
        assert invitation.from_ == mediator.did
        answers = [await asks(client, invitation.id) for client in clients]
        assert answers == ["mediate-grant", "mediate-grant", "mediate-deny", "mediate-deny"]
        assert await asks(clients[0]) == "mediate-grant"  # who has an account needs no invitation any more


async def test_a_wallet_with_keys_of_a_nist_curve_alone_is_invited_by_the_did_for_these(
    http: aiohttp.ClientSession, home: Path
) -> None:
    async with admitting(home, "invitation") as mediator:
        did = (await mediator_command(home, "did", "--nist")).out.strip()
        invitation = from_url((await mediator_command(home, "invite", "--nist", "--uses", "1")).out)
        assert invitation.from_ == did != mediator.did
        client, other = [Client(http, did, Identity.peer4(curves=("P-384",))) for _ in range(2)]
        assert [await asks(each, invitation.id) for each in (client, other)] == [
            "mediate-grant",
            "mediate-deny",
        ]
    first, second = [from_url((await mediator_command(home, "invite", "--nist")).out) for _ in range(2)]
    assert first == second and first.from_ == did


async def test_an_invitation_is_always_the_same_where_everybody_may_come(
    http: aiohttp.ClientSession, home: Path
) -> None:
    async with admitting(home, "open") as mediator:
        first, second = [await mediator_command(home, "invite") for _ in range(2)]
        assert first.out == second.out == mediator.settings.invitation + "\n"
        assert first.err == ""
    (home / "mediator.toml").write_text('registration = "invitation"\n')
    first, second = [await mediator_command(home, "invite") for _ in range(2)]
    assert first.out != second.out
    wrong = await mediator_command(home, "invite", "--expires", "soon")
    assert wrong.status == 2 and "7 d" in wrong.err


async def test_who_is_evicted_loses_mail_channels_and_connections_and_nobody_else_does(
    http: aiohttp.ClientSession, home: Path
) -> None:
    async with admitting(home, "open") as mediator:
        alice, bob = [await Client(http, mediator.did).enrol() for _ in range(2)]
        hers, his = await alice.new_did(), await bob.new_did()
        for n in range(3):
            await bob.send(hers, b'{"n":%d}' % n)
            await alice.send(his, b'{"n":%d}' % n)
        (channel,) = await alice.channels()
        rows = (await mediator_command(home, "accounts", "--json")).json["accounts"]
        async with alice.line() as line, bob.line() as other, bob.line() as hop_line:
            await line.go_live()
            await other.go_live()
            leg = await Leg(hop_line.ws).open(mediator.did)
            await leg.bind(1, channel.near)
            await leg.synchronise()
            gone = (await mediator_command(home, "evict", rows[0]["name"], "--json")).json
            assert (gone["messages"], gone["sockets"]) == (3, 1)
            closed = await line.ws.receive(timeout=PATIENCE)
            assert (closed.data, closed.extra) == (1008, "The operator has closed your account.")
            assert await leg.hear() == hop.Unbound(1, hop.UnboundReason.REVOKED)
            assert not other.ws.closed
        assert code_of(await alice.ask(pickup.status_request())) == "e.p.req.not_enroll"
        assert await bob.send(hers, b"{}") == 404
        assert await bob.waiting() == 3
        counted = await figures(http, mediator.settings.url)
        assert (counted["stored accounts"], counted["stored messages"]) == (1, 3)
        again = await mediator_command(home, "evict", alice.identity.did)
        assert again.status == 1 and "didmpc mediator accounts" in again.err
        assert await asks(alice) == "mediate-grant"  # it was not denied


async def test_what_users_write_is_shown_harmlessly_and_removed_when_read(
    http: aiohttp.ClientSession, home: Path
) -> None:
    async with admitting(home, "open") as mediator:
        alice = Client(http, mediator.did)
        await alice.post(alice.pack(basic_message.message("hello\x1b[2J operator", int(time.time()))))
        told = await mediator_command(home, "messages")
        assert "hello [2J operator" in told.out and "\x1b" not in told.out
        found = (await mediator_command(home, "messages", "--remove", "--json")).json["messages"]
        assert [item["text"] for item in found] == ["hello\x1b[2J operator"]
        assert alice.identity.did.startswith(found[0]["did"])
    assert (await mediator_command(home, "messages", "--json")).json == {"messages": []}


async def test_rules_and_invitations_made_while_it_is_stopped_hold_when_it_runs(
    http: aiohttp.ClientSession, home: Path
) -> None:
    async with admitting(home, "invitation"):
        pass
    identity = Identity.peer4()
    await mediator_command(home, "allow", identity.did)
    made = (await mediator_command(home, "invite", "--uses", "1", "--json")).json
    async with admitting(home, "invitation") as mediator:
        alice, bob = Client(http, mediator.did), Client(http, mediator.did)
        alice.identity, alice.secrets = identity, type(alice.secrets)(identity)
        assert await asks(alice) == "mediate-grant"
        assert await asks(bob, from_url(made["invitation"]).id) == "mediate-grant"


@pytest.mark.parametrize("did", ["alice", "did:peer", "did:web:a b", "account-000000000000", "did:peer:4zzz"])
async def test_what_is_no_did_is_told_so(home: Path, did: str) -> None:
    async with admitting(home, "open"):
        for name in ("evict", "deny"):
            said = await mediator_command(home, name, did)
            assert said.status == 1 or name == "deny"
            assert "Traceback" not in said.err


async def test_where_there_is_no_mediator_every_command_says_how_to_start_one(home: Path) -> None:
    for command in (["status"], ["accounts"], ["deny", "did:web:x"], ["backup", str(home / "b")], ["did"]):
        said = await mediator_command(home, *command)
        assert said.status == 1
        assert "didmpc mediator start" in said.err
    watched = await mediator_command(home, "status", "--watch")
    assert watched.status == 1


async def test_settings_in_force_are_those_of_the_process_that_runs_and_limits_that_are_off_are_loud(
    tmp_path: Path,
) -> None:
    options = ("--limits", "off", "--limit", "accounts=9", "--log-level", "info")
    process = await Process(tmp_path).start("--port", "0", *options)
    (tmp_path / "mediator.toml").write_text('registration = "allow-list"\n[limits]\naccounts = 8\n')
    found = (await mediator_command(tmp_path, "config", "--json")).json
    assert found["running"] is True
    assert found["settings"]["port"]["value"] == int(process.ready["url"].rpartition(":")[2])
    assert found["settings"]["registration"] == {"value": "open", "source": "default"}
    assert found["limits"]["mailbox-messages"]["value"] == "unlimited"
    assert found["limits"]["accounts"]["value"] == "9"
    assert found["limits"]["accounts"]["source"] == "--limit accounts"
    ahead = (await mediator_command(tmp_path, "config", "--check", "--json")).json
    assert ahead["settings"]["registration"]["value"] == "allow-list"
    assert ahead["limits"]["accounts"]["source"].endswith("mediator.toml, line 3")
    text = (await mediator_command(tmp_path, "config")).out
    assert "accounts" in text and "--limit accounts" in text
    status, said = await process.stop(signal.SIGTERM)
    assert status == 0 and "ready at" in said
    assert "LIMITS ARE OFF" in said and "mailbox-messages" in said
    (tmp_path / "mediator.toml").write_text("regristration = 1\n")
    wrong = await mediator_command(tmp_path, "start")
    assert wrong.status == 1
    assert "line 1" in wrong.err and "Did you mean registration?" in wrong.err


# --- the live view


async def test_the_live_view_draws_on_a_terminal_and_ends_with_ctrl_c(home: Path) -> None:
    async with admitting(home, "open"):
        ours, theirs = pty.openpty()
        process = await _watching(home, stdout=theirs)
        os.close(theirs)
        seen = await asyncio.to_thread(_read_until, ours, b"live mode", b"\x1b[")
        os.set_blocking(ours, False)
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(PATIENCE):
            while process.returncode is None:
                with contextlib.suppress(OSError):  # a terminal that is not read blocks whoever writes to it
                    os.read(ours, 65_536)
                await asyncio.sleep(0.05)
        os.close(ours)
    assert process.returncode == 130
    assert b"Mediator" in seen


async def test_without_a_terminal_the_view_is_one_plain_line_at_a_time_until_the_mediator_stops(
    home: Path,
) -> None:
    async with admitting(home, "open"):
        process = await _watching(home, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        async with asyncio.timeout(2 * PATIENCE):
            lines = [await process.stdout.readline() for _ in range(2)]
    assert all(line.startswith(b"accounts 0  queued 0") and b"\x1b" not in line for line in lines)
    async with asyncio.timeout(PATIENCE):
        _, said = await process.communicate()
    assert process.returncode == 1
    assert b"didmpc mediator start" in said


async def _watching(home: Path, stdout: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "didmpc.agent.cli.main", "mediator", "status", "--home", str(home)),
        *("--watch", "--every", "0.2"),
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TERM": "xterm"},
    )


async def _ended(process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(PATIENCE):
        await process.communicate()
    assert process.returncode is not None
    return process.returncode


def _read_until(descriptor: int, *parts: bytes) -> bytes:
    seen = b""
    while not all(part in seen for part in parts):
        seen += os.read(descriptor, 65_536)
    return seen


# --- the control socket


async def test_the_control_socket_is_for_its_owner_only_at_any_depth_and_goes_with_the_mediator(
    tmp_path: Path,
) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    async with running(Home(deep), port=0):
        mode = (deep / "mediator.sock").stat().st_mode
        assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
        assert (await mediator_command(deep, "status", "--json")).json["running"]
    assert not (deep / "mediator.sock").exists()


async def test_the_socket_of_a_killed_mediator_is_in_nobodys_way(tmp_path: Path) -> None:
    process = await Process(tmp_path).start("--port", "0")
    await process.stop(signal.SIGKILL)
    assert (tmp_path / "mediator.sock").exists()
    assert not (await mediator_command(tmp_path, "status", "--json")).json["running"]
    async with running(Home(tmp_path)):
        assert (await mediator_command(tmp_path, "status", "--json")).json["running"]


async def test_nonsense_on_the_control_socket_is_answered_and_the_mediator_goes_on(home: Path) -> None:
    async with admitting(home, "open"):
        path = str(home / "mediator.sock")

        async def say(line: bytes) -> dict[str, Any]:
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(line)
            async with asyncio.timeout(PATIENCE):
                answer: dict[str, Any] = json.loads(await reader.readline())
            writer.close()
            return answer

        for line in (b"{\n", b"[]\n", b"[" * 5000 + b"\n", b'{"method":"x"}\n', b'{"method":["status"]}\n'):
            assert "what" in (await say(line))["error"]
        assert "error" in await say(b'{"method":"accounts","params":{"after":"x"}}\n')
        assert "error" in await say(b'{"method":"ticket","params":{"uses":0}}\n')
        assert "error" in await say(b'{"method":"backup","params":{"file":"relative"}}\n')
        assert "result" in await say(b'{"method":"status"}\n')


async def test_a_mediator_that_does_not_answer_is_told_so(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "mediator.sock"))
        deaf.listen()
        with pytest.raises(DidmpcError, match="cannot be asked"):
            await asyncio.to_thread(control.call, tmp_path, "status", timeout=0.1)


def test_help_teaches_and_completion_offers_the_commands() -> None:
    from typer.testing import CliRunner

    from didmpc.agent.cli.app import command
    from didmpc.mediator.cli import app

    runner = CliRunner()
    for name in ("start", "status", "backup", "restore", "allow"):
        text = runner.invoke(app, [name, "--help"]).stdout
        assert "Example:" in text, name
    from click.testing import CliRunner as Plain

    asked = {"_DIDMPC_COMPLETE": "complete_bash", "COMP_WORDS": "didmpc mediator ", "COMP_CWORD": "2"}
    offered = Plain().invoke(command(), [], prog_name="didmpc", env=asked).output.split()
    assert {"start", "status", "evict", "backup"} <= set(offered)
