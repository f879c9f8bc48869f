"""`didmpc mediator unit`: a systemd service that reaches its home and the network, and little else."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from didmpc.protocols.errors import LocalMisuse

STATE = PurePosixPath("/var/lib")
DEFAULT_NAME = "didmpc-mediator"
DEFAULT_HOME = STATE / DEFAULT_NAME
PRIVILEGED_PORTS = 1024
HIDDEN = tuple(PurePosixPath(each) for each in ("/home", "/root", "/run/user", "/tmp", "/var/tmp"))  # noqa: S108
"""What the unit does not see."""

_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,200}")
"""Of a unit, and more than is needed of it (systemd.unit(5))."""
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")


@dataclass(frozen=True, slots=True)
class Unit:
    """How it is to run. Raises `LocalMisuse` where that cannot be."""

    executable: Path
    home: PurePosixPath = DEFAULT_HOME
    user: str = ""
    """Nobody's: a user that systemd makes for it."""
    port: int | None = None
    public_url: str = ""
    needs: tuple[Path, ...] = ()
    """What it takes to run the executable, beside it."""

    def __post_init__(self) -> None:
        for what in (str(self.executable), str(self.home), self.user, self.public_url):
            if not what.isprintable():
                raise LocalMisuse(
                    f"{what[:80]!r} cannot stand in a unit.", why="It holds control characters."
                )
        if self.user and not _USER.fullmatch(self.user):
            raise LocalMisuse(f"{self.user[:80]!r} is no name of a user.", fix="Such as --user didmpc")
        if not self.home.is_absolute() or ".." in self.home.parts:
            raise LocalMisuse(
                f"The home of a service must be a whole path, not {self.home}.", fix=f"Such as {DEFAULT_HOME}"
            )
        if _hidden(self.home):
            raise LocalMisuse(
                f"A service is not to have its home in {self.home}.",
                why=f"The unit hides {', '.join(map(str, HIDDEN))} from it.",
                fix=f"Take another with --home, such as {DEFAULT_HOME}",
            )
        if not self.user and self._state is None:
            raise LocalMisuse(
                f"A home in {self.home} needs a user who owns it.",
                why=f"Without --user systemd makes one, whose home is a folder directly in {STATE}.",
                fix=f"Add --user NAME, or take --home {DEFAULT_HOME}",
            )

    @property
    def warnings(self) -> list[str]:
        """What keeps the unit from working, as things are."""
        unseen = [each for each in (self.executable, *self.needs) if _hidden(PurePosixPath(each))]
        if not unseen:
            return []
        return [
            f"It will not start: the unit hides {unseen[0]} from it. Install where all users can read:",
            "  PIPX_HOME=/opt/pipx PIPX_BIN_DIR=/usr/local/bin pipx install --python /usr/bin/python3 ...",
        ]

    @property
    def _state(self) -> str | None:
        """The name of a home that systemd makes."""
        return self.home.name if self.home.parent == STATE else None

    @property
    def name(self) -> str:
        return self._state if self._state and _NAME.fullmatch(self._state) else DEFAULT_NAME

    @property
    def text(self) -> str:
        command = [str(self.executable), "mediator", "start", "--home", str(self.home)]
        if self.port is not None:
            command += ["--port", str(self.port)]
        if self.public_url:
            command += ["--public-url", self.public_url]
        if self._state is not None:
            place = f"StateDirectory={_plain(self._state)}\nStateDirectoryMode=0700"
        else:
            place = f"ReadWritePaths={_quoted(str(self.home))}"
        if self.port is not None and 0 < self.port < PRIVILEGED_PORTS:
            rights = "CapabilityBoundingSet=CAP_NET_BIND_SERVICE\nAmbientCapabilities=CAP_NET_BIND_SERVICE"
        else:
            rights = "CapabilityBoundingSet=\nAmbientCapabilities=\nPrivateUsers=yes"
        return _UNIT.format(
            name=self.name,
            environment=self.name,
            command=" ".join(map(_quoted, command)),
            user=f"User={self.user}" if self.user else "DynamicUser=yes",
            place=place,
            rights=rights,
        )


def installed() -> tuple[Path, tuple[Path, ...]]:
    """The `didmpc` that this is, by the name that stays when it is upgraded; and what it takes to run it."""
    found = sys.argv[0] if Path(sys.argv[0]).name == "didmpc" else shutil.which("didmpc") or sys.argv[0]
    executable = Path(os.path.abspath(found))
    return executable, (executable.resolve(), Path(sys.prefix), Path(sys.base_prefix))


def checked(unit: Unit) -> str:
    """How exposed systemd-analyze finds it. Raises `LocalMisuse` for what is wrong with it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{unit.name}.service"
        file.write_text(unit.text)
        try:
            verified = _analyze("verify", str(file))
            exposure = _analyze("security", "--offline=true", "--no-pager", str(file))
        except OSError as problem:
            raise LocalMisuse(
                "The unit cannot be checked here.",
                why=f"systemd-analyze: {problem.strerror}.",
                fix="Check it where it is to run.",
            ) from None
    if verified.returncode != 0 or verified.stderr.strip():
        found = verified.stderr.strip().replace(str(file), file.name)
        raise LocalMisuse("systemd finds fault with the unit.", why=found, fix="Correct what it names.")
    return exposure.stdout.strip().rpartition("\n")[2].lstrip("\u2192 ")


def _analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0", "SYSTEMD_EMOJI": "0"},
    )


def _hidden(path: PurePosixPath) -> bool:
    return any(path == each or each in path.parents for each in HIDDEN)


def _plain(text: str) -> str:
    return text.replace("%", "%%").replace(" ", "\\x20")


def _quoted(text: str) -> str:
    """One word of a command line (systemd.service(5), "Command Lines")."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return escaped if escaped and escaped == text and " " not in text and "'" not in text else f'"{escaped}"'


_UNIT = """\
# Written by: didmpc mediator unit
#   didmpc mediator unit > /etc/systemd/system/{name}.service
#   systemctl daemon-reload && systemctl enable --now {name}
# How much of the machine it can reach: systemd-analyze security {name}
# Settings as DIDMPC_MEDIATOR_..., and PGPASSWORD where mail is in PostgreSQL: /etc/{name}.env (0600)

[Unit]
Description=didmpc mediator (DIDComm)
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
EnvironmentFile=-/etc/{environment}.env
ExecStart={command}
Restart=always
RestartSec=2
TimeoutStartSec=60
TimeoutStopSec=30
WatchdogSec=60

{user}
{place}
UMask=0077
LimitNOFILE=65536
LimitCORE=0
OOMScoreAdjust=-200

{rights}
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
ProtectProc=invisible
ProcSubset=pid
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RemoveIPC=yes
KeyringMode=private
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""
