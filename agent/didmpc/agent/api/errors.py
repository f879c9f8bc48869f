"""What can befall a session. All are `DidmpcError`: `what` happened, `why`, and how to `fix` it."""

from didmpc.protocols.errors import DidmpcError


class SessionRefused(DidmpcError):
    """The contact's agent does not take the session.

    `code` is `silent` (no answer in time), `unavailable` (no program there listens), or what it declined
    with: `policy`, `suite` or `roster`.
    """

    def __init__(self, what: str, *, why: str = "", fix: str = "", code: str = "policy") -> None:
        super().__init__(what, why=why, fix=fix)
        self.code = code


class SessionLost(DidmpcError):
    """The session broke: whatever was sent and not acknowledged may have arrived or not."""


class SessionAborted(DidmpcError):
    """One of the two programs ended the session before all was said. What was received before is whole."""
