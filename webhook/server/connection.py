"""HTTP/1.1 on one connection, with a bound for everything: what uvicorn leaves to its user.

In: pieces of bytes, the limits, the routes that are answered at once, and an ASGI application for
all others. Out: one answer for each request, in order. The meaning of paths belongs in
`application` and `health`; bytes and TLS in `channel`; who may stay in `limits`.

| what                                       | bound                | answer                 |
|--------------------------------------------|----------------------|------------------------|
| TLS handshake; connected, no request       | `seconds`            | closed                 |
| request line and headers, bytes            | `head`               | 431                    |
| body, bytes, counted as they come          | `body`               | 413                    |
| framing of a chunked body, trailers        | `head` + 1/8 of body | 431                    |
| request line, headers, body, time together | `seconds`            | 408                    |
| a client that does not take its answer     | `seconds`            | closed                 |
| between two requests                       | `idle`               | closed                 |
| a second request before the first answer   | none                 | the first, then closed |
| `Upgrade` with a body                      | none                 | 400                    |
| not HTTP                                   |                      | 400                    |

The states of a connection, and what leads from one to the next:

| state     | a request begins | head complete | body complete | answered           | deadline |
|-----------|------------------|---------------|---------------|--------------------|----------|
| IDLE      | HEAD             |               |               |                    | closed   |
| HEAD      |                  | BODY          |               |                    | LINGERING|
| BODY      |                  |               | ANSWERING     |                    | LINGERING|
| ANSWERING | (closes later)   |               |               | IDLE, or LINGERING | waits    |
| LINGERING |                  |               |               |                    | closed   |

LINGERING: the answer is out; further input is dropped for a moment, because closing with unread
bytes would reset the connection and lose the answer.

What this uses of uvicorn, each with a test in tests/server/test_uvicorn.py: the parser's callbacks
and `url`, `headers`, `scope`, `cycle`, `expect_100_continue`; that every request's task is started
by `_start_asgi_task`; `STATUS_LINE`; of the cycle `body`, `more_body`, `keep_alive`,
`waiting_for_100_continue`, `disconnected`, `message_event`, `response_started`,
`response_complete`, and that it ends with `on_response`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

if TYPE_CHECKING:
    from webhook.server.channel import Channel
    from webhook.server.listener import Listener

IDLE, HEAD, BODY, ANSWERING, LINGERING = range(5)
LINGER: Final = 2.0
"""Seconds."""


class Request(msgspec.Struct):
    """A whole request of a route that is answered at once."""

    headers: list[tuple[bytes, bytes]]
    """Names in lower case."""
    query: bytes
    body: bytes
    began: float
    """When its head was complete: the monotonic clock, in seconds; the loop's own ticks in ms."""
    shed: bool = False
    """There was no room for the body: only its beginning is here."""


class Response(msgspec.Struct):
    """An answer."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    content_type: bytes = b"application/json"


Route = Callable[[Request], Response | Awaitable[Response]]
Routes = dict[tuple[bytes, bytes], Route]
"""By method and path."""


def error(status: int, text: str, *headers: tuple[bytes, bytes]) -> Response:
    """Give an error the shape that all errors have."""
    return Response(status, msgspec.json.encode({"error": text}), headers)


class _Stop(Exception):
    """Ends the parser's work on a piece."""


class Connection(HttpToolsProtocol):
    """One connection, watched."""

    def __init__(self, listener: "Listener", channel: "Channel") -> None:
        super().__init__(listener.config, listener.state, {}, listener.loop)
        self.phase = IDLE
        self.asked = False
        self._listener, self._channel, self._limits = listener, channel, listener.limits
        self._problem = ""
        self._route: Route | None = None
        self._more = self._keep = self._counted = self._shed = self._refused = False
        self._body: list[bytes] = []
        self._charged = self._head = self._raw = self._length = 0
        self._began = self._since = 0.0
        self._answer: asyncio.Future[Response] | None = None
        self._refusal: Response | None = None

    # -- in --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        super().connection_made(transport)
        self._problem = self._listener.inspect(self._channel)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._count(False)
        if self._answer is not None:
            self._answer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: Any) -> None:
        """Feed the parser, then act on the result."""
        if self.phase >= ANSWERING:
            if self.phase == ANSWERING:
                self._more = True
                self._channel.pause_reading()
            return
        room = self._limits.head - self._head
        if len(data) > room and self.phase != BODY:
            self._feed(data[:room])
            if self.phase <= HEAD:
                self.refuse(error(431, f"headers: over {self._limits.head} bytes"))
            elif self.phase < ANSWERING:
                self._feed(data[room:])
            else:
                self.data_received(data[room:])
            return
        self._feed(data)

    def _feed(self, data: Any) -> None:
        before = self.phase
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._more = True  # the parser reads no further: this connection ends with its answer
        except httptools.HttpParserError:
            if self.phase != ANSWERING and self._refusal is None:
                self._refusal = error(400, "invalid http request received")
            self._more = True
        if self._refusal is not None:
            self.refuse(self._refusal)
        elif self.phase == ANSWERING:
            self._respond()
        elif self.phase == HEAD:
            self._head += len(data)
        elif self.phase == BODY:
            if before == BODY:
                self._raw += len(data)
            self._hold()

    def _hold(self) -> None:
        """Charge the bytes kept of an incomplete request."""
        limits = self._limits
        if self._raw - self._length > limits.head + (self._length >> 3):
            self.refuse(error(431, f"framing of the body: over {limits.head} bytes"))
            return
        due = self._length - self._charged
        if due and not self._shed:
            self._charged += due
            if not self._listener.budget.charge(self._channel, due, body=True):
                self._drop()
        self._channel.breathe()

    def _drop(self) -> None:
        """Keep only the beginning of a body for which there is no room, and read on."""
        self._shed = True
        del self._body[1:]
        if self._route is None:
            self.cycle.body.clear()
        self._listener.budget.release(self._channel, self._charged)
        self._charged = 0

    # -- the parser ------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Start the clock of a request."""
        if self.phase != IDLE or self._channel.get_write_buffer_size():
            self._more = True
            if self.phase == IDLE:
                self._channel.abort()  # it asks again before it has read its answer
            raise _Stop
        super().on_message_begin()
        listener = self._listener
        self.phase, self._head, self._length, self._raw = HEAD, 0, 0, 0
        self._body, self._shed, self._since = [], False, listener.now
        self._channel.deadline = listener.now + self._limits.seconds
        listener.budget.asks(self._channel)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; drop a trailer."""
        if self.phase == HEAD:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Refuse a request that need not be read, else choose who answers."""
        if self._problem:
            self._stop(403, self._problem)
        body = False
        for name, value in self.headers:
            if name == b"content-length":
                body = value.strip(b"0") != b""
                if int(value) > self._limits.body:
                    most = self._limits.body
                    self._stop(413, f"body: {int(value)} bytes: accepted: up to {most}")
            elif name == b"transfer-encoding":
                body = True
        parser = self.parser
        if body and parser.should_upgrade():
            self._stop(400, "Upgrade: accepted: none")
        path, _, query = self.url.partition(b"?")
        self._route = self._listener.routes.get((parser.get_method(), path))
        self._keep = parser.get_http_version() == "1.1" and parser.should_keep_alive()
        if self._route is None:
            super().on_headers_complete()
            self.cycle.waiting_for_100_continue = False
        self._query, self._began = query, monotonic()
        self.phase = BODY
        self._count(True)
        if self.expect_100_continue:
            self._channel.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        self._length += len(body)
        if self._length > self._limits.body:
            self._stop(413, f"body: over {self._limits.body} bytes")
        if self._shed:
            return
        if self._route is None:
            self.cycle.body += body
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """Answer once the parser is done with this piece: its rest decides about keep-alive."""
        self.phase = ANSWERING
        self.asked = True

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Wait for the whole request (uvicorn calls this at its head)."""

    def _stop(self, status: int, text: str) -> None:
        self._refusal = error(status, text)
        raise _Stop

    # -- out -------------------------------------------------------------------------------------

    def _respond(self) -> None:
        keep = self._keep and not self._more
        if self._route is None:
            cycle = self.cycle
            cycle.keep_alive = keep and not self._listener.draining
            cycle.more_body = False
            cycle.message_event.set()
            self._listener.budget.answers(self._channel)
            super()._start_asgi_task(cycle, self.app)
            return
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        request = Request(self.headers, self._query, body, self._began, self._shed)
        try:
            response = self._route(request)
        except Exception as bug:  # noqa: BLE001 - no bug of ours cuts a connection
            response = self._listener.failed(bug)
        if isinstance(response, Response):
            self._write(response)
        else:
            self._listener.budget.answers(self._channel)
            self._answer = asyncio.ensure_future(response)
            self._answer.add_done_callback(self._later)

    def _later(self, answer: asyncio.Future[Response]) -> None:
        self._answer = None
        if not answer.cancelled():
            bug = answer.exception()
            self._write(self._listener.failed(bug) if bug is not None else answer.result())

    def _write(self, response: Response) -> None:
        """Write a whole answer in one piece: two would be two TLS records."""
        self._listener.counted(response.status)
        keep = self._keep and not self._more and not self._listener.draining
        parts = [
            STATUS_LINE[response.status],
            self._listener.date,
            b"content-type: ",
            response.content_type,
            b"\r\ncontent-length: %d\r\n" % len(response.body),
            *(b"%b: %b\r\n" % pair for pair in response.headers),
            b"\r\n" if keep else b"connection: close\r\n\r\n",
            response.body,
        ]
        self._channel.write(b"".join(parts))
        self._keep = keep
        self.on_response_complete()

    def on_response_complete(self) -> None:
        """Start the clock of the pause (uvicorn calls this too): no timer, the sweep compares."""
        self._count(False)
        listener, channel = self._listener, self._channel
        if self._charged:
            listener.budget.release(channel, self._charged)
            self._charged = 0
        if channel.is_closing() and not self._more:
            return
        if self._more:
            self._linger()
        elif not self._keep or listener.draining:
            channel.close()
        else:
            self.phase, self._head = IDLE, 0
            self._since = listener.now
            owing = channel.get_write_buffer_size()
            channel.deadline = listener.now + (self._limits.seconds if owing else self._limits.idle)
            listener.budget.rests(channel)

    def refuse(self, response: Response) -> None:
        """Answer without the application, and say no more."""
        self._refusal = None
        self._count(False)
        if self.phase == LINGERING or self._channel.is_closing():
            return
        self._more, self._keep, self._refused = True, False, True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._body = []
        self.phase = ANSWERING
        self._write(response)

    def _linger(self) -> None:
        self.phase = LINGERING
        if self._refused:
            self._channel.ignore()
        else:
            self._channel.pause_reading()  # it pipelines: its next request is not even read
        self._channel.deadline = self._listener.now + LINGER

    def forget(self) -> None:
        """Drop everything kept of a request: the client is being cut."""
        self._body = []
        if self.cycle is not None:
            self.cycle.body = bytearray()

    # -- time ------------------------------------------------------------------------------------

    def busy(self) -> bool:
        """Tell whether a request has begun and has not been answered."""
        return self.phase in (HEAD, BODY, ANSWERING)

    def expire(self) -> None:
        """Act on a deadline that has passed."""
        listener, channel, limits = self._listener, self._channel, self._limits
        owing = channel.get_write_buffer_size()
        if self.phase == ANSWERING and not owing:
            channel.deadline = listener.now + limits.seconds  # our turn: there is no hurry
            return
        if (
            self.phase == IDLE
            and not owing
            and self.asked
            and self._since + limits.idle > listener.now
        ):
            channel.deadline = self._since + limits.idle
            return
        listener.counts["expired"] += 1
        if self.phase in (HEAD, BODY):
            self.refuse(error(408, f"the request was not complete after {limits.seconds:g} s"))
        elif owing:
            channel.abort()
        else:
            channel.close()

    def _count(self, on: bool) -> None:
        """Count a request that is in flight, once."""
        if on != self._counted:
            self._counted = on
            self._listener.in_flight += 1 if on else -1
