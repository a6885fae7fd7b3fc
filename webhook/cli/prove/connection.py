"""One HTTP/1.1 connection, and the one way each request on it ends.

In: a `Target`. Out: a status, or `Ended`, which says how the connection ended instead. When requests
are sent, and what is tried again, is decided in `clients`.
"""

import asyncio
import errno
import socket
import ssl
import time
from typing import Final, NamedTuple

import httptools

from webhook.cli.prove.ledger import LOSSES
from webhook.cli.prove.target import LoadError, Target

_ERRNO: Final = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.ECONNABORTED: "reset",
    errno.EPIPE: "reset",
    errno.ETIMEDOUT: "timeout",
}


class Ended(Exception):
    """A connection ended without a right answer; says how."""

    def __init__(self, outcome: str, detail: str = "") -> None:
        self.outcome = outcome
        self.detail = detail or LOSSES[outcome]
        super().__init__(self.detail)


class Way:
    """How far a request got: when its connection was begun, when established, and to which address.

    dialled, opened: seconds as `time.monotonic` counts.
    """

    __slots__ = ("address", "dialled", "opened")

    def __init__(self) -> None:
        self.dialled = time.monotonic()
        self.opened: float | None = None
        self.address = ""

    def follow(self, other: "Way") -> None:
        """Take the same way as another."""
        self.dialled, self.opened, self.address = other.dialled, other.opened, other.address


class Connection(asyncio.Protocol):
    """One connection: one request at a time."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self.lost: Ended | None = None
        self.answer: asyncio.Future[int] | None = None
        self.any = False
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._headed = self._sized = self._again = self._bodyless = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - the loop's own promise
        self._transport = transport

    async def ask(self, where: Target, *, close: bool) -> tuple[int, bool]:
        """Send a request. Returns the status, and whether the connection can be used again.

        Raises `Ended`.
        """
        if self.lost or self._transport is None:
            raise self.lost or Ended("eof-before")
        self.answer = asyncio.get_running_loop().create_future()
        self.any = self._headed = self._sized = False
        self._parser = httptools.HttpResponseParser(self)
        self._bodyless = where.method == "HEAD"
        self._transport.write(where.request(close=close))
        status = await self.answer
        return status, self._again and self.lost is None

    def close(self) -> None:
        """Let go of the connection."""
        if self._transport is not None:
            # Nothing is left to send, and a TLS farewell would outlive the load.
            self._transport.abort()

    # -- what the loop tells

    def data_received(self, data: bytes) -> None:
        """Read a part of an answer."""
        if self.answer is None or self.answer.done() or self._parser is None:
            return  # a body that nobody asked for
        self.any = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(Ended("garbled", f"not HTTP/1.1: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """End, and say how to the request that is on it."""
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
        """See whether the answer says where its body ends."""
        self._sized = self._sized or name.lower() in (b"content-length", b"transfer-encoding")

    def on_headers_complete(self) -> None:
        """See whether the connection stays, and whether a body follows."""
        self._headed = True
        if self._parser is None:
            return
        self._again = bool(self._parser.should_keep_alive())
        if self._bodyless and self._parser.get_status_code() >= 200:
            self._complete()

    def on_message_complete(self) -> None:
        """End the request, but for an interim answer (1xx)."""
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


class Opened(NamedTuple):
    """A connection that is let go of at the end of a `with`."""

    connection: Connection

    def __enter__(self) -> Connection:
        return self.connection

    def __exit__(self, *_: object) -> None:
        self.connection.close()


async def open_to(where: Target, way: Way) -> Opened:
    """Connect to the first of the host's addresses that can be reached, and write down the way.

    Raises `Ended` with what the last one said.
    """
    loop = asyncio.get_running_loop()
    last: Ended | None = None
    name = where.host if where.context else None
    try:
        addresses = [where.host] if where.literal else await _resolve(loop, where)
    except OSError as error:
        raise Ended("unreachable", f"{where.host}: {error.strerror or error}") from error
    for address in addresses:
        way.address = address
        try:
            _, connection = await loop.create_connection(
                lambda: Connection(way),
                address,
                where.port,
                ssl=where.context,
                server_hostname=name,
            )
        except ConnectionResetError:
            last = Ended("reset")
        except OSError as error:
            last = ended(error)
        else:
            way.opened = time.monotonic()
            return Opened(connection)
    raise last or Ended("unreachable", f"{where.host}: has no address")


async def _resolve(loop: asyncio.AbstractEventLoop, where: Target) -> list[str]:
    found = await loop.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


async def once(where: Target, limit: float) -> None:
    """Ask once, as a look before the load. Raises `LoadError` that says what came instead."""
    try:
        async with asyncio.timeout(limit):
            with await open_to(where, Way()) as connection:
                status, _ = await connection.ask(where, close=True)
    except (Ended, OSError) as error:
        raise LoadError(
            f"{where.url}: {ended(error).detail}; nothing can be proved before it answers"
        ) from error
    if status not in where.expect:
        raise LoadError(f"{where.url}: status {status}; name it with --expect if that is right")
