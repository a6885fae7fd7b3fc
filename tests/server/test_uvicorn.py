"""What `connection` uses of uvicorn: a test fails if an upgrade changes it."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState


class Wire(asyncio.Transport):
    """A transport that remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.sent, self.closed = b"", False

    def write(self, data: Any) -> None:
        self.sent += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Held(HttpToolsProtocol):
    """As `Connection` does it: no task before all is there."""

    started: Any = None

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self.started = (cycle, app)


async def echo(scope: Any, receive: Callable[[], Awaitable[Any]], send: Any) -> None:
    message = await receive()
    assert not message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode() + message["body"]})


CALL = b"POST /%61?b=c HTTP/1.1\r\nHost: x\r\nX-Name: Y\r\nContent-Length: 2\r\n\r\nhi"


def protocol(kind: type[HttpToolsProtocol] = Held) -> tuple[Any, Wire]:
    config = uvicorn.Config(
        echo, http=kind, ws="none", lifespan="off", log_config=None, date_header=False
    )
    config.load()
    made, wire = kind(config, ServerState(), {}, asyncio.get_running_loop()), Wire()
    made.connection_made(wire)
    return made, wire


def test_the_parser_calls_back_and_keeps_what_it_read():
    async def run() -> None:
        made, _ = protocol()
        made.data_received(CALL)
        assert (made.url, made.headers[1], made.expect_100_continue) == (
            b"/%61?b=c",
            (b"x-name", b"Y"),
            False,
        )
        assert made.scope["path"] == "/a"
        assert made.scope["headers"] is made.headers
        for name in ("get_method", "get_http_version", "should_keep_alive", "should_upgrade"):
            assert callable(getattr(made.parser, name))

    asyncio.run(run())


def test_every_task_is_started_in_one_place_and_may_start_late():
    async def run() -> None:
        made, wire = protocol()
        made.data_received(CALL)
        cycle, app = made.started
        assert cycle is made.cycle
        assert (bytes(cycle.body), cycle.more_body) == (b"hi", False)
        cycle.keep_alive = False
        done = asyncio.Event()
        cycle.on_response = done.set
        HttpToolsProtocol._start_asgi_task(made, cycle, app)
        await asyncio.wait_for(done.wait(), 30)
        assert wire.sent.startswith(STATUS_LINE[200])
        assert wire.sent.endswith(b"/ahi\r\n0\r\n\r\n")
        assert b"connection: close\r\n" in wire.sent
        assert cycle.response_started and cycle.response_complete and wire.closed

    asyncio.run(run())


def test_a_cycle_ends_quietly_when_told_that_its_client_is_gone():
    async def run() -> None:
        made, wire = protocol()
        made.data_received(CALL)
        cycle, app = made.started
        cycle.disconnected = True
        cycle.message_event.set()
        await cycle.run_asgi(app)
        assert wire.sent == b""

    asyncio.run(run())


def test_the_rest_of_what_is_leaned_on_exists():
    assert STATUS_LINE[431] == b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    parameters = inspect.signature(RequestResponseCycle).parameters
    assert {"on_response", "keep_alive", "message_event", "expect_100_continue"} <= set(parameters)
    assert "waiting_for_100_continue" in inspect.getsource(RequestResponseCycle.__init__)
    for name in ("on_message_begin", "on_header", "on_headers_complete", "on_body"):
        assert callable(getattr(HttpToolsProtocol, name))
    assert callable(HttpToolsProtocol.on_response_complete)
