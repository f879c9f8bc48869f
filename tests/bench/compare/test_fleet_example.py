"""The example that makes a fleet: Terraform's files, and what hosts are set up with. `make test-netlab`."""

import json
import re
import shutil
import site
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fleet_tools import PYTHON, ROOT, schema

from didmpc.bench.compare.contender import contenders
from didmpc.bench.compare.fleet.plan import read

pytestmark = pytest.mark.netlab

FLEET = ROOT / "docs" / "fleet"
PROVIDERS = ("hcloud", "digitalocean")
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk=\n-----END OPENSSH PRIVATE KEY-----"
VALUES = {
    "host_key_public": "ssh-ed25519 AAAA",
    "repository": "https://git.example/didmpc",
    "revision": "0" * 40,
}


@pytest.fixture(scope="module", autouse=True)
def _libraries():
    if not PYTHON.installed():
        pytest.skip(PYTHON.why_not() or "run  make test-netlab  once, to install what this needs")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site.addsitedir(str(PYTHON.folder / "lib" / version / "site-packages"))


def blocks(provider):
    """All of a provider's files, parsed."""
    import hcl2

    found = {}
    for path in sorted((FLEET / provider).glob("*.tf")):
        with path.open() as file:
            for kind, made in hcl2.load(file).items():
                found.setdefault(kind, []).extend(made if isinstance(made, list) else [made])
    return found


def words(value):
    return json.dumps(value).replace('\\"', "").replace('"', "")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_terraforms_files_parse_and_hold_no_secret(provider):
    found = blocks(provider)
    kinds = words(found["resource"])
    assert "tls_private_key" in kinds
    assert "firewall" in kinds
    # The token comes from the environment: the provider's block is empty, and no variable is for one.
    (block,) = found["provider"]
    assert [entry for entry in block[next(iter(block))] if not str(entry).startswith("__")] == []
    assert not re.search(
        r"token|password|secret", words([list(one) for one in found["variable"]]), re.IGNORECASE
    )
    text = "".join(path.read_text() for path in FLEET.rglob("*") if path.is_file())
    assert "PRIVATE KEY" not in text
    assert not re.search(r"[0-9A-Za-z]{64}", text)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_only_whoever_measures_may_log_in(provider):
    resources = words(blocks(provider)["resource"])
    assert "var.admin_addresses" in resources
    inbound = resources.replace("destination_addresses", "")
    assert "source_ips: [0.0.0.0/0" not in inbound
    assert "source_addresses: [0.0.0.0/0" not in inbound


def rendered():
    """As templatefile does it: what stands in ${} is replaced."""
    text = (FLEET / "cloud-init.yaml").read_text()
    text = text.replace("${indent(4, host_key)}", KEY.replace("\n", "\n    "))
    for name, value in VALUES.items():
        text = text.replace(f"${{{name}}}", value)
    return text


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_value_of_the_template_is_given(provider):
    text = (FLEET / "cloud-init.yaml").read_text()
    wanted = {name.strip() for name in re.findall(r"\$\{(?:indent\(4, )?(\w+)\)?\}", text)}
    assert wanted == {"host_key", *VALUES}
    source = (FLEET / provider / "main.tf").read_text()
    call = re.search(r"templatefile\([^,]*cloud-init.yaml[^,]*, \{(.*?)\}\)", source, re.DOTALL)
    assert {line.split("=")[0].strip() for line in call[1].strip().splitlines()} == wanted


def test_cloud_init_accepts_what_the_hosts_are_set_up_with():
    import jsonschema
    import yaml

    if schema() is None:
        pytest.skip("run  make test-netlab  once on Debian, to fetch cloud-init's schema")
    text = rendered()
    assert text.startswith("#cloud-config\n")
    configuration = yaml.safe_load(text)
    checker = jsonschema.Draft4Validator(json.loads(schema().read_text()))
    assert [error.message for error in checker.iter_errors(configuration)] == []
    # It does refuse: a name that is wrong, a kind that is wrong.
    assert list(checker.iter_errors(configuration | {"ssh_pwauth": [1]}))
    assert list(checker.iter_errors(configuration | {"write_files": [{"content": "x"}]}))
    assert configuration["ssh_keys"]["ed25519_private"].strip() == KEY
    assert configuration["ssh_pwauth"] is False


def test_all_that_contenders_need_is_installed_there():
    import yaml

    packages = set(yaml.safe_load(rendered())["packages"])
    needed = {each.package for one in contenders().values() for each in one.requires}
    assert needed - packages <= {"openssh-client", "openssh-server"}, "images of hosts have those"


def needs_terraform():
    if shutil.which("terraform") is None:
        pytest.skip("not installed: terraform")


def test_terraform_finds_its_files_in_order():
    needs_terraform()
    check = ["terraform", "fmt", "-check", "-recursive", "-diff", str(FLEET)]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_file_of_hosts_that_terraform_writes_is_one(tmp_path):
    needs_terraform()
    hosts = ", ".join(f'{{address = "192.0.2.{number}", label = "there"}}' for number in (1, 2))
    call = (
        f'templatefile("{FLEET}/hosts.toml.tftpl", {{name = "mine", servers = [{hosts}], '
        f"parties = [{hosts.replace('192.0.2', '198.51.100')}]}})\n"
    )
    done = subprocess.run(
        ["terraform", "console"], input=call, capture_output=True, text=True, cwd=tmp_path, check=True
    )
    text = done.stdout.partition("<<EOT\n")[2].rpartition("EOT")[0]
    assert tomllib.loads(text)["name"] == "mine"
    (tmp_path / "hosts.toml").write_text(text)
    fleet = read(tmp_path / "hosts.toml")
    assert [place.address for place in fleet.parties] == ["198.51.100.1", "198.51.100.2"]
    assert fleet.known_hosts == tmp_path / "known_hosts"
    assert fleet.servers[0].label == "there"


def test_terraform_renders_what_is_checked_here(tmp_path):
    needs_terraform()
    import yaml

    values = ", ".join(
        f"{name} = {json.dumps(value)}" for name, value in (VALUES | {"host_key": KEY}).items()
    )
    call = f'yamldecode(templatefile("{FLEET}/cloud-init.yaml", {{{values}}})).ssh_keys.ed25519_private\n'
    done = subprocess.run(
        ["terraform", "console"], input=call, capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert KEY.splitlines()[1] in done.stdout
    assert yaml.safe_load(rendered())["ssh_keys"]["ed25519_private"].strip() == KEY
