"""Where an agent keeps its things: one folder, readable by its owner only.

The folder is named by a flag, else by `DIDMPC_HOME`, else by the conventions of the platform.
Folders are 0700 and files 0600; a folder that others can read is put right when the agent starts.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from didmpc.local.private_files import make_private_folder
from didmpc.protocols.errors import LocalMisuse

VARIABLE = "DIDMPC_HOME"


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
            make_private_folder(self.root)
        except OSError as problem:
            raise _unusable(self.root, problem.strerror or str(problem)) from problem


def _platform_default() -> Path:
    import platformdirs  # noqa: PLC0415  (not needed where a home is named)

    return Path(platformdirs.user_data_dir("didmpc", appauthor=False))


def _unusable(root: Path, why: str) -> LocalMisuse:
    return LocalMisuse(
        f"The agent's home {root} cannot be used.",
        why=f"{why[:1].upper()}{why[1:]}.",
        fix=f"Name a folder of yours with --home DIR or {VARIABLE}.",
    )
