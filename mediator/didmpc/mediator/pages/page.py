"""What a browser sees at the public URL: the mediator itself, or the invitation of one of its users.

An invitation is data of strangers in our name, so: everything escaped, no script, nothing of third
parties, no cookies, and a Content-Security-Policy that says so to the browser.
"""

import functools
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

import segno

from didmpc.mediator.host.quantities import show_limit
from didmpc.mediator.limits import TABLE, UNLIMITED_RATE, Kind, Limit, Limits, Rate
from didmpc.mediator.pages.assets import SECURITY, Asset
from didmpc.mediator.store import Admission
from didmpc.protocols.messages.out_of_band import Invitation
from didmpc.protocols.mpc import lobby

STYLE = Asset.load("page.css")
HEADERS = {
    **SECURITY,
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
}
LONGEST_LABEL = 80

_SHOWN = {
    "forward_bytes": "Largest message",
    "mail_seconds": "Mail that nobody fetches is kept for",
    "mailbox_messages": "Messages that wait for one DID, at most",
    "mailbox_bytes": "Bytes that wait for one DID, at most",
    "account_bytes": "Bytes that wait for one account, at most",
    "keys_per_account": "DIDs of one account",
    "links_per_account": "Short links of one account",
    "requests": "Messages from one address",
    "channels_per_account": "Relay channels of one account",
    "channel_rate": "Rate of one relay channel, per second",
}
"""Limits that users meet, in words of theirs."""
_OF_THE_RELAY = frozenset({"channels_per_account", "channel_rate"})
_LIMITS = {limit.name: limit for limit in TABLE}
_UNITS = {"d": "days", "h": "hours", "min": "minutes", "s": "seconds"}
_OBSTACLES = {
    "stopping": "it is being restarted",
    "disk": "its disk is full",
    "store": "it cannot store mail",
}
_WHO = {
    "open": "Everybody may open an account; it needs no name, address or password.",
    "invitation": "Accounts are by invitation: its operator gives out links that open one.",
    "allow-list": "Its operator decides which DIDs may open an account.",
}


@dataclass(frozen=True, slots=True)
class About:
    """What its page says of a mediator."""

    host: str
    limits: Limits
    registration: Admission = "open"
    contact: str = ""
    relays: bool = True

    def page(self, url: str, obstacles: Sequence[str], *, admits: bool) -> str:
        """The page of an invitation to use it, which `admits` says of whether it opens an account."""
        if obstacles:
            why = ", ".join(_OBSTACLES.get(each, each) for each in obstacles)
            state = f'<span class="bad">takes in no mail now: {html.escape(why)}.</span> Nothing is lost.'
        else:
            state = '<span class="good">works, and takes in mail.</span>'
        return _page(
            f"The mediator {self.host}",
            f'<p class="state">This server {state}</p>',
            f"{self._what()}{self._use(url, admits)}{self._limits()}{self._privacy()}",
        )

    def admits(self, invitation: Invitation | None = None) -> bool:
        """Whether an invitation (by default the one that is always the same) opens an account."""
        if self.registration == "invitation":  # only those with a ticket have an end
            return invitation is not None and invitation.expires_time is not None
        return self.registration == "open"

    def _what(self) -> str:
        relay = (
            " While they compute together it relays the sealed packets of their sessions, unread."
            if self.relays
            else ""
        )
        return (
            "<p>A mediator takes in encrypted messages for people whose computers are not always reachable,"
            f" and hands them on when they are.{relay} It speaks DIDComm v2, and is made for <b>didmpc</b>:"
            " computing a joint result while everybody's data stays with them.</p>"
        )

    def _use(self, url: str, admits: bool) -> str:
        command = (
            "<p>To receive your messages here, install didmpc and type:</p>"
            f"<code class=\"command\">didmpc agent start --mediator '{html.escape(url)}'</code>"
            f"{_qr(url, 'QR code of the invitation to this mediator')}"
            f'<p>Or let an app that speaks DIDComm v2 read the code, or <a href="{html.escape(url)}">the link'
            " behind it</a>.</p>"
        )
        return f'<section aria-labelledby="use"><h2 id="use">Use it</h2><p>{_WHO[self.registration]}</p>' + (
            f"{command if admits else ''}</section>"
        )

    def _limits(self) -> str:
        rows = "".join(
            f'<tr><th scope="row">{what}</th>'
            f"<td>{html.escape(_in_words(_LIMITS[name], getattr(self.limits, name)))}</td></tr>"
            for name, what in _SHOWN.items()
            if self.relays or name not in _OF_THE_RELAY
        )
        return (
            '<section aria-labelledby="limits"><h2 id="limits">Limits</h2><table>'
            f"<caption>What one user may use up. Whoever is above it is told so, and can try again.</caption>"
            f"<tbody>{rows}</tbody></table></section>"
        )

    def _privacy(self) -> str:
        limits = self.limits
        contact = html.escape(self.contact)
        responsible = (
            f"<p>Responsible for this server: {contact}</p>"
            if contact
            else "<p>Whoever runs this server has not said how to reach them.</p>"
        )
        joins = ", and which two of them a relay joins" if self.relays else ""
        relay = ""
        if self.relays:
            relay = "<li>of computations nothing: their packets are passed on and never stored;</li>"
        return (
            '<section aria-labelledby="privacy"><h2 id="privacy">Privacy</h2>'
            "<p>What this server can see:</p><ul>"
            "<li>the DIDs of its accounts and those that they receive mail for, and when an account was"
            " opened;</li>"
            "<li>when a message comes and how long it is; not its contents, nor who wrote it;</li>"
            f"<li>the network addresses that connect{joins}. They are in memory only, for the limits"
            " above.</li></ul>"
            "<p>What it keeps:</p><ul>"
            "<li>mail, as its sender has encrypted it, until you have fetched it or "
            f"{_in_words(_LIMITS['mail_seconds'], limits.mail_seconds)} have passed;</li>"
            f"{relay}"
            "<li>of requests that changed an account a fingerprint, so that nobody can repeat them"
            f" ({_in_words(_LIMITS['replay_seconds'], limits.replay_seconds)});</li>"
            "<li>your account, until its operator deletes it: ask for that at any time.</li></ul>"
            "<p>Its logs hold no DIDs, no network addresses and no contents. A web server in front of it may"
            " keep logs of its own. Nothing is given to others but what you send elsewhere through it.</p>"
            f"{responsible}"
            "<p>This page sets no cookies, runs no script and loads nothing from anywhere else.</p></section>"
        )


def invitation_page(url: str, invitation: Invitation) -> str:
    """The page of somebody's invitation that points to this mediator."""
    label = (invitation.label or "Somebody")[:LONGEST_LABEL]
    command = "join" if invitation.goal_code == lobby.GOAL_CODE else "accept"
    return _page(
        f"{label} invites you",
        "",
        f"<p><b>{html.escape(label)}</b> (so the invitation says; nothing proves the name) invites you"
        " to compute together with <b>didmpc</b>: a joint result, while everybody's data stays with them.</p>"
        "<p>Install didmpc and type:</p>"
        f"<code class=\"command\">didmpc {command} '{html.escape(url)}'</code>"
        f"{_qr(url, 'QR code of this invitation')}",
    )


def damaged_page(what: str) -> str:
    """The page of an invitation that cannot be read."""
    return _page("This invitation cannot be read", "", f"<p>{html.escape(what)}</p><p>Ask for it again.</p>")


def _in_words(limit: Limit, value: object) -> str:
    """For somebody who has never seen a file of settings."""
    if isinstance(value, Rate) and value != UNLIMITED_RATE:
        return f"{value.per_second:,g} a second"
    text = show_limit(limit, value)
    number, _, unit = text.partition(" ")
    if limit.kind is Kind.SECONDS:
        return f"{number} {_UNITS[unit]}"
    return f"{int(number):,}" if number.isdigit() and not unit else text


def _page(title: str, under: str, body: str) -> str:
    title = html.escape(title[:100])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<title>{title}</title><link rel="stylesheet" href="{STYLE.path}">'
        f"</head><body><header><h1>{title}</h1>{under}</header><main>{body}</main>"
        "<footer>didmpc: multiparty computation between agents over DIDComm.</footer></body></html>"
    )


@functools.lru_cache(maxsize=16)  # our own is asked for again and again, and takes a while to draw
def _qr(url: str, title: str) -> str:
    """The QR code as SVG, dark on white in every colour scheme; nothing where the URL is too long for one."""
    try:
        code = segno.make(url, error="l", micro=False)
    except segno.DataOverflowError:
        return ""
    out = io.BytesIO()
    code.save(
        out,
        kind="svg",
        omitsize=True,
        xmldecl=False,
        svgns=True,
        svgclass="code",
        title=title,
        light="#fff",
        nl=False,
    )
    return out.getvalue().decode().replace("<svg ", '<svg role="img" ', 1)
