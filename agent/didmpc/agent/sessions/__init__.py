"""MPC sessions of this agent: people gather, agree on a manifest, and their channel processes take over.

host.py / guest.py   gather the parties (one proposes, the others join)
attempt.py           from the manifest to links: signatures, handshakes, relay channels
channel_process.py   the process that carries the running session
bundles.py           the program's way to the guests
history.py           what ran, for `didmpc sessions`
"""

from didmpc.agent.sessions.sessions import Sessions

__all__ = ["Sessions"]
