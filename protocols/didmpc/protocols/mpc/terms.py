"""What the terms of an MPC session may be; apart, so that a command line can name them at no cost."""

MODES = ("session", "auto", "didcomm")
WIRES = ("binary", "json")
"""Forms of a session's packets (docs/session-extension.md, section 6)."""
RESUME_LIMIT = 120
RESUME_LIMITS = (6, 900)
"""Seconds: so long a run waits for a party that cannot be reached. In 900 s of silence a session ends."""
