"""Invitations: the URL, and each way in which a pasted text can be wrong."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.did import canonical
from didmpc.protocols.errors import LocalMisuse
from didmpc.protocols.identity import Identity
from didmpc.protocols.messages.out_of_band import INVITATION, Invitation, from_text, from_url

INVITER = Identity.peer4()
MADE = Invitation(from_=INVITER.did, goal_code="connect", goal="To compute", label="Ann", expires_time=1000)
URL = MADE.to_url("https://mediator.example/path")


def encoded(**changes: object) -> str:
    value = {**MADE.to_message().to_json(), **changes}
    return "https://x.example/?_oob=" + b64url(
        json.dumps({k: v for k, v in value.items() if v is not None}).encode()
    )


def test_an_invitation_survives_its_url() -> None:
    assert URL.startswith("https://mediator.example/path?_oob=ey")
    assert from_url(URL) == MADE
    assert from_url(MADE.to_url("https://x.example/?a=b")) == MADE


@pytest.mark.parametrize(
    "pasted",
    [
        URL,
        f"  {URL}\n",
        f"<{URL}>",
        f'"{URL}"',
        URL[:90] + "\r\n" + URL[90:180] + "\n  " + URL[180:],
        MADE.to_message().encode().decode(),
        json.dumps(MADE.to_message().to_json(), indent=2),
        URL.partition("_oob=")[2],
        URL + "==",
    ],
)
def test_an_invitation_is_read_however_it_is_pasted(pasted: str) -> None:
    assert from_text(pasted) == MADE


def test_what_an_invitation_does_not_say_is_absent() -> None:
    bare = encoded(body={}, created_time=None, expires_time=None)
    assert from_url(bare) == Invitation(from_=INVITER.did, id=MADE.id, accept=())


def test_an_invitation_ends_when_it_says() -> None:
    assert not MADE.expired(999.9)
    assert MADE.expired(1000)
    assert not Invitation(from_=INVITER.did).expired(1e12)


@pytest.mark.parametrize(
    "pasted",
    [
        "",
        "   ",
        "hello",
        "https://example.com",
        "https://example.com/?_oob",
        "http://[broken",
        INVITER.did,
        "x" * 100_000,
        '{"type":"https://didcomm.org/basicmessage/2.0/message","id":"1","body":{}}',
        "{}",
        encoded(type="https://didcomm.org/trust-ping/2.0/ping"),
        encoded(type="https://didcomm.org/out-of-band/3.0/invitation"),
    ],
)
def test_what_is_no_invitation_is_named_as_such(pasted: str) -> None:
    with pytest.raises(LocalMisuse, match="not an invitation") as caught:
        from_text(pasted)
    assert caught.value.fix


@pytest.mark.parametrize(
    "pasted",
    [
        URL[:-40],
        URL[:200],
        URL.replace("_oob=ey", "_oob=e"),
        URL + "*",
        '{"type": ',
        encoded(**{"from": None}),
        encoded(**{"from": "nonsense"}),
        encoded(**{"from": INVITER.did[:-5]}),
        encoded(**{"from": canonical(INVITER.did)}),
        encoded(body={"accept": 7}),
        encoded(body={"accept": ["didcomm/aip1"]}),
        encoded(id=None),
        "https://x.example/?_oob=" + b64url(b"[]"),
    ],
)
def test_a_damaged_invitation_is_named_as_such(pasted: str) -> None:
    with pytest.raises(LocalMisuse, match="damaged") as caught:
        from_text(pasted)
    assert "again" in caught.value.fix


@pytest.mark.parametrize(
    "pasted",
    [
        "https://x.example/?oob=eyJ9",
        "https://x.example/?c_i=eyJ9",
        '{"@type": "https://didcomm.org/out-of-band/1.1/invitation", "@id": "1"}',
        '{"@type": "did:sov:BzCbsNYhMrjHiqZDTUASHg;spec/connections/1.0/invitation"}',
        encoded(type="https://didcomm.org/out-of-band/1.0/invitation"),
    ],
)
def test_an_invitation_of_version_1_is_named_as_such(pasted: str) -> None:
    with pytest.raises(LocalMisuse, match="version 1"):
        from_text(pasted)


def test_a_shortened_invitation_is_named_as_such() -> None:
    with pytest.raises(LocalMisuse, match="shortened"):
        from_text("https://x.example/?_oobid=123")


def test_an_inviter_of_another_method_is_named_as_such() -> None:
    with pytest.raises(LocalMisuse, match="kind that is not supported"):
        from_text(encoded(**{"from": "did:web:example.com"}))


def test_a_later_minor_version_is_accepted() -> None:
    assert from_text(encoded(type=INVITATION.replace("2.0", "2.1"))).id == MADE.id


@given(st.text(max_size=80), st.sampled_from(["", "{", "https://x/?_oob=", "eyJ", URL[:60]]))
def test_any_text_is_an_invitation_or_explained(text: str, start: str) -> None:
    with pytest.raises(LocalMisuse):
        from_text(start + text)
