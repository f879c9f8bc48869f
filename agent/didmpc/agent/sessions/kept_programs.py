"""The programs of sessions that ran, one packed file each by content hash, as long as a session names them.

So it can still be read what a session ran. A file that was changed is not believed: its hash is its name.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection
from pathlib import Path

from didmpc.agent.program.bundle import Bundle
from didmpc.local.private_files import make_private_folder, write_private
from didmpc.protocols.errors import MessageError

logger = logging.getLogger(__name__)

MOST = 256 << 20
"""Bytes of all files together; beyond it the programs that ran longest ago go."""


class KeptPrograms:
    """The folder of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._keeping = asyncio.Lock()

    async def keep(self, bundle: Bundle, named: Callable[[], Collection[str]]) -> None:
        """Keep a program, and of the others those whose hashes are `named`, as far as there is room."""
        try:
            async with self._keeping:
                await asyncio.to_thread(self._keep, bundle, named())
        except OSError as error:  # a full disk: what runs is more than what ran
            logger.warning("the program of a session cannot be kept: %s", error.strerror)

    def find(self, sha256: str) -> Bundle | None:
        """A program by its hash; None where it is not kept, or is not what it was."""
        try:
            return Bundle.unpack((self._folder / sha256).read_bytes(), sha256)
        except (OSError, MessageError):
            return None

    def _keep(self, bundle: Bundle, named: Collection[str]) -> None:
        make_private_folder(self._folder)
        path = self._folder / bundle.sha256
        if path.is_file():
            path.touch()
        else:
            write_private(path, bundle.pack())
        room = MOST
        for kept in sorted(self._folder.iterdir(), key=lambda each: -each.stat().st_mtime):
            room -= kept.stat().st_size
            if (room < 0 or kept.name not in named) and kept != path:
                with contextlib.suppress(OSError):
                    kept.unlink()
