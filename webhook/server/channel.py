"""Bytes between a TCP socket and HTTP, in plain text or in TLS.

In: an accepted socket. Out: pieces of at most `PIECE` bytes for the HTTP connection, and what it
writes on the wire. Who may stay belongs in `limits`, what the bytes mean in `connection`.

Why not the event loop's own TLS: it gives each connection a buffer of 256 KiB, so that 600 clients
that send a burst and stall take 300 MiB. Here one buffer of `PIECE` bytes serves all connections of
a port, OpenSSL is asked for memory only once a client has said something, and nothing is decrypted
ahead of what HTTP has taken. All of OpenSSL's rules are kept by Python's `ssl` in memory.
"""

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from webhook.server.limits import Place

if TYPE_CHECKING:
    from webhook.server.listener import Listener

PIECE: Final = 16 << 10
"""Bytes read at a time. The largest TLS record is a little more."""
PLAIN_COST: Final = 4 << 10
"""Bytes charged for a silent connection; it takes 1.5 KiB, and some of the kernel's."""
TLS_COST: Final = 44 << 10
"""Bytes charged on top for TLS: 22 KiB after a handshake, 27 at rest, 44 with half a record."""


class Upper(Protocol):
    """What reads from a channel."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin."""

    def data_received(self, data: Any) -> None:
        """Take a piece: bytes, or a view that is valid during the call."""

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""

    def pause_writing(self) -> None:
        """Stop writing."""

    def resume_writing(self) -> None:
        """Go on writing."""

    def expire(self) -> None:
        """Act on a deadline."""

    def forget(self) -> None:
        """Drop everything kept of a request."""


class Channel(asyncio.BufferedProtocol, asyncio.Transport):
    """A connection in plain text: a protocol to TCP, a transport to HTTP."""

    def __init__(self, listener: "Listener") -> None:
        self.held = 0
        self.trusted = False
        self.place: Place | None = None
        self.unread = 0
        self.deadline = listener.now + listener.limits.seconds
        self.upper: Upper | None = None
        self._listener, self._buffer = listener, listener.buffer
        self._closing = self._deaf = False
        self._tcp: asyncio.Transport

    # -- a protocol ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for room."""
        self._tcp = cast(asyncio.Transport, transport)
        if self._listener.enter(self):
            self._begin()
        else:
            self.cut()

    def _begin(self) -> None:
        self._open()

    def _open(self) -> None:
        """Let HTTP begin."""
        self.upper = self._listener.connect(self)
        self.upper.connection_made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give everything back."""
        self._closing = True
        self._listener.left(self)
        if self.upper is not None:
            self.upper.connection_lost(exc)
            self.upper = None

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - ours is of one size
        """Give the port's one buffer: its content is used up before the next read."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Pass a piece on."""
        if self.upper is not None and not self._closing and not self._deaf:
            self.upper.data_received(self._buffer[:nbytes])

    def pause_writing(self) -> None:
        """Pass on."""
        if self.upper is not None:
            self.upper.pause_writing()

    def resume_writing(self) -> None:
        """Pass on."""
        if self.upper is not None:
            self.upper.resume_writing()

    # -- a transport -----------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        """Send."""
        if not self._closing:
            self._tcp.write(data)

    def close(self) -> None:
        """Close once all is sent."""
        if not self._closing:
            self._closing = True
            self.deadline = self._listener.now + self._listener.limits.seconds
            self._tcp.close()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        self._tcp.abort()

    def is_closing(self) -> bool:
        """Tell whether nothing can be sent any more."""
        return self._closing

    def pause_reading(self) -> None:
        """Leave further input in the kernel."""
        if not self._closing:
            self._tcp.pause_reading()

    def resume_reading(self) -> None:
        """Go on."""
        if not self._closing:
            self._tcp.resume_reading()

    def breathe(self) -> None:
        """Let all others have a turn before the next piece."""
        self.pause_reading()
        self._listener.loop.call_soon(self.resume_reading)

    def ignore(self) -> None:
        """Read on, and drop it unread: it costs no more than the reading."""
        self._deaf = True
        self.resume_reading()

    def get_write_buffer_size(self) -> int:
        """Count what the client has not taken."""
        return self._tcp.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Answer from the socket."""
        return self._tcp.get_extra_info(name, default)

    # -- a holder of budget ----------------------------------------------------------------------

    def cut(self) -> None:
        """Close, for others or at a deadline; what it holds is free before the loop turns."""
        self.abort()
        if self.upper is not None:
            self.upper.forget()

    def expire(self) -> None:
        """Act on the deadline."""
        if self.upper is None or self._closing:
            self.cut()
        else:
            self.upper.expire()


class SecureChannel(Channel):
    """A connection in TLS."""

    _ssl: ssl.SSLObject | None = None
    _hello = b""

    def _begin(self) -> None:
        """Wait for the client's first bytes."""

    def buffer_updated(self, nbytes: int) -> None:
        """Take a piece; the first one waits for its turn to shake hands."""
        if self._ssl is not None:
            if not self._closing and not self._deaf:
                self._take(self._buffer[:nbytes])
        elif not self._closing:
            self._hello = bytes(self._buffer[:nbytes])
            self.pause_reading()
            self._listener.queue(self)

    def shake(self) -> None:
        """Begin the handshake: more work than a call."""
        if self._closing:
            return
        context = self._listener.context()
        if context is None or not self._listener.budget.charge(self, TLS_COST):
            self.cut()
            return
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._in, self._out, server_side=True)
        hello, self._hello = self._hello, b""
        self._take(hello)
        self.resume_reading()

    def cut(self) -> None:
        """Close, with all that OpenSSL holds."""
        super().cut()
        self._ssl = None
        self._in = self._out = ssl.MemoryBIO()

    def _take(self, data: Any) -> None:
        """Decrypt a piece."""
        self._in.write(data)
        try:
            tls = self._ssl
            if self.upper is None and tls is not None:
                self._shake(tls)
            if self.upper is not None and tls is not None:
                self._read(tls, self.upper)
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLError, OSError):
            if self.upper is None:
                self._listener.counts["handshake-failed"] += 1
            self._flush()
            self._closing = True
            self._tcp.close()
            self.deadline = self._listener.now + self._listener.limits.seconds
            return
        self._flush()

    def _shake(self, tls: ssl.SSLObject) -> None:
        tls.do_handshake()
        self._flush()
        self._open()

    def _read(self, tls: ssl.SSLObject, upper: Upper) -> None:
        while not self._closing and not self._deaf:
            data = tls.read(PIECE)
            if not data:
                self.close()
                return
            upper.data_received(data)
            if not (self._in.pending or tls.pending()):
                return

    def _flush(self) -> None:
        """Send what TLS itself has to say."""
        if self._out.pending and not self._tcp.is_closing():
            self._tcp.write(self._out.read())

    def write(self, data: Any) -> None:
        """Encrypt and send, in pieces, so that no buffer of OpenSSL's grows with an answer."""
        if self._closing or self._ssl is None:
            return
        try:
            if len(data) <= PIECE:
                self._ssl.write(data)
                self._tcp.write(self._out.read())
                return
            view = memoryview(data)
            for at in range(0, len(view), PIECE):
                self._ssl.write(view[at : at + PIECE])
                self._tcp.write(self._out.read())
        except ssl.SSLError:
            self.abort()

    def close(self) -> None:
        """Send TLS's close, and close once all is sent."""
        if self._closing:
            return
        if self._ssl is not None:
            with contextlib.suppress(ssl.SSLError, ValueError):
                self._ssl.unwrap()  # it waits for the client's close, and we do not
            self._flush()
        super().close()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Answer from TLS, or from the socket."""
        if self._ssl is not None:
            if name == "peercert":
                return self._ssl.getpeercert()
            if name == "ssl_object":
                return self._ssl
            if name == "sslcontext":
                return self._ssl.context
        return super().get_extra_info(name, default)
