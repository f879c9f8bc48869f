"""Runs a program beside this file as it is, and says how long it took between MPyC's start and shutdown."""

import atexit
import json
import runpy
import time
from pathlib import Path
from typing import Any

from mpyc.runtime import mpc

_times: dict[str, float] = {}


def run(name: str) -> None:
    start, shutdown = mpc.start, mpc.shutdown

    async def timed_start(*arguments: Any) -> Any:
        result = await start(*arguments)
        _times.setdefault("from", time.time())
        return result

    async def timed_shutdown(*arguments: Any) -> Any:
        result = await shutdown(*arguments)
        _times["to"] = time.time()
        return result

    mpc.start, mpc.shutdown = timed_start, timed_shutdown
    atexit.register(_say)
    runpy.run_path(str(Path(__file__).with_name(name)), run_name="__main__")


def _say() -> None:
    if "to" in _times:
        print("\ndidmpc-bench " + json.dumps({"program": _times}), flush=True)
