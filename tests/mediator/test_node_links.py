"""Links between nodes: who may be one, what may come over them, and what becomes of channels on them."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import cast

import pytest
from mediator_parts import PATIENCE

from didmpc.mediator.cluster import handshake, links, messages
from didmpc.mediator.cluster.link import CONTROL_FRAMES, Link
from didmpc.mediator.cluster.links import Links, Peer
from didmpc.mediator.cluster.messages import Ready, Ring, Standing
from didmpc.mediator.cluster.wire import Wire
from didmpc.mediator.limits import Limits
from didmpc.mediator.relay.relay import Relay
from didmpc.mediator.sockets.batch import Batch
from didmpc.mediator.store import Store
from didmpc.protocols.errors import RemoteViolation, SessionError
from didmpc.protocols.identity import Identity
from didmpc.protocols.relay import hop


class Table:
    """Stands for the table of nodes."""

    def __init__(self) -> None:
        self.peers: dict[str, Peer] = {}

    async def find(self, key: str) -> Peer | None:
        return self.peers.get(key)


class Node:
    """The links of one node, and what came over them."""

    def __init__(self, number: int, table: Table) -> None:
        self.number = number
        self.identity = Identity.key()
        self.heard: asyncio.Queue[object] = asyncio.Queue()
        self.changed = asyncio.Event()
        self.relay = Relay(cast(Store, None), Limits())
        self.links = Links(
            *(number, self.identity, Batch(), self.relay, Limits()),
            find=table.find,
            on_up=lambda link: self.changed.set(),
            on_message=lambda link, message: self.heard.put_nowait(message),
            on_lost=lambda link: self.changed.set(),
        )
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.address: tuple[str, int] = self._listener.getsockname()

    @property
    def peer(self) -> Peer:
        return Peer(self.number, f"127.0.0.1:{self.address[1]}", self.identity.did)

    async def start(self) -> None:
        await self.links.start(self._listener)

    async def linked(self, node: int, *, but: Link | None = None) -> Link:
        async with asyncio.timeout(PATIENCE):
            while (link := self.links.up.get(node)) is None or link is but:
                self.changed.clear()
                await self.changed.wait()
            return link

    async def parted(self, node: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while node in self.links.up:
                self.changed.clear()
                await self.changed.wait()


NewNode = Callable[[], Awaitable[Node]]


@pytest.fixture
async def table() -> Table:
    return Table()


@pytest.fixture
async def new_node(table: Table) -> AsyncIterator[NewNode]:
    async with AsyncExitStack() as stack:
        count = 0

        async def make() -> Node:
            nonlocal count
            count += 1
            node = Node(count, table)
            table.peers[node.identity.did] = node.peer
            await node.start()
            stack.push_async_callback(node.links.close)
            return node

        yield make


async def two_linked(new_node: NewNode) -> tuple[Node, Node]:
    first, second = await new_node(), await new_node()
    second.links.know([first.peer])
    await asyncio.gather(first.linked(2), second.linked(1))
    return first, second


async def hear(node: Node) -> object:
    async with asyncio.timeout(PATIENCE):
        return await node.heard.get()


async def is_hung_up(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(PATIENCE):
        try:
            return await reader.read(1) == b""
        except ConnectionError:
            return True


# --- what is said


async def test_nodes_tell_each_other_things_and_a_lost_link_is_made_again(new_node: NewNode) -> None:
    first, second = await two_linked(new_node)
    second.links.tell(1, Ring("did:example:alice", 0.0))
    assert await hear(first) == Ring("did:example:alice", 0.0)
    old = second.links.up[1]
    first.links.up[2].abort("is cut off, for this test")
    await second.linked(1, but=old)
    await first.linked(2)
    first.links.tell_all(Standing(True))
    assert await hear(second) == Standing(True)


async def test_a_node_that_is_no_longer_in_the_table_is_let_go(new_node: NewNode) -> None:
    first, second = await two_linked(new_node)
    second.links.know([])
    await second.parted(1)
    await first.parted(2)


@pytest.mark.parametrize(
    "frame",
    [
        messages.encode(Standing(True))[:-1],
        messages.encode(Standing(True)) + b"\x00",
        messages._HEAD + b"\x92\xa4ring\x01",
        messages._HEAD,
        messages._HEAD + b"\xdf\xff\xff\xff\xff",
        b"\x20\x00\x00\x00\x01" + messages.encode(Standing(True))[5:],
        b"",
        b"\x63\x00\x00\x00\x00",
    ],
)
def test_what_is_no_message_is_refused(frame: bytes) -> None:
    with pytest.raises(SessionError):
        messages.decode(frame)


def test_every_message_is_read_as_it_was_written() -> None:
    for message in (
        messages.Yielded("did:example:a", 7, ((1, 500), (2, 0))),
        messages.Meet(3, 1 << 40, 1, 9, 8, 4 << 20, 100),
        messages.ShutOut("did:example:a", (1, 2)),
    ):
        assert messages.decode(messages.encode(message)) == message
    assert messages.decode(hop.encode_credit(3, 100)) == hop.Credit(3, 100)


# --- strangers


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xff\xff\xff",
        (links.STRANGERS * 1024).to_bytes(4, "big"),
        b"\x00\x00\x00\x02{}",
        b"\x00\x00\x00\x00\x00\x00\x00\x00",
    ],
)
async def test_a_stranger_is_hung_up_on_and_disturbs_no_link(new_node: NewNode, said: bytes) -> None:
    first, second = await two_linked(new_node)
    reader, writer = await asyncio.open_connection(*first.address)
    writer.write(said)
    assert await is_hung_up(reader)
    writer.close()
    second.links.tell(1, Standing(False))
    assert await hear(first) == Standing(False)


class Written(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.data: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def write(self, data: object) -> None:
        if not self.data.done():
            self.data.set_result(bytes(data))  # type: ignore[call-overload]

    def close(self) -> None: ...


async def test_what_a_node_has_said_before_it_was_greeted_is_heard(new_node: NewNode, table: Table) -> None:
    node, other = await new_node(), Identity.key()
    table.peers[other.did] = Peer(9, "127.0.0.1:1", other.did)
    dialing, transport = handshake.Dialing(other, node.identity.did), Written()
    wire = Wire(Batch(), node.links._greet)
    wire.connection_made(transport)
    said = len(dialing.open).to_bytes(4, "big") + dialing.open
    wire.get_buffer(-1)[: len(said)] = said  # as on a busy machine: it was there when the wire was
    wire.buffer_updated(len(said))
    async with asyncio.timeout(PATIENCE):
        accept = await transport.data
    assert dialing.finish(accept[4:]).role == "initiator"
    wire.connection_lost(None)


async def test_a_stranger_who_says_nothing_is_hung_up_on(
    new_node: NewNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "HANDSHAKE_SECONDS", 0.2)
    node = await new_node()
    reader, writer = await asyncio.open_connection(*node.address)
    writer.write(b"\x00\x00\x01\x00{")
    assert await is_hung_up(reader)
    writer.close()


async def test_whose_key_is_not_in_the_table_is_no_node(new_node: NewNode, table: Table) -> None:
    first, second = await new_node(), await new_node()
    del table.peers[second.identity.did]
    dialing = handshake.Dialing(second.identity, first.identity.did)
    reader, writer = await asyncio.open_connection(*first.address)
    writer.write(len(dialing.open).to_bytes(4, "big") + dialing.open)
    assert await is_hung_up(reader)
    writer.close()
    assert not first.links.up


async def test_a_node_of_another_version_of_links_is_let_go_and_the_log_says_why(
    new_node: NewNode, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Link, "_say_ready", lambda self: self.tell(Ready(self._me, 99)))
    first, second = await new_node(), await new_node()
    second.links.know([first.peer])
    async with asyncio.timeout(PATIENCE):
        while "A node speaks version 99 of links, this one 1." not in caplog.text:
            await asyncio.sleep(0.01)
    assert not first.links.up and not second.links.up


async def test_nobody_else_can_answer_for_a_node() -> None:
    me, wanted, other = Identity.key(), Identity.key(), Identity.key()
    dialing = handshake.Dialing(me, wanted.did)
    with pytest.raises(RemoteViolation):
        handshake.read(other, dialing.open)
    forged = handshake.Dialing(other, me.did).open
    with pytest.raises(RemoteViolation):
        dialing.finish(forged)


async def test_an_open_that_is_played_again_takes_nothing_from_anybody(new_node: NewNode) -> None:
    first, second = await new_node(), await new_node()
    dialing = handshake.Dialing(second.identity, first.identity.did)
    framed = len(dialing.open).to_bytes(4, "big") + dialing.open
    second.links.know([first.peer])
    await first.linked(2)
    present = first.links.up[2]
    reader, writer = await asyncio.open_connection(*first.address)
    writer.write(framed)
    assert int.from_bytes(await reader.readexactly(4), "big") > 0  # an accept, for which it has no keys
    writer.write(b"\x00\x00\x00\x40" + bytes(64))
    while await reader.read(4096):
        pass  # until it is hung up on
    writer.close()
    assert first.links.up[2] is present


async def test_a_packet_that_is_played_again_ends_the_link_and_a_new_one_is_made(new_node: NewNode) -> None:
    first, second = await two_linked(new_node)
    link = second.links.up[1]
    sent: list[bytes] = []
    write_now = link._wire.write_now

    def write_and_keep(packet: bytes | bytearray) -> None:
        sent.append(bytes(packet))
        write_now(packet)

    link.leg._write_now = write_and_keep
    link.tell(Standing(True))
    assert await hear(first) == Standing(True)
    write_now(sent[0])
    await second.linked(1, but=link)
    assert first.heard.empty()


async def test_a_node_that_reads_nothing_is_given_up_and_does_not_fill_memory(new_node: NewNode) -> None:
    first, second = await two_linked(new_node)
    link = second.links.up[1]
    first.links.up[2]._wire._transport.pause_reading()  # type: ignore[union-attr]
    mail = Ring("did:example:" + "a" * 1024, 0.0)
    async with asyncio.timeout(PATIENCE):
        for _ in range(20_000):
            link.tell(mail, may_drop=True)
        assert link.leg.waiting <= CONTROL_FRAMES // 2 + 1
        while second.links.up.get(1) is link:
            for _ in range(1000):
                link.tell(mail)
            await asyncio.sleep(0)
