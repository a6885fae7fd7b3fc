"""Server-sent events: a stream of events over HTTP/1.1, what it holds and whether it is whole.

| what happens                                              | the stream is                      |
|-----------------------------------------------------------|------------------------------------|
| its last event (--last-event TEXT) comes, or its end      | whole                              |
| it never ends (-), and is open when its time is over      | whole                              |
| it ends earlier, and its events have ids                  | resumed from there (Last-Event-ID) |
| it ends earlier, and they have none, or it is a POST's    | lost                               |
| resumed, and the first event's number is not the next one | lost                               |

As HTML's EventSource in browsers does, except that this client reconnects without a wait.
"""

from collections.abc import Iterator
from typing import Final

from webhook.cli.prove.connection import Ended, Listener, Way, judge
from webhook.cli.prove.http1 import Http1
from webhook.cli.prove.target import ENDLESS, Target

_TYPE: Final = b"text/event-stream"
_LONGEST: Final = 1 << 20
"""Most bytes of a line; a longer one is not an event stream."""
_NO_CONTENT: Final = 204


class Decoder:
    """Lines in, events out (HTML, 9.2.6). last_id: as the last event said."""

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self._id = last_id
        self._rest = b""
        self._data: list[str] = []

    def feed(self, data: bytes) -> Iterator[str]:
        """Give the data of each event that is whole."""
        self._rest += data
        if len(self._rest) > _LONGEST and b"\n" not in self._rest:
            raise Ended("garbled", "not an event stream: a line is too long")
        *lines, self._rest = self._rest.replace(b"\r\n", b"\n").split(b"\n")
        for line in lines:
            yield from self._line(line.rstrip(b"\r").decode("utf-8", "replace"))

    def _line(self, line: str) -> Iterator[str]:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            self.last_id = self._id
            if self._data:
                yield "\n".join(self._data)
            self._data = []
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value


class EventStream(Http1):
    """One event stream on a connection of its own."""

    def __init__(self, way: Way, heard: Listener) -> None:
        super().__init__(way, heard)
        self._where: Target | None = None
        self._decoder = Decoder()
        self._count = 0
        self._whole = False
        self._next: int | None = None
        self._looking = False
        self._type = b""

    async def ask(self, where: Target, *, last: bool) -> None:
        """Follow a stream to its end."""
        self._where = where
        before = where.resumed[0] if where.resumed else ""
        self._next = where.resumed[1] if where.resumed else None
        self._decoder = Decoder(before)
        how: Ended | None = None
        try:
            status = await self._answer(where, last=last)
            judge(where, status)
            if self._whole or status == _NO_CONTENT or where.last_event is None:
                return
        except Ended as error:
            if not self._headed or error.outcome in ("status", "garbled", "gap"):
                raise
            how = error
        raise self._early(where, how)

    async def look(self, where: Target) -> None:
        """See only whether a stream begins."""
        self._looking = True
        await self.ask(where._replace(last_event=None), last=True)

    def _early(self, where: Target, how: Ended | None) -> Ended:
        """Say that a stream ended before its end, and how it goes on if it does."""
        last_id = self._decoder.last_id
        end = how.detail if how else "the answer was complete"
        text = f"the event stream ended after {self._count} events"
        if last_id and self._count and where.method == "GET":
            text += f", the last of them {last_id[:40]!r}: {end}"
            again = where._replace(resumed=(last_id, self._next))
            return Ended("cut-short", text, again, resumes=True)
        why = "" if last_id else ", without ids"
        return Ended("cut-short", f"{text}{why}: {end}")

    # -- what the parser tells

    def on_header(self, name: bytes, value: bytes) -> None:
        """See whether it is an event stream."""
        super().on_header(name, value)
        if name.lower() == b"content-type":
            self._type = value.partition(b";")[0].strip().lower()

    def on_headers_complete(self) -> None:
        """Begin to follow, or say what it is instead."""
        super().on_headers_complete()
        where, parser = self._where, self._parser
        if where is None or parser is None:
            return
        status = parser.get_status_code()
        if status < 200 or status == _NO_CONTENT:
            return
        if status not in where.expect:
            self._complete()
        elif self._type != _TYPE:
            self._fail(Ended("garbled", "not an event stream: another Content-Type"))
        elif self._looking:
            self._complete()
        else:
            self.way.streaming = where.endless

    def on_body(self, data: bytes) -> None:
        """Take a part of the stream."""
        where = self._where
        if where is None or self.answer is None or self.answer.done():
            return
        try:
            for event in self._decoder.feed(data):
                self._event(where, event)
        except Ended as how:
            self._fail(how)

    def _event(self, where: Target, data: str) -> None:
        self._count += 1
        number = self._decoder.last_id
        if number.isascii() and number.isdigit() and len(number) < 16:
            now = int(number)
            if self._count == 1 and self._next is not None and now > self._next:
                raise Ended("gap", f"resumed: event {self._next} should follow, {now} came")
            self._next = now + 1
        else:
            self._next = None
        if where.last_event not in (None, ENDLESS) and where.last_event in data:
            self._whole = True
            self._complete()
