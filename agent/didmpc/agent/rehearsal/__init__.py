"""A computation with all its parties on this machine, before anybody is invited.

Everything is real: a mediator, an agent for each party with a home of its own, invitations, sessions,
sandboxes. Only the people are missing: each agrees to what the first one proposes.

    nursery.py    the processes, which end with us however we end
    rehearsal.py  introduces the agents, has them compute, and counts
    forecast.py   the time to expect over real distances
"""

from didmpc.agent.rehearsal.forecast import Forecast, forecast
from didmpc.agent.rehearsal.rehearsal import Part, RehearsalFailed, Report, Step, rehearse

__all__ = ["Forecast", "Part", "RehearsalFailed", "Report", "Step", "forecast", "rehearse"]
