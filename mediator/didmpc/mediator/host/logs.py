"""Log records: text or JSON, one line each, with no DID in them.

Accounts are named by a keyed hash of their DID: whoever has only the logs cannot tell whose they are, and
the operator, who has the key, can (`didmpc mediator accounts` shows the same names). The hash is put in where
the record is written, so that no message anywhere can bring a DID into the log.
"""

import hashlib
import hmac
import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

from didmpc.protocols.did import canonical
from didmpc.protocols.errors import DidmpcError
from didmpc.protocols.one_line import OneLine

KEY_SIZE = 32
NAME_BYTES = 6
NAME = re.compile(rf"account-[0-9a-f]{{{2 * NAME_BYTES}}}")
FIELDS = ("account", "type", "code")
"""What a record may carry beside its text (`extra=`), for the JSON form."""

LONGEST_FIELD = 8192

_DID = re.compile(r"did:[a-z0-9]+:[A-Za-z0-9._:%-]*[A-Za-z0-9_-]")
_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Names:
    """Names of accounts for the logs of one mediator."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "Names()"

    def of(self, did: str) -> str:
        """Always the same for one party, in whichever form its DID is written."""
        try:
            party = canonical(did)
        except DidmpcError:
            party = did
        digest = hmac.digest(self._key, party.encode(), hashlib.sha256)
        return f"account-{digest[:NAME_BYTES].hex()}"

    def hide(self, text: str) -> str:
        """The text with every DID in it replaced by its name."""
        return _DID.sub(lambda found: self.of(found[0]), text) if "did:" in text else text


class TextLines(OneLine):
    def __init__(self, names: Names) -> None:
        super().__init__(_TEXT)
        self._names = names

    def format(self, record: logging.LogRecord) -> str:
        return self._names.hide(super().format(record))


class JsonLines(logging.Formatter):
    """One object per line: at (UTC), level, logger, message; where they are known account, type, code ..."""

    def __init__(self, names: Names) -> None:
        super().__init__()
        self._names = names

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {
            name: str(value)[:LONGEST_FIELD]
            for name in FIELDS
            if (value := getattr(record, name, None)) is not None
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps({name: self._names.hide(value) for name, value in line.items()})


def start(names: Names, *, level: str, form: str, stream: TextIO | None = None) -> None:
    """Write the logs of this process, on stderr."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines(names) if form == "json" else TextLines(names))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
