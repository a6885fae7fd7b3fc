"""Bounds on every connection: what uvicorn leaves to its user.

In: a listening socket, an ASGI application, limits. Out: uvicorn's HTTP protocol with a deadline for each phase, caps on header and
body, and a number of connections that is never passed. Which path means what belongs to `server`.

| what                                          | bound                 | answer                                       |
|-----------------------------------------------|-----------------------|----------------------------------------------|
| TLS handshake                                 | `seconds`             | closed                                       |
| connected, no request begun                   | `seconds`             | closed                                       |
| request line and headers, bytes               | `head`                | 431                                          |
| body, bytes; counted as they come             | `body`                | 413                                          |
| framing of a chunked body, trailers           | `head` + 1/8 of body  | 431                                          |
| request line, headers and body, time together | `seconds`             | 408                                          |
| a client that does not read its answer        | `seconds`             | closed                                       |
| between two requests                          | `idle`                | closed                                       |
| connections, those in handshake included      | `connections`         | oldest that never asked is closed, else wait |
| not HTTP                                      |                       | 400                                          |

httptools bounds none of this (it took 30 MB of headers), asyncio waits 60 s for a handshake, and uvicorn's `limit_concurrency` counts
idle connections as load. There are no timers per request: one sweep twice a second compares deadlines.
"""

import asyncio
import contextlib
import errno
import math
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from email.utils import formatdate
from time import time
from typing import Any, Final

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

WHOLE: Final = "podgrace.whole"
"""ASGI extension: a function that takes scope, status, headers and body. Two messages would be two TLS records, and a fifth of a call."""

_IDLE, _HEAD, _BODY, _REFUSED = range(4)
_SWEEP: Final = 0.5
_LINGER: Final = 2.0
"""Seconds in which what a refused client still sends is read and dropped: closing at once would reset the answer away."""
_GRACE: Final = 2.0
"""Seconds in which a new connection is not the first to go. An API server asks as soon as it has connected."""


class Limits(msgspec.Struct, frozen=True):
    """See the table above. Bytes and seconds."""

    head: int = 16 << 10
    body: int = 3 << 20
    seconds: float = 10.0
    idle: float = 120.0
    connections: int = 512


class Connection(HttpToolsProtocol):
    """One connection, watched."""

    def __init__(self, door: "Door") -> None:
        super().__init__(door.config, door.state, {}, door.loop)
        self.door = door
        self.deadline = math.inf
        self.since = door.now
        self.asked = False
        self.problem = ""
        self._phase = _IDLE
        self._head = self._raw = self._length = 0

    # -- the transport ---------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Start the clock of the first request."""
        super().connection_made(transport)
        self.deadline = self.door.now + self.door.limits.seconds
        self.problem = self.door.inspect(transport)
        self.door.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Make room."""
        self.door.connections.discard(self)
        super().connection_lost(exc)
        self.door.left()

    def data_received(self, data: bytes) -> None:
        """Count while feeding the parser."""
        phase = self._phase
        if phase == _BODY:
            self._raw += len(data)
            super().data_received(data)
            if self._phase == _BODY and self._raw - self._length > self.door.limits.head + (
                self._length >> 3
            ):
                self.refuse(431, f"framing of the body: over {self.door.limits.head} bytes")
        elif phase != _REFUSED:
            room = self.door.limits.head - (self._head if phase == _HEAD else 0)
            if len(data) <= room:
                super().data_received(data)
                if self._phase == _HEAD:
                    self._head += len(data)
            else:
                self._squeeze(data, room)

    def _squeeze(self, data: bytes, room: int) -> None:
        """Feed a chunk that is larger than a head may be: the rest only once the head is complete."""
        super().data_received(data[:room])
        if self._phase == _HEAD:
            self.refuse(431, f"headers: over {self.door.limits.head} bytes")
        elif self._phase != _REFUSED:
            self.data_received(data[room:])

    # -- the parser ------------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Start the clock of a request."""
        if self._phase == _REFUSED:
            return  # behind one that was refused, in the same piece
        super().on_message_begin()
        self._phase, self._head, self._length, self._raw = _HEAD, 0, 0, 0
        self.since = self.door.now
        self.deadline = self.since + self.door.limits.seconds

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; of a trailer nothing."""
        if self._phase == _HEAD:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Refuse what need not be read, else let the application begin."""
        if self._phase == _REFUSED:
            return
        if self.problem:
            self.refuse(403, self.problem)
            return
        for name, value in self.headers:
            if name == b"content-length" and int(value) > self.door.limits.body:
                self.refuse(
                    413, f"body: {int(value)} bytes: accepted: up to {self.door.limits.body}"
                )
                return
        self._phase = _BODY
        super().on_headers_complete()
        extensions: dict[str, Any] = {WHOLE: self._answer}
        self.scope["extensions"] = extensions
        if self.door.draining:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Count the body."""
        if self._phase != _BODY:
            return
        self._length += len(body)
        if self._length > self.door.limits.body:
            self.refuse(413, f"body: over {self.door.limits.body} bytes")
            return
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop the clock of the request."""
        if self._phase != _BODY:
            return
        self._phase = _IDLE
        self.asked = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Start the clock of the pause. uvicorn would set one timer a response here; the sweep needs none."""
        if self.transport.is_closing():
            return
        door = self.door
        if self._phase == _IDLE:
            self.since = door.now
            # An answer that is not taken, or that others wait behind, is not an idle connection.
            owing = self.pipeline or self.transport.get_write_buffer_size()
            self.deadline = door.now + (door.limits.seconds if owing else door.limits.idle)
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)

    def _answer(
        self, scope: Any, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> bool:
        """Write a whole answer in one piece. False: not now, send it as ASGI does."""
        cycle = self.cycle
        if cycle.scope is not scope:
            return False  # another request has been read behind this one
        if cycle.disconnected:
            return True
        if cycle.response_started or self.flow.write_paused:
            return False
        cycle.response_started = cycle.response_complete = True
        lines = [STATUS_LINE[status]]
        for name, value in (
            *self.server_state.default_headers,
            *headers,
            (b"content-length", b"%d" % len(body)),
        ):
            lines += (name, b": ", value, b"\r\n")
        lines += (b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n", body)
        self.transport.write(b"".join(lines))
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
        return True

    # -- the end ---------------------------------------------------------------------------------------------------------

    def busy(self) -> bool:
        """Tell whether a request has begun and has not been answered."""
        return self._phase in (_HEAD, _BODY) or (
            self.cycle is not None and not self.cycle.response_complete
        )

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP (uvicorn calls this)."""
        self.refuse(400, msg.rstrip(".").lower())

    def refuse(self, status: int, error: str) -> None:
        """Answer without the application, then read on for a moment, and close."""
        if self._phase == _REFUSED:
            return
        self._phase = _REFUSED
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.abort()
                return
        self.door.refused(status)
        body = msgspec.json.encode({"error": error})
        head = (
            b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            % len(body)
        )
        date = b"".join(b"%b: %b\r\n" % pair for pair in self.server_state.default_headers)
        self.transport.write(STATUS_LINE[status] + date + head + body)
        self.flow.resume_reading()
        self.deadline = self.door.now + _LINGER

    def expire(self) -> None:
        """Act on a deadline that has passed."""
        limits, owing = self.door.limits, self.transport.get_write_buffer_size()
        if self._phase in (_HEAD, _BODY) and not owing:
            self.refuse(408, f"the request was not complete after {limits.seconds:g} s")
        elif owing or self.busy():
            self.transport.abort()
        elif self.asked and self._phase == _IDLE and self.since + limits.idle > self.door.now:
            self.deadline = self.since + limits.idle
            return
        else:
            self.deadline = self.door.now + _LINGER
            self.transport.close()
        self.door.counts["expired"] += 1


class Door:
    """A listening port: lets connections in, counts them, sweeps, and closes without losing what has knocked."""

    def __init__(
        self,
        app: Any,
        limits: Limits,
        refused: Callable[[int], None],
        context: ssl.SSLContext | None = None,
        inspect: Callable[[asyncio.Transport], str] = lambda _: "",
    ) -> None:
        self.config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
        )
        self.config.load()
        self.state = ServerState()
        self.loop = asyncio.get_running_loop()
        self.limits, self.refused, self.context, self.inspect = limits, refused, context, inspect
        self.now = self.loop.time()
        self._lag = 0.0
        self.draining = False
        self.connections: set[Connection] = set()
        self.counts = {"accepted": 0, "evicted": 0, "handshake-failed": 0, "expired": 0}
        self._shaking: dict[asyncio.Task[None], float] = {}
        self._room = asyncio.Event()
        self._listener: socket.socket | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def open(self) -> int:
        """Count connections, those in handshake included."""
        return len(self.connections) + len(self._shaking)

    def listen(self, host: str, port: int, backlog: int = 2048) -> int:
        """Bind and serve; returns the port. Host "" is every address, of IPv4 and IPv6: a Pod may have the one, the other, or both."""
        both = not host and socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both or ":" in host else socket.AF_INET
        try:
            listener = socket.create_server(
                (host, port), family=family, backlog=backlog, dualstack_ipv6=both
            )
        except OSError as error:
            raise OSError(
                error.errno, os.strerror(error.errno or 0), f"{host or '*'}:{port}"
            ) from error
        self._listener = listener
        listener.setblocking(False)
        self._tick()
        self._tasks = [
            self.loop.create_task(self._accept(listener)),
            self.loop.create_task(self._sweep()),
        ]
        return int(listener.getsockname()[1])

    def address(self) -> tuple[str, int]:
        """Give an address at which this process reaches itself."""
        if self._listener is None:
            raise OSError(errno.ENOTCONN, "not listening")
        host, port = self._listener.getsockname()[:2]
        if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
            only_v6 = self._listener.family == socket.AF_INET6 and self._listener.getsockopt(
                socket.IPPROTO_IPV6, socket.IPV6_V6ONLY
            )
            host = "::1" if only_v6 else "127.0.0.1"
        return host, port

    def drain(self) -> None:
        """Say `Connection: close` on every response from now on; go on accepting."""
        self.draining = True
        for connection in self.connections:
            if connection.busy() and connection.cycle is not None:
                connection.cycle.keep_alive = False

    async def close(self, patience: float) -> int:
        """Take what has connected already, close the port, let requests finish, cut the rest; returns how many were cut."""
        self.draining = True
        for task in self._tasks[:1]:
            task.cancel()
        if self._listener is not None:
            with contextlib.suppress(BlockingIOError):
                while True:
                    self._admit(self._listener.accept()[0])
            self._listener.close()
            self._listener = None
        end = self.loop.time() + patience
        while self.open and self.loop.time() < end:
            for connection in list(self.connections):
                if (
                    not connection.busy()
                    and connection.asked
                    and not connection.transport.is_closing()
                ):
                    connection.transport.close()
            await asyncio.sleep(0.02)
        cut = [connection for connection in self.connections if connection.busy()]
        for connection in list(self.connections):
            connection.transport.abort()
        tasks = [*self._shaking, *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return len(cut)

    def left(self) -> None:
        """Note that a connection is gone."""
        self._room.set()

    def worst(self) -> float:
        """Give the largest lag of the event loop since the last call: CPU that a cgroup's quota took away shows here."""
        lag, self._lag = self._lag, 0.0
        return lag

    # -- in --------------------------------------------------------------------------------------------------------------

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                accepted, _ = await self.loop.sock_accept(listener)
            except OSError:
                # Out of descriptors, or the client was gone already: neither ends the server.
                await asyncio.sleep(0.05)
                continue
            while self.open >= self.limits.connections and not self._evict():
                self._room.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._room.wait(), _SWEEP)
            self._admit(accepted)

    def _admit(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        with contextlib.suppress(OSError):  # it may be gone by now
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.counts["accepted"] += 1
        task = self.loop.create_task(self._shake(accepted))
        self._shaking[task] = self.now
        task.add_done_callback(lambda done: self._shaking.pop(done, None))

    async def _shake(self, accepted: socket.socket) -> None:
        bounds = (
            {}
            if self.context is None
            else {"ssl_handshake_timeout": self.limits.seconds, "ssl_shutdown_timeout": _LINGER}
        )
        try:
            await self.loop.connect_accepted_socket(
                lambda: Connection(self), accepted, ssl=self.context, **bounds
            )
        except (OSError, asyncio.CancelledError):  # SSLError, TimeoutError and resets are OSErrors
            # The socket is the loop's by now. To close it here as well would close whatever has its number next.
            self.counts["handshake-failed"] += 1
            self.left()

    def _evict(self) -> bool:
        """Make room: the oldest that has never sent a whole request, else the one that has been idle longest. False: all are at work."""
        limit = self.now - _GRACE
        task = next(iter(self._shaking), None)
        silent = min(
            (c for c in self.connections if not c.asked), key=lambda c: c.since, default=None
        )
        if (
            task is not None
            and self._shaking[task] < limit
            and (silent is None or self._shaking[task] <= silent.since)
        ):
            task.cancel()
            del self._shaking[task]
        elif silent is not None and silent.since < limit:
            self._cut(silent)
        elif task is not None or silent is not None:
            return False  # too new to judge; whoever has asked before is kept meanwhile
        else:
            idle = min(
                (c for c in self.connections if not c.busy()), key=lambda c: c.since, default=None
            )
            if idle is None or idle.since >= limit:
                return False
            self._cut(idle)
        self.counts["evicted"] += 1
        return True

    def _cut(self, connection: Connection) -> None:
        self.connections.discard(connection)
        connection.transport.abort()

    # -- time ------------------------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        while True:
            expected = self.loop.time() + _SWEEP
            await asyncio.sleep(_SWEEP)
            self._tick()
            self._lag = max(self._lag, self.now - expected)
            for connection in [c for c in self.connections if c.deadline <= self.now]:
                try:
                    connection.expire()
                except Exception as error:  # noqa: BLE001 - one connection must not end the watch over all others
                    self.loop.call_exception_handler({"message": "sweep", "exception": error})
                    connection.transport.abort()

    def _tick(self) -> None:
        self.now = self.loop.time()
        self.state.default_headers = [(b"date", formatdate(time(), usegmt=True).encode())]
