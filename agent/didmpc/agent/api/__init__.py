"""An agent for programs: people, joint computations, and sessions of one's own between contacts.

Computations (docs/python-api.md):

    async with Agent.connect() as agent:
        outcome = await agent.run("salary.py", with_=["Bob", "Carol"], input="salary.txt")
        print(outcome.output)

Sessions for whatever a program has to say over DIDComm (docs/session-api.md):

    async with Agent.connect() as agent:
        async with agent.session("Bob", protocol="https://example.org/notes/1.0") as session:
            await session.send(b"...")
            async for message in session:
                ...

The agent of this user must run (`didmpc agent start`): it keeps the keys of the identity, shakes hands, and
hands over the keys of the session alone. The session itself runs in this process.
"""

from didmpc.agent.api.agent import Agent, Contact, Invited, Listener, Past
from didmpc.agent.api.computing import Cause, Computation, ComputationFailed, Outcome
from didmpc.agent.api.errors import SessionAborted, SessionLost, SessionRefused
from didmpc.agent.api.events import (
    Event,
    LinkShown,
    PartyMoved,
    PeerMoved,
    Printed,
    Proposed,
    Started,
    Stopping,
    Waiting,
    Words,
)
from didmpc.agent.api.limits import SessionLimits
from didmpc.agent.api.session import Session, SessionStats
from didmpc.protocols.errors import DidmpcError, LocalMisuse

__all__ = [
    "Agent",
    "Cause",
    "Computation",
    "ComputationFailed",
    "Contact",
    "DidmpcError",
    "Event",
    "Invited",
    "LinkShown",
    "Listener",
    "LocalMisuse",
    "Outcome",
    "PartyMoved",
    "Past",
    "PeerMoved",
    "Printed",
    "Proposed",
    "Session",
    "SessionAborted",
    "SessionLimits",
    "SessionLost",
    "SessionRefused",
    "SessionStats",
    "Started",
    "Stopping",
    "Waiting",
    "Words",
]
