"""A program and what it needs, as one value with a content hash.

A bundle is the program's file, the modules beside it that it imports, what is said about it (about.py), and
the folder `data/` beside it.
Everything else (the interpreter, MPyC, numpy, each party's private input) is the party's own.

    sha256  = SHA-256 over the canonical JSON of {"entry", "files": [{"path", "sha256", "size"}, ...]}
    packed  = zlib( length u32 | that JSON | contents, in the order of files )

The hash covers names and contents, not the packing: equal programs have equal hashes on all machines.
"""

import ast
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from itertools import accumulate, zip_longest
from pathlib import Path, PurePosixPath
from typing import Any

from didmpc.agent.program import about
from didmpc.agent.program.imports import CACHE, imported_files, needed_modules, parse
from didmpc.protocols.errors import LocalMisuse, MessageError

DATA = "data"
MAX_PATH = 255
MAX_TITLE = 200
LINE_SHOWN = 80
_LENGTH = 4
_HASH_HEX = 64


@dataclass(frozen=True, slots=True)
class BundleLimits:
    """How large a program may be; the same for all parties."""

    files: int = 2_000
    octets: int = 64 * 1024 * 1024

    @property
    def header(self) -> int:
        """How long the JSON in a packed bundle may be."""
        return 4096 + self.files * (MAX_PATH * 6 + 160)  # a character takes up to six octets in ASCII JSON


LIMITS = BundleLimits()


@dataclass(frozen=True, slots=True)
class BundleFile:
    """One file: its path in the bundle, and what is in it."""

    path: str
    sha256: str
    size: int

    def to_json(self) -> dict[str, Any]:
        """As it stands in descriptions and manifests."""
        return {"path": self.path, "sha256": self.sha256, "size": self.size}


@dataclass(frozen=True, slots=True)
class Bundle:
    """A program that all parties can run. Made by `collect` or `unpack`, which check everything."""

    entry: str
    files: tuple[BundleFile, ...]
    title: str
    lines: int
    contents: Mapping[str, bytes] = dataclass_field(repr=False, compare=False)

    @classmethod
    def collect(cls, program: Path, limits: BundleLimits = LIMITS) -> "Bundle":
        """The bundle of the program at `program`. Raises LocalMisuse."""
        if not program.is_file():
            raise LocalMisuse(
                f"There is no program {program}." if not program.exists() else f"{program} is not a file.",
                fix="Name an MPyC program: a Python file that begins with `from mpyc.runtime import mpc`.",
            )
        entry = program.resolve()
        folder = entry.parent
        parse(entry)  # a program that is no Python gets that said, whatever else is wrong
        contents: dict[str, bytes] = {}
        octets = 0
        for path in (*imported_files(entry), *_about(entry), *_data_files(folder)):
            name = _name_in(folder, path)
            if name in contents:
                continue
            octets += path.stat().st_size  # before reading: data/ may hold anything
            if len(contents) >= limits.files or octets > limits.octets:
                raise LocalMisuse(
                    f"{program.name} with its modules and its data/ is too large to send.",
                    why=f"A program may have {limits.files:,} files of {limits.octets >> 20} MiB together.",
                    fix="Move what is private or large out of data/, and read it as each party's --input.",
                )
            contents[name] = _read(path)
        return cls._of(_name_in(folder, entry), contents)

    @classmethod
    def unpack(cls, blob: bytes, expected_sha256: str, limits: BundleLimits = LIMITS) -> "Bundle":
        """The bundle that a peer packed, if it is the one with this hash. Raises MessageError."""
        plain = _inflate(blob, _LENGTH + limits.header + limits.octets)
        header_size = int.from_bytes(plain[:_LENGTH], "big")
        if len(plain) < _LENGTH + header_size or header_size > limits.header:
            raise MessageError("The program that came is cut off.")
        header = plain[_LENGTH : _LENGTH + header_size]
        if hashlib.sha256(header).hexdigest() != expected_sha256:
            raise MessageError("The program that came is not the one that was proposed.")
        entry, files = _parse_header(header, limits)
        position = _LENGTH + header_size
        if sum(file.size for file in files) != len(plain) - position:
            raise MessageError("The program that came has another size than it says.")
        contents: dict[str, bytes] = {}
        for file in files:
            contents[file.path] = plain[position : position + file.size]
            position += file.size
        bundle = cls._of(entry, contents)
        if bundle.files != files:
            raise MessageError("A file of the program that came is not the one that was proposed.")
        return bundle

    @classmethod
    def _of(cls, entry: str, contents: Mapping[str, bytes]) -> "Bundle":
        files = tuple(
            BundleFile(path, hashlib.sha256(data).hexdigest(), len(data))
            for path, data in sorted(contents.items())
        )
        _check_paths(entry, files)
        source = contents[entry]
        return cls(entry, files, title_of(source), _lines(source), dict(contents))

    def _header(self) -> bytes:
        value = {"entry": self.entry, "files": [file.to_json() for file in self.files]}
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()

    @property
    def sha256(self) -> str:
        """The content hash: two bundles are the same program if it is equal."""
        return hashlib.sha256(self._header()).hexdigest()

    def pack(self) -> bytes:
        """The bundle as bytes to send."""
        header = self._header()
        parts = [len(header).to_bytes(_LENGTH, "big"), header]
        return zlib.compress(b"".join(parts + [self.contents[file.path] for file in self.files]), level=6)

    def write_to(self, directory: Path) -> None:
        """Write the files into `directory`, made if need be; only the user can read them.

        Nothing that is there is overwritten or followed. Raises LocalMisuse.
        """
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for file in self.files:
                path = directory.joinpath(*file.path.split("/"))
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
                with open(os.open(path, flags, 0o600), "wb") as target:
                    target.write(self.contents[file.path])
        except OSError as error:
            raise LocalMisuse(
                f"The program cannot be written to {directory}.", why=error.strerror or str(error)
            ) from error

    def describe(self) -> dict[str, Any]:
        """What a proposal says about the program."""
        return {
            "sha256": self.sha256,
            "entry": self.entry,
            "title": self.title,
            "lines": self.lines,
            "imports": list(needed_modules(self.entry, self.contents)),
            "files": [{**file.to_json(), "lines": _lines(self.contents[file.path])} for file in self.files],
        }


def line_differences(ours: Bundle, theirs: Bundle, we: str, they: str) -> list[str]:
    """Where two programs differ: per text file the first line that does, as both have it."""
    found = []
    for path in sorted(ours.contents.keys() & theirs.contents.keys()):
        pair = (ours.contents[path], theirs.contents[path])
        if pair[0] != pair[1]:
            found.append(f"{path}{_first_difference(*pair, we, they)}")
    for one, other, whose in ((ours, theirs, we), (theirs, ours, they)):
        found.extend(
            f"{path} is there only {whose}" for path in sorted(one.contents.keys() - other.contents.keys())
        )
    if ours.entry != theirs.entry:
        found.append(f"the file to start with is {ours.entry} {we} and {theirs.entry} {they}")
    return found


def _first_difference(ours: bytes, theirs: bytes, we: str, they: str) -> str:
    try:
        pair = [data.decode().split("\n") for data in (ours, theirs)]
    except UnicodeDecodeError:
        return " differs (it is no text)"
    for number, (a, b) in enumerate(zip_longest(*pair), start=1):
        if a != b:
            return f", line {number}, is {_quoted(a)} {we} and {_quoted(b)} {they}"
    return " differs"


def _quoted(line: str | None) -> str:
    return "not there" if line is None else repr(line.strip() if line.strip() else line)[:LINE_SHOWN]


# -- collecting --------------------------------------------------------------------------------------------


def _about(entry: Path) -> Iterator[Path]:
    path = entry.with_name(about.name_of(entry.name))
    if path.is_file():
        yield path


def _data_files(folder: Path) -> Iterator[Path]:
    """All of data/, hidden files left out."""
    for root, folders, files in os.walk(folder / DATA, followlinks=False):
        for name in folders:
            if (Path(root) / name).is_symlink():
                raise _outside(Path(root) / name)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != CACHE)
        yield from (Path(root) / name for name in sorted(files) if not name.startswith("."))


def _name_in(folder: Path, path: Path) -> str:
    """The path in the bundle. A link to elsewhere could send anything on this machine to the parties."""
    if not path.resolve().is_relative_to(folder):
        raise _outside(path)
    return path.relative_to(folder).as_posix()


def _outside(path: Path) -> LocalMisuse:
    return LocalMisuse(
        f"{path.name} is a link out of the program's folder.",
        why="The program and its data/ are sent to the other parties.",
        fix="Copy the file there, if it is meant to be sent.",
    )


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise LocalMisuse(f"{path.name} is not an ordinary file.", fix="Move it out of data/.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise LocalMisuse(f"{path.name} cannot be read.", why=error.strerror or str(error)) from None


def _lines(data: bytes) -> int:
    """Lines of a text; 0 of anything else."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return 0
    return data.count(b"\n") + (not data.endswith(b"\n") and data != b"")


def title_of(source: bytes) -> str:
    """The first line of the docstring, as text for a person's terminal; it may be a stranger's."""
    try:
        docstring = ast.get_docstring(ast.parse(source)) or ""
    except (SyntaxError, ValueError, RecursionError, MemoryError, SystemError):
        return ""
    line = docstring.strip().partition("\n")[0]
    return "".join(character for character in line if character.isprintable())[:MAX_TITLE].strip()


# -- what a peer sent --------------------------------------------------------------------------------------


def _inflate(blob: bytes, limit: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(blob, limit + 1)
    except zlib.error:
        raise MessageError("The program that came is damaged.") from None
    if len(plain) > limit:
        raise MessageError("The program that came is too large.")
    if not inflater.eof or inflater.unused_data:
        raise MessageError("The program that came is damaged.")
    return plain


def _parse_header(header: bytes, limits: BundleLimits) -> tuple[str, tuple[BundleFile, ...]]:
    try:
        value = json.loads(header)
        files = tuple(_parse_file(file) for file in value["files"])
        entry = value["entry"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise MessageError("The program that came is not described as it should be.") from None
    if (
        not isinstance(entry, str)
        or len(files) > limits.files
        or sum(each.size for each in files) > limits.octets
    ):
        raise MessageError("The program that came is too large.")
    _check_paths(entry, files)
    if json.dumps(value, sort_keys=True, separators=(",", ":")).encode() != header:
        raise MessageError("The program that came is not described as it should be.")
    return entry, files


def _parse_file(value: Mapping[str, Any]) -> BundleFile:
    path, sha256, size = value["path"], value["sha256"], value["size"]
    if not isinstance(path, str) or not isinstance(sha256, str) or type(size) is not int:
        raise TypeError
    if len(sha256) != _HASH_HEX or size < 0 or len(value) != 3:
        raise ValueError
    return BundleFile(path, sha256, size)


def _check_paths(entry: str, files: Iterable[BundleFile]) -> None:
    """Paths that mean the same, and stay within their folder, on every platform. Raises MessageError."""
    seen: set[str] = set()
    folders: set[str] = set()
    previous = ""
    for file in files:
        if not _is_plain(file.path) or file.path <= previous:
            raise MessageError(f"The program holds a file with the path {file.path[:MAX_PATH]!r}.")
        previous = file.path
        seen.add(file.path.casefold())
        folders.update(
            accumulate(file.path.casefold().split("/")[:-1], lambda above, name: f"{above}/{name}")
        )
    paths = {file.path for file in files}
    if len(seen) != len(paths) or seen & folders:
        raise MessageError("The program holds two files of one name.")
    if entry not in paths or "/" in entry or entry.startswith("-"):
        raise MessageError("The program does not hold the file to start with.")


def _is_plain(path: str) -> bool:
    return (
        0 < len(path) <= MAX_PATH
        and path.isprintable()
        and not any(character in path for character in '\\:*?"<>|')
        and PurePosixPath(path).as_posix() == path
        and all(part not in (".", "..", "") and part == part.rstrip(". ") for part in path.split("/"))
        and not any(0xD800 <= ord(character) < 0xE000 for character in path)
    )
