"""HTTP/2 and gRPC: many streams on a connection, and how each of them ends (RFC 9113).

| what the server does                           | a stream                                   |
|------------------------------------------------|--------------------------------------------|
| GOAWAY, the stream is not above its last id    | goes on to its end                         |
| GOAWAY, the stream is above; or REFUSED_STREAM | was never looked at: the client asks again |
| RST_STREAM with another code                   | lost                                       |
| the connection ends                            | lost                                       |
| the answer ends without grpc-status (gRPC)     | lost                                       |

After a GOAWAY nothing new is sent on the connection; it is closed when its last stream has ended.
The library is `h2`. But it treats a GOAWAY as the end of everything, so this module cuts the input
into frames and reads that one itself (6.8).
"""

import asyncio
from collections.abc import Iterator
from typing import Final

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from webhook.cli.prove.connection import Connection, Ended, Listener, Way, ended, judge
from webhook.cli.prove.target import Target

_HEAD: Final = 9
_FRAME: Final = 16384
"""Bytes of a frame at most, as long as we do not allow more (4.2)."""
_GOAWAY: Final = 0x7
_WINDOW: Final = 1 << 24
_STATUSES: Final = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND"),
    *("ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"),
    *("ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"),
    "UNAUTHENTICATED",
)
"""Names of gRPC's statuses, from 0."""


class Stream:
    """One request in flight. name: its name for people."""

    def __init__(self, number: int, where: Target) -> None:
        self.number = number
        self.name = f"stream {number}: "
        self.where = where
        self.answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.any = False
        self.unsent = b""
        self.fields: dict[str, str] = {}
        self.messages = Messages()

    def fail(self, how: Ended) -> None:
        """End it so."""
        if not self.answer.done():
            self.answer.set_exception(how)

    def finish(self) -> None:
        """End it well, as far as the protocol goes."""
        if not self.answer.done():
            self.answer.set_result(None)


class Messages:
    """Counts a gRPC answer's messages: a byte of flags, four of length, then that many bytes."""

    def __init__(self) -> None:
        self.whole = 0
        self._head = b""
        self._left = 0

    @property
    def cut(self) -> bool:
        """Whether one has begun that is not whole."""
        return bool(self._head or self._left)

    def feed(self, data: bytes) -> None:
        """Take a part of the body."""
        while data:
            if self._left:
                self._left -= len(part := data[: self._left])
                data = data[len(part) :]
            else:
                need = 5 - len(self._head)
                self._head += data[:need]
                data = data[need:]
                if len(self._head) < 5:
                    return
                self._left = int.from_bytes(self._head[1:], "big")
                self._head = b""
            self.whole += not self._left


class Http2(Connection):
    """One connection of HTTP/2, with as many streams as the server allows."""

    def __init__(self, way: Way, heard: Listener) -> None:
        super().__init__(way, heard)
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self._h2 = h2.connection.H2Connection(config)
        self._streams: dict[int, Stream] = {}
        self._leaving = False
        self._unread = b""

    @property
    def gone(self) -> bool:
        """Whether no further stream may be opened on it."""
        return self.lost is not None or self._leaving

    @property
    def full(self) -> bool:
        """Whether the server allows no more streams at a time."""
        return self._h2.open_outbound_streams >= self._h2.remote_settings.max_concurrent_streams

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello."""
        super().connection_made(transport)
        over = transport.get_extra_info("ssl_object")
        if over is not None and over.selected_alpn_protocol() != "h2":
            self.lost = Ended("garbled", "TLS: the server does not choose h2 (ALPN)")
            return
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(_WINDOW)
        self._flush()

    async def ask(self, where: Target, *, last: bool) -> None:  # noqa: ARG002 - a stream ends by itself
        """Open a stream and wait for its end."""
        if self.gone:
            raise self.lost or Ended("eof-before")
        stream = Stream(self._h2.get_next_available_stream_id(), where)
        body = self.body(where)
        self._streams[stream.number] = stream
        try:
            self._h2.send_headers(stream.number, list(_fields(where)), end_stream=not body)
            if body:
                stream.unsent = body
                self._send(stream)
            self._flush()
            await stream.answer
            if stream.unsent:  # answered before all of it was sent
                self._cancel(stream)
        except h2.exceptions.ProtocolError as error:
            raise Ended("garbled", f"{stream.name}{error}") from error
        except asyncio.CancelledError:
            self._cancel(stream)
            raise
        finally:
            del self._streams[stream.number]
            self._end_if_left()
        self.judge(stream)

    def body(self, where: Target) -> bytes:
        """Write what is sent after the headers."""
        return where.body

    def judge(self, stream: Stream) -> None:
        """Raise `Ended` if an answer is not the right one."""
        judge(stream.where, _number(stream.fields.get(":status", "")), stream.name)

    def leave(self) -> None:
        """Close it once its last stream has ended."""
        self._leaving = True
        self._end_if_left()

    # -- what goes out

    def _flush(self) -> None:
        self._write(self._h2.data_to_send())

    def _send(self, stream: Stream) -> None:
        """Send as much of a body as the server has room for."""
        number = stream.number
        while stream.unsent and not stream.answer.done():
            room = self._h2.local_flow_control_window(number)
            size = min(room, self._h2.max_outbound_frame_size, len(stream.unsent))
            if size <= 0:
                return
            part, stream.unsent = stream.unsent[:size], stream.unsent[size:]
            self._h2.send_data(number, part, end_stream=not stream.unsent)

    def _cancel(self, stream: Stream) -> None:
        try:
            self._h2.reset_stream(stream.number, h2.errors.ErrorCodes.CANCEL)
        except h2.exceptions.ProtocolError:
            return  # it has ended meanwhile
        self._flush()

    def _end_if_left(self) -> None:
        if self._leaving and not self._streams:
            self.close()

    # -- what comes in

    def data_received(self, data: bytes) -> None:
        """Read frames."""
        try:
            for frame in self._frames(data):
                if frame[3] == _GOAWAY:
                    self._goaway(frame[_HEAD:])
                    continue
                for event in self._h2.receive_data(frame):
                    self._happened(event)
        except h2.exceptions.ProtocolError as error:
            self._fail(Ended("garbled", f"not HTTP/2: {error}"))
        self._flush()

    def _frames(self, data: bytes) -> Iterator[bytes]:
        """Cut what came into frames. Raises ProtocolError if it can't be HTTP/2."""
        self._unread += data
        while len(self._unread) >= _HEAD:
            size = int.from_bytes(self._unread[:3], "big")
            if size > _FRAME:
                raise h2.exceptions.ProtocolError("a frame is too long")
            if len(self._unread) < _HEAD + size:
                return
            frame, self._unread = self._unread[: _HEAD + size], self._unread[_HEAD + size :]
            yield frame

    def _happened(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RemoteSettingsChanged | h2.events.WindowUpdated):
            for stream in self._streams.values():
                self._send(stream)
        elif isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
            if found := self._of(event.stream_id):
                found.fields |= {str(name): str(value) for name, value in event.headers}
        elif isinstance(event, h2.events.DataReceived):
            size = event.flow_controlled_length
            self._h2.acknowledge_received_data(size, event.stream_id)
            if found := self._of(event.stream_id):
                found.messages.feed(event.data)
        elif isinstance(event, h2.events.StreamEnded):
            if found := self._of(event.stream_id):
                found.finish()
        elif isinstance(event, h2.events.StreamReset) and (found := self._of(event.stream_id)):
            found.fail(_reset(found, int(event.error_code)))

    def _of(self, number: int) -> Stream | None:
        stream = self._streams.get(number)
        if stream:
            stream.any = True
        return stream

    def _goaway(self, payload: bytes) -> None:
        """Send nothing new, and give back streams that the server has not looked at."""
        last = int.from_bytes(payload[:4], "big") & 0x7FFFFFFF
        code = _code(int.from_bytes(payload[4:8], "big"))
        above = [stream for number, stream in self._streams.items() if number > last]
        if not self._leaving:
            left = len(self._streams) - len(above)
            self._heard("goaway", f"GOAWAY ({code}): {left} streams go on, {len(above)} refused")
        self._leaving = True
        for stream in above:
            text = f"{stream.name}above the last one of GOAWAY ({code})"
            stream.fail(Ended("refused-stream", text, stream.where))
        self._end_if_left()

    def connection_lost(self, exc: Exception | None) -> None:
        """End, and with it every stream."""
        how = ended(exc) if exc is not None else None
        self._fail(how or Ended("eof-before"), by_end=how is None)

    def _fail(self, how: Ended, *, by_end: bool = False) -> None:
        self.lost = self.lost or how
        many = f" with {len(self._streams)} streams" if len(self._streams) > 1 else ""
        for stream in list(self._streams.values()):
            outcome = how.outcome
            if by_end:
                outcome = "eof-in" if stream.any else "eof-before"
            detail = Ended(outcome).detail if by_end else how.detail
            stream.fail(Ended(outcome, f"{stream.name}{detail}{many}"))
        if self._transport is not None:
            self._transport.close()


class Grpc(Http2):
    """The same for gRPC: a call ends with its status, in the trailers."""

    def body(self, where: Target) -> bytes:
        """Write the one message of the request."""
        return b"\0" + len(where.body).to_bytes(4, "big") + where.body

    def judge(self, stream: Stream) -> None:
        """Raise `Ended` if the call did not end with an expected status."""
        status = _number(stream.fields.get(":status", ""))
        if status != 200:  # something before the server answered
            raise Ended("status", f"{stream.name}HTTP status {status}")
        code = stream.fields.get("grpc-status")
        if code is None:
            text = f"{stream.name}ended after {stream.messages.whole} messages, without a status"
            raise Ended("no-trailers", text)
        number = _number(code)
        if number not in (frozenset(n for n in stream.where.expect if n < 100) or {0}):
            name = f" ({_STATUSES[number]})" if 0 <= number < len(_STATUSES) else ""
            raise Ended("grpc-status", f"{stream.name}grpc-status {number}{name}")
        if stream.messages.cut:
            raise Ended("garbled", f"{stream.name}a message was cut, and the status is {number}")


def _fields(where: Target) -> Iterator[tuple[str, str]]:
    yield ":method", where.method
    yield ":scheme", "https" if where.context else "http"
    yield ":authority", where.authority
    yield ":path", where.path
    for name, value in where.headers:
        yield name.lower(), value
    if where.protocol == "http2" and where.body:
        yield "content-length", str(len(where.body))


def _reset(stream: Stream, number: int) -> Ended:
    code = _code(number)
    if number == h2.errors.ErrorCodes.REFUSED_STREAM:
        return Ended("refused-stream", f"{stream.name}refused ({code})", stream.where)
    return Ended("stream-reset", f"{stream.name}cut with RST_STREAM ({code})")


def _code(number: int) -> str:
    try:
        return h2.errors.ErrorCodes(number).name
    except ValueError:
        return f"error {number}"


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
