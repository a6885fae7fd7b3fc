"""A WebSocket: a message and the one that answers it, and how a connection ends (RFC 6455).

With a body, each message that is sent gets one message back; without, a ping gets its pong, as from
every server. What an end means for a client, with a message in flight or between messages:

| how it ends                                 | in flight | between messages             |
|---------------------------------------------|-----------|------------------------------|
| closed with 1000, 1001, 1012, 1013, no code | lost      | nothing: a client reconnects |
| closed with another code                    | lost      | lost: an error in the server |
| no close frame (1006)                       | lost      | lost: it broke               |

A client can't know whether the server has seen an unanswered message, so it never sends one again.
"""

import asyncio
from typing import Final

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.uri import WebSocketURI

from webhook.cli.prove.connection import Connection, Ended, Listener, Way, ended
from webhook.cli.prove.target import Target

_CODES: Final = {
    1000: "normal closure",
    1001: "going away",
    1002: "protocol error",
    1005: "no code",
    1011: "internal error",
    1012: "service restart",
    1013: "try again later",
    1014: "bad gateway",
}
_RECONNECT: Final = frozenset({1000, 1001, 1005, 1012, 1013})
"""Codes after which a client connects again, as if nothing had happened (RFC 6455, 7.4; IANA)."""


class WebSocket(Connection):
    """One WebSocket: one message at a time."""

    def __init__(self, way: Way, heard: Listener) -> None:
        super().__init__(way, heard)
        self._protocol: ClientProtocol | None = None
        self._answer: asyncio.Future[None] | None = None
        self._number = 0
        self._pinged: bytes | None = None
        self._closed = False

    async def begin(self, where: Target) -> None:
        """Upgrade the connection."""
        name, _, query = where.path.partition("?")
        uri = WebSocketURI(bool(where.context), where.host, where.port, name, query, None, None)
        protocol = self._protocol = ClientProtocol(uri, max_size=None)
        request = protocol.connect()
        del request.headers["Host"]
        request.headers["Host"] = where.authority
        for field, value in where.headers:
            request.headers[field] = value
        self._answer = asyncio.get_running_loop().create_future()
        protocol.send_request(request)
        self._flush()
        if self.lost:
            raise self.lost
        await self._answer

    async def ask(self, where: Target, *, last: bool) -> None:
        """Send a message, or a ping without a body, and wait for the answer."""
        protocol = self._protocol
        if self.lost or protocol is None:
            raise self.lost or Ended("abnormal")
        self._number += 1
        self._answer = asyncio.get_running_loop().create_future()
        if where.body:
            self._pinged = None
            text = _is_text(where.body)
            (protocol.send_text if text else protocol.send_binary)(where.body)
        else:
            self._pinged = self._number.to_bytes(4, "big")
            protocol.send_ping(self._pinged)
        self._flush()
        await self._answer
        if last and protocol.state is State.OPEN:
            protocol.send_close(1000)
            self._flush()

    def close(self) -> None:
        """Close the connection."""
        self._closed = True
        super().close()

    # -- what comes in

    def data_received(self, data: bytes) -> None:
        """Read the answer to the upgrade, and frames."""
        protocol = self._protocol
        if protocol is None or self._closed:
            return
        protocol.receive_data(data)
        self._flush()  # the answer to a close frame, before the connection closes
        for event in protocol.events_received():
            if isinstance(event, Frame):
                self._frame(event)
            elif isinstance(event, Response | Request):
                self._upgraded(protocol.handshake_exc)
        if protocol.parser_exc is not None:
            self._fail(Ended("garbled", f"not WebSocket: {protocol.parser_exc}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """End. Without a close frame before it, that is abnormal."""
        if self.lost or self._closed:
            return
        how = "closed" if exc is None else ended(exc).detail.removeprefix("the connection was ")
        if self._number == 0 and self._owed:
            self._fail(ended(exc) if exc is not None else Ended("eof-before"))
        else:
            where = f"message {self._number}: " if self._owed else "between messages: "
            self._fail(Ended("abnormal", f"{where}{how} without a close frame (1006)"))

    def _upgraded(self, error: Exception | None) -> None:
        if error is None:
            self._done()
        elif isinstance(error, InvalidStatus):
            status = error.response.status_code
            self._fail(Ended("status", f"status {status} instead of the upgrade"))
        else:
            self._fail(Ended("garbled", f"not WebSocket: {error}"))

    def _frame(self, frame: Frame) -> None:
        match frame.opcode:
            case Opcode.TEXT | Opcode.BINARY | Opcode.CONT if frame.fin and self._pinged is None:
                self._done()
            case Opcode.PONG if frame.data == self._pinged:
                self._done()
            case Opcode.CLOSE:
                self._told(int.from_bytes(frame.data[:2], "big") or 1005)

    def _told(self, code: int) -> None:
        """Close, as the server asks."""
        text = f"closed with {code} ({_CODES.get(code, 'an error')})"
        if self._owed:
            self._fail(Ended("closed", f"message {self._number}: {text} before its answer"))
        elif code in _RECONNECT:
            self.lost = Ended("closed", text)
            self._heard("close", f"{text} after {self._number} messages")
        else:
            self._fail(Ended("closed", f"between messages: {text}"))

    # -- what happens to the message in flight

    @property
    def _owed(self) -> bool:
        return self._answer is not None and not self._answer.done()

    def _done(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(None)

    def _fail(self, how: Ended) -> None:
        """End: it loses the message in flight, or else counts as a separate loss."""
        if self.lost:
            return
        self.lost = how
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(how)
        else:
            self._heard(how.outcome, how.detail)
        if self._transport is not None:
            self._transport.close()

    def _flush(self) -> None:
        if self._protocol is None:
            return
        for data in self._protocol.data_to_send():
            if data:
                self._write(data)
            elif self._transport is not None and self._transport.can_write_eof():
                self._transport.write_eof()


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True
