"""Style sheets and scripts of our pages, each under a name that changes with its content.

So they may be cached for good, and a page of a new version never meets those of an old one.
"""

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from aiohttp import web

MEDIA_TYPES = {"css": "text/css", "js": "text/javascript"}
SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Headers of everything that a browser is to see. A page adds its Content-Security-Policy."""


def text_of(name: str) -> str:
    """A file of the folder `web`."""
    return (files("didmpc.mediator.pages") / "web" / name).read_text("utf-8")


@dataclass(frozen=True, slots=True)
class Asset:
    """One file of the folder `web`."""

    content: str
    media_type: str
    path: str
    """Relative to the page: the mediator may be reached below a path of its public URL."""

    @classmethod
    def load(cls, name: str) -> "Asset":
        content = text_of(name)
        stem, _, kind = name.partition(".")
        digest = hashlib.sha256(content.encode()).hexdigest()[:16]
        return cls(content, MEDIA_TYPES[kind], f"assets/{stem}-{digest}.{kind}")

    def route(self) -> web.RouteDef:
        headers = {**SECURITY, "Cache-Control": "public, max-age=31536000, immutable"}

        async def serve(_: web.Request) -> web.Response:
            return web.Response(text=self.content, content_type=self.media_type, headers=headers)

        return web.get(f"/{self.path}", serve)
