"""Server-sent events: a stream is whole, or resumed where its ids allow it, or lost."""

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import uvicorn

from tests.prove import command
from tests.prove.command import FIRST
from tests.prove.servers import Server, reset, serve
from webhook.cli import main
from webhook.cli.prove.events import Decoder

prove = partial(command.prove, rate=20, seconds=1)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
Play = Callable[[socket.socket, int, int], object]
"""Is called with the connection, the number of the stream, and the last id that the client had."""


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(number: int, data: str = "x", *, ids: bool = True) -> bytes:
    return chunk((f"id: {number}\n" if ids else "").encode() + f"data: {data}\n\n".encode())


def streams(play: Play) -> Callable[[Server, socket.socket], None]:
    """Read a request and its Last-Event-ID, then play."""

    def behave(server: Server, connection: socket.socket) -> None:
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            if not (more := connection.recv(4096)):
                return
            data += more
        with server.lock:
            server.count += 1
            number = server.count
        assert b"Accept: text/event-stream\r\n" in data
        _, found, rest = data.partition(b"Last-Event-ID: ")
        connection.sendall(HEAD)
        play(connection, number, int(rest.partition(b"\r\n")[0]) if found else 0)

    return behave


def whole(connection: socket.socket, first: int, *, ids: bool = True) -> None:
    for number in range(first, 6):
        connection.sendall(event(number, "[DONE]" if number == 5 else "x", ids=ids))
    connection.sendall(chunk(b""))


def broken(
    *, ids: bool = True, end: str = "cut", resume: int | None = 1
) -> Callable[[socket.socket, int, int], None]:
    """End the fourth stream after two events; resume it this many events past the client's last."""

    def play(connection: socket.socket, number: int, last: int) -> None:
        if number == FIRST + 3:
            connection.sendall(event(1, ids=ids) + event(2, ids=ids))
            if end == "whole":
                connection.sendall(chunk(b""))
            elif end == "reset":
                time.sleep(0.1)  # until the client has the events: a reset takes what it has not
                reset(connection)
        elif last and resume is None:
            reset(connection)
        else:
            whole(connection, last + (resume or 1) if last else 1, ids=ids)

    return play


def url_of(server: Server) -> str:
    return f"sse://127.0.0.1:{server.port}/events"


DONE = ("--last-event", "[DONE]")


def test_whole_streams_are_each_on_a_connection_of_their_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with serve(streams(lambda c, *_: whole(c, 1))) as server:
        for words in ((), DONE):
            report = prove(url_of(server), *words, expected=0, capsys=capsys)
            assert set(report["clients"]) == {"new"}
            assert report["lost"] == report["retried"] == 0


@pytest.mark.parametrize("end", ["cut", "reset", "whole"])
def test_a_stream_with_ids_that_ends_early_is_resumed(
    end: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve(streams(broken(end=end))) as server:
        report = prove(url_of(server), *DONE, expected=0, capsys=capsys)
    assert report["lost"] == 0
    assert report["retried"] == 1
    assert "ended after 2 events, the last of them '2': " in report["retries"][0]["detail"]
    assert server.count == FIRST + report["sent"] + 1


LOSSES: dict[str, tuple[Play, tuple[str, ...], str, str]] = {
    "without ids": (broken(ids=False), DONE, "cut-short", "after 2 events, without ids: the conn"),
    "ended well, without ids": (broken(ids=False, end="whole"), DONE, "cut-short", "was complete"),
    "cut, without a last event": (broken(ids=False), (), "cut-short", "after 2 events"),
    "of a POST": (broken(), (*DONE, "-X", "POST"), "cut-short", "after 2 events: the connection"),
    "not resumed": (broken(resume=None), DONE, "cut-short", "after 0 events"),
    "resumed with a gap": (broken(resume=3), DONE, "gap", "event 3 should follow, 5 came"),
    "--no-retry": (broken(), (*DONE, "--no-retry"), "cut-short", "the last of them '2'"),
}


@pytest.mark.parametrize("case", LOSSES)
def test_a_stream_lost_on_purpose_is_counted_as_what_it_was(
    case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    play, words, outcome, detail = LOSSES[case]
    with serve(streams(play)) as server:
        report = prove(url_of(server), *words, expected=3, capsys=capsys)
    (loss,) = report["losses"]
    assert loss["outcome"] == outcome
    assert detail in loss["detail"]


def test_an_endless_stream_is_whole_as_long_as_it_is_watched(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def play(connection: socket.socket, number: int, _: int) -> None:
        with contextlib.suppress(OSError):
            for _ in range(100):
                connection.sendall(event(1, ids=False))
                time.sleep(0.05)
                if number == FIRST + 3:
                    return

    words = ("--last-event", "-", "--timeout", "0.5", "--rate", "10")
    with serve(streams(play)) as server:
        report = prove(url_of(server), *words, expected=3, capsys=capsys)
        assert report["clients"]["new"]["outcomes"] == {"cut-short": 1}
        # Without the word it is a stream whose end never comes.
        report = prove(url_of(server), *words[2:], expected=3, capsys=capsys)
        assert report["clients"]["new"]["outcomes"] == {"timeout": report["sent"]}


def test_what_is_no_event_stream_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    def page(server: Server, connection: socket.socket) -> None:
        if server.request(connection):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\nhello")

    with serve(page) as server:
        assert main(["prove", url_of(server)]) == 1
    assert "not an event stream" in capsys.readouterr().err


def test_events_are_read_however_they_are_cut() -> None:
    text = b": hi\nid: 7\nevent: x\ndata: a\r\ndata:  b\r\n\r\nid: 8\n\nid: 9\ndata: c\n\ndata: d"
    for size in (1, 2, 3, 100):
        decoder = Decoder()
        found = [
            (decoder.last_id, data)
            for at in range(0, len(text), size)
            for data in decoder.feed(text[at : at + size])
        ]
        assert found == [("7", "a\n b"), ("9", "c")], size


# -- a real server


async def feed(scope: Any, receive: Any, send: Any) -> None:
    """Forty events in two seconds, with ids, from where the client was."""
    del receive
    headers = dict(scope["headers"])
    begin = int(headers.get(b"last-event-id", b"0")) + 1
    kind = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": kind})
    import asyncio  # noqa: PLC0415

    for number in range(begin, 41):
        data = f"id: {number}\ndata: {'[DONE]' if number == 40 else number}\n\n".encode()
        await send({"type": "http.response.body", "body": data, "more_body": True})
        await asyncio.sleep(0.05)
    await send({"type": "http.response.body"})


@contextlib.contextmanager
def serving(listener: socket.socket) -> Iterator[uvicorn.Server]:
    config = uvicorn.Config(feed, log_config=None, lifespan="off", timeout_graceful_shutdown=0)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join()


def test_a_stream_that_uvicorn_cuts_at_its_stop_goes_on_with_the_next(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two servers on one port, like replicas; the one with the streams is stopped midway."""
    first = socket.socket()
    first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    first.bind(("127.0.0.1", 0))
    second = socket.socket()
    second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    url = f"sse://127.0.0.1:{first.getsockname()[1]}/"
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(serving(first))

        def replace() -> None:
            while len(old.server_state.connections) < 4:
                time.sleep(0.02)
            second.bind(first.getsockname())
            stack.enter_context(serving(second))
            time.sleep(0.3)
            old.should_exit = True

        actor = threading.Thread(target=replace)
        actor.start()
        words = ["--rate", "5", "--duration", "2", *DONE, "--max-lost", "2"]
        report = prove(url, *words, expected=0, capsys=capsys)
        actor.join()
    # A connection in the queue of a listener that closes is reset: the kernel's, not the stream's.
    assert report["clients"]["new"]["outcomes"].keys() <= {"reset", "eof-before"}
    assert report["retried"] >= 2
    assert all("the last of them" in retry["detail"] for retry in report["retries"])


def test_what_serves_does_not_load_the_libraries_of_the_proof() -> None:
    script = (
        "import sys\nfrom webhook.cli import main, parser\nparser(); parser('serve'); "
        "parser('prove')\n"
        "import webhook.cli.prove.run\n"
        "print(sorted({'h2', 'websockets', 'jinja2', 'rich', 'grpc'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"
