"""The web page behind an invitation URL: what it is, what to type, and the QR code.

The page is data of strangers in our name, so: everything escaped, no script, nothing loaded, and a
Content-Security-Policy that says so to the browser.
"""

import base64
import hashlib
import html
import io

import segno

from didmpc.protocols.out_of_band import Invitation

_STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:42rem;margin:2rem auto;padding:0 1rem}"
    "code{display:block;background:#f3f3f3;padding:.75rem;overflow-wrap:anywhere;font-size:.85rem}"
    "svg{max-width:100%;height:auto;margin:1rem 0}"
    "footer{color:#555;font-size:.85rem;margin-top:2rem}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def mediator_page(url: str, host: str) -> str:
    """The page of the mediator's own invitation."""
    return _page(
        f"The mediator {host}",
        "<p>This server takes in encrypted messages for people who compute together with <b>didmpc</b>,"
        " and hands them on. It cannot read them.</p>"
        "<p>To receive your messages here, install didmpc and type:</p>"
        f"<code>didmpc agent start --mediator '{html.escape(url)}'</code>"
        f"{_qr(url)}<p>Or let an app that speaks DIDComm v2 read the code.</p>",
    )


def invitation_page(url: str, invitation: Invitation) -> str:
    """The page of somebody's invitation that points to this mediator."""
    label = invitation.label or "Somebody"
    return _page(
        f"{label} invites you",
        f"<p><b>{html.escape(label[:80])}</b> (so the invitation says; nothing proves the name) invites you"
        " to compute together with <b>didmpc</b>: a joint result, while everybody's data stays with them.</p>"
        "<p>Install didmpc and type:</p>"
        f"<code>didmpc accept '{html.escape(url)}'</code>{_qr(url)}",
    )


def damaged_page(what: str) -> str:
    """The page of an invitation that cannot be read."""
    return _page("This invitation cannot be read", f"<p>{html.escape(what)}</p><p>Ask for it again.</p>")


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title[:100])}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{html.escape(title[:100])}</h1>{body}"
        "<footer>didmpc: multiparty computation between agents over DIDComm.</footer></body></html>"
    )


def _qr(url: str) -> str:
    """The QR code as SVG; nothing where the URL is longer than a code can hold."""
    try:
        code = segno.make(url, error="l", micro=False)
    except segno.DataOverflowError:
        return ""
    out = io.BytesIO()
    code.save(
        out, kind="svg", scale=4, xmldecl=False, svgns=True, title="QR code of this invitation", nl=False
    )
    return out.getvalue().decode()
