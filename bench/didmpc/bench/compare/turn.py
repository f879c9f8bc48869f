"""A client of TURN (RFC 8656) with TCP relays (RFC 6062): whoever connects to the relayed address reaches us.

TURN_PASSWORD=... python -m didmpc.bench.compare.turn SERVER:PORT USER OWN_PORT PEER_ADDRESS...

Prints the relayed address as one line of JSON once those peers may connect; OWN_PORT is on 127.0.0.1.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import socket
import struct
import sys
from dataclasses import dataclass, field

import uvloop

from didmpc.bench.compare.splice import End

WITHIN = 10.0
"""Seconds for an answer."""
AGAIN = 120.0
"""Seconds after which permissions (300 s) and the allocation (600 s) are asked for anew."""
ALLOCATE, REFRESH, CREATE_PERMISSION, CONNECTION_BIND, CONNECTION_ATTEMPT = 3, 4, 8, 11, 12
SUCCESS, FAILURE, INDICATION = 0x0100, 0x0110, 0x0010
USERNAME, INTEGRITY, ERROR_CODE, PEER, REALM, NONCE = 0x06, 0x08, 0x09, 0x12, 0x14, 0x15
RELAYED, TRANSPORT, CONNECTION_ID = 0x16, 0x19, 0x2A
_COOKIE = 0x2112A442
_TCP = bytes([6, 0, 0, 0])
_HEADER = struct.Struct("!HHI12s")


class TurnError(Exception):
    """The server refuses, or says something that is no STUN."""


def encode(
    kind: int, transaction: bytes, attributes: list[tuple[int, bytes]], key: bytes | None = None
) -> bytes:
    """A STUN message (RFC 8489, section 5), with MESSAGE-INTEGRITY if there is a key."""
    body = b"".join(
        struct.pack("!HH", number, len(value)) + value + bytes(-len(value) % 4)
        for number, value in attributes
    )
    if key is None:
        return _HEADER.pack(kind, len(body), _COOKIE, transaction) + body
    # The length that is authenticated counts the attribute that is to come.
    message = _HEADER.pack(kind, len(body) + 24, _COOKIE, transaction) + body
    return message + struct.pack("!HH", INTEGRITY, 20) + hmac.digest(key, message, "sha1")


def decode(header: bytes, body: bytes) -> tuple[int, bytes, dict[int, bytes]]:
    """Kind, transaction, and the first of each attribute. Raises TurnError."""
    kind, _, cookie, transaction = _HEADER.unpack(header)
    if cookie != _COOKIE:
        raise TurnError("it is no STUN")
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(body):
        number, length = struct.unpack_from("!HH", body, at)
        if at + 4 + length > len(body):
            raise TurnError("an attribute is longer than its message")
        found.setdefault(number, body[at + 4 : at + 4 + length])
        at += 4 + length + -length % 4
    return kind, transaction, found


def xor_address(address: str, port: int) -> bytes:
    """XOR-PEER-ADDRESS and the like, of IPv4 (RFC 8489, section 14.2)."""
    whole = int.from_bytes(socket.inet_aton(address)) ^ _COOKIE
    return struct.pack("!BBHI", 0, 1, port ^ (_COOKIE >> 16), whole)


def read_address(value: bytes) -> tuple[str, int]:
    """The opposite. Raises TurnError."""
    if len(value) != 8 or value[1] != 1:
        raise TurnError("an address is not of IPv4")
    _, _, port, whole = struct.unpack("!BBHI", value)
    return socket.inet_ntoa((whole ^ _COOKIE).to_bytes(4)), port ^ (_COOKIE >> 16)


async def read_message(reader: asyncio.StreamReader) -> tuple[int, bytes, dict[int, bytes]]:
    """The next message of a connection. Raises TurnError, IncompleteReadError."""
    header = await reader.readexactly(_HEADER.size)
    return decode(header, await reader.readexactly(int.from_bytes(header[2:4])))


@dataclass
class Client:
    """The connection that controls one allocation."""

    server: tuple[str, int]
    user: str
    password: str
    own_port: int
    realm: bytes = b""
    nonce: bytes = b""
    waiting: dict[bytes, "asyncio.Future[tuple[int, dict[int, bytes]]]"] = field(default_factory=dict)
    splicing: set["asyncio.Task[None]"] = field(default_factory=set)

    async def serve(self, peers: list[str]) -> None:
        """Until the server closes the connection. Raises TurnError, OSError."""
        reader, self.writer = await asyncio.open_connection(*self.server)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(reader))
            allocated = await self._ask(ALLOCATE, [(TRANSPORT, _TCP)])
            address, port = read_address(allocated.get(RELAYED, b""))
            permissions = [(PEER, xor_address(peer, 0)) for peer in peers]
            await self._ask(CREATE_PERMISSION, permissions)
            print(json.dumps({"address": address, "port": port}), flush=True)
            while True:
                await asyncio.sleep(AGAIN)
                await self._ask(REFRESH, [])
                await self._ask(CREATE_PERMISSION, permissions)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while True:
            kind, transaction, attributes = await read_message(reader)
            if kind == CONNECTION_ATTEMPT | INDICATION:
                task = asyncio.create_task(self._accept(attributes[CONNECTION_ID]))
                self.splicing.add(task)
                task.add_done_callback(self.splicing.discard)
            elif (answer := self.waiting.pop(transaction, None)) is not None:
                answer.set_result((kind, attributes))

    async def _ask(self, method: int, attributes: list[tuple[int, bytes]]) -> dict[int, bytes]:
        for _ in range(3):  # without a nonce, with one, with a newer one
            transaction = os.urandom(12)
            answer: asyncio.Future[tuple[int, dict[int, bytes]]] = asyncio.get_running_loop().create_future()
            self.waiting[transaction] = answer
            self.writer.write(self._request(method, transaction, attributes))
            async with asyncio.timeout(WITHIN):
                kind, found = await answer
            if kind == method | SUCCESS:
                return found
            self._learn(found)
        raise TurnError(
            f"request {method} was refused: {found.get(ERROR_CODE, b'')[4:].decode(errors='replace')}"
        )

    def _request(self, method: int, transaction: bytes, attributes: list[tuple[int, bytes]]) -> bytes:
        if not self.realm:
            return encode(method, transaction, attributes)
        user = self.user.encode()
        # Long-term credentials (RFC 8489, section 9.2.2): the protocol's own choice of hash.
        secret = b":".join((user, self.realm, self.password.encode()))
        key = hashlib.md5(secret, usedforsecurity=False).digest()
        credentials = [(USERNAME, user), (REALM, self.realm), (NONCE, self.nonce)]
        return encode(method, transaction, [*attributes, *credentials], key)

    def _learn(self, found: dict[int, bytes]) -> None:
        self.realm, self.nonce = found.get(REALM, self.realm), found.get(NONCE, self.nonce)

    async def _accept(self, connection: bytes) -> None:
        """A connection of its own for what a peer sends; then bytes are passed on, both ways."""
        loop = asyncio.get_running_loop()
        data = socket.socket()
        data.setblocking(False)
        try:
            async with asyncio.timeout(WITHIN):
                await loop.sock_connect(data, self.server)
                await self._bind(data, connection)
                near = End()
                await loop.create_connection(lambda: near, "127.0.0.1", self.own_port)
                await loop.create_connection(lambda: End(near), sock=data)
        except (OSError, TimeoutError, TurnError) as error:
            data.close()
            print(f"a peer's connection was lost: {error!r}", file=sys.stderr, flush=True)

    async def _bind(self, data: socket.socket, connection: bytes) -> None:
        loop = asyncio.get_running_loop()
        request = self._request(CONNECTION_BIND, os.urandom(12), [(CONNECTION_ID, connection)])
        await loop.sock_sendall(data, request)
        # Exactly the answer and not a byte more: what follows is the peer's.
        header = await _exactly(data, _HEADER.size)
        kind, _, found = decode(header, await _exactly(data, int.from_bytes(header[2:4])))
        if kind != CONNECTION_BIND | SUCCESS:
            raise TurnError(found.get(ERROR_CODE, b"")[4:].decode(errors="replace"))


async def _exactly(data: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        part = await asyncio.get_running_loop().sock_recv(data, count - len(found))
        if not part:
            raise TurnError("the server closed the connection")
        found += part
    return found


async def main(server: str, user: str, own_port: str, *peers: str) -> None:
    host, _, port = server.rpartition(":")
    await Client((host, int(port)), user, os.environ["TURN_PASSWORD"], int(own_port)).serve(list(peers))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        try:
            uvloop.run(main(*sys.argv[1:]))
        except* (EOFError, OSError, TimeoutError, TurnError) as problems:
            sys.exit(f"The TURN server cannot be used: {problems.exceptions[0]}")
