"""A backup is one file that can be restored alone: the store, the keys, the settings.

A tar archive (0600) of `manifest.json`, which names the others with their size and SHA-256, then
`mediator.sqlite3`, `mediator.json`, and where they are there `log.key` and `mediator.toml`. The store in it
is one consistent state, taken by the online backup of SQLite while mail comes and goes.
"""

import contextlib
import hashlib
import io
import json
import os
import secrets
import shutil
import sqlite3
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from didmpc.local.private_files import PRIVATE_FILE, give_to_owner, sync_folder
from didmpc.mediator.host import configuration
from didmpc.mediator.host.home import KEYS_FILE, LOG_KEY_FILE, Home, Settings
from didmpc.mediator.store.sqlite import FILE as STORE_FILE
from didmpc.mediator.store.sqlite.schema import STEPS
from didmpc.protocols.errors import DidmpcError, LocalMisuse

FORMAT, VERSION = "didmpc-mediator-backup", 1
MANIFEST = "manifest.json"
MUST, MAY = (STORE_FILE, KEYS_FILE), (LOG_KEY_FILE, configuration.FILE)
LONGEST_MANIFEST = 65_536
CHUNK = 1 << 20
PAGES = 4096
"""Copied between two looks whether to go on."""


class Damaged(LocalMisuse):
    """A file that is no backup, or not a whole one."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"{path} cannot be restored.", why=why, fix="Take another backup. Nothing was changed."
        )


@dataclass(frozen=True, slots=True)
class Contents:
    """What a backup holds."""

    did: str
    made: float
    accounts: int
    messages: int
    size: int


def back_up(
    home: Home, target: Path, *, force: bool = False, stop: threading.Event | None = None
) -> Contents:
    """Write a backup of this home to a file; the mediator may run. Blocks. Raises `LocalMisuse`.

    Setting `stop` ends it from another thread.
    """
    if target.exists() and not (force and target.is_file()):
        raise LocalMisuse(
            f"{target} is there already.", fix="Name another file, or overwrite it with --force."
        )
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    snapshot = part.with_name(part.name + ".sqlite3")
    try:
        _check_space(home, target)
        accounts, messages = _snapshot(home.root / STORE_FILE, snapshot, stop or threading.Event())
        settings = home.require()
        made = time.time()
        about = {"did": settings.identity.did, "made": made, "accounts": accounts, "messages": messages}
        _write(part, about, {STORE_FILE: snapshot, **{name: home.root / name for name in (KEYS_FILE, *MAY)}})
        os.replace(part, target)
        sync_folder(target.parent)
        return Contents(settings.identity.did, made, accounts, messages, target.stat().st_size)
    except (OSError, sqlite3.Error) as problem:
        raise LocalMisuse(
            f"The backup {target} could not be written.",
            why=f"{getattr(problem, 'strerror', None) or problem}.",
            fix="Name a file in a folder that the mediator's user may write to.",
        ) from None
    finally:
        for leftover in (part, snapshot):
            with contextlib.suppress(OSError):
                leftover.unlink()


def restore(home: Home, source: Path, *, force: bool = False) -> Contents:
    """Put a backup into a home whose mediator is stopped. Raises `LocalMisuse`; then nothing was changed."""
    home.prepare()
    with home.locked():
        if not force and any((home.root / name).exists() for name in MUST):
            raise LocalMisuse(
                f"There is a mediator in {home.root} already.",
                why="Restoring would overwrite its keys and its mail.",
                fix="Name an empty home with --home DIR, or overwrite this one with --force.",
            )
        with tempfile.TemporaryDirectory(prefix=".restore-", dir=home.root) as folder:
            room = Path(folder)
            try:
                contents, names = _unpack(source, room, home.root)
                _check_store(source, room / STORE_FILE)
            except OSError as problem:
                raise Damaged(source, f"{problem.strerror or problem}.") from None
            for suffix in ("-wal", "-shm"):  # of the store that goes
                (home.root / (STORE_FILE + suffix)).unlink(missing_ok=True)
            for name in names:
                os.replace(room / name, home.root / name)
            sync_folder(home.root)
            return contents


def _check_space(home: Home, target: Path) -> None:
    size = sum((home.root / (STORE_FILE + end)).stat().st_size for end in ("", "-wal") if _is(home, end))
    free = shutil.disk_usage(target.parent).free
    if free < 2 * size:
        raise LocalMisuse(
            f"There is too little room for a backup in {target.parent}.",
            why=f"It takes up to {2 * size} bytes while it is made; {free} are free.",
            fix="Name a file on another disk.",
        )


def _is(home: Home, suffix: str) -> bool:
    return (home.root / (STORE_FILE + suffix)).exists()


def _snapshot(store: Path, copy: Path, stop: threading.Event) -> tuple[int, int]:
    """Copy one state of the store; how many accounts and messages it has."""
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE))
    source = sqlite3.connect(f"{store.absolute().as_uri()}?mode=ro", uri=True)
    with contextlib.closing(source), contextlib.closing(sqlite3.connect(copy)) as into:

        def go_on(*_: int) -> None:
            if stop.is_set():
                raise LocalMisuse("The backup was not finished.", why="The mediator stops.")

        source.execute("PRAGMA busy_timeout=5000")
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM account")  # one state from here on
        source.backup(into, pages=PAGES, progress=go_on)
        into.execute("PRAGMA journal_mode=DELETE")  # so that it is one file
        ((accounts,), (messages,)) = (
            into.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
            for table in ("account", "msg")
        )
        return accounts, messages


def _write(part: Path, about: dict[str, Any], files: dict[str, Path]) -> None:
    present = {name: path for name, path in files.items() if path.exists()}
    about = {
        "format": FORMAT,
        "version": VERSION,
        **about,
        "files": {
            name: {"size": path.stat().st_size, "sha256": _digest(path)} for name, path in present.items()
        },
    }
    manifest = json.dumps(about, indent=2).encode()
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
    with os.fdopen(descriptor, "wb") as stream:
        with tarfile.open(fileobj=stream, mode="w:", format=tarfile.PAX_FORMAT) as archive:
            archive.addfile(_member(MANIFEST, len(manifest)), io.BytesIO(manifest))
            for name, path in present.items():
                with path.open("rb") as file:
                    archive.addfile(_member(name, path.stat().st_size), file)
        stream.flush()
        os.fsync(stream.fileno())


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, PRIVATE_FILE, int(time.time())
    return member


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unpack(source: Path, room: Path, home: Path) -> tuple[Contents, list[str]]:
    """Every file of the archive into a folder, checked against the manifest, for the owner of `home`."""
    try:
        with tarfile.open(source, "r:") as archive:
            members = _members(source, archive)
            about = _manifest(source, archive, next(members, None))
            wanted: dict[str, Any] = dict(about["files"])
            for member in members:
                expected = wanted.pop(member.name, None)
                if expected is None or not member.isreg() or member.size != expected["size"]:
                    raise Damaged(source, f"{member.name[:80]!r} is not what the manifest says.")
                stream = archive.extractfile(member)
                assert stream is not None
                if _copy(stream, room / member.name, home) != expected["sha256"]:
                    raise Damaged(source, f"{member.name} has changed since the backup was made.")
            if wanted:
                raise Damaged(source, f"{', '.join(sorted(wanted))} is missing.")
        settings = Settings.from_json(json.loads((room / KEYS_FILE).read_text("utf-8")))
        if settings.identity.did != about["did"]:
            raise Damaged(source, "Its keys are of another mediator.")
        size = source.stat().st_size
        contents = Contents(
            about["did"], float(about["made"]), int(about["accounts"]), int(about["messages"]), size
        )
        return contents, list(about["files"])
    except tarfile.TarError as problem:
        raise Damaged(source, f"It is no whole archive: {problem}.") from None
    except (KeyError, TypeError, ValueError, AttributeError, DidmpcError) as problem:
        if isinstance(problem, Damaged):
            raise
        raise Damaged(source, f"It is no backup of a mediator ({type(problem).__name__}).") from None


def _members(source: Path, archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for number, member in enumerate(archive):
        if number > len(MUST) + len(MAY):
            raise Damaged(source, "It holds more than a backup does.")
        yield member


def _manifest(source: Path, archive: tarfile.TarFile, first: tarfile.TarInfo | None) -> dict[str, Any]:
    if first is None or first.name != MANIFEST or not first.isreg() or first.size > LONGEST_MANIFEST:
        raise Damaged(source, "It is no backup of a mediator.")
    stream = archive.extractfile(first)
    assert stream is not None
    about: dict[str, Any] = json.loads(stream.read())
    if about["format"] != FORMAT or about["version"] != VERSION:
        raise Damaged(source, "It is of another version of didmpc.")
    names = set(about["files"])
    if not set(MUST) <= names <= {*MUST, *MAY}:
        raise Damaged(source, "It does not hold what a backup must.")
    return about


def _copy(stream: IO[bytes], path: Path, home: Path) -> str:
    digest = hashlib.sha256()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
    with os.fdopen(descriptor, "wb") as file:
        give_to_owner(descriptor, home)
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _check_store(source: Path, path: Path) -> None:
    """Whether the store is whole and of a version that we read; ids given out since then are left free."""
    try:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as store:
            (version,) = store.execute("PRAGMA user_version").fetchone()
            if not 0 < version <= len(STEPS):
                raise Damaged(
                    source, f"Its store has version {version}; this program reads up to {len(STEPS)}."
                )
            found = store.execute("PRAGMA integrity_check(1)").fetchone()
            if found != ("ok",) or store.execute("PRAGMA foreign_key_check").fetchone():
                raise Damaged(source, "Its store is damaged.")
            # Between this backup and now the mediator may have given out ids. A client that has seen one
            # must not meet it again on other mail, so numbering goes on where no id has been yet.
            store.execute("UPDATE sqlite_sequence SET seq = max(seq, ?)", (time.time_ns() // 1000,))
    except sqlite3.Error as problem:
        raise Damaged(source, f"Its store is damaged: {problem}.") from None
