"""The program's way to the guests: parts of a packed bundle, asked for by content hash."""

from collections.abc import Mapping
from typing import Any

from didmpc.agent.program.bundle import Bundle
from didmpc.protocols.errors import MessageError
from didmpc.protocols.message import Attachment, Message
from didmpc.protocols.mpc.differences import program_differences
from didmpc.protocols.mpc.messages import BUNDLE, BUNDLE_PART, MAX_BUNDLE_PARTS, number, text


def parts(bundle: Bundle, attempt: str) -> list[Message]:
    """The messages that carry `bundle`."""
    blob = bundle.pack()
    pieces = [blob[start : start + BUNDLE_PART] for start in range(0, len(blob), BUNDLE_PART)]
    return [
        Message(
            type=BUNDLE,
            pthid=attempt,
            body={"sha256": bundle.sha256, "index": index, "count": len(pieces)},
            attachments=(Attachment(id="0", data_base64=piece, media_type="application/octet-stream"),),
        )
        for index, piece in enumerate(pieces)
    ]


class Assembly:
    """Collects the parts of the one bundle that was asked for; order and repetition do not matter."""

    def __init__(self, program: Mapping[str, Any]) -> None:
        self._program = program
        self._count: int | None = None
        self._parts: dict[int, bytes] = {}

    def take(self, message: Message) -> Bundle | None:
        """Take one part; returns the bundle once it is complete and its hash is right."""
        count = number(message.body, "count", 1, MAX_BUNDLE_PARTS)
        index = number(message.body, "index", 0, count - 1)
        data = message.attachments[0].data_base64 if len(message.attachments) == 1 else None
        if (
            text(message.body, "sha256", 64) != self._program["sha256"]
            or data is None
            or len(data) > BUNDLE_PART
            or self._count not in (None, count)
        ):
            raise MessageError("This is not a part of the program that was asked for.")
        self._count = count
        self._parts[index] = data
        if len(self._parts) < count:
            return None
        blob = b"".join(self._parts[i] for i in range(count))
        bundle = Bundle.unpack(blob, self._program["sha256"])
        check_described(bundle, self._program)
        return bundle


def check_described(bundle: Bundle, program: Mapping[str, Any]) -> None:
    """Raise `MessageError` unless the bundle is in every word what a person was shown of it."""
    found = program_differences(program, bundle.describe(), "in the proposal", "in truth")
    if found:
        raise MessageError("The program is not what its description says.", why=f"{'; '.join(found)}.")
