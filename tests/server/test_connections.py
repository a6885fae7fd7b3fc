"""What an API server may rely on: connections that stay, TLS as configured, and who is let in."""

import http.client
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.server.serving import (
    ENDURANCE,
    REVIEW,
    Authority,
    Served,
    encode,
    receive,
    review,
    served,
    until,
)

REVIEW_BYTES = REVIEW.read_bytes()


def call(
    connection: http.client.HTTPSConnection, body: bytes = REVIEW_BYTES
) -> http.client.HTTPResponse:
    connection.request("POST", "/mutate", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    response.read()
    return response


def test_an_idle_connection_is_kept(server: Served):
    """The default of uvicorn closes after 5 s; Go's pool keeps connections for 90 s.

    A call on a closed one is lost.
    """
    connection = server.connect()
    call(connection)
    local = connection.sock.getsockname()
    time.sleep(
        16
    )  # the pause itself is what this is about; over the 10 s that a new connection has to ask
    assert call(connection).status == 200
    assert connection.sock.getsockname() == local, "it is the same connection"
    connection.close()


def test_every_answer_but_a_refusal_keeps_the_connection(server: Served):
    connection = server.connect()
    call(connection)
    local = connection.sock.getsockname()
    for body, status in ((b"{}", 400), (encode(review(object=None)), 200), (REVIEW_BYTES, 200)):
        assert call(connection, body).status == status
        assert connection.sock.getsockname() == local
    for method, path, status in (("POST", "/", 404), ("PUT", "/mutate", 405)):
        connection.request(method, path, REVIEW_BYTES, {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        assert response.status == status
        assert connection.sock.getsockname() == local
    connection.close()


def test_http_1_0_is_answered_and_closed(server: Served):
    with server.raw() as secure:
        secure.sendall(
            b"POST /mutate HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            % len(REVIEW_BYTES)
            + REVIEW_BYTES
        )
        answer = receive(secure)
    assert (answer.status, answer.headers["connection"]) == (200, "close")


def test_plain_http_on_the_https_port_is_cut(server: Served):
    with socket.create_connection(("127.0.0.1", server.port), timeout=ENDURANCE) as plain:
        plain.sendall(b"POST /mutate HTTP/1.1\r\n\r\n")
        received = b""
        try:
            while data := plain.recv(1000):
                received += data
        except ConnectionError:
            pass
    assert b"HTTP" not in received
    until(
        lambda: server.metric("podgrace_connections_events_total", event="handshake-failed") > 0,
        "it is counted",
    )


def spoken(server: Served, version: ssl.TLSVersion, context: ssl.SSLContext | None = None) -> str:
    context = context or server.authority.trust()
    context.minimum_version = context.maximum_version = version
    connection = server.connect(context)
    try:
        connection.connect()
        return str(connection.sock.version())
    except ssl.SSLError:
        return ""
    finally:
        connection.close()


def test_tls_1_2_and_1_3_are_spoken(server: Served):
    assert spoken(server, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    assert spoken(server, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"


def test_only_http_1_1_is_negotiated(server: Served):
    context = server.authority.trust()
    context.set_alpn_protocols(["h2", "http/1.1"])
    connection = server.connect(context)
    connection.connect()
    assert connection.sock.selected_alpn_protocol() == "http/1.1"
    connection.close()


@pytest.mark.parametrize("how", ["flag", "environment"])
def test_tls_1_3_can_be_the_minimum(tmp_path: Path, how: str):
    options = ("--tls-min-version", "1.3") if how == "flag" else ()
    with served(
        tmp_path,
        *options,
        environment={"PODGRACE_TLS_MIN_VERSION": "1.3"} if how == "environment" else {},
    ) as server:
        assert spoken(server, ssl.TLSVersion.TLSv1_2) == ""
        assert spoken(server, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize(
    ("host", "reached", "silent"),
    [
        ("", ["127.0.0.1", "::1"], []),
        ("::1", ["::1"], ["127.0.0.1"]),
        ("127.0.0.1", ["127.0.0.1"], ["::1"]),
    ],
)
def test_both_families_are_served_unless_one_address_is_named(
    tmp_path: Path, host: str, reached: list[str], silent: list[str]
):
    """A cluster may have IPv4, IPv6 or both, and its Pods do not know."""
    with served(tmp_path, "--host", host) as server:
        for address in reached:
            with (
                socket.create_connection((address, server.port), timeout=ENDURANCE) as plain,
                server.context.wrap_socket(plain, server_hostname="localhost") as secure,
            ):
                secure.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert receive(secure).status == 404
            connection = http.client.HTTPConnection(address, server.plain_port, timeout=ENDURANCE)
            connection.request("GET", "/readyz")
            assert connection.getresponse().status == 200, "readiness reaches its own port"
            connection.close()
        for address in silent:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((address, server.port), timeout=ENDURANCE)


# -- client certificates ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> trustme.CA:
    """Make the CA that an API server's client certificate comes from."""
    return trustme.CA()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, cluster: trustme.CA) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("guarded")
    cluster.cert_pem.write_to_path(directory / "clients.pem")
    with served(
        directory,
        "--client-ca",
        str(directory / "clients.pem"),
        "--client-names",
        "kube-apiserver, spare",
    ) as server:
        yield server


def showing(server: Served, ca: trustme.CA, name: str) -> ssl.SSLContext:
    context = server.authority.trust()
    ca.issue_cert(f"{name}.example", common_name=name).configure_cert(context)
    return context


def test_a_client_without_a_certificate_gets_no_answer(guarded: Served):
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
        guarded.ask(REVIEW_BYTES)


def test_a_client_of_another_ca_gets_no_answer(guarded: Served):
    connection = guarded.connect(showing(guarded, trustme.CA(), "kube-apiserver"))
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
        call(connection)
    connection.close()


@pytest.mark.parametrize(
    ("name", "status"),
    [("kube-apiserver", 200), ("spare", 200), ("spare.example", 403), ("tenant", 403)],
)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_names_decide_who_of_the_right_ca_is_served(
    guarded: Served, cluster: trustme.CA, version: ssl.TLSVersion, name: str, status: int
):
    context = showing(guarded, cluster, name)
    context.minimum_version = context.maximum_version = version
    connection = guarded.connect(context)
    connection.request("POST", "/mutate", REVIEW_BYTES, {"Content-Type": "application/json"})
    response = connection.getresponse()
    body = response.read()
    assert response.status == status
    if status == 403:
        assert (
            f"client certificate for {name}, {name}.example: accepted: kube-apiserver, spare"
            in body.decode()
        )
    connection.close()


def test_the_kubelet_needs_no_certificate(guarded: Served):
    assert guarded.plain("/readyz").status == 200


def test_a_new_client_ca_is_taken_up_without_a_restart(tmp_path: Path):
    first, second = trustme.CA(), trustme.CA()
    first.cert_pem.write_to_path(tmp_path / "clients.pem")
    with served(tmp_path, "--client-ca", str(tmp_path / "clients.pem")) as server:
        connection = server.connect(showing(server, first, "a"))
        assert call(connection).status == 200
        connection.close()
        server.authority.put("clients.pem", second.cert_pem.bytes())
        until(lambda: len(server.events("certificate_loaded")) == 2, "it is loaded")
        connection = server.connect(showing(server, second, "a"))
        assert call(connection).status == 200
        connection.close()
        connection = server.connect(showing(server, first, "a"))
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
            call(connection)
        connection.close()


def test_a_client_ca_that_is_none_is_named(tmp_path: Path):
    Authority(tmp_path)
    (tmp_path / "clients.pem").write_text("nothing")
    with served(tmp_path, "--client-ca", str(tmp_path / "clients.pem")) as server:
        assert f"certificate: {tmp_path}/clients.pem: " in server.plain("/readyz").body.decode()


# -- flags -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "environment", "says"),
    [
        (["--port", "70000"], {}, "'70000': accepted: 0 to 65535"),
        (["--failure-policy", "ignore"], {}, "'ignore': accepted: Ignore, Fail"),
        (["--drain-seconds", "-1"], {}, "'-1': accepted: 0 to 3600"),
        ([], {"PODGRACE_DRAIN_SECONDS": "soon"}, "'soon': accepted: 0 to 3600"),
        ([], {"PODGRACE_PORT": "http"}, "'http': accepted: 0 to 65535"),
        ([], {"PODGRACE_TLS_MIN_VERSION": "1.1"}, "'1.1': accepted: 1.2, 1.3"),
        (["--max-connections", "1"], {}, "'1': accepted: 8 to 65536"),
        (["--api-servers", "10.0.0.1/8"], {}, "accepted: addresses or networks such as"),
        (["--client-names", "a"], {}, "--client-names: needs --client-ca"),
        (
            ["--config", "/nonexistent/config.yaml"],
            {},
            "/nonexistent/config.yaml: No such file or directory",
        ),
        (["--host", "192.0.2.1", "--port", "0"], {}, "192.0.2.1"),
    ],
)
def test_what_cannot_be_served_is_one_line_and_no_traceback(
    options: list[str], environment: dict[str, str], says: str, tmp_path: Path
):
    found = subprocess.run(
        [sys.executable, "-m", "webhook.cli", "serve", "--cert-dir", str(tmp_path), *options],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=ENDURANCE,
        check=False,
    )
    assert found.returncode in (1, 2)
    assert says in found.stderr
    assert "Traceback" not in found.stderr + found.stdout


def test_a_port_that_is_taken_is_named(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        found = subprocess.run(
            [
                sys.executable,
                "-m",
                "webhook.cli",
                "serve",
                "--cert-dir",
                str(tmp_path),
                "--host",
                "127.0.0.1",
                "--port",
                port,
            ],
            capture_output=True,
            text=True,
            timeout=ENDURANCE,
            check=False,
        )
    assert found.returncode == 1
    assert f"127.0.0.1:{port}" in found.stderr
    assert "in use" in found.stderr
    assert "Traceback" not in found.stderr + found.stdout
