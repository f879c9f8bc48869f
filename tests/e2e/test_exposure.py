"""What of a party can be seen from outside: no open port, no secret in lists of processes, logs or files."""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from didmpc.agent.wallet.home import Home
from didmpc.agent.wallet.wallet import Wallet
from didmpc.bench.cluster import Cluster

from .observe import LISTEN, all_say, command_line, network_sockets, party_processes, runs

PASSPHRASE = "seven-purple-otters-recite"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three agents whose wallets a passphrase protects."""
    folder = tmp_path_factory.mktemp("guarded")
    passphrase = folder / "passphrase"
    passphrase.write_text(PASSPHRASE + "\n")
    passphrase.chmod(0o600)
    with Cluster(folder / "cluster") as started:
        started.start_mediators()
        started.start_agents(flags=("--passphrase-file", passphrase))
        started.introduce()
        yield started


def test_no_process_of_a_party_listens_on_the_network(guarded: Cluster, steps: Path) -> None:
    running = guarded.begin(steps, arguments=["20", "0.1"], as_json=False)
    all_say(running, "step 2\n")
    processes = party_processes(guarded)
    kinds = [" ".join(words) for words in processes.values()]
    for kind in ("agent start", "didmpc.agent.channel", "didmpc.agent.program", " run ", " join "):
        assert any(kind in words for words in kinds), f"{kind} is not among {kinds}"
    assert {pid: network_sockets(pid, LISTEN) for pid in processes} == {pid: [] for pid in processes}
    for pid, words in processes.items():
        if "didmpc.agent.program" in words:
            assert network_sockets(pid) == []
    # The same look at a mediator finds its port: the check can fail.
    assert any(network_sockets(mediator.process.pid, LISTEN) for mediator in guarded.mediators)
    for each in running:
        each.done()


def test_the_program_has_no_key_and_no_way_to_its_agent(guarded: Cluster, steps: Path) -> None:
    running = guarded.begin(steps, arguments=["20", "0.1"], as_json=False)
    all_say(running, "step 2\n")
    lines = party_processes(guarded).items()
    programs = [pid for pid, words in lines if runs(words, "didmpc.agent.program")]
    assert len(programs) == 3
    for pid in programs:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        assert not [each for each in environment if each.startswith(b"DIDMPC")]
        opened = [os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir()]
        assert not [name for name in opened if "wallet" in name or name.endswith(".sock")]
    for each in running:
        each.done()


def test_no_secret_shows_in_lists_of_processes_logs_or_files(guarded: Cluster, steps: Path) -> None:
    running = guarded.begin(steps, arguments=["20", "0.1"], as_json=False)
    all_say(running, "step 2\n")
    secrets = {PASSPHRASE.encode()}
    for party in guarded.parties:
        wallet = Wallet.open(Home.locate(party.home), PASSPHRASE)
        for identity in wallet.identities:
            secrets |= {key.jwk()["d"].encode() for key in identity.keys.values()}
    assert len(secrets) > 2 * len(guarded.parties)

    seen: dict[str, bytes] = {}
    for pid in [*party_processes(guarded), *(mediator.process.pid for mediator in guarded.mediators)]:
        with contextlib.suppress(OSError):  # it has ended meanwhile
            seen[f"command line of {pid}"] = "\0".join(command_line(pid)).encode()
            seen[f"environment of {pid}"] = Path(f"/proc/{pid}/environ").read_bytes()
    assert len(seen) > 4 * len(guarded.parties)
    for path in guarded.directory.rglob("*"):
        if path.is_file() and not path.is_symlink():
            seen[str(path)] = path.read_bytes()
    for each in running:
        each.done()
    found = {place for place, text in seen.items() for secret in secrets if secret in text}
    assert not found


def test_homes_are_for_their_owner_only(guarded: Cluster, steps: Path) -> None:
    guarded.compute(steps, arguments=["2", "0"])
    homes = [each.home for each in (*guarded.parties, *guarded.mediators)]
    open_to_others = []
    for home in homes:
        for path in [home, *home.rglob("*")]:
            mode = path.lstat().st_mode
            allowed = 0o700 if stat.S_ISDIR(mode) else 0o600
            if not stat.S_ISLNK(mode) and stat.S_IMODE(mode) & ~allowed:
                open_to_others.append(f"{path.relative_to(home.parent)} {stat.filemode(mode)}")
    assert not open_to_others
