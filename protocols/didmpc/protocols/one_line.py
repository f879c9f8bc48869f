"""Log records that stay on their line.

What peers wrote stands in some messages and exceptions: it must not forge lines or steer a terminal.
"""

import logging


class OneLine(logging.Formatter):
    """Escapes line ends and whatever else does not print, in the message and in a traceback alike."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
