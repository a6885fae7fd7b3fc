"""The states of a connection, for any bytes in any pieces: answers, keep-alive, counts, charges.

In memory: a listener without a port, a channel without a socket.
"""

import asyncio
import http.client
import io
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from webhook.server.channel import PLAIN_COST, Channel
from webhook.server.connection import ANSWERING, IDLE, LINGERING, Request, Response
from webhook.server.limits import Limits
from webhook.server.listener import Listener

LIMITS = Limits(head=512, body=2000, memory=(PLAIN_COST + 1500) * 4 // 3)


class Wire(asyncio.Transport):
    """A socket that remembers what it was given."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.loop, self.sent, self.closed, self.paused = loop, b"", False, False
        self.owing = 0

    def write(self, data: Any) -> None:
        assert not self.closed
        self.sent += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_write_buffer_size(self) -> int:
        return self.owing

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.1", 1) if name in ("peername", "sockname") else default


def call(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


CALLS = [
    (call("/now", b""), 200),
    (call("/now", b"{}"), 200),
    (call("/now", b"x" * 1200), 200),
    (call("/now", b"x" * 1900), 200),  # more than there is room for: answered from its beginning
    (call("/later", b"{}"), 200),
    (call("/other", b"{}"), 404),
    (call("/bug", b"{}"), 500),
    (call("/now", b"x" * 2001), 413),
    (call("/now", b"", "X-Long: " + "a" * 600), 431),
    (call("/now", b"{}", "Connection: Upgrade", "Upgrade: h2c"), 400),
    (b"POST /now HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 200),
    (b"hello\r\n\r\n", 400),
]
ENDS = {413, 431, 400}


def answers(data: bytes) -> list[tuple[int, bool]]:
    """Read all answers: status, and whether the connection stays."""

    class Source:
        def __init__(self, stream: io.BytesIO) -> None:
            self.stream = stream

        def makefile(self, _: str) -> io.BytesIO:
            return self.stream

    stream, found = io.BytesIO(data), []
    while stream.tell() < len(data):
        source = Source(stream)
        stream.close, answer = (lambda: None), http.client.HTTPResponse(source)
        answer.begin()
        body = answer.read()
        assert len(body) == int(answer.headers["content-length"])
        assert json.loads(body) is not None
        found.append((answer.status, answer.headers["connection"] != "close"))
    return found


async def not_found(_scope: Any, _receive: Any, send: Any) -> None:
    head = [(b"content-length", b"2"), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 404, "headers": head})
    await send({"type": "http.response.body", "body": b"{}"})


def now(request: Request) -> Response:
    return Response(200, b'"shed"' if request.shed else b'"%d"' % len(request.body))


async def soon(request: Request) -> Response:
    await asyncio.sleep(0)
    return now(request)


def bug(request: Request) -> Response:
    raise KeyError(request.body)


def made() -> tuple[Listener, Channel, Wire]:
    routes = {(b"POST", b"/now"): now, (b"POST", b"/later"): soon, (b"POST", b"/bug"): bug}
    listener = Listener(not_found, routes, LIMITS)
    wire = Wire(listener.loop)
    channel = Channel(listener)
    channel.connection_made(wire)
    return listener, channel, wire


def feed(channel: Channel, data: bytes) -> None:
    buffer = channel.get_buffer(-1)
    buffer[: len(data)] = data
    channel.buffer_updated(len(data))


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@given(
    calls=st.lists(st.sampled_from(CALLS), min_size=1, max_size=4),
    cuts=st.lists(st.integers(1, 700), min_size=1, max_size=6),
)
@settings(max_examples=300, deadline=None)
def test_calls_one_after_another_are_answered_in_order_until_one_ends_it(
    calls: list[tuple[bytes, int]], cuts: list[int]
):
    async def run() -> None:
        listener, channel, wire = made()
        expected = []
        for data, status in calls:
            at, turn = 0, 0
            while at < len(data):
                size = cuts[turn % len(cuts)]
                feed(channel, data[at : at + size])
                at, turn = at + size, turn + 1
            await settle()
            expected.append((status, status not in ENDS))
            if status in ENDS:
                break
        assert answers(wire.sent) == expected
        assert listener.in_flight == 0
        assert channel.upper.phase == (LINGERING if not expected[-1][1] else IDLE)
        assert listener.budget.held == PLAIN_COST, "nothing is kept of what was answered"

    asyncio.run(run())


@given(data=st.lists(st.sampled_from(CALLS), min_size=2, max_size=5), size=st.integers(100, 4000))
@settings(max_examples=200, deadline=None)
def test_calls_in_one_go_get_one_answer_or_as_many_as_came_apart(
    data: list[tuple[bytes, int]], size: int
):
    """Whatever meets whatever in a piece: in order, never more than was asked, and an end."""

    async def run() -> None:
        listener, channel, wire = made()
        whole = b"".join(part for part, _ in data)
        for at in range(0, len(whole), size):
            if not wire.closed:
                feed(channel, whole[at : at + size])
        await settle()
        found = answers(wire.sent)
        assert [status for status, _ in found] == [status for _, status in data[: len(found)]]
        assert all(stays for _, stays in found[:-1]), "an answer that ends it is the last"
        assert listener.in_flight in (0, 1)
        assert listener.budget.held <= LIMITS.memory

    asyncio.run(run())


@given(pieces=st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=20))
@settings(max_examples=300, deadline=None)
def test_any_bytes_at_all_leave_it_in_order(pieces: list[bytes]):
    async def run() -> None:
        listener, channel, wire = made()
        for piece in pieces:
            feed(channel, piece)
        await settle()
        assert len(answers(wire.sent)) <= 1
        channel.connection_lost(None)
        assert (listener.in_flight, listener.budget.held, listener.open) == (0, 0, 0)

    asyncio.run(run())


def test_a_client_that_does_not_take_its_answer_is_charged_for_it_and_cut():
    async def run() -> None:
        listener, channel, wire = made()
        feed(channel, call("/now", b"{}"))
        wire.owing = 1000
        listener._look(channel)
        assert listener.budget.held == PLAIN_COST + 1000
        listener.now += LIMITS.seconds - 1
        listener._look(channel)
        assert not wire.closed
        listener.now += LIMITS.idle
        listener._look(channel)
        assert wire.closed

    asyncio.run(run())


def test_a_client_that_asks_again_without_taking_its_answer_is_cut():
    async def run() -> None:
        _, channel, wire = made()
        feed(channel, call("/now", b"{}"))
        wire.owing = 1000
        feed(channel, call("/now", b"{}"))
        assert wire.closed
        assert len(answers(wire.sent)) == 1

    asyncio.run(run())


def test_a_client_that_leaves_while_its_answer_is_made_leaves_nothing_behind():
    async def run() -> None:
        listener, channel, wire = made()
        feed(channel, call("/later", b"{}"))
        assert channel.upper.phase == ANSWERING
        channel.connection_lost(ConnectionResetError())
        await settle()
        assert wire.sent == b""
        assert (listener.in_flight, listener.budget.held, listener.open) == (0, 0, 0)

    asyncio.run(run())
