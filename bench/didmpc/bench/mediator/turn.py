"""How a load process and its host agree on the moment of the start."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Job = dict[str, Any]
Result = dict[str, Any]


def tell(value: Result) -> None:
    """Write a line of JSON to the host.

    Not by `print`: with PYTHONUNBUFFERED it loses what goes beyond one write to a pipe.
    """
    line = json.dumps(value).encode() + b"\n"
    while line:
        line = line[os.write(sys.stdout.fileno(), line) :]


class Turn:
    """The signal to start, and the CPU spent since."""

    def __init__(self) -> None:
        self.started = 0.0
        self._cpu = 0.0

    async def wait(self, **values: Any) -> str:
        """Say that all is prepared (and `values`), and wait for the start, or for what is asked next."""
        tell(values)
        line: str = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        self.started, self._cpu = time.monotonic(), time.process_time()
        return line.strip()

    def result(self, **values: Any) -> Result:
        """What was measured from the start until now."""
        return {
            "started": self.started,
            "seconds": time.monotonic() - self.started,
            "cpu": time.process_time() - self._cpu,
            **values,
        }


def serve(jobs: Mapping[str, Callable[[Job, Turn], Awaitable[Result]]]) -> None:
    """Do jobs, a line of JSON each, until stdin ends."""
    import uvloop  # noqa: PLC0415  (there is none for Windows, where nothing is measured)

    async def run(job: Job) -> Result:
        return await jobs[job["job"]](job, Turn())

    for line in iter(sys.stdin.readline, ""):
        tell(uvloop.run(run(json.loads(line))))
