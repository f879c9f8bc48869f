"""shorten-url/1.0: a mediator keeps a long invitation URL, and gives out a short one that leads to it.

request-shortened-url {url, requested_validity_seconds, goal_code} -> shortened-url {shortened_url}

The short form of an out-of-band URL is `https://host/path?_oobid=...` (out-of-band/2.0, "Short URL Message
Retrieval"). Whoever serves it could serve another invitation, so ours carry a fingerprint of the invitation
behind `#`, which no browser and no agent sends to the server: the one who accepts compares it.
"""

import hashlib
import hmac
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from didmpc.protocols.crypto.encoding import b64url
from didmpc.protocols.errors import LocalMisuse
from didmpc.protocols.message import Message
from didmpc.protocols.messages.body import expect, one_of, optional, required, text, whole
from didmpc.protocols.messages.out_of_band import Invitation

PROTOCOL = "https://didcomm.org/shorten-url/1.0"
REQUEST = f"{PROTOCOL}/request-shortened-url"
SHORTENED = f"{PROTOCOL}/shortened-url"
GOAL_CODE = "shorten.oobv2"
FINGERPRINT_BYTES = 16


@dataclass(frozen=True, slots=True)
class LinkRequest:
    """A URL to keep, and for how many seconds."""

    url: str
    validity: int


def request(url: str, validity: int) -> Message:
    body = {"url": url, "requested_validity_seconds": validity, "goal_code": GOAL_CODE}
    return Message(type=REQUEST, body=body, return_route="all")


def parse_request(message: Message) -> LinkRequest:
    expect(message, REQUEST)
    required(message, "goal_code", one_of(GOAL_CODE))
    return LinkRequest(
        required(message, "url", text), optional(message, "requested_validity_seconds", whole, 0)
    )


def shortened(request: Message, url: str, expires: int) -> Message:
    return request.reply(SHORTENED, {"shortened_url": url}, expires_time=expires)


def parse_shortened(message: Message) -> str:
    expect(message, SHORTENED)
    return required(message, "shortened_url", text)


@dataclass(frozen=True, slots=True)
class ShortLink:
    """A short URL as people pass it on."""

    url: str
    fingerprint: str

    @classmethod
    def to(cls, invitation: Invitation, url: str) -> "ShortLink":
        """The short link to an invitation that a mediator keeps at `url`."""
        return cls(url, fingerprint(invitation))

    @classmethod
    def find(cls, pasted: str) -> "ShortLink | None":
        """The short link in what a person pasted; None when it is something else."""
        compact = "".join(pasted.strip().strip("<>\"'`").split())
        try:
            parts = urlsplit(compact)
            short = parts.scheme in ("http", "https") and "_oobid" in parse_qs(parts.query, max_num_fields=64)
        except ValueError:
            return None
        return cls(parts._replace(fragment="").geturl(), parts.fragment) if short else None

    def check(self, invitation: Invitation) -> Invitation:
        """Raise `LocalMisuse` unless this is the invitation that the link was made for.

        A link without a fingerprint (other programs make such) is trusted as far as its server is.
        """
        if self.fingerprint and not hmac.compare_digest(
            self.fingerprint.encode(), fingerprint(invitation).encode()
        ):
            raise LocalMisuse(
                "This short link leads to another invitation than it was made for.",
                why="Its server has exchanged the invitation, or the link is damaged.",
                fix="Do not use it. Ask for the long link:  didmpc invite --long",
            )
        return invitation

    def __str__(self) -> str:
        return f"{self.url}#{self.fingerprint}" if self.fingerprint else self.url


def fingerprint(invitation: Invitation) -> str:
    """128 bits over the invitation's identity: its id and DID, which decide whom one writes to."""
    named = f"{invitation.id}\0{invitation.from_}".encode()
    digest = hashlib.sha256(b"didmpc invitation/1.0\0" + named).digest()
    return b64url(digest[:FINGERPRINT_BYTES])
