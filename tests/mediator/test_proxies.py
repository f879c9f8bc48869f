"""For whom a connection counts when a reverse proxy stands in front."""

import pytest

from didmpc.mediator.sockets.proxies import Proxies

OURS = Proxies.read("172.30.5.0/24, fd00::2")


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "172.30.5.9", "::ffff:172.30.5.9", "fd00::2"])
def test_a_proxy_of_ours_says_whose_connection_it_is(peer: str) -> None:
    assert OURS.include(peer)
    assert OURS.client(peer, "192.0.2.7") == "192.0.2.7"
    assert OURS.client(peer, "10.9.9.9, 2001:db8::7") == "2001:db8::7"  # the last is what it has added


@pytest.mark.parametrize("peer", ["172.30.6.1", "fd00::3", "192.0.2.1", "localhost.example.org", ""])
def test_nobody_else_is_believed(peer: str) -> None:
    assert not OURS.include(peer)
    assert OURS.client(peer, "192.0.2.7") == peer


@pytest.mark.parametrize("said", ["", "unknown", "192.0.2.7:443", "192.0.2.7,"])
def test_what_is_no_address_counts_for_the_proxy(said: str) -> None:
    assert OURS.client("172.30.5.9", said) == "172.30.5.9"


@pytest.mark.parametrize("text", ["caddy", "172.30.5.9/24", "0.0.0.0/0", "::/0", "10.0.0.1,,", " "])
def test_only_networks_can_be_named_and_never_everybody(text: str) -> None:
    with pytest.raises(ValueError, match="networks"):
        Proxies.read(text)


def test_without_any_only_this_machine_is_a_proxy() -> None:
    assert [Proxies.read("").include(peer) for peer in ("127.0.0.1", "172.30.5.9")] == [True, False]
