"""What the kubelet and a person are told: `/livez`, `/readyz`."""

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.server.serving import Authority, Served, served, until


@pytest.mark.parametrize("path", ["/livez", "/healthz", "/readyz"])
def test_all_is_well(server: Served, path: str):
    answer = server.plain(path)
    assert (answer.status, answer.body) == (200, b"ok\n")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("POST", "/mutate", 404), ("POST", "/livez", 405), ("GET", "/docs", 404)],
)
def test_the_plain_port_serves_nothing_else(server: Served, method: str, path: str, status: int):
    assert server.plain(path, method).status == status


def test_the_serving_port_tells_nothing_else(server: Served):
    for path in ("/livez", "/readyz", "/metrics", "/docs", "/openapi.json"):
        assert server.ask(b"", path, "GET").status == 404


def test_readiness_looks_at_the_serving_port_itself(tmp_path: Path):
    """A constant would prove nothing: each look, but for those within two seconds, is a handshake with the port."""
    with served(tmp_path) as server:
        assert server.plain("/readyz").status == 200
        seen = server.metric("podgrace_connections_events_total", event="accepted")
        until(
            lambda: (
                server.plain("/readyz").status == 200
                and server.metric("podgrace_connections_events_total", event="accepted") > seen
            ),
            "readiness shakes hands with the port",
        )


def test_readiness_survives_a_port_full_of_silent_clients(tmp_path: Path):
    """Whoever fills the port must not also take the Pod out of service."""
    with served(tmp_path, "--max-connections", "8") as server:
        silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(30)]
        for _ in range(4):
            until(lambda: server.plain("/readyz").status == 200, "ready")
            time.sleep(1)  # past what is remembered of the last look
        for connection in silent:
            connection.close()


def test_a_server_that_is_stopped_by_the_kernel_is_noticed(tmp_path: Path):
    """SIGSTOP stands for a process without CPU: probes go unanswered, and afterwards the lag is on record."""
    server = Served(Authority(tmp_path), "--drain-seconds", "0")
    try:
        os.kill(server.process.pid, signal.SIGSTOP)
        time.sleep(2)
        os.kill(server.process.pid, signal.SIGCONT)
        until(lambda: server.plain("/livez").status == 200, "it lives on")
        until(lambda: server.metric("podgrace_event_loop_lag_seconds") > 0.5, "the lag is shown")
    finally:
        server.stop()
