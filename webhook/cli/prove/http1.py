"""HTTP/1.1: one request at a time on a connection."""

import asyncio
from typing import Final

import httptools

from webhook.cli.prove.connection import Connection, Ended, Listener, Way, ended, judge
from webhook.cli.prove.target import IDEMPOTENT, Target

_REPEATABLE: Final = frozenset({"reset", "eof-before"})


class Http1(Connection):
    """One connection: one request at a time."""

    def __init__(self, way: Way, heard: Listener) -> None:
        super().__init__(way, heard)
        self.answer: asyncio.Future[int] | None = None
        self.any = False
        self._asked = 0
        self._parser: httptools.HttpResponseParser | None = None
        self._headed = self._sized = self._again = self._bodyless = False

    @property
    def gone(self) -> bool:
        """Whether no further request may be sent on it: it ended, or the answer said so."""
        return self.lost is not None or not self._again

    @property
    def kept(self) -> bool:
        """Whether the answer said so."""
        return self._again

    async def ask(self, where: Target, *, last: bool) -> None:
        """Send a request and wait for its answer.

        If it ends on a used connection without a byte of answer, a client may send it once more, if
        its method is idempotent (RFC 9110, 9.2.2).
        """
        try:
            status = await self._answer(where, last=last)
        except Ended as how:
            silent = self._asked > 1 and not self.any and how.outcome in _REPEATABLE
            if silent and where.method in IDEMPOTENT:
                raise Ended(how.outcome, how.detail, where) from how
            raise
        judge(where, status)

    def _answer(self, where: Target, *, last: bool) -> "asyncio.Future[int]":
        if self.lost or self._transport is None:
            raise self.lost or Ended("eof-before")
        self.answer = asyncio.get_running_loop().create_future()
        self._asked += 1
        self.any = self._headed = self._sized = self._again = False
        self._parser = httptools.HttpResponseParser(self)
        self._bodyless = where.method == "HEAD"
        self._transport.write(where.request(close=last))
        return self.answer

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
            self._again = False
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
