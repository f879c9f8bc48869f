"""What the operator decides: who may have an account, and invitations to open one."""

from didmpc.mediator.store.part import Part


class RuleStore(Part):
    """The tables `rule` and `ticket`."""
