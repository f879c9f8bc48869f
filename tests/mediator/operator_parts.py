"""The commands of an operator, run in this process but beside its event loop."""

import asyncio
import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from didmpc.mediator.cli import app


class Ran:
    """What a command said, and how it ended."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status = status
        self.out = out
        self.err = err

    @property
    def json(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)


async def mediator_command(home: Path, name: str, *arguments: str) -> Ran:
    result = await asyncio.to_thread(CliRunner().invoke, app, [name, "--home", str(home), *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ran(result.exit_code, result.stdout, result.stderr)
