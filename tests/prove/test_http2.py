"""HTTP/2 and gRPC: each way in which a stream ends has its own count; a GOAWAY loses nothing."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.prove.command import FIRST, prove
from tests.prove.http2 import Peer, Play, application, grpc_server, hypercorn, streams
from tests.prove.servers import reset, serve
from webhook.cli import main

REFUSED, INTERNAL = 0x7, 0x2


def once(act: Play, well: Play, number: int = FIRST + 6) -> Play:
    """Do that to one request, and answer all others."""

    def play(peer: Peer, stream: int, count: int) -> None:
        (act if count == number else well)(peer, stream, count)

    return play


def answer(peer: Peer, stream: int, _: int) -> None:
    peer.answer(stream)


def call(peer: Peer, stream: int, _: int) -> None:
    peer.call(stream)


def begin(peer: Peer, stream: int) -> None:
    peer.headers(stream, ("content-type", "application/grpc"))
    peer.data(stream, bytes(5))


def cut(peer: Peer, stream: int, _: int) -> None:
    begin(peer, stream)
    peer.socket.shutdown(2)


def torn(peer: Peer, stream: int, _: int) -> None:
    begin(peer, stream)
    reset(peer.socket)


def no_trailers(peer: Peer, stream: int, _: int) -> None:
    begin(peer, stream)
    peer.data(stream, b"", end=True)


def half_a_message(peer: Peer, stream: int, _: int) -> None:
    peer.headers(stream, ("content-type", "application/grpc"))
    peer.data(stream, b"\0\0\0\0\x05ab")
    peer.trailers(stream, ("grpc-status", "0"))


ENDS: dict[str, tuple[str, Play, str]] = {
    "a stream is reset": ("h2c", lambda p, s, _: p.reset(s, INTERNAL), "stream-reset"),
    "the connection is closed before the answer": (
        "h2c",
        lambda p, *_: p.socket.shutdown(2),
        "eof-before",
    ),
    "the connection is closed in the answer": ("h2c", cut, "eof-in"),
    "the connection is reset in the answer": ("h2c", torn, "reset"),
    "another status": ("h2c", lambda p, s, _: p.answer(s, "503"), "status"),
    "the connection goes on in another protocol": (
        "h2c",
        lambda p, *_: p.socket.sendall(b"HTTP/1.1 400 B"),
        "garbled",
    ),
    "a call ends with UNAVAILABLE": ("grpc", lambda p, s, _: p.call(s, "14"), "grpc-status"),
    "a call ends without trailers": ("grpc", no_trailers, "no-trailers"),
    "a call is reset": ("grpc", lambda p, s, _: p.reset(s, INTERNAL), "stream-reset"),
    "a call is cut between messages": ("grpc", cut, "eof-in"),
    "a message is cut": ("grpc", half_a_message, "garbled"),
    "a proxy answers in HTTP": ("grpc", lambda p, s, _: p.answer(s, "502"), "status"),
}


@pytest.mark.parametrize("case", ENDS)
def test_a_stream_lost_on_purpose_is_counted_as_what_it_was(
    case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scheme, act, outcome = ENDS[case]
    with serve(streams(once(act, call if scheme == "grpc" else answer))) as server:
        url = f"{scheme}://127.0.0.1:{server.port}/x"
        report = prove(url, "--no-new", "--connections", "1", expected=3, capsys=capsys)
    # Where a connection ends, other streams may have been on it, without a byte of answer.
    outcomes = report["clients"]["keep-alive"]["outcomes"]
    assert outcomes.pop(outcome) >= 1
    assert outcomes.keys() <= ({"eof-before"} if act in (cut, torn) else set())
    assert all(loss["detail"].startswith("stream ") for loss in report["losses"])
    assert report["retried"] == 0
    assert report["clients"]["keep-alive"]["ok"] > 6


def test_the_detail_names_the_stream_and_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    play = once(lambda p, s, _: p.call(s, "14"), call, FIRST + 3)
    with serve(streams(play)) as server:
        url = f"grpc://127.0.0.1:{server.port}"
        report = prove(url, "--no-new", "--connections", "1", expected=3, capsys=capsys)
        assert report["losses"][0]["detail"] == "stream 5: grpc-status 14 (UNAVAILABLE)"
        assert prove(url, "--expect", "0,14", expected=0, capsys=capsys)["lost"] == 0


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_refused_stream_is_asked_again_whatever_its_method(
    method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server says that it has not looked at it: even a POST may be sent again."""
    play = once(lambda p, s, _: p.reset(s, REFUSED), answer)
    words = ["--no-new", "-X", method, "--body", "x" * 100_000]
    with serve(streams(play)) as server:
        url = f"h2c://127.0.0.1:{server.port}/"
        report = prove(url, *words, expected=0, capsys=capsys)
    assert report["retried"] == 1
    assert "REFUSED_STREAM" in report["retries"][0]["detail"]
    assert server.count == FIRST + report["sent"] + 1
    with serve(streams(play)) as server:
        url = f"h2c://127.0.0.1:{server.port}/"
        report = prove(url, *words, "--no-retry", expected=3, capsys=capsys)
    assert report["clients"]["keep-alive"]["outcomes"] == {"refused-stream": 1}


def test_a_stream_refused_twice_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    def play(peer: Peer, stream: int, count: int) -> None:
        if count in (FIRST + 6, FIRST + 7):
            peer.reset(stream, REFUSED)
        else:
            peer.answer(stream)

    with serve(streams(play)) as server:
        url = f"h2c://127.0.0.1:{server.port}/"
        report = prove(url, "--no-new", expected=3, capsys=capsys)
    assert report["clients"]["keep-alive"]["outcomes"] == {"refused-stream": 1}


def test_a_goaway_lets_go_on_what_it_covers_and_sends_again_what_it_does_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Ten streams are open: half a second later the five below the last id get answers."""
    open_streams: list[int] = []

    def play(peer: Peer, stream: int, _: int) -> None:
        if peer.server.connections != 2:  # the look, and those after the GOAWAY
            peer.answer(stream)
            return
        open_streams.append(stream)
        if len(open_streams) == 10:
            peer.goaway(open_streams[4])
            time.sleep(0.5)
            for number in open_streams[:5]:
                peer.answer(number)

    with serve(streams(play)) as server:
        url = f"h2c://127.0.0.1:{server.port}/"
        report = prove(url, "--no-new", "--connections", "1", expected=0, capsys=capsys)
    assert report["lost"] == 0
    assert report["retried"] == 5
    assert all("above the last one of GOAWAY" in retry["detail"] for retry in report["retries"])
    assert [notice["detail"] for notice in report["notices"]] == [
        "GOAWAY (NO_ERROR): 5 streams go on, 5 refused"
    ]
    assert report["clients"]["keep-alive"]["reconnected"] == 1
    assert server.connections == 3


def test_many_streams_share_one_connection(capsys: pytest.CaptureFixture[str]) -> None:
    """Answers of 0.3 s, 20 a second: about six streams at a time, all on one connection."""
    most = 0

    def play(peer: Peer, stream: int, count: int) -> None:
        nonlocal most
        if count == FIRST:
            peer.answer(stream)
            return
        most = max(most, peer.h2.open_inbound_streams)

        def late() -> None:
            time.sleep(0.3)
            with peer.server.lock:
                peer.answer(stream)

        threading.Thread(target=late).start()

    with serve(streams(play)) as server:
        url = f"h2c://127.0.0.1:{server.port}/"
        report = prove(url, "--no-new", "--connections", "1", expected=0, capsys=capsys)
    assert report["lost"] == 0
    assert server.connections == FIRST + 1
    assert most > 2


def test_an_http1_server_is_told_from_an_http2_one(capsys: pytest.CaptureFixture[str]) -> None:
    def behave(_: Any, connection: Any) -> None:
        connection.recv(100)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with serve(behave) as server:
        assert main(["prove", f"h2c://127.0.0.1:{server.port}/"]) == 1
    assert "not HTTP/2" in capsys.readouterr().err


# -- real servers


def test_hypercorn_over_tls_is_spoken_to_in_http2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    certificate.private_key_pem.write_to_path(tmp_path / "server.key")
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(tmp_path / "server.crt", append=True)
    with hypercorn(application, tmp_path) as (port, _):
        url, ca = f"h2://127.0.0.1:{port}/", str(tmp_path / "ca.crt")
        slow = ["--slow-url", f"{url}slow", "--slow-rate", "10"]
        report = prove(url, "--ca", ca, *slow, expected=0, capsys=capsys)
        assert set(report["clients"]) == {"new", "keep-alive", "slow"}
        assert report["clients"]["slow"]["p50Seconds"] >= 0.5
        assert main(["prove", url]) == 1
        assert "TLS: " in capsys.readouterr().err


def test_a_grpc_server_that_stops_gracefully_loses_no_call(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It says GOAWAY, ends its calls, and refuses new ones: there is no other server."""
    with grpc_server() as (port, server, shop):
        url = f"grpc://127.0.0.1:{port}"
        slow = ["--slow-url", f"{url}/shop.Feed/List", "--slow-body", "abc", "--slow-rate", "5"]
        report = prove(url, *slow, expected=0, capsys=capsys)
        assert report["clients"]["slow"]["p50Seconds"] >= 0.4
        before = shop.checks

        def stop() -> None:
            while shop.checks < before + 10:
                time.sleep(0.02)
            server.stop(10)

        stopper = threading.Thread(target=stop)
        stopper.start()
        report = prove(url, *slow, "--no-new", "--duration", "4", expected=3, capsys=capsys)
        stopper.join()
    for loss in report["losses"]:  # on new connections only, to a port that is being closed
        assert loss["outcome"] in ("refused", "reset", "eof-before")
    assert {notice["name"] for notice in report["notices"]} == {"goaway"}
    assert any(notice["client"] == "slow" for notice in report["notices"])


def test_an_unknown_grpc_method_is_told_with_the_way_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with grpc_server() as (port, *_):
        assert main(["prove", f"grpc://127.0.0.1:{port}/no.Such/Method"]) == 1
        assert "grpc-status 12 (UNIMPLEMENTED); name it with --expect" in capsys.readouterr().err
        assert main(["prove", f"grpc://127.0.0.1:{port}", "-X", "PUT"]) == 1
        assert "has no method to choose" in capsys.readouterr().err
