"""Section 8: the frames of a plaintext, and padding."""

import math

from .reading import Refused, object_of

VIOLATION = "e.p.session.frame"


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, size):
        piece = self.data[self.at : self.at + size]
        if len(piece) < size:
            raise Refused(VIOLATION)
        self.at += size
        return piece

    def number(self, size):
        return int.from_bytes(self.take(size), "big")

    def object(self):
        length = self.number(2)
        if length > 4096:
            raise Refused(VIOLATION)
        return object_of(self.take(length), VIOLATION)


def read(plaintext):
    """The frames, as the vectors write them."""
    reader, frames = Reader(plaintext), []
    while reader.at < len(plaintext):
        kind = reader.number(1)
        if kind == 0:
            break
        frame = one(kind, reader)
        if frame["type"] not in ("RECORD", "READY") and frame["type"] in [item["type"] for item in frames]:
            raise Refused(VIOLATION)
        frames.append(frame)
    return frames


def one(kind, reader):
    match kind:
        case 1:
            number, start, length = reader.number(8), reader.number(4), reader.number(4)
            if length > 262_127:
                raise Refused(VIOLATION)
            return {
                "type": "RECORD",
                "number": str(number),
                "start": start,
                "data": reader.take(length).hex(),
            }
        case 2:
            return {"type": "READY"}
        case 3:
            return acknowledgement(reader)
        case 4 | 5:
            name = "PING" if kind == 4 else "PONG"
            return {"type": name, "id": reader.number(4), "state": reader.object()}
        case 6:
            return {"type": "CLOSE", "records": str(reader.number(8))}
        case 7:
            return {"type": "ABORT", "cause": reader.object()}
        case 8:
            count = reader.number(2)
            if count not in (16, 64, 256, 1024):
                raise Refused(VIOLATION)
            return {"type": "CONTACT", "proofs": [reader.take(32).hex() for _ in range(count)]}
    raise Refused(VIOLATION)


def acknowledgement(reader):
    flags, packet, following, count = reader.number(1), reader.number(8), reader.number(8), reader.number(1)
    if flags > 3 or count > 32:
        raise Refused(VIOLATION)
    ranges, last = [], following
    for _ in range(count):
        first, end = reader.number(8), reader.number(8)
        if not last < first < end:
            raise Refused(VIOLATION)
        ranges.append([str(first), str(end)])
        last = end
    return {
        "type": "ACK",
        "closed": flags & 1 == 1,
        "contacts": flags & 2 == 2,
        "packet": str(packet),
        "next": str(following),
        "ranges": ranges,
    }


def padded(length):
    if length < 1024:
        multiple = 64
    else:
        exponent = math.floor(math.log2(length))
        multiple = 2 ** (exponent - math.floor(math.log2(exponent)) - 1)
    return math.ceil(length / multiple) * multiple
