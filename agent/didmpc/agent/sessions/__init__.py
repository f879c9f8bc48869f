"""MPC sessions of this agent: people gather, agree on a manifest, and their channel processes take over.

host.py / guest.py   gather the parties (one proposes, the others join)
attempt.py           from the manifest to the end of a run: agree, connect, watch
links.py             one session for each pair: handshakes and relay channels
frames.py            parties without a session: one DIDComm message for each message of MPyC
channel_process.py   the process that carries the running session
bundles.py           the program's way to the guests
history.py           what ran, for `didmpc sessions`
"""

from didmpc.agent.sessions.sessions import Sessions

__all__ = ["Sessions"]
