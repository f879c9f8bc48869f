"""docker/compose.yaml: valid, confined, and of one mind with the mediator, the Caddyfile and .env.example."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from environments import PYTHON, ROOT

from didmpc.mediator.host.configuration import Configuration
from didmpc.mediator.host.home import Home
from didmpc.mediator.sockets.proxies import Proxies

pytestmark = pytest.mark.hosting

DOCKER = ROOT / "docker"
COMPOSE = DOCKER / "compose.yaml"
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def example() -> dict[str, str]:
    """What .env.example says; a line that is commented out counts too."""
    lines = (DOCKER / ".env.example").read_text().splitlines()
    return dict(found.groups() for line in lines if (found := re.fullmatch(r"#?([A-Z_]+)=(.*)", line)))


def filled_in(part: Any, given: dict[str, str]) -> Any:
    """With variables in place, as compose does it: after the file was parsed."""
    if isinstance(part, dict):
        return {name: filled_in(each, given) for name, each in part.items()}
    if isinstance(part, list):
        return [filled_in(each, given) for each in part]

    def value(found: re.Match[str]) -> str:
        name, kind, rest = found.groups()
        if not given.get(name) and kind == "?":
            raise KeyError(name)
        return given.get(name) or (rest if kind == "-" else "")

    return VARIABLE.sub(value, part) if isinstance(part, str) else part


@pytest.fixture
def compose(libraries: None) -> Any:
    from ruamel.yaml import YAML

    return filled_in(YAML(typ="safe").load(COMPOSE), {"DOMAIN": "mediator.example.org"})


def test_it_follows_the_compose_specification(libraries: None, tmp_path: Path) -> None:
    check = [str(PYTHON.folder / "bin" / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    said = subprocess.run([*check, str(COMPOSE)], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.read_text().replace("read_only: true", "read_only: [mostly]", 1))
    assert subprocess.run([*check, str(wrong)], capture_output=True, check=False).returncode == 1


def test_every_service_is_confined_and_comes_back(compose: Any) -> None:
    for service in compose["services"].values():
        assert service["read_only"] is True and service["restart"] == "unless-stopped"
        assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
        assert service["mem_limit"] and service["pids_limit"] and service["logging"]["options"]["max-size"]
        assert "privileged" not in service and "network_mode" not in service
    assert compose["services"]["caddy"]["cap_add"] == ["NET_BIND_SERVICE"]
    assert "cap_add" not in compose["services"]["mediator"]


def test_only_caddy_and_the_machine_itself_reach_the_mediator(compose: Any, tmp_path: Path) -> None:
    mediator, caddy = compose["services"]["mediator"], compose["services"]["caddy"]
    assert mediator["ports"] == ["127.0.0.1:8766:8766"]
    assert caddy["ports"] == ["80:80", "443:443", "443:443/udp"]
    environment = mediator["environment"]
    image = re.findall(r"(DIDMPC_MEDIATOR_\w+)=(\S+)", (DOCKER / "Dockerfile").read_text())
    configuration = Configuration.load(Home(tmp_path), environment={**dict(image), **environment})
    assert configuration["public-url"] == "https://mediator.example.org"
    proxies = Proxies.read(configuration["proxies"])
    assert proxies.include(caddy["networks"]["inside"]["ipv4_address"])
    assert not proxies.include("172.31.76.1")  # the machine: whoever is on it can write any header
    assert (configuration["host"], configuration["port"]) == ("0.0.0.0", 8765)
    assert configuration["operator-listen"].endswith(":8766")
    upstream = re.search(r"\{\$UPSTREAM:(\S+)\}", (DOCKER / "Caddyfile").read_text())
    assert upstream is not None and upstream[1] == "mediator:8765"


def test_without_a_domain_it_says_what_is_missing_and_the_example_lacks_nothing() -> None:
    with pytest.raises(KeyError, match="DOMAIN"):
        filled_in(COMPOSE.read_text(), {})
    used = {name for name, _, _ in VARIABLE.findall(COMPOSE.read_text())}
    assert used - {"IMAGE"} == set(example())


@pytest.mark.skipif(shutil.which("caddy") is None, reason="not installed: caddy")
def test_caddy_takes_its_configuration_with_and_without_options(tmp_path: Path) -> None:
    for options in ("", "email you@example.org"):
        variables = {"DOMAIN": "mediator.example.org", "CADDY_OPTIONS": options, "HOME": str(tmp_path)}
        command = ["caddy", "adapt", "--config", str(DOCKER / "Caddyfile"), "--adapter", "caddyfile"]
        said = subprocess.run(
            command, env={"PATH": "/usr/bin:/bin", **variables}, capture_output=True, text=True, check=False
        )
        assert said.returncode == 0, said.stderr
        assert '"mediator:8765"' in said.stdout and "mediator.example.org" in said.stdout
