"""What the terms of an MPC session may be; apart, so that a command line can name them at no cost."""

from collections.abc import Mapping

MODES = ("session", "auto", "didcomm")
WIRES = ("binary", "json")
"""Forms of a session's packets (docs/session-extension.md, section 6)."""
RESUME_LIMIT = 120
RESUME_LIMITS = (6, 900)
"""Seconds: so long a run waits for a party that cannot be reached. In 900 s of silence a session ends."""
DEADLOCK_GRACE = 30
DEADLOCK_GRACES = (2, 86_400)
"""Seconds: so long a suspected deadlock lasts before it ends the run."""

# MPyC's own settings on which all parties must agree (mpyc/__init__.py, group "MPyC parameters"),
# with MPyC's defaults. Transport is never among them.
OPTIONS: Mapping[str, int | bool] = {
    "bit_length": 32,
    "sec_param": 30,
    "no_async": False,
    "no_barrier": False,
    "no_prss": False,
    # Labels that do not depend on the platform, array shares that are no pickles: never off.
    "mix32_64bit": True,
}
SETTINGS = ("MPYC_NONUMPY", "MPYC_NOGMPY")
"""Variables of MPyC's that the host may set for all, each to 1; no party's own have any effect."""
PARTIES = (2, 25)
"""How many may compute together."""
