"""What is fuzzed: for each target a function that takes any bytes, and inputs to start from.

A target lets only those errors pass silently that its reader documents; anything else that is raised is a
finding, and so is a violated assertion. It must be quick, and keep nothing from one input to the next.
"""

from fuzz_targets import dids, envelopes, legs, messages, mpc, relay, service, sessions, websocket
from fuzz_targets.target import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for module in (envelopes, messages, dids, sessions, relay, mpc, service, legs, websocket)
    for target in module.TARGETS
}
