"""Sessions between contacts, for any program that has something to say over DIDComm (docs/session-api.md).

    async with Agent.connect() as agent:
        async with agent.session("Bob", protocol="https://example.org/notes/1.0") as session:
            await session.send(b"...")
            async for message in session:
                ...

The agent of this user must run (`didmpc agent start`): it keeps the keys of the identity, shakes hands, and
hands over the keys of the session alone. The session itself runs in this process.
"""

from didmpc.agent.api.agent import Agent, Contact, Listener
from didmpc.agent.api.errors import SessionAborted, SessionLost, SessionRefused
from didmpc.agent.api.limits import SessionLimits
from didmpc.agent.api.session import Session, SessionStats
from didmpc.protocols.errors import DidmpcError, LocalMisuse

__all__ = [
    "Agent",
    "Contact",
    "DidmpcError",
    "Listener",
    "LocalMisuse",
    "Session",
    "SessionAborted",
    "SessionLimits",
    "SessionLost",
    "SessionRefused",
    "SessionStats",
]
