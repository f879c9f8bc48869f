"""Which addresses are of the open internet, in every way they can be written."""

import pytest

from didmpc.protocols.addresses import is_public, names_private


@pytest.mark.parametrize(
    "address",
    (
        # IPv4: this host, private, shared, loopback, link-local, documentation, multicast, reserved
        "0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 127.255.0.1 169.254.169.254 172.16.0.1"
        " 172.31.255.255 192.0.0.1 192.0.0.170 192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1 198.19.255.255"
        " 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255"
        # IPv6: unspecified, loopback, link-local, site-local, unique local, multicast, documentation, discard
        " :: ::1 fe80::1 fe80::1%eth0 fec0::1 fc00::1 fd00::1 ff02::1 ff0e::1 2001:db8::1 3fff::1"
        " 100::1 4000::1"
        # IPv4 within IPv6: mapped, compatible, NAT64 (also of one's own network), 6to4, Teredo, ISATAP
        " ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:0:0 ::127.0.0.1 ::8.8.8.8 64:ff9b::a9fe:a9fe"
        " 64:ff9b::7f00:1"
        " 64:ff9b:1::101:101 2002:7f00:1:: 2002:101:101:: 2001:0:101:101:: 2001:4700::5efe:c0a8:1"
        " 2600::200:5efe:10.0.0.1"
    ).split(),
)
def test_an_address_that_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    (
        "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.0.0.1 128.0.0.1"
        " 169.253.255.255"
        " 172.15.255.255 172.32.0.0 192.167.255.255 198.17.255.255 198.20.0.0 223.255.255.255"
        " 2606:4700::1 2a00:1450:4001::200e 2001:4860:4860::8888 ::ffff:1.1.1.1 64:ff9b::101:101"
        " 2600::5efe:1.1.1.1"
    ).split(),
)
def test_an_address_that_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address", ["localhost", "", "127.1", "0x7f000001", "2130706433", "1.1.1.1%eth0", "[::1]"]
)
def test_what_is_no_address_is_none(address: str) -> None:
    with pytest.raises(ValueError):
        is_public(address)


@pytest.mark.parametrize(
    "uri",
    ["ws://127.0.0.1/ws", "http://[::1]:1/", "http://localhost", "http://a.localhost:1", "http://10.0.0.1"],
)
def test_a_url_that_says_that_it_is_not_public(uri: str) -> None:
    assert names_private(uri)


@pytest.mark.parametrize(
    "uri", ["wss://mediator.example/ws", "http://1.1.1.1/", "http://[bad", "nothing", ""]
)
def test_a_url_that_does_not_say_so(uri: str) -> None:
    assert not names_private(uri)
