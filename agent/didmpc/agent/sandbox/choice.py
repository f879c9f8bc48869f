"""Which sandbox works on this machine: each is tried for real, the better one first."""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from didmpc.agent.sandbox import bubblewrap, landlock, privileges, readable, syscalls
from didmpc.agent.sandbox.policy import Limits, Mechanism, Policy
from didmpc.agent.sandbox.start import start

PATIENCE = 20.0
INSTALL = "Install bubblewrap (Debian, Ubuntu: apt install bubblewrap; Fedora: dnf install bubblewrap)."

APART = "Give programs that you do not know a user, a container or a machine of their own."


@dataclass(frozen=True, slots=True)
class Choice:
    """What there is, why nothing better, and how to get that."""

    mechanism: Mechanism
    why: str = ""
    fix: str = ""

    def __bool__(self) -> bool:
        return self.mechanism is not Mechanism.NONE

    def report(self) -> tuple[bool, str, str]:
        """For `didmpc doctor`: whether all is well, what there is, and what to do otherwise."""
        if not self:
            return False, f"none: programs would run as you. {self.why}", self.fix
        better = f" {self.why} {self.fix}" if self.fix else ""
        return True, f"{self.mechanism}: programs have no network and none of your files.{better}", ""


def choose(home: Path) -> Choice:
    """The best that works for programs of an agent with this home. Starts a process or two."""
    if sys.platform != "linux" or not syscalls.supported():
        return Choice(Mechanism.NONE, "There is a sandbox on Linux with x86-64 or aarch64 only.", APART)
    if why := readable.exposed(readable.interpreter(), home):
        return Choice(Mechanism.NONE, why, "Install didmpc into a virtual environment of its own.")
    problem = problem_of(Mechanism.BUBBLEWRAP)
    if not problem:
        return Choice(Mechanism.BUBBLEWRAP)
    fix = INSTALL if bubblewrap.installed() is None else "Allow user namespaces (man 7 user_namespaces)."
    worse = problem_of(Mechanism.LANDLOCK)
    if not worse:
        return Choice(Mechanism.LANDLOCK, problem, fix)
    return Choice(Mechanism.NONE, f"{problem} {worse}", fix)


def problem_of(mechanism: Mechanism) -> str:
    """Why it does not work; nothing where it does."""
    if mechanism is Mechanism.BUBBLEWRAP and bubblewrap.installed() is None:
        return "bubblewrap is not installed."
    if mechanism is Mechanism.LANDLOCK and (version := landlock.abi()) < landlock.LEAST:
        return f"Landlock needs Linux 6.2 or newer (its version {landlock.LEAST}; here: {version})."
    return attempt(mechanism)


def attempt(mechanism: Mechanism) -> str:
    """Lock a process in, and have it find out; why that failed, or nothing."""
    with tempfile.TemporaryDirectory(prefix="didmpc-sandbox-") as folder:
        root = Path(folder)
        secret, bundle, output = root / "secret", root / "bundle", root / "output"
        secret.write_text("not to be seen")
        for made in (bundle, output):
            made.mkdir()
        try:
            with start(
                policy_for(mechanism, bundle, output),
                "didmpc.agent.sandbox.trial",
                [str(secret)],
                environment=os.environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            ) as trial:
                try:
                    _, words = trial.communicate(timeout=PATIENCE)
                finally:
                    trial.kill()
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{mechanism} does not work here: {error}."
    if trial.returncode == 0:
        return ""
    lines = words.decode(errors="replace").strip().splitlines() or ["it ended without a word"]
    return f"{mechanism} does not work here: {lines[-1][:200]}"


def policy_for(mechanism: Mechanism, bundle: Path, output: Path, limits: Limits | None = None) -> Policy:
    """What a program of this bundle may do; `output` is its own folder."""
    return Policy(
        mechanism=mechanism,
        bundle=bundle.resolve(),
        output=output.resolve(),
        read=readable.interpreter(),
        uid=privileges.throwaway_uid(os.getpid()),
        limits=limits or Limits(),
    )
