"""The server stops as it makes others stop: no call is lost or repeated, in bounded time."""

import contextlib
import json
import os
import signal
import socket
import threading
import time
from pathlib import Path

from tests.server.apiserver import ApiServer
from tests.server.serving import ENDURANCE, REVIEW, Authority, Served, receive, served, until

REVIEW_BYTES = REVIEW.read_bytes()
HEAD = (
    b"POST /mutate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n" % len(REVIEW_BYTES)
)


def test_rolling_both_replicas_over_and_over_loses_no_call(tmp_path: Path):
    """Two backends under an API server's load; endpoints follow a TERM after a second, as usual."""
    made: list[Served] = []

    def start() -> Served:
        server = Served(authority, "--drain-seconds", "3")
        until(lambda: server.plain("/readyz").status == 200, "ready")
        made.append(server)
        return server

    authority = Authority(tmp_path)
    context = authority.trust()
    try:
        running = [start(), start()]
        load = ApiServer([server.port for server in running], lambda: context, REVIEW_BYTES)
        load.reach(200)
        for _ in range(4):
            new, old = start(), running.pop(0)
            running.append(new)
            load.endpoints.append(new.port)
            old.process.send_signal(signal.SIGTERM)
            time.sleep(1)  # the lag of the endpoints is what this is about
            load.endpoints.remove(old.port)
            assert old.process.wait(ENDURANCE) == 0
            assert old.events("stopped")[0]["connectionsCut"] == 0
            load.reach(100)
        load.stop()
        assert load.failures == []
        answered = sum(
            len([e for e in server.events("admission") if e["result"] == "patched"])
            for server in made[:-2]
        )
        assert answered > 0
    finally:
        for server in made:
            server.stop()


def test_draining_is_told_to_readiness_and_to_every_connection(tmp_path: Path):
    server = Served(Authority(tmp_path), "--drain-seconds", "5")
    pooled, fresh = server.connect(), server.connect()
    pooled.request("POST", "/mutate", REVIEW_BYTES, {"Content-Type": "application/json"})
    before = pooled.getresponse()
    assert before.read() and before.headers["connection"] is None
    half = server.raw()
    secure = half.__enter__()
    secure.sendall(HEAD + REVIEW_BYTES[:100])
    until(lambda: server.metric("podgrace_requests_in_flight") == 1, "one is in flight")
    server.process.send_signal(signal.SIGTERM)
    server.wait_for("signal", signal="TERM")
    ready = server.plain("/readyz")
    assert (ready.status, ready.body) == (503, b"draining: told to stop\n")
    assert server.plain("/livez").status == 200, "a restart now would lose what is in flight"
    assert server.metric("podgrace_draining") == 1
    for connection in (pooled, fresh):
        connection.request("POST", "/mutate", REVIEW_BYTES, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert b'"allowed":true' in answer.read()
        assert answer.headers["connection"] == "close"
    secure.sendall(REVIEW_BYTES[100:])
    answer = receive(secure)
    assert (answer.status, answer.headers["connection"]) == (200, "close"), (
        "also where the call had begun before"
    )
    with contextlib.suppress(OSError):
        half.__exit__(None, None, None)
    assert server.process.wait(ENDURANCE) == 0


def test_a_call_that_is_half_sent_when_the_port_closes_is_answered(tmp_path: Path):
    with served(tmp_path) as server, server.raw() as secure:
        secure.sendall(HEAD + REVIEW_BYTES[:100])
        until(lambda: server.metric("podgrace_requests_in_flight") == 1, "it is in flight")
        server.process.send_signal(signal.SIGTERM)
        until(lambda: _refuses(server.port), "the port is closed")
        secure.sendall(REVIEW_BYTES[100:])
        assert b'"allowed":true' in receive(secure).body
        assert server.process.wait(ENDURANCE) == 0


def test_a_client_that_has_connected_but_not_asked_when_the_port_closes_is_answered(tmp_path: Path):
    with served(tmp_path) as server, server.raw() as secure:
        until(lambda: server.metric("podgrace_connections") == 1, "it is connected")
        server.process.send_signal(signal.SIGTERM)
        until(lambda: _refuses(server.port), "the port is closed")
        secure.sendall(HEAD + REVIEW_BYTES)
        assert b'"allowed":true' in receive(secure).body
        assert server.process.wait(ENDURANCE) == 0


def test_a_call_that_never_ends_does_not_hold_the_exit(tmp_path: Path):
    with served(tmp_path) as server, server.raw() as secure:
        secure.sendall(HEAD + REVIEW_BYTES[:100])
        until(lambda: server.metric("podgrace_requests_in_flight") == 1, "it is in flight")
        server.process.send_signal(signal.SIGTERM)
        assert receive(secure).status == 408
        assert server.process.wait(ENDURANCE) == 0


def test_a_second_term_changes_nothing(tmp_path: Path):
    server = Served(Authority(tmp_path), "--drain-seconds", "4")
    start = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    server.wait_for("signal")
    for _ in range(3):
        server.process.send_signal(signal.SIGTERM)
    until(lambda: len(server.events("signal")) >= 2, "it has seen another")
    assert server.ask(REVIEW_BYTES).status == 200
    assert server.process.wait(ENDURANCE) == 0
    assert time.monotonic() - start >= 4


def test_ctrl_c_twice_ends_the_wait(tmp_path: Path):
    server = Served(Authority(tmp_path), "--drain-seconds", "600")
    server.process.send_signal(signal.SIGINT)
    server.wait_for("signal", signal="INT")
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(ENDURANCE) == 0


def test_the_lines_of_the_last_calls_are_written(tmp_path: Path):
    with served(tmp_path) as server:
        callers = [threading.Thread(target=server.ask, args=(REVIEW_BYTES,)) for _ in range(5)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(ENDURANCE)
        assert server.stop() == 0
        assert len(server.events("admission")) == 5
        assert server.events()[-1]["event"] == "stopped"


def test_a_reader_of_the_log_that_is_stuck_delays_neither_calls_nor_the_exit(tmp_path: Path):
    """Standard output is a pipe that nobody reads: lines are dropped and counted, memory stays."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    server = Served(Authority(tmp_path / "tls"), "--drain-seconds", "0", log=pipe, reader=reader)
    try:
        long = json.loads(REVIEW_BYTES)
        long["request"]["name"] = "a" * 1500
        body, connection = json.dumps(long).encode(), server.connect()
        for _ in range(1500):
            connection.request("POST", "/mutate", body, {"Content-Type": "application/json"})
            assert connection.getresponse().read()
        assert server.metric("podgrace_log_lines_dropped_total") > 0
        connection.close()
    finally:
        assert server.stop() == 0
        os.close(reader)


def _refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False
