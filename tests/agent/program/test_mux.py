"""What a program writes leaves it in few system calls, and no later than it must."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from didmpc.agent.program.config import Limits
from didmpc.agent.program.mux import Mux
from didmpc.agent.program.wire import Decoder, Frame, FrameType, encode


@pytest.fixture
def far_end() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def read(end: socket.socket) -> list[Frame]:
    """What is there now."""
    try:
        return list(Decoder().feed(end.recv(65536)))
    except BlockingIOError:
        return []


async def test_a_round_leaves_in_one_piece_as_soon_as_all_parties_have_their_message(far_end) -> None:
    ours, theirs = far_end
    mux = Mux(
        ours, asyncio.get_running_loop(), peers=frozenset({1, 2}), coalesce=True, limits=Limits(), fail=_fail
    )
    one, two = mux.connect().values()
    one.write(b"for one")
    assert read(theirs) == []  # the other's follows in a moment
    two.write(b"for two")
    assert [(frame.pid, frame.payload) for frame in read(theirs)] == [(1, b"for one"), (2, b"for two")]
    one.write(b"more")
    one.write(b" of it")
    assert read(theirs) == []
    await asyncio.sleep(0)
    assert [frame.payload for frame in read(theirs)] == [b"more of it"]  # at the end of the loop's turn


async def test_after_each_receive_the_next_round_leads_again(far_end) -> None:
    ours, theirs = far_end
    mux = Mux(
        ours, asyncio.get_running_loop(), peers=frozenset({1, 2}), coalesce=True, limits=Limits(), fail=_fail
    )
    transports = list(mux.connect().values())
    for turn in range(3):
        for transport in transports:
            transport.write(b"%d" % turn)
        assert [frame.payload for frame in read(theirs)] == [b"%d" % turn] * 2
        theirs.send(encode(FrameType.GO))
        before = mux.receives
        async with asyncio.timeout(60):
            while mux.receives == before:
                await asyncio.sleep(0)


def _fail(failure: object) -> None:
    raise AssertionError(failure)
