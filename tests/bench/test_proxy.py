"""The proxy of the fault tests does what they say it does."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from didmpc.bench.proxy import Proxy


class Echo:
    """A server that sends back what it gets, and knows where its clients came from."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.clients: list[str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        try:
            while True:
                connection, address = self._listener.accept()
                self.clients.append(address[0])
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
        except OSError:
            return

    @staticmethod
    def _serve(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(1000):
                    connection.sendall(data)
            except OSError:
                return

    def close(self) -> None:
        with contextlib.suppress(OSError):  # closed already
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


OWNERS: dict[int, str] = {}


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(lambda ports: {port: OWNERS[port] for port in ports}) as running:
        running.target = echo.port
        yield running


def dial(proxy: Proxy, owner: str) -> socket.socket:
    client = socket.socket()
    client.settimeout(60)
    client.bind(("127.0.0.1", 0))
    OWNERS[client.getsockname()[1]] = owner
    client.connect(("127.0.0.1", proxy.port))
    return client


def connect(proxy: Proxy, owner: str = "Alice") -> socket.socket:
    client = dial(proxy, owner)
    assert says(client, b"hello") == b"hello"
    return client


def says(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    return client.recv(1000)


def test_what_goes_through_is_counted_and_an_end_is_passed_on(proxy: Proxy) -> None:
    client = connect(proxy)
    client.shutdown(socket.SHUT_WR)
    assert client.recv(1000) == b""
    assert (proxy.accepted, proxy.bytes) == (1, 10)


def test_a_reset_reaches_the_client_as_one(proxy: Proxy) -> None:
    client = connect(proxy)
    assert proxy.reset() == 1
    with pytest.raises(ConnectionResetError):
        client.recv(1000)
    connect(proxy)


def test_what_was_sent_while_the_road_was_cut_comes_through_when_it_is_mended(proxy: Proxy) -> None:
    alice, bob = connect(proxy), connect(proxy, "Bob")
    assert len(proxy.addresses("Alice")) == 1
    proxy.cut("Bob")
    bob.sendall(b"wait")
    later = dial(proxy, "Bob")
    later.settimeout(0.3)
    later.sendall(b"for me")
    assert says(alice, b"not cut") == b"not cut"
    with pytest.raises(TimeoutError):
        later.recv(1000)
    proxy.heal()
    later.settimeout(60)
    assert (bob.recv(1000), later.recv(1000)) == (b"wait", b"for me")


def test_a_delay_holds_each_way_and_keeps_the_order(proxy: Proxy) -> None:
    client = connect(proxy)
    proxy.delay(0.1)
    began = time.monotonic()
    client.sendall(b"a")
    time.sleep(0.02)
    client.sendall(b"b")
    received = b""
    while len(received) < 2:
        received += client.recv(1000)
    assert received == b"ab" and time.monotonic() - began >= 0.2


def test_who_moves_comes_from_another_address(proxy: Proxy, echo: Echo) -> None:
    alice, bob = connect(proxy), connect(proxy, "Bob")
    assert proxy.addresses("Alice") == {"127.0.0.1"}
    proxy.move("Bob", "127.0.0.9")
    assert says(alice, b"still here") == b"still here"
    with pytest.raises(ConnectionResetError):
        bob.recv(1000)
    again = connect(proxy, "Bob")
    assert proxy.addresses("Bob") == {"127.0.0.9"} and echo.clients[-1] == "127.0.0.9"
    again.close()


def test_where_nobody_listens_clients_are_reset(proxy: Proxy, echo: Echo) -> None:
    echo.close()
    with pytest.raises(ConnectionResetError):
        connect(proxy)
