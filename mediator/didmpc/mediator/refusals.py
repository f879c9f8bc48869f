"""What the mediator refuses: the problem code for DIDComm, and the status for HTTP.

DIDComm Messaging 2.1, "Problem Codes". A sender tries again after 429 and 5xx, not after other 4xx.
"""

from didmpc.protocols.errors import RemoteViolation
from didmpc.protocols.message import ENCRYPTED


class Refusal(RemoteViolation):
    """A message that was understood and is not acted on."""

    status = 400
    retry_after: int | None = None


class NoAccount(Refusal):
    """The sender has no account here."""

    code = "e.p.req.not_enroll"
    status = 403

    def __init__(self) -> None:
        super().__init__(
            "You have no account at this mediator.",
            fix="Send a mediate-request of coordinate-mediation first.",
        )


class AccountExists(Refusal):
    """A rotation to a DID that has an account of its own."""

    code = "e.p.req.account_exists"
    status = 409

    def __init__(self) -> None:
        super().__init__(
            "Your new DID has an account here already, so that of the old one cannot be moved to it.",
            why="Two accounts are not made into one.",
            fix="Rotate to a DID that has no account here, or fetch your mail with the old DID first.",
        )


class Denied(Refusal):
    """The operator wants no requests of this DID."""

    code = "e.p.trust.denied"
    status = 403

    def __init__(self) -> None:
        super().__init__("The operator of this mediator does not serve your DID.", fix="Ask the operator.")


class UnknownNext(Refusal):
    """A forward for somebody who takes no mail here."""

    code = "e.p.req.not_enroll"
    status = 404

    def __init__(self) -> None:
        super().__init__(
            "This mediator takes in no mail for the next DID of the forward.",
            fix="The recipient may have moved: ask for its present DID.",
        )


class Anonymous(Refusal):
    """A request that needs an authenticated sender came without one."""

    code = "e.p.trust.crypto.unauthenticated"
    status = 401

    def __init__(self) -> None:
        super().__init__("This request must come in authcrypt, so that its sender is proven.")


class MailboxFull(Refusal):
    code = "e.p.me.res.storage.mailbox_full"
    status = 429
    retry_after = 60

    def __init__(self) -> None:
        super().__init__("The mailbox of the recipient is full.", fix="Try again later.")


class SessionsFull(Refusal):
    """Its sender has it still, and sends it again (docs/session-extension.md, section 11)."""

    code = "e.p.me.res.storage.session_quota"
    status = 429
    retry_after = 2

    def __init__(self) -> None:
        super().__init__(
            "As many packets of sessions as this mediator keeps wait for the recipient already.",
            fix="Try again later. Mail is not concerned.",
        )


class SenderQuota(Refusal):
    code = "e.p.me.res.storage.sender_quota"
    status = 429
    retry_after = 60

    def __init__(self) -> None:
        super().__init__(
            "As much of your mail as this mediator keeps waits for the recipient already.",
            fix="Try again later.",
        )


class TooBig(Refusal):
    code = "e.p.me.res.storage.message_too_big"
    status = 413

    def __init__(self, limit: int) -> None:
        super().__init__(f"The message is larger than the {limit} bytes that this mediator takes.")


class WrongMediaType(Refusal):
    code = "e.p.msg.media_type"
    status = 415

    def __init__(self) -> None:
        super().__init__(
            "This is of no media type that envelopes have, or compressed.", fix=f"Envelopes are {ENCRYPTED}."
        )


class TooSlow(Refusal):
    code = "e.p.me.res.slow"
    status = 408

    def __init__(self) -> None:
        super().__init__("The message came too slowly.", fix="Try again on a better connection.")


class DiskFull(Refusal):
    code = "e.p.me.res.storage"
    status = 507
    retry_after = 300

    def __init__(self) -> None:
        super().__init__("The mediator has no room left.", fix="Try again later.")


class Unavailable(Refusal):
    code = "e.p.me.res"
    status = 503
    retry_after = 5

    def __init__(self) -> None:
        super().__init__("The mediator cannot do this now.", fix="Try again in a moment.")


class TooManyRequests(Refusal):
    code = "e.p.me.res.rate"
    status = 429

    def __init__(self, wait: int = 1, source: str = "this address") -> None:
        super().__init__(f"Too many requests from {source}.", fix=f"Try again in {wait} s.")
        self.retry_after = wait


class TooMuchOutgoing(Refusal):
    code = "e.p.me.res.storage"
    status = 503
    retry_after = 60

    def __init__(self) -> None:
        super().__init__(
            "Too much waits already for where this message is to go from here.", fix="Try again later."
        )


class TooDeep(Refusal):
    """A forward in a forward in a forward..., all for this mediator."""

    code = "e.p.req.hops"

    def __init__(self) -> None:
        super().__init__("The message would pass through this mediator again and again.")


class TooMany(Refusal):
    """A quota of an account, or of the mediator, is used up."""

    code = "e.p.me.res.quota"
    status = 403


class Replayed(Refusal):
    code = "e.p.crypto.message.dejavu"
    status = 409

    def __init__(self) -> None:
        super().__init__("This very message was acted on before.", fix="Pack a new one.")


class Expired(Refusal):
    code = "e.p.msg.expired"

    def __init__(self) -> None:
        super().__init__("The message had expired when it came.", fix="Check the clock of the sender.")


class Unsupported(Refusal):
    code = "e.p.msg.unsupported"

    def __init__(self, type: str) -> None:
        super().__init__(f"This mediator does not take messages of the type {type[:120]}.")
