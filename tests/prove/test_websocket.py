"""WebSockets: a message without its answer is lost; a close between messages is a reconnect.

1006 is neither.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

from tests.prove.command import FIRST, prove

Act = Callable[[ServerConnection], object]


class Echo:
    """A real server that answers each message with itself, and does something else to some.

    at: by the number of the connection and of the message on it: instead of its answer. after: the
    same, right after the answer.
    """

    def __init__(
        self, at: Act | None = None, after: Act | None = None, on: int = FIRST + 1
    ) -> None:
        self._at, self._after, self._on = at, after, on
        self._lock = threading.Lock()
        self.connections = self.messages = 0

    def __call__(self, connection: ServerConnection) -> None:
        with self._lock:
            self.connections += 1
            mine = self.connections == self._on
        with contextlib.suppress(ConnectionClosed):
            for count, message in enumerate(connection, 1):
                with self._lock:
                    self.messages += 1
                if mine and count == 3 and self._at:
                    self._at(connection)
                    return
                connection.send(message)
                if mine and count == 3 and self._after:
                    self._after(connection)
                    return


def cut(connection: ServerConnection) -> None:
    """End the connection without a close frame, as a killed server does."""
    connection.socket.shutdown(2)


@contextlib.contextmanager
def serving(
    handler: Callable[[ServerConnection], None], **more: Any
) -> Iterator[tuple[str, Server]]:
    with serve(handler, "127.0.0.1", 0, **more) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/chat", server
        finally:
            server.shutdown()
            thread.join()


KEPT = ("--no-new", "--connections", "2", "--body", "hello")


def test_each_message_is_answered_over_new_and_kept_connections(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with serving(echo := Echo()) as (url, _):
        report = prove(url, "--body", "hello", expected=0, capsys=capsys)
    assert report["lost"] == 0
    assert echo.messages == FIRST + report["sent"]
    assert echo.connections <= FIRST + report["clients"]["new"]["sent"] + 12


def test_without_a_body_a_ping_is_owed_its_pong(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(echo := Echo()) as (url, _):
        report = prove(url, expected=0, capsys=capsys)
    assert report["sent"] > 10
    assert echo.messages == 0


@pytest.mark.parametrize("code", [1001, 1012])
def test_a_close_between_messages_is_a_reconnect(
    code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(Echo(after=lambda c: c.close(code))) as (url, _):
        report = prove(url, *KEPT, expected=0, capsys=capsys)
    assert report["clients"]["keep-alive"]["reconnected"] == 1
    (notice,) = report["notices"]
    assert notice["detail"].startswith(f"closed with {code} (")
    assert notice["detail"].endswith("after 3 messages")


LOSSES: dict[str, tuple[Echo, str, str]] = {
    "closed before the answer": (
        Echo(at=lambda c: c.close(1001)),
        "closed",
        "message 3: closed with 1001 (going away) before its answer",
    ),
    "cut before the answer": (
        Echo(at=cut),
        "abnormal",
        "message 3: closed without a close frame (1006)",
    ),
    "cut between messages": (
        Echo(after=lambda c: (time.sleep(0.03), cut(c))),
        "abnormal",
        "between messages: closed without a close frame (1006)",
    ),
    "an error between messages": (
        Echo(after=lambda c: (time.sleep(0.03), c.close(1011))),
        "closed",
        "between messages: closed with 1011 (internal error)",
    ),
    "no answer in time": (
        Echo(at=lambda _: time.sleep(3)),
        "timeout",
        "no complete answer in time",
    ),
}


@pytest.mark.parametrize("case", LOSSES)
def test_a_message_lost_on_purpose_is_counted_as_what_it_was(
    case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    echo, outcome, detail = LOSSES[case]
    words = ["--timeout", "3"] if outcome == "timeout" else []
    # Half a second from message to message on a connection: what happens between them does.
    words += ["--rate", "4", "--duration", "3"] if "between" in case else []
    with serving(echo) as (url, _):
        report = prove(url, *KEPT, *words, expected=3, capsys=capsys)
    (loss,) = report["losses"]
    assert report["clients"]["keep-alive"]["outcomes"] == {outcome: 1}
    assert loss["detail"] == detail
    assert report["retried"] == 0


def test_an_upgrade_that_is_answered_otherwise_is_a_status(
    capsys: pytest.CaptureFixture[str],
) -> None:
    number = 0

    def request(connection: ServerConnection, _: Any) -> Any:
        nonlocal number
        number += 1
        return connection.respond(503, "no") if number == FIRST + 10 else None

    with serving(Echo(), process_request=request) as (url, _):
        report = prove(url, "--connections", "0", expected=3, capsys=capsys)
    assert report["clients"]["new"]["outcomes"] == {"status": 1}
    assert report["losses"][0]["detail"] == "status 503 instead of the upgrade"


def test_a_server_that_shuts_down_tells_its_clients(capsys: pytest.CaptureFixture[str]) -> None:
    """`websockets` closes with 1001 at its stop: a reconnect, which nobody here answers."""
    with serving(echo := Echo()) as (url, server):

        def stop() -> None:
            while echo.messages < 10:
                time.sleep(0.02)
            server.shutdown()

        stopper = threading.Thread(target=stop)
        stopper.start()
        report = prove(url, *KEPT, expected=3, capsys=capsys)
        stopper.join()
    assert {notice["name"] for notice in report["notices"]} <= {"close"}
    assert report["clients"]["keep-alive"]["outcomes"].keys() <= {"refused", "closed", "reset"}


def test_a_large_binary_message_and_headers_arrive(
    capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    heard: list[tuple[bytes | str, str]] = []

    def handler(connection: ServerConnection) -> None:
        for message in connection:
            heard.append((message, connection.request.headers["X-Token"]))
            connection.send(message)

    body = b"\xff" * 200_000
    (tmp_path / "body").write_bytes(body)
    with serving(handler) as (url, _):
        words = ["--body", f"@{tmp_path}/body", "-H", "X-Token: t", "--rate", "5"]
        report = prove(url, *words, expected=0, capsys=capsys)
    assert len(heard) == FIRST + report["sent"]
    assert set(heard) == {(body, "t")}
