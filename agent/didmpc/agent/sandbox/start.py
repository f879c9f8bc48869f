"""Starts a process that locks itself in."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from didmpc.agent.sandbox import bubblewrap
from didmpc.agent.sandbox.policy import Mechanism, Policy


def start(
    policy: Policy,
    module: str,
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    inherited: Sequence[int] = (),
    **how: Any,
) -> subprocess.Popen[bytes]:
    """Run `python -m MODULE ARGUMENTS` as the policy says, in its output folder. Raises OSError.

    It inherits the descriptors of `inherited` and of `how`, which goes to `Popen`, and no others.
    """
    own = [sys.executable, "-u", "-P", "-m"]
    descriptors: list[int] = []
    try:
        if policy.mechanism is Mechanism.NONE:
            command = [*own, module, *arguments]
        else:
            descriptors.append(_in_memory(policy.to_json().encode()))
            command = [*own, "didmpc.agent.sandbox", str(descriptors[0]), module, *arguments]
        if policy.mechanism is Mechanism.BUBBLEWRAP:
            options = "".join(f"{word}\0" for word in bubblewrap.options(policy))
            descriptors.append(_in_memory(options.encode()))
            command = [bubblewrap.found(), "--args", str(descriptors[1]), "--", *command]
        return subprocess.Popen(
            command,
            cwd=policy.output,
            env=dict(environment),
            pass_fds=(*inherited, *descriptors),
            **how,
        )
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _in_memory(data: bytes) -> int:
    descriptor = os.memfd_create("didmpc", os.MFD_CLOEXEC)
    os.write(descriptor, data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def lay_out(bundle: Path, output: Path) -> None:
    """Make the output folder, in which the program finds its bundle under the names that it knows."""
    output.mkdir(mode=0o700, exist_ok=True)
    for path in bundle.iterdir():
        output.joinpath(path.name).symlink_to(path.absolute())
