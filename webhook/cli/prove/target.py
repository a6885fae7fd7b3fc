"""Where requests go, what each one is, and which answers are right.

In: a URL, a method, headers, a body, as the user gave them. Out: a `Target`, parsed once and ready
to be sent. Errors name what can't be used and what is accepted.
"""

import ipaddress
import re
import ssl
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from webhook import __version__

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods that a client may repeat by itself (RFC 9110, 9.2.2)."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""A method or a header's name (RFC 9110, 5.6.2)."""


class LoadError(ValueError):
    """The target can't be used; the message names it and what is accepted."""


class Target(NamedTuple):
    """One kind of request. head: its bytes up to the header that says what becomes of the connection."""

    url: str
    host: str
    port: int
    method: str
    head: bytes
    body: bytes
    context: ssl.SSLContext | None
    expect: frozenset[int]
    literal: bool

    def request(self, *, close: bool) -> bytes:
        """Write the request."""
        kept = b"Connection: close" if close else b"Connection: keep-alive"
        return self.head + kept + b"\r\n\r\n" + self.body


def target(
    url: str,
    headers: list[str],
    context: ssl.SSLContext | None,
    expect: frozenset[int],
    *,
    method: str = "GET",
    body: bytes = b"",
) -> Target:
    """Read a URL and what goes with it. Raises `LoadError`."""
    parts = _split(url)
    host = parts.hostname or ""
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not _TOKEN.fullmatch(method) or method == "CONNECT":
        raise LoadError(f"method {method!r}: accepted: GET, POST and others, but not CONNECT")
    lines = [f"{method} {path} HTTP/1.1"]
    given = {line.partition(":")[0].strip().lower() for line in headers}
    standard = {
        "host": parts.netloc.rpartition("@")[2],
        "user-agent": f"podgrace-prove/{__version__}",
        "accept": "*/*",
    }
    lines += [f"{name.title()}: {value}" for name, value in standard.items() if name not in given]
    if body or method in ("POST", "PUT", "PATCH"):
        lines.append(f"Content-Length: {len(body)}")
    for line in headers:
        name, colon, value = line.partition(":")
        if not colon or not _TOKEN.fullmatch(name.strip()) or any(ord(c) < 32 for c in line):
            raise LoadError(f"header {line!r}: accepted: NAME:VALUE")
        if name.strip().lower() in ("content-length", "transfer-encoding", "connection"):
            raise LoadError(f"header {line!r}: prove writes this one itself")
        lines.append(f"{name.strip()}: {value.strip()}")
    try:
        head = "".join(line + "\r\n" for line in lines).encode("latin-1")
    except UnicodeEncodeError as error:
        raise LoadError(f"{url}: only Latin-1 letters can be sent; write others as %XX") from error
    secure = parts.scheme == "https"
    return Target(
        url,
        host,
        parts.port or (443 if secure else 80),
        method,
        head,
        body,
        (context or ssl.create_default_context()) if secure else None,
        expect,
        is_address(host),
    )


def is_address(host: str) -> bool:
    """Say whether a host is an IP address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise LoadError(f"{url}: {error}") from error
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or port == 0
        or any(ord(letter) < 33 for letter in url)
    ):
        raise LoadError(f"{url}: accepted: http://HOST[:PORT]/PATH or https://...")
    return parts
