"""The wallet: encrypted, private, and never half written."""

import json
import os
import stat
from pathlib import Path
from typing import ClassVar

import pytest

from didmpc.agent.wallet import home as homes
from didmpc.agent.wallet import keystore
from didmpc.agent.wallet.home import Home
from didmpc.agent.wallet.wallet import Wallet, leftovers
from didmpc.local.private_files import write_private
from didmpc.protocols.errors import DidmpcError, LocalMisuse
from didmpc.protocols.identity import Identity


async def filled(home: Home, passphrase: str | None = None) -> Identity:
    wallet = Wallet.open(home, passphrase)
    identity = Identity.peer4()
    wallet.add(identity, keep=True)
    wallet.add(Identity.peer4(), keep=False)
    wallet.settings.label = "Alice"
    await wallet.save()
    return identity


async def test_what_is_kept_comes_back_and_what_is_not_does_not(home: Home) -> None:
    identity = await filled(home)
    again = Wallet.open(home)
    assert [each.did for each in again.identities] == [identity.did]
    assert again.identity(identity.did).keys == identity.keys
    assert again.settings.label == "Alice"


async def test_no_private_key_stands_in_a_file(home: Home) -> None:
    identity = await filled(home, "correct horse")
    secrets = [key.jwk()["d"] for key in identity.keys.values()]
    for path in home.root.rglob("*"):
        content = path.read_text()
        assert not any(secret in content for secret in secrets)
        assert "correct horse" not in content


async def test_files_are_private_whatever_the_umask(home: Home) -> None:
    before = os.umask(0)
    try:
        await filled(home)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in home.root.iterdir()} == {0o600}
    assert stat.S_IMODE(home.root.stat().st_mode) == 0o700


def test_a_home_that_others_can_read_is_put_right(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    Home(tmp_path).prepare()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


async def test_a_wrong_passphrase_changes_nothing(home: Home) -> None:
    await filled(home, "right")
    before = home.wallet.read_bytes()
    with pytest.raises(LocalMisuse, match="passphrase does not open"):
        Wallet.open(home, "wrong")
    assert home.wallet.read_bytes() == before
    assert Wallet.open(home, "right").settings.label == "Alice"


async def test_a_missing_passphrase_is_asked_for(home: Home) -> None:
    await filled(home, "right")
    with pytest.raises(LocalMisuse) as caught:
        Wallet.open(home)
    assert "--passphrase-file" in caught.value.fix


async def test_a_passphrase_given_later_replaces_the_key_file(home: Home) -> None:
    await filled(home)
    key = home.key_file.read_text().strip()
    assert Wallet.open(home, "now").settings.label == "Alice"
    assert not home.key_file.exists()
    assert Wallet.open(home, "now").encryption == "passphrase"
    with pytest.raises(LocalMisuse):
        Wallet.open(home)
    assert key not in home.wallet.read_text()


async def test_a_lost_key_file_is_named(home: Home) -> None:
    await filled(home)
    home.key_file.unlink()
    with pytest.raises(DidmpcError, match=r"key file .* missing"):
        Wallet.open(home)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"not json", b'{"format":"didmpc-wallet/9"}', b"\xff"]
)
async def test_a_damaged_wallet_is_named_and_left_alone(home: Home, content: bytes) -> None:
    home.wallet.write_bytes(content)
    with pytest.raises(DidmpcError, match="damaged"):
        Wallet.open(home)
    assert home.wallet.read_bytes() == content


async def test_every_changed_byte_of_the_content_is_noticed(home: Home) -> None:
    await filled(home, "right")
    value = json.loads(home.wallet.read_bytes())
    for name in ("content", "nonce"):
        text = value[name]
        changed = ("B" if text[0] != "B" else "C") + text[1:]
        home.wallet.write_text(json.dumps({**value, name: changed}))
        with pytest.raises(LocalMisuse):
            Wallet.open(home, "right")


@pytest.mark.parametrize("change", [{"n": 2**30}, {"r": 2**20}, {"n": "x"}, {"salt": 5}, {"kdf": "none"}])
async def test_doctored_scrypt_parameters_do_not_exhaust_the_machine(home: Home, change: dict) -> None:
    await filled(home, "right")
    value = json.loads(home.wallet.read_bytes())
    value["protection"] |= change
    home.wallet.write_text(json.dumps(value))
    with pytest.raises(DidmpcError, match="damaged"):
        Wallet.open(home, "right")


async def test_a_crash_while_writing_leaves_the_old_state(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(home)
    wallet = Wallet.open(home)
    wallet.settings.label = "changed"

    def crash(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(homes.os, "replace", crash)
    with pytest.raises(DidmpcError, match="cannot be written"):
        await wallet.save()
    monkeypatch.undo()
    assert Wallet.open(home).settings.label == "Alice"
    assert not [path for path in home.root.iterdir() if path.name.startswith(".wallet")]


async def test_dids_that_nothing_uses_are_forgotten(home: Home) -> None:
    await filled(home)
    wallet = Wallet.open(home)
    named, contact = Identity.peer4(), Identity.peer4()
    for identity in (named, contact):
        wallet.add(identity, keep=True)
    wallet.settings.did = named.did
    wallet.contacts = [{"my_did": contact.did}]
    wallet.forget_orphans()
    assert {each.did for each in wallet.identities} == {named.did, contact.did}


def test_leftovers_of_a_killed_process_are_removed(home: Home) -> None:
    write_private(home.root / ".wallet.json.abcd", b"half")
    leftovers(home)
    assert list(home.root.iterdir()) == []


async def test_nothing_secret_shows_in_a_repr(home: Home) -> None:
    wallet = Wallet.open(home, "sesame")
    assert "sesame" not in repr(wallet) + repr(wallet._lock)
    assert wallet._lock.key.hex() not in repr(wallet._lock)


class Ring:
    """A keyring that works."""

    priority = 5
    kept: ClassVar[dict[tuple[str, str], str]] = {}

    def set_password(self, service: str, account: str, text: str) -> None:
        self.kept[service, account] = text

    def get_password(self, service: str, account: str) -> str | None:
        return self.kept.get((service, account))

    def delete_password(self, service: str, account: str) -> None:
        del self.kept[service, account]


async def test_a_real_keyring_is_preferred_to_a_key_file(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keystore, "_real_keyring", Ring)
    await filled(home)
    assert not home.key_file.exists()
    assert Wallet.open(home).encryption == "OS keyring"
    Ring.kept.clear()
    with pytest.raises(DidmpcError, match="not in the OS keyring"):
        Wallet.open(home)


async def test_a_keyring_that_fails_is_not_trusted(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(Ring):
        def get_password(self, service: str, account: str) -> str | None:
            return None

    class Broken(Ring):
        def set_password(self, service: str, account: str, text: str) -> None:
            raise RuntimeError("locked")

    for ring in (Forgetful, Broken):
        monkeypatch.setattr(keystore, "_real_keyring", ring)
        assert keystore.new_lock(home, None).kind == "keyfile"


@pytest.mark.parametrize("backend", ["keyring.backends.fail.Keyring", "keyring.backends.null.Keyring"])
def test_a_keyring_in_name_only_is_none(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    import keyring
    from keyring.core import load_keyring

    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
    monkeypatch.setattr(keyring, "get_keyring", lambda: load_keyring(backend))
    assert keystore._real_keyring() is None


@pytest.mark.parametrize("name", ["flag", "variable"])
def test_where_a_home_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("DIDMPC_HOME", str(tmp_path / "variable"))
    assert Home.locate(tmp_path / "flag" if name == "flag" else None).root == tmp_path / name
