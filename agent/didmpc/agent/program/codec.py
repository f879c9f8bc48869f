"""Values that programs send each other with `mpc.transfer()`, without pickle: reading them runs no code.

MPyC's runtime finds this module under the name `pickle`. It carries plain values and containers, numeric and
object-int arrays, and elements of fields and groups, all by exact type. Types never travel: a value of a
field or group is read only if the local program has itself created that type, which `elements.py` finds by a
fingerprint of its parameters.

    value     = "V" 1 item                              nothing follows
    item      = tag u8 | content
    size      = u32, big endian                         octets, items or dimensions
    integer   = size | two's complement, big endian, the shortest
    reference = 16 octets                               fingerprint of a local type

The same limits hold for writing and reading, so what is too large is refused where it comes from.
"""

import math
import struct
from collections.abc import Callable
from typing import Any

from mpyc.numpy import np

from didmpc.agent.program import elements
from didmpc.protocols.errors import LocalMisuse, RemoteViolation

MAGIC = b"V\x01"
MAX_DEPTH = 32
MAX_ITEMS = 4_000_000
BULKY = 4  # so many items as one that Python needs much more memory for than for a number or a string
MAX_OCTETS = 512 * 1024 * 1024
MAX_INTEGER = 128 * 1024  # octets: larger than any share, and quadratic operations on it stay harmless
MAX_DIMENSIONS = 32

_SIZE = struct.Struct(">I")
_FLOAT = struct.Struct(">d")
_COMPLEX = struct.Struct(">dd")
_DTYPES = frozenset("|b1 |i1 <i2 <i4 <i8 |u1 <u2 <u4 <u8 <f2 <f4 <f8 <c8 <c16".split())
_PICKLE = 0x80  # first octet of any pickle of protocol 2 or later


class CodecError(RemoteViolation):
    """Bytes of a peer that are no value. `payload` is what it sent."""

    code = "e.p.mpc.value"
    payload: bytes = b""


class UnsupportedValue(LocalMisuse):
    """A value of the program's that cannot be sent."""


# -- writing -----------------------------------------------------------------------------------------------


def dumps(value: object) -> bytes:
    """The bytes of `value`. Raises UnsupportedValue for what cannot be sent."""
    writer = _Writer()
    writer.item(value, 0)
    return b"".join(writer.parts)


class _Writer:
    def __init__(self) -> None:
        self.parts: list[bytes] = [MAGIC]
        self._items = 0
        self._octets = 0

    def put(self, *parts: bytes) -> None:
        self._octets += sum(map(len, parts))
        if self._octets > MAX_OCTETS:
            raise UnsupportedValue(f"A value of more than {MAX_OCTETS:,} bytes cannot be sent at once.")
        self.parts += parts

    def count(self, items: int) -> None:
        self._items += items
        if self._items > MAX_ITEMS:
            raise UnsupportedValue(
                f"A value of more than {MAX_ITEMS:,} items cannot be sent at once.", fix="Use a numpy array."
            )

    def octets(self, tag: bytes, data: bytes) -> None:
        self.put(tag, _size(len(data)), data)

    def item(self, value: Any, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise UnsupportedValue(f"A value nested more than {MAX_DEPTH} deep cannot be sent.")
        self.count(1 if type(value) in _SLIGHT else BULKY)
        write = _WRITERS.get(type(value))
        if write is not None:
            write(self, value, depth)
        elif np and isinstance(value, np.ndarray) and type(value) is np.ndarray:
            self._array(value)
        elif np and isinstance(value, np.generic):
            self._numpy(b"g", np.asarray(value))
        elif (kind := elements.kind_of(value)) is not None:
            self.put(b"m", elements.fingerprint(type(value)))
            try:
                parts = kind.take_apart(value)
            except elements.NotReady as error:
                raise UnsupportedValue(str(error)) from None
            self.item(parts, depth + 1)
        else:
            raise _unsupported(value)

    def integer(self, value: int) -> None:
        size = (value.bit_length() >> 3) + 1  # one bit is the sign
        if size > MAX_INTEGER:
            raise UnsupportedValue(f"A number of more than {MAX_INTEGER:,} bytes cannot be sent.")
        self.put(_size(size), value.to_bytes(size, "big", signed=True))

    def _array(self, array: Any) -> None:
        if array.dtype != object:
            self._numpy(b"a", array)
            return
        self.put(b"o")
        self._shape(array)
        self.count(array.size)
        for value in array.flat:
            if type(value) is not int:
                raise _unsupported(value, "in an array of dtype object, which may hold int only")
            self.integer(value)

    def _numpy(self, tag: bytes, array: Any) -> None:
        little = array.dtype.newbyteorder("<")
        if little.str not in _DTYPES:
            raise _unsupported(array, f"with dtype {array.dtype}")
        self.put(tag)
        name = little.str.encode()
        self.put(bytes((len(name),)), name)
        self._shape(array)
        self.put(np.ascontiguousarray(array, dtype=little).tobytes())

    def _shape(self, array: Any) -> None:
        if array.ndim > MAX_DIMENSIONS or any(n >= 1 << 32 for n in array.shape):
            raise _unsupported(array, f"of shape {array.shape}")
        self.put(bytes((array.ndim,)), *map(_size, array.shape))


def _size(number: int) -> bytes:
    if number >= 1 << 32:
        raise UnsupportedValue("A value of more than 4 GiB cannot be sent at once.")
    return _SIZE.pack(number)


def _unsupported(value: object, detail: str = "") -> UnsupportedValue:
    return UnsupportedValue(
        f"A value of type {type(value).__module__}.{type(value).__qualname__} {detail}".rstrip()
        + " cannot be sent.",
        why="Only plain values and containers, numpy arrays of numbers, and MPyC's fields and groups travel.",
        fix="Send its parts as numbers, strings, lists or tuples.",
    )


def _write_int(writer: _Writer, value: int, _depth: int) -> None:
    writer.put(b"i")
    writer.integer(value)


def _write_str(writer: _Writer, value: str, _depth: int) -> None:
    writer.octets(b"s", value.encode("utf-8", "surrogatepass"))


def _write_items(tag: bytes) -> Callable[[_Writer, Any, int], None]:
    def write(writer: _Writer, value: Any, depth: int) -> None:
        writer.put(tag, _size(len(value)))
        for each in value:
            writer.item(each, depth + 1)

    return write


def _write_dict(writer: _Writer, value: dict[Any, Any], depth: int) -> None:
    writer.put(b"d", _size(len(value)))
    for key, each in value.items():
        writer.item(key, depth + 1)
        writer.item(each, depth + 1)


def _write_range(writer: _Writer, value: range, _depth: int) -> None:
    writer.put(b"r")
    for each in (value.start, value.stop, value.step):
        writer.integer(each)


_SLIGHT = frozenset((type(None), bool, int, float, complex, str, bytes, list, tuple))
_WRITERS: dict[type, Callable[[_Writer, Any, int], None]] = {
    type(None): lambda writer, _value, _depth: writer.put(b"N"),
    bool: lambda writer, value, _depth: writer.put(b"T" if value else b"F"),
    int: _write_int,
    float: lambda writer, value, _depth: writer.put(b"f", _FLOAT.pack(value)),
    complex: lambda writer, value, _depth: writer.put(b"c", _COMPLEX.pack(value.real, value.imag)),
    str: _write_str,
    bytes: lambda writer, value, _depth: writer.octets(b"b", value),
    bytearray: lambda writer, value, _depth: writer.octets(b"B", bytes(value)),
    list: _write_items(b"l"),
    tuple: _write_items(b"t"),
    range: _write_range,
    set: _write_items(b"S"),
    frozenset: _write_items(b"Z"),
    dict: _write_dict,
}


# -- reading -----------------------------------------------------------------------------------------------


def loads(data: bytes) -> Any:
    """The value that a peer sent. Raises CodecError, and nothing else, whatever the bytes are."""
    try:
        return _Reader(data).value()
    except CodecError as error:
        error.payload = data
        raise


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0
        self._items = 0

    def value(self) -> Any:
        if len(self._data) > MAX_OCTETS + len(MAGIC):
            raise CodecError(f"A value of {len(self._data):,} bytes is too large.")
        if self._data[:1] == bytes((_PICKLE,)):
            raise CodecError("It is a pickle, which could run code here.")
        if self.take(len(MAGIC)) != MAGIC:
            raise CodecError("It does not begin as a value does.")
        value = self.item(0)
        if self._position != len(self._data):
            raise CodecError("Something follows the value.")
        return value

    @property
    def left(self) -> int:
        """How many octets are not read yet."""
        return len(self._data) - self._position

    def take(self, size: int) -> bytes:
        stop = self._position + size
        if stop > len(self._data):
            raise CodecError("The value is cut off.")
        part = self._data[self._position : stop]
        self._position = stop
        return part

    def size(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def count(self, items: int) -> None:
        """Refuse items beyond the limit before anything is made of them."""
        self._items += items
        if self._items > MAX_ITEMS:
            raise CodecError("The value has too many items.")

    def item(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise CodecError("The value is nested too deeply.")
        tag = self.take(1)
        self.count(1 if tag in _SLIGHT_TAGS else BULKY)
        read = _READERS.get(tag)
        if read is None:
            raise CodecError(f"The value has an unknown tag {tag.hex()}.")
        return read(self, depth)

    def integer(self) -> int:
        size = self.size()
        if not 1 <= size <= MAX_INTEGER:
            raise CodecError("A number is too large.")
        value = int.from_bytes(self.take(size), "big", signed=True)
        if (value.bit_length() >> 3) + 1 != size:
            raise CodecError("A number is not in its shortest form.")
        return value

    def items(self, depth: int) -> list[Any]:
        count = self.size()
        if count > self.left:  # each takes an octet at least
            raise CodecError("The value is cut off.")
        return [self.item(depth + 1) for _ in range(count)]

    def shape(self) -> tuple[int, ...]:
        dimensions = self.take(1)[0]
        if dimensions > MAX_DIMENSIONS:
            raise CodecError("An array has too many dimensions.")
        return tuple(self.size() for _ in range(dimensions))


def _read_range(reader: _Reader, _depth: int) -> range:
    start, stop, step = (reader.integer() for _ in range(3))
    if step == 0:
        raise CodecError("A range has no step.")
    return range(start, stop, step)


def _read_str(reader: _Reader, _depth: int) -> str:
    try:
        return reader.take(reader.size()).decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise CodecError("A string is not UTF-8.") from None


def _read_set(kind: type) -> Callable[[_Reader, int], Any]:
    def read(reader: _Reader, depth: int) -> Any:
        items = reader.items(depth)
        try:
            value = kind(items)
        except TypeError:
            raise CodecError("A set holds what cannot be in a set.") from None
        if len(value) != len(items):
            raise CodecError("A set holds an item twice.")
        return value

    return read


def _read_dict(reader: _Reader, depth: int) -> dict[Any, Any]:
    value: dict[Any, Any] = {}
    count = reader.size()
    for _ in range(count):
        key = reader.item(depth + 1)
        try:
            known = key in value
        except TypeError:
            raise CodecError("A dict has a key that cannot be one.") from None
        if known:
            raise CodecError("A dict has a key twice.")
        value[key] = reader.item(depth + 1)
    return value


def _read_numpy(reader: _Reader, _depth: int) -> Any:
    name = reader.take(reader.take(1)[0]).decode("ascii", "replace")
    if not np or name not in _DTYPES:
        raise CodecError(
            "An array has a type that we do not know." if np else "An array came, but numpy is missing."
        )
    dtype = np.dtype(name)
    shape = reader.shape()
    data = reader.take(math.prod(shape) * dtype.itemsize)
    if name == "|b1" and data.strip(b"\0\1"):
        raise CodecError("An array of bool holds something else.")
    return _reshaped(np.frombuffer(data, dtype=dtype).copy(), shape)


def _read_scalar(reader: _Reader, depth: int) -> Any:
    array = _read_numpy(reader, depth)
    if array.shape != ():
        raise CodecError("A numpy number has dimensions.")
    return array[()]


def _read_object_array(reader: _Reader, _depth: int) -> Any:
    if not np:
        raise CodecError("An array came, but numpy is missing.")
    shape = reader.shape()
    count = math.prod(shape)
    reader.count(count)
    if count > reader.left:  # each takes an octet at least
        raise CodecError("The value is cut off.")
    array = np.empty(count, dtype=object)
    for position in range(count):
        array[position] = reader.integer()
    return _reshaped(array, shape)


def _reshaped(array: Any, shape: tuple[int, ...]) -> Any:
    try:
        return array.reshape(shape)
    except (ValueError, OverflowError):  # nothing along one dimension, and beyond all bounds along others
        raise CodecError("An array has an impossible shape.") from None


def _read_element(reader: _Reader, depth: int) -> Any:
    local = elements.find(reader.take(elements.FINGERPRINT))
    if local is None:
        raise CodecError("It is of a field or group that this program has not created.")
    kind, cls = local
    parts = reader.item(depth + 1)
    try:
        return kind.put_together(cls, parts)
    except elements.NotAnElement as error:
        raise CodecError(f"It is no element of {cls.__name__[:80]}.", why=str(error)) from None


_SLIGHT_TAGS = frozenset(b"NTFifcsblt"[i : i + 1] for i in range(10))
_READERS: dict[bytes, Callable[[_Reader, int], Any]] = {
    b"N": lambda _reader, _depth: None,
    b"T": lambda _reader, _depth: True,
    b"F": lambda _reader, _depth: False,
    b"i": lambda reader, _depth: reader.integer(),
    b"f": lambda reader, _depth: _FLOAT.unpack(reader.take(8))[0],
    b"c": lambda reader, _depth: complex(*_COMPLEX.unpack(reader.take(16))),
    b"s": _read_str,
    b"b": lambda reader, _depth: reader.take(reader.size()),
    b"B": lambda reader, _depth: bytearray(reader.take(reader.size())),
    b"l": lambda reader, depth: reader.items(depth),
    b"t": lambda reader, depth: tuple(reader.items(depth)),
    b"r": _read_range,
    b"S": _read_set(set),
    b"Z": _read_set(frozenset),
    b"d": _read_dict,
    b"a": _read_numpy,
    b"g": _read_scalar,
    b"o": _read_object_array,
    b"m": _read_element,
}
