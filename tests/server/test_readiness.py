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


def test_probes_are_answered_while_the_serving_port_has_no_place_left(tmp_path: Path):
    """Whoever fills the port must not take the Pod out of service: probes need no place there."""
    with served(tmp_path, "--max-connections", "8", "--api-servers", "127.0.0.1") as server:
        trusted = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(8)]
        until(lambda: server.metric("podgrace_connections") == 8, "it is full")
        with pytest.raises((OSError, EOFError)):
            server.ask(b"{}")
        for path in ("/livez", "/readyz"):
            assert server.plain(path).status == 200
        for connection in trusted:
            connection.close()


@pytest.mark.parametrize("place", ["livez", "readyz", "metrics"])
def test_who_fills_the_plain_port_keeps_no_probe_out(server: Served, place: str):
    """More connections than places; half of them have sent the same request as the kubelet."""
    silent = []
    for number in range(1200):
        connection = socket.create_connection(("127.0.0.1", server.plain_port), timeout=30)
        if number % 2:
            connection.sendall(b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % place.encode())
        silent.append(connection)
    for path in ("/livez", "/readyz", "/metrics"):
        assert server.plain(path).status == 200
    for connection in silent:
        connection.close()


HUNG = """
import sys, time
from webhook import cli, server
class Hanging(server.Server):
    async def _poll(self):
        while not path.exists():
            await server.asyncio.sleep(0.1)
        time.sleep(8)
        await server.asyncio.sleep(600)
from pathlib import Path
path = Path(sys.argv.pop(1))
server.Server = Hanging
sys.exit(cli.main(sys.argv[1:]))
"""


def test_a_loop_that_hangs_is_told_to_the_kubelet(tmp_path: Path):
    """The loop is made to sleep for 8 s: the probes go on, and say so."""
    program, signal_file = tmp_path / "hung.py", tmp_path / "now"
    program.write_text(HUNG)
    with served(tmp_path / "tls", main=[str(program), str(signal_file)]) as server:
        assert server.plain("/readyz").status == 200
        signal_file.touch()
        answer = until(
            lambda: (found := server.plain("/readyz")).status == 503 and found, "it is not ready"
        )
        assert answer.body.startswith(b"event loop: has not turned for ")
        assert server.plain("/livez").status == 200, "not for as long as a restart would take"
        until(lambda: server.plain("/readyz").status == 200, "it has come back")


def test_a_certificate_for_another_name_is_not_served(tmp_path: Path):
    """An API server would refuse it, so a Pod that shows it must get no calls."""
    with served(tmp_path, "--service-name", "podgrace.podgrace.svc") as server:
        answer = server.plain("/readyz")
        assert (answer.status, answer.body.decode()) == (
            503,
            (
                f"certificate: {tmp_path}/tls.crt: is for localhost; "
                "API servers call podgrace.podgrace.svc\n"
            ),
        )
        assert server.plain("/livez").status == 200
        authority = server.authority
        leaf = authority.ca.issue_cert("podgrace.podgrace.svc", "localhost")
        authority.put("tls.key", leaf.private_key_pem.bytes())
        authority.put("tls.crt", leaf.cert_chain_pems[0].bytes())
        until(lambda: server.plain("/readyz").status == 200, "the right one is taken up")
        leaf = authority.ca.issue_cert("localhost")
        authority.put("tls.key", leaf.private_key_pem.bytes())
        authority.put("tls.crt", leaf.cert_chain_pems[0].bytes())
        server.wait_for("certificate_refused", serving="the one before")
        assert server.plain("/readyz").status == 200


def test_a_server_that_is_stopped_by_the_kernel_is_noticed(tmp_path: Path):
    """SIGSTOP stands for a process without CPU: probes go unanswered, then the lag is on record."""
    server = Served(Authority(tmp_path), "--drain-seconds", "0")
    try:
        os.kill(server.process.pid, signal.SIGSTOP)
        time.sleep(2)
        os.kill(server.process.pid, signal.SIGCONT)
        until(lambda: server.plain("/livez").status == 200, "it lives on")
        until(lambda: server.metric("podgrace_event_loop_lag_seconds") > 0.5, "the lag is shown")
    finally:
        server.stop()
