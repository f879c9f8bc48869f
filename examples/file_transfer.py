"""A file from one agent to another, whole or not at all.

python examples/file_transfer.py receive --into DIR      at the one
python examples/file_transfer.py send FILE --to NAME     at the other: NAME is a contact of its agent
"""

import argparse
import asyncio
import hashlib
import json
import os
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from didmpc.agent.api import Agent, DidmpcError, Session

PROTOCOL = "https://w3id.org/didmpc/examples/file/1.0"
CHUNK = 256 * 1024 - 64
LONGEST_NAME = 200


async def send(session: Session, file: Path, progress: Callable[[int, int], None]) -> None:
    """Say what comes, the pieces, and their hash; then wait for the word that the file is kept."""
    digest = hashlib.sha256()
    with file.open("rb") as source:
        size = os.fstat(source.fileno()).st_size
        await session.send(json.dumps({"name": file.name, "size": size}).encode())
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            await session.send(chunk)
            progress(source.tell() - session.stats.unacknowledged_bytes, size)
    await session.send(json.dumps({"sha256": digest.hexdigest()}).encode())
    await session.end()
    if await session.receive() != b"kept":
        raise DidmpcError(f"{session.contact} did not keep the file.")
    progress(size, size)


async def receive(session: Session, folder: Path, most: int, progress: Callable[[int, int], None]) -> Path:
    """Take one file. What is not complete never gets its name."""
    head = json.loads(await session.receive() or b"{}")
    size = head.get("size")
    if type(size) is not int or not 0 <= size <= most:
        raise DidmpcError(f"{session.contact} sends a file of {size} bytes.", why=f"The limit is {most:,}.")
    target = free_name(folder, str(head.get("name", "")))
    part = target.with_name(target.name + ".part")
    digest, done = hashlib.sha256(), 0
    try:
        with part.open("xb") as sink:
            while done < size and (chunk := await session.receive()) is not None:
                done += len(chunk)
                digest.update(chunk)
                sink.write(chunk)
                progress(done, size)
        tail = json.loads(await session.receive() or b"{}")
        if done != size or tail.get("sha256") != digest.hexdigest():
            raise DidmpcError("What came is not the file that was announced.")
        part.rename(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    await session.send(b"kept")
    return target


def free_name(folder: Path, wanted: str) -> Path:
    """A name in the folder that no file has. Nothing of a path that the sender names counts."""
    name = "".join(c for c in wanted.replace("\\", "/").rpartition("/")[2] if c.isprintable())
    name = name.lstrip(".")[:LONGEST_NAME] or "file"
    path, number = folder / name, 2
    while path.exists() or path.with_name(path.name + ".part").exists():
        path, number = folder / f"{Path(name).stem}-{number}{Path(name).suffix}", number + 1
    return path


@contextmanager
def shown(what: str):
    """A bar of progress, told what is done and how much there is."""
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, size: bar.update(task, completed=done, total=size)


def arguments() -> argparse.Namespace:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--home", help="home of the agent, where it is not the usual one")
    commands = parser.add_subparsers(dest="command", required=True)
    sending = commands.add_parser("send")
    sending.add_argument("file", type=Path)
    sending.add_argument("--to", required=True, metavar="NAME")
    receiving = commands.add_parser("receive")
    receiving.add_argument("--into", type=Path, default=Path(), metavar="DIR")
    receiving.add_argument("--most", type=int, default=10**10, metavar="BYTES", help="the largest file taken")
    return parser.parse_args()


async def main(given: argparse.Namespace) -> None:
    async with Agent.connect(given.home) as agent:
        if given.command == "send":
            async with agent.session(given.to, protocol=PROTOCOL) as session:
                with shown(given.file.name) as progress:
                    await send(session, given.file, progress)
            print(f"{given.to} has {given.file.name}", flush=True)
        else:
            async with agent.sessions(PROTOCOL) as listener:
                print("waiting", flush=True)
                session = await anext(listener)
            async with session:
                with shown(f"from {session.contact}") as progress:
                    path = await receive(session, given.into, given.most, progress)
            print(path, flush=True)


if __name__ == "__main__":
    try:
        asyncio.run(main(arguments()))
    except (DidmpcError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
