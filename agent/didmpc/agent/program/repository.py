"""A program from a git repository at a commit, fetched so that nothing of the repository runs here.

    git+https://example.org/demos.git@<40 or 64 hexadecimal digits>#programs/salary.py

Objects only are fetched, into an empty repository that is thrown away: there is no checkout, so no filters
and no hooks; no submodules, no configuration but ours, no questions for passwords; https, ssh and file alone.
git checks that the objects are those that the hash names.
"""

import asyncio
import contextlib
import os
import re
import signal
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from didmpc.agent.program.bundle import LIMITS, Bundle
from didmpc.protocols.errors import DidmpcError, LocalMisuse, MessageError
from didmpc.protocols.mpc.proposal import check_repository

PREFIX = "git+"
FETCH_WITHIN = 120.0
READ_WITHIN = 30.0
MOST_FETCHED = 256 * 1024 * 1024
LOOK_EVERY = 0.2
MOST_SAID = 65_536
WITHHELD = ("not our ref", "unadvertised", "couldn't find remote ref")
FILE, EXECUTABLE = "100644", "100755"

_PLACE = re.compile(r"(?P<url>.+)@(?P<commit>[^@#]*)#(?P<path>.+)")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a program is: a repository, the full hash of a commit, and the program's path in it."""

    repository: str
    commit: str
    path: str

    @classmethod
    def parse(cls, typed: str) -> "Place":
        """Read `git+URL@COMMIT#PATH`. Raises `LocalMisuse`."""
        found = _PLACE.fullmatch(typed.removeprefix(PREFIX))
        if found is None:
            raise LocalMisuse(
                "This does not name a program in a git repository.",
                why="It has a repository, a commit and a path.",
                fix="didmpc run git+https://example.org/demos.git@COMMIT#programs/salary.py",
            )
        place = cls(found["url"], found["commit"].lower(), found["path"])
        if not re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", place.commit, re.ASCII):
            raise LocalMisuse(
                f"{place.commit or 'Nothing'} does not name one commit for all.",
                why="Branches, tags and short hashes may mean another commit tomorrow, or elsewhere.",
                fix=f"Take the full hash:  git ls-remote {place.repository} HEAD",
            )
        parts = PurePosixPath(place.path).parts
        if place.path.startswith(("/", "-")) or ".." in parts or not place.path.endswith(".py"):
            raise LocalMisuse("What stands behind # is the path of a Python file in the repository.")
        try:
            check_repository(place.repository)
        except MessageError as error:
            raise LocalMisuse(error.what, fix="Use https://, ssh:// or file://.") from None
        return place

    def source(self) -> dict[str, str]:
        """As it stands in a proposal."""
        return {"kind": "git", "repository": self.repository, "commit": self.commit, "path": self.path}


async def fetch(place: Place) -> Bundle:
    """The program at that commit. Raises `DidmpcError` that says what to do."""
    with tempfile.TemporaryDirectory(prefix="didmpc-git-") as folder:
        git = _Git(Path(folder), place)
        await git.fetch()
        await git.extract()
        return await asyncio.to_thread(Bundle.collect, git.tree / place.path)


class _Git:
    def __init__(self, folder: Path, place: Place) -> None:
        self._objects = folder / "repository"
        self.tree = folder / "tree"
        self._place = place

    async def fetch(self) -> None:
        place = self._place
        kind = ["--object-format=sha256"] if len(place.commit) == 64 else []
        await self._run(
            "init", "--quiet", "--bare", "--template=", *kind, str(self._objects), within=READ_WITHIN
        )
        fetch = ("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head")
        try:
            await self._run(*fetch, "--depth=1", "--", place.repository, place.commit, within=FETCH_WITHIN)
        except _Failed as first:
            # Some servers give no commit by its hash: then all branches, and look whether it is among them.
            if not any(
                word in first.said for word in ("not our ref", "unadvertised", "couldn't find remote ref")
            ):
                raise first.explained(place) from None
            try:
                await self._run(
                    *fetch, "--", place.repository, "+refs/heads/*:refs/heads/*", within=FETCH_WITHIN
                )
            except _Failed as second:
                raise second.explained(place) from None
        try:
            found = await self._run("rev-parse", "--verify", "--quiet", f"{place.commit}^{{commit}}")
        except _Failed:
            found = b""
        if found.decode(errors="replace").strip() != place.commit:
            raise DidmpcError(
                f"The repository has no commit {place.commit[:12]}...",
                why="No branch of it leads there.",
                fix=f"See what is there:  git ls-remote {place.repository}",
            )

    async def extract(self) -> None:
        """Write the program's folder: plain files only, as many and as large as a bundle may be."""
        place, folder = self._place, str(PurePosixPath(self._place.path).parent)
        within = [] if folder == "." else ["--", f"{folder}/"]
        listed = await self._run("ls-tree", "-r", "-z", "-l", "--full-tree", place.commit, *within)
        entries = [line for line in listed.decode(errors="surrogateescape").split("\0") if line]
        octets, wanted = 0, []
        for entry in entries:
            head, _, path = entry.partition("\t")
            mode, kind, name, size = head.split()
            if kind != "blob" or mode not in (FILE, EXECUTABLE) or not _may_be_needed(path, folder):
                continue  # links, submodules
            octets += int(size)
            wanted.append((name, path))
        if len(wanted) > LIMITS.files or octets > LIMITS.octets:
            raise DidmpcError(
                f"The folder of {place.path} in the repository is too large.",
                why=f"A program may have {LIMITS.files:,} files of {LIMITS.octets >> 20} MiB together.",
            )
        if place.path not in {path for _, path in wanted}:
            raise DidmpcError(
                f"There is no file {place.path} in that commit.",
                fix=f"See what is there:  git ls-tree -r --name-only {place.commit[:12]}   in a clone of it",
            )
        for name, path in wanted:
            target = self.tree.joinpath(*path.split("/"))
            if not target.is_relative_to(self.tree) or ".." in target.parts:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(await self._run("cat-file", "blob", name, most=LIMITS.octets))

    async def _run(self, *arguments: str, within: float = READ_WITHIN, most: int = 64 << 20) -> bytes:
        configuration = [
            *("-c", "core.hooksPath=/dev/null", "-c", "credential.helper=", "-c", "core.askPass="),
            *("-c", "protocol.allow=never", "-c", "fetch.fsckObjects=true", "-c", "gc.auto=0"),
            *(part for each in ("https", "ssh", "file") for part in ("-c", f"protocol.{each}.allow=always")),
            *("-c", "http.followRedirects=false", "-c", "transfer.bundleURI=false"),
        ]
        at = [] if arguments[0] == "init" else ["--git-dir", str(self._objects)]
        try:
            process = await asyncio.create_subprocess_exec(
                "git",
                *configuration,
                *at,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=_environment(),
                start_new_session=True,
            )
        except FileNotFoundError:
            raise LocalMisuse(
                "git is not installed here.",
                fix="Install it (apt install git), or name a file instead of a repository.",
            ) from None
        async with _ended(process):
            assert process.stdout is not None and process.stderr is not None
            try:
                async with asyncio.timeout(within), self._watched(process):
                    out, err = await asyncio.gather(
                        _some(process.stdout, most), _some(process.stderr, MOST_SAID)
                    )
                    status = await process.wait()
            except TimeoutError:
                raise DidmpcError(
                    f"git did not finish within {within:.0f} s.",
                    why=f"Fetching {self._place.repository}.",
                    fix="Try again, or clone it yourself and run the program's file.",
                ) from None
        if status:
            raise _Failed(err.decode(errors="replace"))
        return out

    @contextlib.asynccontextmanager
    async def _watched(self, process: asyncio.subprocess.Process) -> AsyncIterator[None]:
        """End git when what it fetches becomes too much."""
        too_much = False

        async def watch() -> None:
            nonlocal too_much
            while True:
                await asyncio.sleep(LOOK_EVERY)
                if await asyncio.to_thread(_size, self._objects) > MOST_FETCHED:
                    too_much = True
                    _kill(process)
                    return

        watching = asyncio.create_task(watch())
        try:
            yield
        finally:
            watching.cancel()
            if too_much:
                raise DidmpcError(
                    f"The repository is larger than {MOST_FETCHED >> 20} MiB.",
                    fix="Clone it yourself and run the program's file.",
                )


class _Failed(DidmpcError):
    """git ended with an error; `said` is its own words."""

    def __init__(self, said: str) -> None:
        super().__init__("git failed.", why=" ".join(said.split())[:300])
        self.said = said

    def explained(self, place: Place) -> DidmpcError:
        lines = [line for line in self.said.splitlines() if line.startswith(("fatal:", "error:"))]
        said = " ".join("".join(c if c.isprintable() else " " for c in line) for line in lines)[:300]
        return DidmpcError(
            f"{place.repository} cannot be fetched.",
            why=f"git says: {said or 'nothing'}",
            fix=f"Try it yourself:  git ls-remote {place.repository}",
        )


def _environment() -> dict[str, str]:
    kept = {
        name: os.environ[name] for name in ("PATH", "HOME", "SSH_AUTH_SOCK", "TMPDIR") if name in os.environ
    }
    return {
        **kept,
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/false",
        "SSH_ASKPASS": "/bin/false",
        "SSH_ASKPASS_REQUIRE": "never",
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o ConnectTimeout=20",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
    }


@contextlib.asynccontextmanager
async def _ended(process: asyncio.subprocess.Process) -> AsyncIterator[None]:
    """However this is left, git and what it started have ended."""
    try:
        yield
    finally:
        if process.returncode is None:
            _kill(process)
            await process.wait()


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


async def _some(stream: asyncio.StreamReader, most: int) -> bytes:
    data = bytearray()
    while part := await stream.read(65_536):
        data += part[: max(0, most - len(data))]
    return bytes(data)


def _size(folder: Path) -> int:
    total = 0
    for root, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(root, name)).st_size
    return total


def _may_be_needed(path: str, folder: str) -> bool:
    """Python files, what is said about programs, and data/, in the program's folder."""
    inside = PurePosixPath(path) if folder == "." else PurePosixPath(path).relative_to(folder)
    return inside.suffix == ".py" or path.endswith(".didmpc.toml") or inside.parts[0] == "data"
