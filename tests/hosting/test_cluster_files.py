"""docker/cluster: valid, confined, of one mind with the mediator; and its databases fail over."""

import importlib.util
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from environments import PYTHON, ROOT
from hosting_parts import free_port
from test_compose import VARIABLE, filled_in

from didmpc.mediator.host.configuration import Configuration
from didmpc.mediator.host.home import Home, Settings
from didmpc.mediator.sockets.proxies import Proxies

pytestmark = pytest.mark.hosting

FOLDER = ROOT / "docker" / "cluster"
COMPOSE = FOLDER / "compose.yaml"
NODES, DATABASES = ("node1", "node2", "node3"), ("db1", "db2", "db3")
WITHIN = 60.0


@pytest.fixture
def compose(libraries: None) -> Any:
    from ruamel.yaml import YAML

    return filled_in(YAML(typ="safe").load(COMPOSE), {"DOMAIN": "mediator.example.org"})


def test_it_follows_the_compose_specification(libraries: None) -> None:
    check = [str(PYTHON.folder / "bin" / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    said = subprocess.run([*check, str(COMPOSE)], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout


def test_every_service_is_confined_and_none_but_caddy_is_reached_from_outside(compose: Any) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"] and service["pids_limit"], name
        assert service["mem_limit"] and "privileged" not in service, name
        assert service["restart"] == ("no" if name == "keys" else "unless-stopped")
        if name != "caddy":
            assert service.get("ports", []) == (["127.0.0.1:8766:8766"] if name == "node1" else [])
        added = {"caddy": ["NET_BIND_SERVICE"], "keys": ["CHOWN", "DAC_OVERRIDE"]}
        assert service.get("cap_add", []) == added.get(name, [])
    assert compose["services"]["keys"]["network_mode"] == "none"


def test_no_password_is_in_an_environment_or_on_a_command_line(compose: Any) -> None:
    said = str(compose["services"]).lower()
    assert "password=" not in said and "pgpassword" not in said and "postgres_password" not in said
    assert {name: compose["secrets"][name]["file"] for name in compose["secrets"]} == {
        "nodes": "./secrets/nodes.pgpass",
        "databases": "./secrets/databases.pgpass",
    }
    for name in NODES:
        assert [each["source"] for each in compose["services"][name]["secrets"]] == ["nodes"]


def test_nodes_have_homes_of_their_own_and_settings_that_the_mediator_takes(
    compose: Any, tmp_path: Path
) -> None:
    image = re.findall(r"(DIDMPC_MEDIATOR_\w+)=(\S+)", (FOLDER.parent / "Dockerfile").read_text())
    urls = set()
    for name in NODES:
        node = compose["services"][name]
        assert node["volumes"] == [f"{name}:/data"]
        configuration = Configuration.load(Home(tmp_path), environment={**dict(image), **node["environment"]})
        assert configuration["store"] == "postgresql://didmpc@db1,db2,db3/didmpc"
        assert Proxies.read(configuration["proxies"]).include(
            compose["services"]["caddy"]["networks"]["inside"]["ipv4_address"]
        )
        urls.add(configuration["node-url"])
        assert configuration["node-url"].endswith(f"{name}:8767")
        assert configuration["node-listen"].endswith(":8767")
    assert len(urls) == 3
    upstreams = re.search(r"\{\$UPSTREAMS:([^}]+)\}", (FOLDER / "Caddyfile").read_text())
    assert upstreams is not None and upstreams[1].split() == [f"{name}:8765" for name in NODES]


def test_the_example_lacks_nothing() -> None:
    lines = (FOLDER / ".env.example").read_text().splitlines()
    example = {found[1] for line in lines if (found := re.fullmatch(r"#?([A-Z_]+)=(.*)", line))}
    assert {name for name, _, _ in VARIABLE.findall(COMPOSE.read_text())} - {"IMAGE"} == example


@pytest.mark.skipif(shutil.which("caddy") is None, reason="not installed: caddy")
def test_caddy_takes_its_configuration(tmp_path: Path) -> None:
    said = subprocess.run(
        ["caddy", "adapt", "--config", FOLDER / "Caddyfile", "--adapter", "caddyfile"],
        env={"PATH": "/usr/bin:/bin", "DOMAIN": "mediator.example.org", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert all(f'"{name}:8765"' in said.stdout for name in NODES) and "least_conn" in said.stdout


def test_every_node_gets_the_same_keys_those_that_are_given_or_new_ones_and_never_others(
    tmp_path: Path,
) -> None:
    found = importlib.util.spec_from_file_location("keys", FOLDER / "keys.py")
    assert found is not None and found.loader is not None
    keys = importlib.util.module_from_spec(found)
    found.loader.exec_module(keys)
    url = "https://mediator.example.org"
    given, homes = tmp_path / "given", [Home(tmp_path / name) for name in NODES]
    given.mkdir()
    keys.main(given, url, homes)
    first = [home.require() for home in homes]
    assert len({each.identity.did for each in first}) == 1
    assert len({home.log_key() for home in homes}) == 1
    assert stat.S_IMODE((homes[1].root / "mediator.json").stat().st_mode) == 0o600
    keys.main(given, url, homes)
    assert [home.require() for home in homes] == first
    Home(given).save(Settings.new().listening("127.0.0.1", 1, url))
    with pytest.raises(SystemExit, match="different mediators"):
        keys.main(given, url, homes)
    others = [Home(tmp_path / f"other-{name}") for name in NODES]
    keys.main(given, url, others)
    assert all(home.require().keys == Home(given).require().keys for home in others)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")
def test_fresh_volumes_of_root_become_the_homes_of_the_nodes_user(compose: Any, tmp_path: Path) -> None:
    service = compose["services"]["keys"]
    owner = int(service["environment"]["OWNER"])
    given, homes = tmp_path / "given", [tmp_path / name for name in NODES]
    for folder in (given, *homes):
        folder.mkdir(mode=0o755)  # as docker makes a volume
    may = ",".join(("-all", *(f"+{name.lower()}" for name in service["cap_add"])))
    command = ["setpriv", f"--bounding-set={may}", f"--inh-caps={may}"]
    environment = {
        "PATH": os.environ["PATH"],
        "GIVEN": str(given),
        "OWNER": str(owner),
        "PUBLIC_URL": "https://m.example",
    }
    for _ in range(2):  # the second time nothing is root's any more
        said = subprocess.run(
            [*command, sys.executable, FOLDER / "keys.py", *homes],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert said.returncode == 0, said.stderr
    for home in homes:
        assert {path.name for path in home.iterdir()} == {"mediator.json", "log.key"}
        for path in (home, *home.iterdir()):
            assert (path.stat().st_uid, path.stat().st_gid) == (owner, owner), path
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path == home else 0o600)


def test_passwords_are_made_once_for_one_user_of_the_containers_each(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("as root only: it gives files to other users")
    script = shutil.copy(FOLDER / "secrets.sh", tmp_path)
    said = [subprocess.run([script], capture_output=True, text=True, check=True) for _ in range(2)]
    made = {path.name: path for path in (tmp_path / "secrets").iterdir()}
    assert set(made) == {"nodes.pgpass", "databases.pgpass"} and not said[0].stderr
    assert (made["nodes.pgpass"].stat().st_uid, made["databases.pgpass"].stat().st_uid) == (10001, 999)
    assert {stat.S_IMODE(path.stat().st_mode) for path in made.values()} == {0o600}
    assert made["nodes.pgpass"].read_text() in made["databases.pgpass"].read_text()
    assert made["nodes.pgpass"].read_text().strip().rpartition(":")[2] not in said[0].stdout


# --- the databases, as their containers start them


class Databases:
    """Three servers on addresses of the loopback network, each started by database.sh."""

    def __init__(self, folder: Path, binaries: Any) -> None:
        self._folder = folder
        self._binaries = binaries
        self._port = free_port()
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        for number in (1, 2, 3):
            for part in ("", "tmp", "sockets"):
                self._own(folder / str(number) / part)
        (folder / "pgpass").write_text("*:*:*:didmpc:secret1\n*:*:*:replicator:secret2\n")
        binaries.own(folder / "pgpass")

    def _own(self, path: Path) -> None:
        path.mkdir(mode=0o700)
        self._binaries.own(path)

    def start(self, number: int) -> None:
        place = self._folder / str(number)
        with (place / "log").open("ab") as log:
            self._running[number] = subprocess.Popen(
                ["sh", FOLDER / "database.sh"],
                stdout=log,
                stderr=log,
                env={
                    "PATH": f"{self._binaries.folder}:/usr/bin:/bin",
                    "NAME": f"127.0.0.{number}",
                    "LISTEN": f"127.0.0.{number}",
                    "SERVERS": "127.0.0.1 127.0.0.2 127.0.0.3",
                    "FIRST": "127.0.0.1",
                    "PORT": str(self._port),
                    "PGDATA": str(place / "data"),
                    "PGPASSFILE": str(self._folder / "pgpass"),
                    "TMPDIR": str(place / "tmp"),
                    "SOCKETS": str(place / "sockets"),
                    "BUFFERS": "16MB",
                    "KEEP": "64MB",
                },
                **{**self._binaries.as_user, "start_new_session": True},
            )

    def log(self, number: int) -> str:
        return (self._folder / str(number) / "log").read_text()

    def end(self, number: int, how: signal.Signals) -> None:
        process = self._running.pop(number)
        if process.poll() is None:
            os.killpg(process.pid, how) if how == signal.SIGKILL else process.send_signal(how)
        process.wait(WITHIN)

    def stop(self) -> None:
        for number in tuple(self._running):
            self.end(number, signal.SIGQUIT)

    def forget(self, number: int) -> None:
        shutil.rmtree(self._folder / str(number) / "data")

    def ask(self, number: int, statement: str) -> str:
        """As the nodes do; the answer, or what was wrong."""
        said = subprocess.run(
            [
                *("psql", "--no-psqlrc", "-qAt", "-c", statement),
                f"host=127.0.0.{number} port={self._port} dbname=didmpc user=didmpc connect_timeout=3",
            ],
            env={"PATH": f"{self._binaries.folder}:/usr/bin:/bin", "PGPASSWORD": "secret1"},
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            timeout=WITHIN,
        )
        return (said.stdout or said.stderr).strip()

    def until(self, number: int, statement: str, answer: str) -> None:
        until = time.monotonic() + WITHIN
        while (said := self.ask(number, statement)) != answer:
            assert time.monotonic() < until, (said, self.log(number))
            time.sleep(0.1)

    def promote(self, number: int) -> None:
        subprocess.run(
            [
                *(self._binaries.folder / "psql", "--no-psqlrc", "-qAt", "-c", "SELECT pg_promote()"),
                *("-h", self._folder / str(number) / "sockets", "-p", str(self._port)),
                *("-U", "postgres", "postgres"),
            ],
            check=True,
            capture_output=True,
            **self._binaries.as_user,
        )


@pytest.fixture
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    sys.path.insert(0, str(ROOT / "tests" / "mediator"))
    import tempfile

    import postgres

    folder = Path(tempfile.mkdtemp(prefix="didmpc-databases-"))
    folder.chmod(0o711)
    found = postgres.binaries(folder)
    if found is None or not (found.folder / "psql").exists():
        pytest.skip("not installed: PostgreSQL")
    servers = Databases(folder, found)
    try:
        yield servers
    finally:
        servers.stop()
        shutil.rmtree(folder)


def test_a_standby_takes_over_the_other_follows_it_and_the_old_primary_comes_back_as_a_standby(
    databases: Databases,
) -> None:
    for number in (1, 2, 3):
        databases.start(number)
    for number in (2, 3):
        databases.until(number, "SELECT pg_is_in_recovery()", "t")
    databases.ask(1, "CREATE TABLE mail(seq int)")
    assert databases.ask(1, "INSERT INTO mail VALUES (1) RETURNING seq") == "1"
    databases.end(1, signal.SIGKILL)
    databases.until(2, "SELECT count(*) FROM mail", "1")
    databases.promote(2)
    databases.until(2, "SELECT pg_is_in_recovery()", "f")
    # It is confirmed by the third, which follows the new primary without a word from anybody.
    assert databases.ask(2, "INSERT INTO mail VALUES (2) RETURNING seq") == "2"
    databases.until(3, "SELECT count(*) FROM mail", "2")
    databases.start(1)
    until = time.monotonic() + WITHIN
    while "there must not be two" not in databases.log(1):
        assert time.monotonic() < until
        time.sleep(0.1)
    databases.end(1, signal.SIGKILL)
    databases.forget(1)
    databases.start(1)
    databases.until(1, "SELECT count(*), pg_is_in_recovery() FROM mail", "2|t")
    assert "secret" not in databases.log(1)
