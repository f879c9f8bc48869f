"""Where a store is: `postgresql://USER@HOST:PORT,HOST2:PORT/DATABASE?sslmode=verify-full`.

The password comes from PGPASSFILE or PGPASSWORD, or it stands in the URL where nobody else can read that.
"""

from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

LONGEST = 2048
_SCHEMES = ("postgresql", "postgres")
_SECRET = ("password", "sslpassword")


def check(url: str) -> str:
    """Raises `ValueError` with the words for "it must be ..."."""
    wrong = ValueError("a URL such as postgresql://didmpc@db.example.org/didmpc")
    if len(url) > LONGEST or not url.isprintable():
        raise wrong
    try:
        parts = urlsplit(url)
    except ValueError:
        raise wrong from None
    if parts.scheme not in _SCHEMES or not (parts.netloc or parts.query) or not parts.path.strip("/"):
        raise wrong
    return url


def has_password(url: str) -> bool:
    parts = urlsplit(url)
    return ":" in parts.netloc.rpartition("@")[0] or any(name in _SECRET for name, _ in _query(parts.query))


def without_password(url: str) -> str:
    """The same for eyes and logs."""
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    query = urlencode(
        [(name, value) for name, value in _query(parts.query) if name not in _SECRET], safe="/:,"
    )
    return urlunsplit(parts._replace(netloc=user.partition(":")[0] + at + hosts, query=query))


def _query(query: str) -> list[tuple[str, str]]:
    return parse_qsl(query, keep_blank_values=True)
