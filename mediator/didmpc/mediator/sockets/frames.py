"""WebSocket frames as a server reads and writes them (RFC 6455, section 5); no I/O.

A frame that comes whole is copied once, out of the memory that every socket reads into; of a longer one
what is missing is read to where it belongs. What is unmasked is unmasked there.
"""

from collections.abc import Callable
from enum import IntEnum

from didmpc.mediator.limits import KIB

try:
    from aiohttp._websocket.helpers import websocket_mask as unmask
except ImportError:  # aiohttp keeps its compiled mask private: without it, slower

    def unmask(mask: bytes, data: bytearray) -> None:
        size = len(data)
        stream = (mask * (size // 4 + 1))[:size]
        data[:] = (int.from_bytes(data, "little") ^ int.from_bytes(stream, "little")).to_bytes(size, "little")


READ_AT_ONCE = 128 * KIB
TRUST = 8
"""Memory is set aside for a frame up to so many times what has come of it."""
FRAGMENTS = 1024
"""Of one message, at most."""
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_FINAL, _RESERVED, _CONTROL, _OPCODE = 0x80, 0x70, 0x08, 0x0F
_MASKED = 0x80
_WHOLE_BINARY = _FINAL | BINARY
_LONGEST_CONTROL = 125


class CloseCode(IntEnum):
    """Section 7.4.1."""

    OK = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED = 1003
    NONE = 1005
    INVALID_TEXT = 1007
    POLICY_VIOLATION = 1008
    TOO_BIG = 1009
    SERVICE_RESTART = 1012


_SENDABLE = frozenset((*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)))


class FrameError(Exception):
    """The peer broke the protocol or a limit: the socket is closed with `code`, and `reason` said."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def _no_frame(detail: str) -> FrameError:
    return FrameError(CloseCode.PROTOCOL_ERROR, f"What came is no WebSocket frame: {detail}.")


def _too_big() -> FrameError:
    return FrameError(CloseCode.TOO_BIG, "The message is larger than this mediator takes.")


def _no_text() -> FrameError:
    return FrameError(CloseCode.INVALID_TEXT, "A text message is not UTF-8.")


def head(opcode: int, size: int) -> bytes:
    """What goes before a payload of `size` bytes."""
    if size < 126:
        return bytes((_FINAL | opcode, size))
    if size < 65536:
        return bytes((_FINAL | opcode, 126, size >> 8, size & 255))
    return bytes((_FINAL | opcode, 127)) + size.to_bytes(8, "big")


def close_payload(code: int, reason: str) -> bytes:
    """Section 5.5: at most 125 bytes, two of them the code; a reason is cut where a character ends."""
    cut = reason.encode()[: _LONGEST_CONTROL - 2].decode(errors="ignore")
    return code.to_bytes(2, "big") + cut.encode()


def close_code(payload: bytes | bytearray) -> int:
    """The code of a close frame; FrameError where it is malformed."""
    if not payload:
        return CloseCode.NONE
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or code not in _SENDABLE:
        raise _no_frame("a close of no known kind")
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise _no_text() from None
    return code


# Between asking for room and `take` nothing else runs, so all sockets of a process read into the same memory.
_common = bytearray(READ_AT_ONCE)
COMMON_ROOM = memoryview(_common)


class FrameReader:
    """Bytes in, messages out: `on_binary(payload)` for binary ones, else `on_message(opcode, payload)`.

    Read into `room()`, then say `take(count)`, which raises FrameError and is then not to be called again.
    `on_binary` may be changed at any time.
    """

    def __init__(
        self,
        limit: int,
        on_message: Callable[[int, bytearray], None],
        on_binary: Callable[[bytearray], None],
    ) -> None:
        self._limit = limit
        self._on_message = on_message
        self.on_binary = on_binary
        self._rest = b""  # of a frame whose head has not come yet
        self._payload: bytearray | None = None  # of a frame in progress, as far as memory is set aside
        self._first = self._size = self._have = 0
        self._key = b""
        self._fragments: list[bytearray] = []
        self._opcode = 0  # of the message that they belong to

    def stop(self) -> None:
        """Let go of what comes after this message."""
        self.on_binary = lambda payload: None
        self._on_message = lambda opcode, payload: None

    def room(self) -> memoryview:
        """Where the next bytes are to be read to."""
        if self._payload is not None:
            return memoryview(self._payload)[self._have :]
        if self._rest:
            kept = len(self._rest)
            _common[:kept] = self._rest
            return COMMON_ROOM[kept:]
        return COMMON_ROOM

    def take(self, count: int) -> None:
        """So many bytes were read into `room()`."""
        payload = self._payload
        if payload is None:
            end = len(self._rest) + count
            self._rest = b""
            self._parse(end)
            return
        self._have += count
        if self._have < len(payload):
            return
        if self._have < self._size:
            self._payload = self._grown(payload, 0, self._have)
            return
        self._payload = None
        unmask(self._key, payload)
        self._frame(self._first, payload)

    def _parse(self, end: int) -> None:
        data, start = _common, 0
        while end - start >= 6:  # the least head of a masked frame
            first, size = data[start], data[start + 1]
            if first & _RESERVED or size < _MASKED:
                raise _no_frame("it is not masked, or of an extension")
            size -= _MASKED
            body = start + 6
            if size == 126:
                body += 2
                if end < body:
                    break
                size = data[start + 2] << 8 | data[start + 3]
            elif size == 127:
                body += 8
                if end < body:
                    break
                size = int.from_bytes(data[start + 2 : start + 10], "big")
            if size > self._limit:
                raise _too_big()
            after = body + size
            key = bytes(data[body - 4 : body])
            if end < after:
                self._first, self._key, self._size, self._have = first, key, size, end - body
                self._payload = self._grown(data, body, end)
                return
            payload = data[body:after]
            unmask(key, payload)
            if first == _WHOLE_BINARY and not self._fragments:
                self.on_binary(payload)
            else:
                self._frame(first, payload)
            start = after
        if start < end:
            self._rest = bytes(data[start:end])

    def _grown(self, data: bytearray, start: int, end: int) -> bytearray:
        """Memory for a frame of which that has come, as far as the peer is trusted with it."""
        came = end - start
        payload = bytearray(min(self._size, TRUST * max(came, KIB)))
        payload[:came] = memoryview(data)[start:end]
        return payload

    def _frame(self, first: int, payload: bytearray) -> None:
        final, opcode = first & _FINAL, first & _OPCODE
        if opcode & _CONTROL:
            if not final or len(payload) > _LONGEST_CONTROL or opcode > PONG:
                raise _no_frame("a control frame of no known kind")
            self._on_message(opcode, payload)
        elif opcode > BINARY or (opcode == CONTINUATION) != bool(self._fragments):
            raise _no_frame("it is out of its order")
        else:
            self._fragment(opcode, payload, bool(final))

    def _fragment(self, opcode: int, payload: bytearray, final: bool) -> None:
        fragments = self._fragments
        if opcode != CONTINUATION:
            self._opcode = opcode
        fragments.append(payload)
        if len(fragments) > FRAGMENTS or sum(map(len, fragments)) > self._limit:
            raise _too_big()
        if final:
            self._fragments = []
            message = fragments[0] if len(fragments) == 1 else bytearray().join(fragments)
            if self._opcode == BINARY:
                self.on_binary(message)
            else:
                self._on_message(self._opcode, message)


def text_of(payload: bytearray) -> bytes:
    """A text message, which must be UTF-8."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        raise _no_text() from None
    return bytes(payload)
