"""Settings: who wins, where each came from, and what is said of one that cannot be."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from didmpc.mediator.host.configuration import SETTINGS, Configuration, WrongSetting
from didmpc.mediator.host.home import Home, Settings
from didmpc.mediator.host.quantities import read_limit, show_limit
from didmpc.mediator.limits import MIB, TABLE, UNLIMITED, Limits, Rate
from didmpc.protocols.errors import LocalMisuse

GUIDE = Path(__file__).parents[2] / "docs" / "hosting.md"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def load(home: Home, text: str = "", **options: object) -> Configuration:
    (home.root / "mediator.toml").write_text(text)
    options.setdefault("environment", {})
    return Configuration.load(home, **options)  # type: ignore[arg-type]


def test_a_flag_goes_before_the_environment_that_before_the_file_that_before_the_default(home: Home) -> None:
    text = '# ours\nhost = "192.0.2.1"\nport = 1\n\nlog-level = "debug"\n'
    environment = {"DIDMPC_MEDIATOR_PORT": "2", "DIDMPC_MEDIATOR_LOG_LEVEL": "error"}
    found = load(home, text, environment=environment, flags={"log-level": "info", "host": None})
    sources = {key: (value.value, value.source) for key, value in found.settings.items()}
    assert sources["host"] == ("192.0.2.1", f"{home.root}/mediator.toml, line 2")
    assert sources["port"] == (2, "DIDMPC_MEDIATOR_PORT")
    assert sources["log-level"] == ("info", "--log-level")
    assert sources["registration"] == ("open", "default")
    assert found.limits == Limits()


def test_limits_are_set_in_all_three_ways(home: Home) -> None:
    found = load(
        home,
        '[limits]\nmail-seconds = "14 d"\naccounts = 5\nrequests = "10/s burst 20"\n',
        environment={"DIDMPC_MEDIATOR_LIMIT_MAILBOX_BYTES": "2 MiB", "DIDMPC_MEDIATOR_LIMIT_ACCOUNTS": "6"},
        flags={"limit": ["accounts=7", "heartbeat-seconds=5"]},
    )
    limits = found.limits
    assert (limits.mail_seconds, limits.accounts, limits.mailbox_bytes) == (14 * 86400, 7, 2 * MIB)
    assert (limits.requests, limits.heartbeat_seconds) == (Rate(10, 20), 5)
    assert found.limit_values["requests"].source.endswith("line 4")
    assert found.limit_values["accounts"].source == "--limit accounts"


def test_port_and_public_url_of_the_last_start_stay_unless_something_else_is_said(home: Home) -> None:
    home.save(Settings.new().listening("127.0.0.1", 4321, "https://m.example"))
    found = load(home)
    assert (found["port"], found["public-url"]) == (4321, "https://m.example")
    assert found.settings["port"].source == "kept from the last start"
    assert load(home, flags={"public-url": ""})["public-url"] == ""
    assert load(home, 'public-url = "http://x/"')["public-url"] == "http://x"


def test_limits_off_lifts_rates_and_quotas_and_says_so_while_bounds_of_the_process_stay(home: Home) -> None:
    found = load(home, flags={"limits": "off", "limit": ["accounts=7"]})
    limits = found.limits
    assert limits.mailbox_messages == UNLIMITED
    assert limits.accounts == 7
    for name in ("message_bytes", "header_seconds", "relay_memory_bytes", "free_disk_bytes", "mail_seconds"):
        assert getattr(limits, name) == getattr(Limits(), name)
    said = " ".join(found.warnings())
    assert "OFF" in said and "mailbox-messages" in said and "requests," in said
    assert " accounts," not in said
    assert load(home, 'limits = "off"').limits == Limits.off()
    assert load(home).warnings() == []


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('\nprot = 1\nhost = "x"', ["line 2", "'prot'", "Did you mean port?"]),
        ("host = 5", ["line 1", "host", "a text"]),
        ("port = 70000", ["line 1", "port", "from 0 to 65535"]),
        ("port = true", ["port", "from 0 to 65535"]),
        ('registration = "shut"', ["registration", "open, invitation, allow-list"]),
        ('public-url = "ftp://x"', ["public-url", "https://mediator.example.org"]),
        ('log-level = "loud"', ["log-level", "debug, info, warning, error"]),
        ('metrics-listen = "9100"', ["metrics-listen", "127.0.0.1:9100"]),
        ("allow-private = 2", ["allow-private", "true or false"]),
        ("host = 'x'\n[limits]\nmail = 1", ["line 3", "'mail'", "[limits]"]),
        ("[limits]\naccounts = 0", ["line 2", "accounts", "from 1 to"]),
        ('[limits]\nmessage-bytes = "1 GiB"', ["message-bytes", "16 KiB to 64 MiB"]),
        ('[limits]\nmail-seconds = "never"', ["mail-seconds", "7 d"]),
        ("[limits]\nmail-seconds = nan", ["mail-seconds", "7 d"]),
        ('[limits]\nrequests = "fast"', ["requests", "100/s burst 500"]),
        ('[limits]\nheader-seconds = "unlimited"', ["header-seconds", "30 s"]),
        ('[limits]\nmessage-bytes = "32 KiB"', ["forward-bytes", "message-bytes"]),
        ("[limits\n", ["not valid TOML", "line 1"]),
        ('a = "\xff', ["not valid TOML"]),
        ("[relays]\nlegs = 4", ["'relays'"]),
        ("[relay]\nlegs = 4", ["relay", "on, off"]),
        ('limits = "maybe"', ["limits", "on, off"]),
    ],
)
def test_what_cannot_be_is_named_with_its_place_and_what_it_must_be(
    home: Home, text: str, parts: list[str]
) -> None:
    with pytest.raises(LocalMisuse) as error:
        load(home, text)
    said = str(error.value)
    assert "mediator.toml" in said or "above" in said
    assert error.value.fix
    for part in parts:
        assert part in said


@pytest.mark.parametrize(
    ("environment", "flags", "part", "status"),
    [
        ({"DIDMPC_MEDIATOR_PROT": "1"}, {}, "Did you mean DIDMPC_MEDIATOR_PORT?", 1),
        ({"DIDMPC_MEDIATOR_LIMIT_LEGS": "-1"}, {}, "DIDMPC_MEDIATOR_LIMIT_LEGS: legs cannot be '-1'", 1),
        ({}, {"limit": ["lges=4"]}, "Did you mean legs?", 2),
        ({}, {"limit": ["legs"]}, "--limit mail-seconds=14d", 2),
        ({}, {"port": "x"}, "--port: port cannot be 'x'", 2),
    ],
)
def test_wrong_variables_and_flags_are_named(
    home: Home, environment: dict[str, str], flags: dict[str, object], part: str, status: int
) -> None:
    with pytest.raises(WrongSetting) as error:
        load(home, environment=environment, flags=flags)
    assert part in str(error.value)
    assert error.value.exit_code == status


def test_a_named_file_must_be_there_and_other_variables_of_ours_are_no_settings(home: Home) -> None:
    with pytest.raises(WrongSetting, match="cannot be read"):
        Configuration.load(home, file=home.root / "other.toml", environment={})
    (home.root / "other.toml").write_text("port = 5")
    environment = {"DIDMPC_MEDIATOR_CONFIG": f"{home.root}/other.toml", "DIDMPC_MEDIATOR_HOME": "/x"}
    assert load(home, "port = 6", environment=environment)["port"] == 5


def test_every_limit_is_in_the_table_and_what_is_shown_can_be_read_back() -> None:
    assert [limit.name for limit in TABLE] == [field.name for field in fields(Limits)]
    for limit in TABLE:
        assert read_limit(limit, show_limit(limit, limit.default)) == limit.default
        assert limit.what
        if limit.is_quota:
            lifted = getattr(Limits.off(), limit.name)
            assert read_limit(limit, show_limit(limit, lifted)) == lifted


def test_the_guide_has_every_setting_and_every_limit_with_its_default() -> None:
    text = GUIDE.read_text()
    rows = {match[1]: match[2].strip() for match in re.finditer(r"^\| `([a-z-]+)` \|([^|]*)\|", text, re.M)}
    for limit in TABLE:
        assert rows.get(limit.key) == show_limit(limit, limit.default), f"docs/hosting.md: {limit.key}"
        assert f"| {limit.what} |" in text
    for setting in SETTINGS:
        assert setting.key in rows, f"docs/hosting.md: {setting.key}"


SECRET_URL, SAFE_URL = "postgresql://me:secret@a,b:5433/mail?sslmode=require", "postgresql://me@a,b:5433/mail"


def test_the_password_of_the_store_comes_from_where_nobody_else_reads_it(home: Home) -> None:
    file = home.root / "mediator.toml"
    for source in (
        {"text": f'store = "{SECRET_URL}"'},
        {"environment": {"DIDMPC_MEDIATOR_STORE": SECRET_URL}},
    ):
        file.touch(mode=0o600)
        loaded = load(home, **source)  # type: ignore[arg-type]
        file.write_text("")
        assert loaded.store_url == SECRET_URL
        assert loaded["store"] == SAFE_URL + "?sslmode=require"
        assert "secret" not in repr(loaded) + str(loaded.to_json())
    with pytest.raises(WrongSetting, match="--store takes no password"):
        load(home, flags={"store": SECRET_URL})
    with pytest.raises(WrongSetting, match="--store takes no password"):
        load(home, flags={"store": SAFE_URL + "?password=secret"})
    assert load(home, flags={"store": SAFE_URL}).store_url == SAFE_URL
    file.chmod(0o644)
    with pytest.raises(WrongSetting, match="chmod 600"):
        load(home, f'store = "{SECRET_URL}"')


@pytest.mark.parametrize(
    "url", ["mysql://secret@a/b", "postgresql://", "postgresql://a", "x", "postgresql://[/b"]
)
def test_what_is_no_url_of_a_store_is_refused_unseen(home: Home, url: str) -> None:
    with pytest.raises(WrongSetting, match="postgresql://") as error:
        load(home, flags={"store": url})
    assert "secret" not in str(error.value)
