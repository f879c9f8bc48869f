"""Files and folders for their owner only: folders 0700, files 0600, replaced whole or not at all."""

import contextlib
import os
import secrets
import stat
from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


def make_private_folder(path: Path) -> None:
    """Make a folder, or put the mode of an existing one right. Raises OSError where it cannot be written."""
    path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    if stat.S_IMODE(path.stat().st_mode) != PRIVATE_FOLDER:
        path.chmod(PRIVATE_FOLDER)
    if not os.access(path, os.W_OK | os.X_OK):
        raise PermissionError(None, "it cannot be written")


def give_to_owner(file: int, folder: Path) -> None:
    """Where root works in somebody else's folder, let the open `file` belong to whoever owns that.

    A service could not read its own home any more after a command that its operator gave as root. Where
    root may not do that (in some containers), the file stays root's.
    """
    owner, now = folder.stat(), os.fstat(file)
    if os.geteuid() == 0 and (owner.st_uid, owner.st_gid) != (now.st_uid, now.st_gid):
        with contextlib.suppress(OSError):
            os.fchown(file, owner.st_uid, owner.st_gid)


def write_private(path: Path, data: bytes) -> None:
    """Replace a file at once and durably: a crash leaves the old or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            give_to_owner(descriptor, path.parent)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make a rename in it durable: POSIX promises that only after the folder itself was synced."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
