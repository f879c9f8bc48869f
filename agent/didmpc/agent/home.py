"""Where an agent keeps its things: one folder, readable by its owner only.

The folder is named by a flag, else by `DIDMPC_HOME`, else by the conventions of the platform.
Folders are 0700 and files 0600; a folder that others can read is put right when the agent starts.
"""

import contextlib
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from didmpc.protocols.errors import LocalMisuse

VARIABLE = "DIDMPC_HOME"
PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


@dataclass(frozen=True, slots=True)
class Home:
    """The paths of one agent."""

    root: Path

    @classmethod
    def locate(cls, path: Path | None = None) -> "Home":
        """The home that a flag, the environment or the platform names, in this order."""
        if path is None:
            named = os.environ.get(VARIABLE)
            path = Path(named) if named else _platform_default()
        return cls(Path(os.path.abspath(path.expanduser())))

    @property
    def wallet(self) -> Path:
        return self.root / "wallet.json"

    @property
    def key_file(self) -> Path:
        return self.root / "wallet.key"

    @property
    def socket(self) -> Path:
        return self.root / "agent.sock"

    @property
    def lock(self) -> Path:
        return self.root / "agent.lock"

    @property
    def log(self) -> Path:
        return self.root / "agent.log"

    @property
    def mediator(self) -> Path:
        """The home of the embedded mediator."""
        return self.root / "mediator"

    @property
    def sessions(self) -> Path:
        return self.root / "sessions"

    def prepare(self) -> None:
        """Make the folder, for its owner only."""
        try:
            self.root.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
            if stat.S_IMODE(self.root.stat().st_mode) != PRIVATE_FOLDER:
                self.root.chmod(PRIVATE_FOLDER)
            probe = os.access(self.root, os.W_OK | os.X_OK)
        except OSError as problem:
            raise _unusable(self.root, problem.strerror or str(problem)) from problem
        if not probe:
            raise _unusable(self.root, "it cannot be written")


def write_private(path: Path, data: bytes) -> None:
    """Replace a file at once and durably (a crash leaves the old or the new one, never a part), 0600."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable: POSIX promises it only after the folder itself was synced."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _platform_default() -> Path:
    import platformdirs  # noqa: PLC0415  (not needed where a home is named)

    return Path(platformdirs.user_data_dir("didmpc", appauthor=False))


def _unusable(root: Path, why: str) -> LocalMisuse:
    return LocalMisuse(
        f"The agent's home {root} cannot be used.",
        why=f"{why[:1].upper()}{why[1:]}.",
        fix=f"Name a folder of yours with --home DIR or {VARIABLE}.",
    )
