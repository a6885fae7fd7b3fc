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
from webhook.cli.exits import Unusable

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods that a client may repeat by itself (RFC 9110, 9.2.2)."""
HEALTH: Final = "/grpc.health.v1.Health/Check"
"""The gRPC method to call if the URL names none: its message may be empty."""
ENDLESS: Final = "-"
"""Stands in for a stream's last event: it has none."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""A method or a header's name (RFC 9110, 5.6.2)."""


class Scheme(NamedTuple):
    """What a URL's scheme asks for. extra: it needs `podgrace[prove]`."""

    protocol: str
    secure: bool
    extra: bool = False


SCHEMES: Final = {
    "http": Scheme("http1", secure=False),
    "https": Scheme("http1", secure=True),
    "h2c": Scheme("http2", secure=False, extra=True),
    "h2": Scheme("http2", secure=True, extra=True),
    "grpc": Scheme("grpc", secure=False, extra=True),
    "grpcs": Scheme("grpc", secure=True, extra=True),
    "ws": Scheme("websocket", secure=False, extra=True),
    "wss": Scheme("websocket", secure=True, extra=True),
    "sse": Scheme("events", secure=False),
    "sses": Scheme("events", secure=True),
}


class LoadError(Unusable):
    """The target can't be used; the message names it and what is accepted."""


class Target(NamedTuple):
    """One kind of request.

    headers: the user's and ours, without those that frame a message. limit: seconds that a whole
    answer may take. last_event: what the last event of a stream holds, `ENDLESS` if there is none;
    None: the end of the body is the end. resumed: the last event that a client had, and the number
    that the next one should have, if they have numbers.
    """

    url: str
    protocol: str
    host: str
    port: int
    authority: str
    path: str
    method: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    context: ssl.SSLContext | None
    expect: frozenset[int]
    literal: bool
    limit: float
    last_event: str | None = None
    resumed: tuple[str, int | None] | None = None

    @property
    def endless(self) -> bool:
        """Whether it is an event stream that never ends by itself."""
        return self.protocol == "events" and self.last_event == ENDLESS

    def request(self, *, close: bool) -> bytes:
        """Write the request as HTTP/1.1."""
        lines = [f"{self.method} {self.path} HTTP/1.1", f"Host: {self.authority}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.resumed:
            lines.append(f"Last-Event-ID: {self.resumed[0]}")
        if self.body or self.method in ("POST", "PUT", "PATCH"):
            lines.append(f"Content-Length: {len(self.body)}")
        lines += [f"Connection: {'close' if close else 'keep-alive'}", "", ""]
        return "\r\n".join(lines).encode("latin-1") + self.body


def target(
    url: str,
    headers: list[str],
    context: ssl.SSLContext | None,
    expect: frozenset[int],
    *,
    method: str = "GET",
    body: bytes = b"",
    limit: float = 10.0,
    last_event: str | None = None,
) -> Target:
    """Read a URL and what goes with it. The context is its own, if any. Raises `LoadError`."""
    parts, scheme = _split(url)
    host = parts.hostname or ""
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not _TOKEN.fullmatch(method) or method == "CONNECT":
        raise LoadError(f"method {method!r}: accepted: GET, POST and others, but not CONNECT")
    if scheme.protocol in ("grpc", "websocket"):
        if method != "GET":
            raise LoadError(f"{url}: -X {method}: this protocol has no method to choose")
        method = "POST" if scheme.protocol == "grpc" else "GET"
    if scheme.protocol == "grpc" and parts.path in ("", "/"):
        path = HEALTH
    authority, extra = _headers(headers, scheme.protocol)
    try:
        f"{path}{parts.netloc}{headers}".encode("latin-1")
    except UnicodeEncodeError as error:
        raise LoadError(f"{url}: only Latin-1 letters can be sent; write others as %XX") from error
    if scheme.secure:
        context = context or ssl.create_default_context()
        if scheme.protocol in ("http2", "grpc"):
            context.set_alpn_protocols(["h2"])
    return Target(
        url,
        scheme.protocol,
        host,
        parts.port or (443 if scheme.secure else 80),
        authority or parts.netloc.rpartition("@")[2],
        path,
        method,
        extra,
        body,
        context if scheme.secure else None,
        expect,
        is_address(host),
        limit,
        last_event,
    )


def _headers(given: list[str], protocol: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Read headers: the authority if one is given, and all others with ours before them."""
    authority = ""
    found: list[tuple[str, str]] = []
    for line in given:
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not colon or not _TOKEN.fullmatch(name) or any(ord(c) < 32 for c in line):
            raise LoadError(f"header {line!r}: accepted: NAME:VALUE")
        if name.lower() in ("content-length", "transfer-encoding", "connection"):
            raise LoadError(f"header {line!r}: prove writes this one itself")
        if name.lower() == "host":
            authority = value
        else:
            found.append((name, value))
    standard = {"User-Agent": f"podgrace-prove/{__version__}"}
    standard |= {
        "http1": {"Accept": "*/*"},
        "http2": {"Accept": "*/*"},
        "events": {"Accept": "text/event-stream"},
        "grpc": {"TE": "trailers", "Content-Type": "application/grpc"},
    }.get(protocol, {})
    names = {name.lower() for name, _ in found}
    ours = [(name, value) for name, value in standard.items() if name.lower() not in names]
    return authority, (*ours, *found)


def is_address(host: str) -> bool:
    """Say whether a host is an IP address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _split(url: str) -> tuple[SplitResult, Scheme]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise LoadError(f"{url}: {error}") from error
    scheme = SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname or port == 0 or any(ord(letter) < 33 for letter in url):
        raise LoadError(
            f"{url}: accepted: http://HOST[:PORT]/PATH or https://...; also "
            + ", ".join(f"{name}://" for name in SCHEMES if name not in ("http", "https"))
        )
    return parts, scheme
