"""An open-loop HTTP load that misses nothing: every request is sent at its time and ends in exactly one outcome.

In: a target and rates. Out: a `Tally` for each kind of client. What the load is for, and what is printed, belongs to `prove`.

| client     | what it is like                                                                                           |
|------------|-----------------------------------------------------------------------------------------------------------|
| new        | a new connection for each request, as from curl or from a proxy without a pool                            |
| keep-alive | some connections that are used in turn, as from an HTTP client with a pool                                |
| slow       | a new connection for each request, whose answer takes long: what is in flight when a Pod is told to stop  |

A keep-alive client does what pools do. A connection that was closed while idle is replaced without a word. If a request went
out on a used connection and that one ends before a single byte of answer, it is sent once more on a new connection: the rule
of Go's http.Transport for requests that may be repeated, and of browsers (RFC 9110, 9.2.2). Such a request is counted as
retried; it is lost only if the second try fails. A POST would not have been repeated: `retry=False` counts so.
"""

import asyncio
import contextlib
import errno
import ipaddress
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

import httptools

from webhook import __version__

OK: Final = "ok"
LOSSES: Final = {
    "refused": "the connection was refused",
    "reset": "the connection was reset",
    "eof-before": "the connection was closed before the answer",
    "eof-in": "the connection was closed in the middle of the answer",
    "timeout": "no complete answer in time",
    "status": "an answer with a status that is not expected",
    "unreachable": "no route, no such name, or another error of the network",
    "tls": "the TLS handshake or its verification failed",
    "garbled": "not HTTP/1.1",
}
"""Outcome of a lost request -> what it means. Everything else is `OK`."""

_ERRNO: Final = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.ECONNABORTED: "reset",
    errno.EPIPE: "reset",
    errno.ETIMEDOUT: "timeout",
}
_REPEATABLE: Final = frozenset({"reset", "eof-before"})


class LoadError(ValueError):
    """The target cannot be used; the message names it and what is accepted."""


class Target(NamedTuple):
    """Where requests go, and which answers are right."""

    url: str
    host: str
    port: int
    head: str
    context: ssl.SSLContext | None
    expect: frozenset[int]
    literal: bool

    def request(self, *, close: bool) -> bytes:
        """Write the request."""
        return f"{self.head}{'Connection: close' if close else 'Connection: keep-alive'}\r\n\r\n".encode(
            "latin-1"
        )


def target(
    url: str, headers: list[str], context: ssl.SSLContext | None, expect: frozenset[int]
) -> Target:
    """Read a URL. Raises `LoadError`."""
    parts = _split(url)
    host = parts.hostname or ""
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"GET {path} HTTP/1.1", f"User-Agent: podgrace-prove/{__version__}", "Accept: */*"]
    if not any(line.lower().startswith("host:") for line in headers):
        lines.append(f"Host: {parts.netloc.rpartition('@')[2]}")
    for line in headers:
        name, colon, value = line.partition(":")
        if not colon or not name.strip() or any(ord(letter) < 32 for letter in line):
            raise LoadError(f"header {line!r}: accepted: NAME:VALUE")
        lines.append(f"{name.strip()}: {value.strip()}")
    head = "".join(line + "\r\n" for line in lines)
    try:
        head.encode("latin-1")
    except UnicodeEncodeError as error:
        raise LoadError(f"{url}: only Latin-1 letters can be sent; write others as %XX") from error
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    return Target(
        url,
        host,
        port,
        head,
        (context or ssl.create_default_context()) if secure else None,
        expect,
        _is_address(host),
    )


def _is_address(host: str) -> bool:
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


class Loss(NamedTuple):
    """One lost request. Times in seconds since the load began."""

    at: float
    took: float
    client: str
    outcome: str
    detail: str


class Tally:
    """What became of one client kind's requests."""

    def __init__(self) -> None:
        self.sent = 0
        self.outcomes: Counter[str] = Counter()
        self.retried = 0
        self.reconnected = 0
        self.took: list[float] = []

    @property
    def lost(self) -> int:
        """Requests without a right answer."""
        return self.outcomes.total() - self.outcomes[OK]

    def quantile(self, share: float) -> float:
        """How long right answers took, in seconds; 0 if there was none."""
        ordered = sorted(self.took)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Second(NamedTuple):
    """What happened in one second: how many were sent by each client, how many ended as what (`OK` is not written down)."""

    sent: Counter[str]
    marks: Counter[str]


class Ended(Exception):
    """A connection ended without a right answer; says how."""

    def __init__(self, outcome: str, detail: str = "") -> None:
        self.outcome = outcome
        self.detail = detail or LOSSES[outcome]
        super().__init__(self.detail)


class _Connection(asyncio.Protocol):
    """One connection: one request at a time."""

    def __init__(self) -> None:
        self.lost: Ended | None = None
        self.answer: asyncio.Future[int] | None = None
        self.any = False
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._headed = self._sized = self._again = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - the type of the loop's own promise
        self._transport = transport

    async def ask(self, request: bytes) -> tuple[int, bool]:
        """Send a request; returns the status and whether the connection can be used again. Raises `Ended`."""
        if self.lost or self._transport is None:
            raise self.lost or Ended("eof-before")
        self.answer = asyncio.get_running_loop().create_future()
        self.any = self._headed = self._sized = False
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(request)
        status = await self.answer
        return status, self._again and self.lost is None

    def close(self) -> None:
        """Let go of the connection."""
        if self._transport is not None:
            self._transport.abort()  # nothing is left to send, and a TLS farewell would outlive the load

    # -- what the loop tells

    def data_received(self, data: bytes) -> None:
        if self.answer is None or self.answer.done() or self._parser is None:
            return  # a body that nobody asked for
        self.any = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(Ended("garbled", f"not HTTP/1.1: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        if (
            exc is None
            and self._headed
            and not self._sized
            and self.answer is not None
            and not self.answer.done()
        ):
            self.lost = Ended("eof-before")
            self._complete()  # a body whose end is the end of the connection
            return
        self._fail(ended(exc) if exc is not None else Ended("eof-in" if self.any else "eof-before"))

    def _fail(self, how: Ended) -> None:
        self.lost = self.lost or how
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(how)
        if self._transport is not None:
            self._transport.close()

    # -- what the parser tells

    def on_header(self, name: bytes, _value: bytes) -> None:
        self._sized = self._sized or name.lower() in (b"content-length", b"transfer-encoding")

    def on_headers_complete(self) -> None:
        self._headed = True
        self._again = self._parser is not None and bool(self._parser.should_keep_alive())

    def on_message_complete(self) -> None:
        if self._parser is not None and self._parser.get_status_code() >= 200:
            self._complete()

    def _complete(self) -> None:
        if self.answer is not None and not self.answer.done() and self._parser is not None:
            self.answer.set_result(self._parser.get_status_code())


def ended(error: BaseException) -> Ended:
    """Say which outcome an error is."""
    if isinstance(error, Ended):
        return error
    if isinstance(error, ssl.SSLError):
        return Ended("tls", f"TLS: {getattr(error, 'verify_message', '') or error.reason or error}")
    if isinstance(error, TimeoutError):
        return Ended("timeout")
    if isinstance(error, OSError):
        outcome = _ERRNO.get(error.errno or 0, "unreachable")
        return Ended(
            outcome,
            "" if outcome in ("refused", "reset", "timeout") else str(error.strerror or error),
        )
    raise error


class Load:
    """The clients against one target, from `start` until `finish`."""

    def __init__(self, *, timeout: float, retry: bool) -> None:
        self.tallies: dict[str, Tally] = {}
        self.losses: list[Loss] = []
        self.seconds: dict[int, Second] = {}
        self.late = 0.0
        self._timeout = timeout
        self._retry = retry
        self._began = 0.0
        self._stopping = asyncio.Event()
        self._clients: list[asyncio.Task[None]] = []
        self._requests: set[asyncio.Task[None]] = set()
        self._bug: BaseException | None = None

    def start(self) -> None:
        """Begin the clock."""
        self._began = time.monotonic()

    def now(self) -> float:
        """Seconds since `start`."""
        return time.monotonic() - self._began

    def clients(
        self,
        kind: str,
        where: Target,
        rate: float,
        *,
        connections: int = 0,
        timeout: float | None = None,
    ) -> None:
        """Send `rate` requests a second; over `connections` kept ones, or over a new one each."""
        self.tallies[kind] = Tally()
        pool: list[_Connection | None] = [None] * connections
        self._clients.append(
            asyncio.create_task(self._tick(kind, where, rate, pool, timeout or self._timeout))
        )

    async def finish(self) -> None:
        """Send no more, and wait for the answers that are owed."""
        self._stopping.set()
        await asyncio.gather(*self._clients)
        while self._requests:
            await asyncio.wait(self._requests)
        for _ in range(3):
            await asyncio.sleep(0)  # what was closed last is closed a turn of the loop later
        if self._bug is not None:
            raise self._bug

    def _done(self, request: asyncio.Task[None]) -> None:
        self._requests.discard(request)
        if not request.cancelled():
            self._bug = self._bug or request.exception()

    async def _tick(
        self, kind: str, where: Target, rate: float, pool: list[_Connection | None], limit: float
    ) -> None:
        """Start every request at its own time, however long the others take."""
        number = 0
        begin = time.monotonic()
        while not self._stopping.is_set():
            due = begin + number / rate
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), max(0.0, due - time.monotonic()))
            if self._stopping.is_set():
                break
            self.late = max(self.late, time.monotonic() - due)
            request = asyncio.create_task(
                self._send(kind, where, pool, number % len(pool) if pool else -1, limit)
            )
            self._requests.add(request)
            request.add_done_callback(self._done)
            number += 1
        while self._requests and pool:
            await asyncio.wait(self._requests)
        for connection in pool:
            if connection is not None:
                connection.close()

    async def _send(
        self, kind: str, where: Target, pool: list[_Connection | None], slot: int, limit: float
    ) -> None:
        tally = self.tallies[kind]
        tally.sent += 1
        begin = self.now()
        self._second(begin).sent[kind] += 1
        try:
            async with asyncio.timeout(limit):
                await (self._kept(tally, where, pool, slot) if pool else self._new(where))
        except (Ended, OSError) as error:
            how = ended(error)
            tally.outcomes[how.outcome] += 1
            at = self.now()
            self._second(at).marks[how.outcome] += 1
            self.losses.append(Loss(at, at - begin, kind, how.outcome, how.detail))
        else:
            tally.outcomes[OK] += 1
            tally.took.append(self.now() - begin)

    async def _new(self, where: Target) -> None:
        with await _open(where) as connection:
            _judge(where, (await connection.ask(where.request(close=True)))[0])

    async def _kept(
        self, tally: Tally, where: Target, pool: list[_Connection | None], slot: int
    ) -> None:
        """Ask on a slot's connection. One that is busy with a slow answer is not waited for: an open loop takes another."""
        connection, pool[slot] = pool[slot], None
        if connection is not None and connection.lost:
            tally.reconnected += 1
            connection = None
        request = where.request(close=False)
        if connection is not None:
            try:
                _judge(where, await _ask_kept(connection, request, pool, slot))
            except Ended as how:
                if not self._retry or connection.any or how.outcome not in _REPEATABLE:
                    raise
                tally.retried += 1
                self._second(self.now()).marks["retried"] += 1
            else:
                return
        _judge(where, await _ask_kept((await _open(where)).connection, request, pool, slot))

    def _second(self, at: float) -> Second:
        return self.seconds.setdefault(int(at), Second(Counter(), Counter()))


class _Opened(NamedTuple):
    connection: _Connection

    def __enter__(self) -> _Connection:
        return self.connection

    def __exit__(self, *_: object) -> None:
        self.connection.close()


async def _open(where: Target) -> _Opened:
    """Connect to the first of the host's addresses that can be reached. Raises `Ended` with what the last one said."""
    loop = asyncio.get_running_loop()
    last: Ended | None = None
    name = where.host if where.context else None
    try:
        addresses = [where.host] if where.literal else await _resolve(loop, where)
    except OSError as error:
        raise Ended("unreachable", f"{where.host}: {error.strerror or error}") from error
    for address in addresses:
        try:
            _, connection = await loop.create_connection(
                _Connection, address, where.port, ssl=where.context, server_hostname=name
            )
        except ConnectionResetError:
            last = Ended("reset")
        except OSError as error:
            last = ended(error)
        else:
            return _Opened(connection)
    raise last or Ended("unreachable", f"{where.host}: has no address")


async def _resolve(loop: asyncio.AbstractEventLoop, where: Target) -> list[str]:
    found = await loop.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


def _judge(where: Target, status: int) -> None:
    if status not in where.expect:
        raise Ended("status", f"status {status}")


async def _ask_kept(
    connection: _Connection, request: bytes, pool: list[_Connection | None], slot: int
) -> int:
    """Ask, and put the connection back for the next request if it can be used again."""
    try:
        status, again = await connection.ask(request)
    except BaseException:
        connection.close()
        raise
    if again and pool[slot] is None:
        pool[slot] = connection
    else:
        connection.close()
    return status


async def once(where: Target, limit: float) -> None:
    """Ask once, as a look before the load. Raises `LoadError` that says what came instead of a right answer."""
    try:
        async with asyncio.timeout(limit):
            with await _open(where) as connection:
                status, _ = await connection.ask(where.request(close=True))
    except (Ended, OSError) as error:
        raise LoadError(
            f"{where.url}: {ended(error).detail}; nothing can be proved before it answers"
        ) from error
    if status not in where.expect:
        raise LoadError(f"{where.url}: status {status}; name it with --expect if that is right")


def per_second(seconds: dict[int, Second]) -> Iterator[tuple[int, Counter[str], Counter[str]]]:
    """Give each second in order: which, how many each client sent, what was lost or retried."""
    for second in sorted(seconds):
        yield second, seconds[second].sent, seconds[second].marks
