"""`python -u -P -m didmpc.agent.sandbox POLICY MODULE ...`: be MODULE, locked in from its first line on.

POLICY is a descriptor that the policy is read from: paths need not stand in lists of processes.
"""

import os
import runpy
import sys

from didmpc.agent.sandbox.enter import enter
from didmpc.agent.sandbox.policy import Policy

NOT_ENTERED = 125


def main() -> None:
    """Lock this process in, and run the module as `python -m MODULE ...` would."""
    _, policy, module, *arguments = sys.argv
    with os.fdopen(int(policy), "rb") as source:
        text = source.read().decode()
    try:
        enter(Policy.from_json(text))
    except OSError as error:
        print(f"The sandbox could not be entered: {error.strerror}.", file=sys.stderr)
        sys.exit(NOT_ENTERED)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


main()
