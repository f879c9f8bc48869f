"""`relay/1.0`: the sealed hop between an agent and a mediator, and the channels on it."""
