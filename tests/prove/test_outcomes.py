"""Each way to lose a request is counted once, as what it is, and nothing else is counted."""

import socket
import ssl
from functools import partial
from typing import Any

import pytest
import trustme

from tests.prove import command
from tests.prove.command import FIRST
from tests.prove.servers import ANSWER, Behaviour, Server, answer, reset, serve
from webhook.cli import main

prove = partial(command.prove, rate=50, seconds=1)


def only(behaviour: Behaviour, number: int) -> Behaviour:
    """Behave like that for one request, and well for all others."""

    def mixed(server: Server, connection: socket.socket) -> None:
        while (found := server.request(connection)) and found != number:
            connection.sendall(ANSWER)
        if found:
            behaviour(server, connection)

    return mixed


def wrong_status(_: Server, connection: socket.socket) -> None:
    connection.sendall(ANSWER.replace(b"200 OK", b"502 Bad Gateway"))


def silent(server: Server, _: socket.socket) -> None:
    server.stopping.wait(20)


BEHAVIOURS: dict[str, Behaviour] = {
    "reset": lambda _, connection: reset(connection),
    "eof-before": lambda _, connection: connection.close(),
    "eof-in": lambda _, connection: connection.sendall(ANSWER[:-1]),
    "status": wrong_status,
    "timeout": silent,
    "garbled": lambda _, connection: connection.sendall(b"SSH-2.0-OpenSSH\r\n"),
}


@pytest.mark.parametrize("outcome", BEHAVIOURS)
def test_a_request_lost_on_a_new_connection_is_counted_as_what_it_was(
    outcome: str, capsys: pytest.CaptureFixture[str]
) -> None:
    patience = "2" if outcome == "timeout" else "30"  # the machine may be busy
    with serve(only(BEHAVIOURS[outcome], FIRST + 10)) as server:
        report = prove(
            server.url, "--connections", "0", "--timeout", patience, expected=3, capsys=capsys
        )
    new = report["clients"]["new"]
    assert new["outcomes"] == {outcome: 1}
    assert new["sent"] in range(12, 52)
    assert [loss["outcome"] for loss in report["losses"]] == [outcome]
    assert server.count == FIRST + new["sent"]


def test_a_closed_listener_refuses_and_the_timeline_says_when(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def leave(server: Server, connection: socket.socket) -> None:
        number = server.request(connection)
        if number == FIRST + 25:
            server.close_listener()
        connection.sendall(ANSWER)

    with serve(leave) as server:
        report = prove(server.url, "--connections", "0", expected=3, capsys=capsys)
    new = report["clients"]["new"]
    assert new["outcomes"] == {"refused": new["lost"]}
    assert new["ok"] >= 25
    assert sum(row["marks"].get("refused", 0) for row in report["timeline"]) == new["lost"]
    assert all(loss["at"] > 0.3 for loss in report["losses"])


def test_a_good_server_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with serve(answer) as server:
        report = prove(server.url, expected=0, capsys=capsys)
    assert set(report["clients"]) == {"new", "keep-alive"}
    assert report["lost"] == report["retried"] == 0
    # Eight connections, and some more where an answer was late for the next turn.
    kept = server.connections - FIRST - report["clients"]["new"]["sent"]
    assert 8 <= kept < report["clients"]["keep-alive"]["sent"]


def test_a_connection_closed_while_idle_is_replaced_without_a_word(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each connection serves one request and closes half way to the next: none can be lost."""

    def once(server: Server, connection: socket.socket) -> None:
        if server.request(connection):
            connection.sendall(ANSWER)
            server.stopping.wait(0.2)

    with serve(once) as server:
        report = prove(
            server.url,
            "--no-new",
            "--rate",
            "5",
            "--connections",
            "2",
            "--duration",
            "3",
            expected=0,
            capsys=capsys,
        )
    kept = report["clients"]["keep-alive"]
    assert kept["lost"] == kept["retried"] == 0
    assert kept["reconnected"] == kept["sent"] - 2


def test_connection_close_in_an_answer_is_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    def polite(server: Server, connection: socket.socket) -> None:
        if server.request(connection):
            connection.sendall(ANSWER.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            server.request(connection)  # none may come

    with serve(polite) as server:
        report = prove(server.url, "--no-new", expected=0, capsys=capsys)
    assert server.count == FIRST + report["sent"] == server.connections
    assert report["clients"]["keep-alive"]["reconnected"] == 0


@pytest.mark.parametrize("ending", ["eof-before", "reset"])
def test_a_used_connection_that_ends_without_a_byte_is_tried_again(
    ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve(only(BEHAVIOURS[ending], FIRST + 20)) as server:
        report = prove(server.url, "--no-new", expected=0, capsys=capsys)
    assert report["retried"] == 1
    assert server.count == FIRST + report["sent"] + 1

    with serve(only(BEHAVIOURS[ending], FIRST + 20)) as server:
        report = prove(server.url, "--no-new", "--no-retry", expected=3, capsys=capsys)
    assert report["clients"]["keep-alive"]["outcomes"] == {ending: 1}


def test_a_fresh_connection_that_ends_is_not_tried_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A server that closes what it has just accepted has lost the request: no client hides it."""
    with serve(only(BEHAVIOURS["eof-before"], FIRST + 3)) as server:
        report = prove(server.url, "--no-new", expected=3, capsys=capsys)
    assert report["clients"]["keep-alive"]["outcomes"] == {"eof-before": 1}
    assert report["retried"] == 0


def test_an_answer_that_has_begun_is_never_tried_again(capsys: pytest.CaptureFixture[str]) -> None:
    with serve(only(BEHAVIOURS["eof-in"], FIRST + 20)) as server:
        report = prove(server.url, "--no-new", expected=3, capsys=capsys)
    assert report["clients"]["keep-alive"]["outcomes"] == {"eof-in": 1}
    assert report["retried"] == 0


@pytest.mark.parametrize(
    ("shape", "body"),
    {
        "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "until the end of the connection": b"HTTP/1.1 200 OK\r\n\r\nok",
        "early hints first": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ANSWER,
        "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\nok",
    }.items(),
)
def test_every_shape_of_an_answer_counts(
    shape: str, body: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    def shaped(server: Server, connection: socket.socket) -> None:
        if server.request(connection):
            connection.sendall(body)

    with serve(shaped) as server:
        report = prove(server.url, expected=0, capsys=capsys)
    assert report["lost"] == 0, shape


def test_a_slow_answer_in_flight_at_the_end_is_waited_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def slow(server: Server, connection: socket.socket) -> None:
        if server.request(connection):
            server.stopping.wait(1.5)
            connection.sendall(ANSWER)

    with serve(answer) as quick, serve(slow) as late:
        report = prove(
            quick.url, "--slow-url", late.url, "--slow-rate", "3", expected=0, capsys=capsys
        )
    assert report["clients"]["slow"]["sent"] == report["clients"]["slow"]["ok"] == 3
    assert report["clients"]["slow"]["p50Seconds"] >= 1.5


def test_an_open_loop_does_not_wait_for_slow_answers(capsys: pytest.CaptureFixture[str]) -> None:
    """One connection, answers of 0.4 s, 20 requests a second: all leave on time, on several."""

    def slow(server: Server, connection: socket.socket) -> None:
        while server.request(connection):
            server.stopping.wait(0.4)
            connection.sendall(ANSWER)

    with serve(slow) as server:
        report = prove(
            server.url, "--no-new", "--rate", "20", "--connections", "1", expected=0, capsys=capsys
        )
    assert report["sent"] in range(8, 22)
    assert report["clients"]["keep-alive"]["maxSeconds"] < 1.2


def test_https_is_verified_against_the_given_authority(
    capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    with serve(answer, context) as server:
        report = prove(server.url, "--ca", str(tmp_path / "ca.crt"), expected=0, capsys=capsys)
        assert report["clients"]["keep-alive"]["ok"] > 5
        assert main(["prove", server.url, "--duration", "1"]) == 1
        assert "TLS" in capsys.readouterr().err
        prove(server.url, "--insecure", expected=0, capsys=capsys)
