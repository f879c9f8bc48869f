"""Every error of didmpc: what happened, why, and what to do next.

Two branches say whose fault it is. `LocalMisuse` is ours (a caller or the person at the keyboard);
`RemoteViolation` is a peer's, and carries the problem-report code to send back
(DIDComm Messaging 2.1, section "Problem Reports").
"""


class DidmpcError(Exception):
    """Base of all errors a user can meet.

    `what` is one sentence on what happened, `why` the cause where it is known, `fix` the next thing
    to try, with the command where there is one.
    """

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        return " ".join(part for part in (self.what, self.why, self.fix) if part)


class LocalMisuse(DidmpcError):
    """The caller, or the person at the keyboard, asked for something that cannot be."""


class RemoteViolation(DidmpcError):
    """A peer sent something that a protocol does not allow."""

    code = "e.p.msg"

    def __init__(self, what: str, *, why: str = "", fix: str = "", code: str | None = None) -> None:
        super().__init__(what, why=why, fix=fix)
        if code is not None:
            self.code = code


class EnvelopeError(RemoteViolation):
    """An envelope that cannot be opened, or whose parts contradict each other."""

    code = "e.p.trust.crypto"


class DidError(RemoteViolation):
    """A DID or DID document that is malformed, unsupported or inconsistent."""

    code = "e.p.did"


class MessageError(RemoteViolation):
    """A message whose type, headers or body are not what its protocol says."""

    code = "e.p.msg"


class SessionError(RemoteViolation):
    """A violation of the session extension: handshake, packet, record or hop frame."""

    code = "e.p.session"
