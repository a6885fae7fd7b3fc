"""The client against real sockets.

Answers good, bad, slow, huge and cut off; TLS; rotating tokens and authorities.
"""

import base64
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import trustme

from certs import kubernetes
from certs.errors import ApiConflict, ApiError, ApiMissing
from certs.kubernetes import BODY_LIMIT, Client, Server, call
from tests.certs.apiserver import CA, CONFIG, NAMESPACE, TLS, ApiServer

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def api() -> Iterator[ApiServer]:
    server = ApiServer(lambda: NOW)
    yield server
    server.close()


@pytest.fixture
def client(api: ApiServer) -> Client:
    return Client(Server.of(api.url, None, None), NAMESPACE, clock=lambda: NOW)


@contextmanager
def listener(
    talk: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None
) -> Iterator[int]:
    """Do to each connection what the test says; yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.05)
        over = threading.Event()
        threads: list[threading.Thread] = []

        def one(raw: socket.socket) -> None:
            try:
                with tls.wrap_socket(raw, server_side=True) if tls else raw as connection:
                    talk(connection)
            except OSError:
                pass

        def accept() -> None:
            while not over.is_set():
                try:
                    raw, _ = listening.accept()
                except TimeoutError:
                    continue
                raw.settimeout(30)
                threads.append(threading.Thread(target=one, args=(raw,)))
                threads[-1].start()

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield listening.getsockname()[1]
        finally:
            over.set()
            acceptor.join()
            for thread in threads:
                thread.join()


def answer(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers])
    return head.encode() + b"\r\n\r\n" + body


def says(content: bytes, seen: list[bytes] | None = None) -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(65536)
        if seen is not None:
            seen.append(request)
        connection.sendall(content)

    return talk


OBJECT = json.dumps(
    {
        "metadata": {"name": "ca", "resourceVersion": "1"},
        "data": {"k": base64.b64encode(b"v").decode()},
    }
).encode()


def plain(port: int) -> Client:
    return Client(Server.of(f"http://127.0.0.1:{port}", None, None), NAMESPACE)


# What is read and written.


def test_a_secret_is_read_and_replaced_and_keeps_its_labels(api: ApiServer, client: Client) -> None:
    saved = client.save_secret(client.secret("ca"), {"a": b"\x00\xff", "b": b""})
    assert saved.data == {"a": b"\x00\xff", "b": b""} == client.secret("ca").data
    assert api.objects[CA]["metadata"]["labels"] == {"of": "helm"}


def test_a_write_on_an_old_version_conflicts(client: Client) -> None:
    old = client.secret("ca")
    client.save_secret(old, {"a": b"1"})
    with pytest.raises(
        ApiConflict,
        match=r"PUT /api/v1/namespaces/system/secrets/ca: 409 the object has been modified",
    ):
        client.save_secret(old, {"a": b"2"})
    assert client.secret("ca").data == {"a": b"1"}


def test_the_bundle_goes_into_every_entry_and_nothing_else_changes(
    api: ApiServer, client: Client
) -> None:
    before = json.loads(json.dumps(api.objects[CONFIG]["webhooks"]))
    published = client.publish("podgrace", client.webhooks("podgrace"), b"bundle")
    assert set(published.bundles.values()) == {b"bundle"} and len(published.bundles) == 2
    for entry in api.objects[CONFIG]["webhooks"]:
        del entry["clientConfig"]["caBundle"]
    assert api.objects[CONFIG]["webhooks"] == before


def test_a_publication_on_an_old_version_conflicts(client: Client) -> None:
    old = client.webhooks("podgrace")
    client.publish("podgrace", old, b"1")
    with pytest.raises(ApiConflict):
        client.publish("podgrace", old, b"2")


def test_names_are_quoted(api: ApiServer, client: Client) -> None:
    with pytest.raises(ApiMissing):
        client.secret("../../../secrets?x=ca")
    assert api.requests == ["GET /api/v1/namespaces/system/secrets/..%2F..%2F..%2Fsecrets%3Fx%3Dca"]


def test_only_the_documented_requests_are_made(api: ApiServer, client: Client) -> None:
    """RBAC allows only these.

    Get and update on two Secrets and a Lease, get and patch on one configuration.
    """
    client.save_secret(client.secret("tls"), {"x": b""})
    client.save_lease(client.lease("turn"), {"holderIdentity": "a"})
    client.publish("podgrace", client.webhooks("podgrace"), b"")
    assert [request.partition(" ")[0] for request in api.requests] == [
        "GET",
        "PUT",
        "GET",
        "PUT",
        "GET",
        "PATCH",
    ]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, ApiMissing),
        (409, ApiConflict),
        (401, ApiError),
        (403, ApiError),
        (422, ApiError),
        (500, ApiError),
        (503, ApiError),
    ],
)
def test_statuses_are_told_apart_and_the_servers_own_words_come_along(
    api: ApiServer, client: Client, status: int, kind: type[ApiError]
) -> None:
    api.refused[f"GET {TLS}"] = status
    with pytest.raises(ApiError, match=f"GET {TLS}: {status} refused by the test") as caught:
        client.secret("tls")
    assert type(caught.value) is kind


def test_the_difference_of_the_clocks_is_noted_with_every_answer(
    api: ApiServer, client: Client
) -> None:
    api.clock = lambda: NOW + timedelta(minutes=7)
    client.secret("tls")
    assert client.skew == timedelta(minutes=7)
    api.clock = lambda: NOW - timedelta(minutes=7)
    api.refused[f"GET {TLS}"] = 500
    with pytest.raises(ApiError):
        client.secret("tls")
    assert client.skew == timedelta(minutes=-7), "a refusal has a date as well"


# Answers that are not usable.


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (answer(b"<html>proxy</html>"), "200, but the answer is not a Kubernetes object"),
        (answer(b"[]"), "not a Kubernetes object"),
        (answer(b"[" * 100_000), "not a Kubernetes object"),
        (answer(b'{"metadata": 7}'), "not a Kubernetes object"),
        (answer(b'{"metadata": {"name": "ca"}}'), "not a Kubernetes object"),
        (answer(b"\xff\xfe"), "not a Kubernetes object"),
        (answer(b"", "502 Bad Gateway"), "502 Bad Gateway"),
        (answer(b"", "302 Found", "Location: http://elsewhere/"), "302 Found"),
        (answer(b'{"message": 7}', "403 Forbidden"), "403 7"),
        (b"", "closed connection without response"),
        (b"SSH-2.0-OpenSSH\r\n", "SSH-2.0"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "IncompleteRead"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "IncompleteRead|incomplete|zz",
        ),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1000 + b"\r\n", "more than 100 headers"),
    ],
    ids=range(14),
)
def test_garbage_is_an_error_that_says_which_call(content: bytes, told: str) -> None:
    with listener(says(content)) as port, pytest.raises(ApiError, match=told) as caught:
        plain(port).secret("ca")
    assert str(caught.value).startswith("GET /api/v1/namespaces/system/secrets/ca")


@pytest.mark.parametrize(
    "body",
    [{"data": []}, {"data": {"k": 7}}, {"data": {"k": "%%%"}}, {"data": None}, {}],
    ids=json.dumps,
)
def test_a_secret_with_strange_data_is_as_good_as_empty(body: dict[str, Any]) -> None:
    content = json.dumps({"metadata": {"name": "ca", "resourceVersion": "1"}, **body}).encode()
    with listener(says(answer(content))) as port:
        assert set(plain(port).secret("ca").data.values()) <= {b""}


@pytest.mark.parametrize(
    "entries",
    [None, 7, [7], [{}], [{"name": "a"}], [{"name": "a", "clientConfig": {"caBundle": 7}}]],
)
def test_a_configuration_with_strange_entries_has_no_bundles(entries: Any) -> None:
    content = json.dumps({"metadata": {"resourceVersion": "1"}, "webhooks": entries}).encode()
    with listener(says(answer(content))) as port:
        assert set(plain(port).webhooks("podgrace").bundles.values()) <= {b""}


def test_an_endless_answer_is_cut_off() -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(2 * BODY_LIMIT // 65536):
            connection.sendall(b" " * 65536)

    with listener(talk) as port, pytest.raises(ApiError, match=f"longer than {BODY_LIMIT} bytes"):
        plain(port).secret("ca")


def test_a_server_that_is_silent_costs_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes, "TIMEOUT", 0.3)

    def talk(connection: socket.socket) -> None:
        while connection.recv(65536):
            pass

    with listener(talk) as port, pytest.raises(ApiError, match=r"timed out|no whole answer within"):
        plain(port).secret("ca")


@pytest.mark.parametrize("tls", [False, True])
def test_an_answer_that_trickles_costs_no_more(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tls: bool
) -> None:
    """The library's timeout applies to each read.

    A byte every tenth of a second would hold up the manager for ever.
    """
    monkeypatch.setattr(kubernetes, "TIMEOUT", 1.0)
    stopped = threading.Event()

    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not stopped.wait(0.1):
            connection.sendall(b" ")

    context, server = secured(tmp_path) if tls else (None, None)
    start = time.monotonic()
    try:
        with listener(talk, context) as port:
            url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
            where = Server(url, server.token, server.ca) if server else Server(url)
            with pytest.raises(ApiError, match="no whole answer within 1 s"):
                Client(where, NAMESPACE).secret("ca")
            stopped.set()
    finally:
        stopped.set()
    assert time.monotonic() - start < 20


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ApiError, match=f"secrets/ca at http://127.0.0.1:{port}: .*refused"):
        plain(port).secret("ca")


# TLS and tokens.


def secured(directory: Path, host: str = "127.0.0.1") -> tuple[ssl.SSLContext, Server]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    authority.cert_pem.write_to_path(str(directory / "ca.crt"))
    (directory / "token").write_text("first\n")
    return context, Server("", directory / "token", directory / "ca.crt")


def test_the_token_goes_over_verified_tls_and_is_read_again_for_every_call(tmp_path: Path) -> None:
    context, server = secured(tmp_path)
    seen: list[bytes] = []
    with listener(says(answer(OBJECT), seen), context) as port:
        client = Client(Server.of(f"https://127.0.0.1:{port}", server.token, server.ca), NAMESPACE)
        client.secret("ca")
        (tmp_path / "token").write_text("second")
        client.secret("ca")
    assert [
        b"Authorization: Bearer first\r\n" in seen[0],
        b"Authorization: Bearer second\r\n" in seen[1],
    ] == [True, True]


def test_the_authority_is_read_again_for_every_call(tmp_path: Path) -> None:
    old, server = secured(tmp_path)
    with listener(says(answer(OBJECT)), old) as port:
        Client(Server(f"https://127.0.0.1:{port}", server.token, server.ca), NAMESPACE).secret("ca")
    new, _ = secured(tmp_path)
    with listener(says(answer(OBJECT)), new) as port:
        Client(Server(f"https://127.0.0.1:{port}", server.token, server.ca), NAMESPACE).secret("ca")


@pytest.mark.parametrize("wrong", ["authority", "name"])
def test_an_impostor_gets_no_token(tmp_path: Path, wrong: str) -> None:
    context, server = secured(
        tmp_path, "127.0.0.1" if wrong == "authority" else "kubernetes.example"
    )
    if wrong == "authority":
        trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    seen: list[bytes] = []
    with (
        listener(says(answer(OBJECT), seen), context) as port,
        pytest.raises(ApiError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        Client(Server(f"https://127.0.0.1:{port}", server.token, server.ca), NAMESPACE).secret("ca")
    assert seen == []


@pytest.mark.parametrize("token", [b"", b" \n", b"a\nb", b"a\x00b", b"\xff"])
def test_a_token_that_is_none_is_named_by_its_file(tmp_path: Path, token: bytes) -> None:
    (tmp_path / "token").write_bytes(token)
    with pytest.raises(ApiError, match=f"{tmp_path}/token, the token for the API server, "):
        call(Server("http://127.0.0.1:1", tmp_path / "token"), "GET", "/")


def test_missing_files_are_named(tmp_path: Path) -> None:
    told = r"nowhere/token, the token for the API server, can't be read: No such file"
    with listener(says(b"")) as port, pytest.raises(ApiError, match=told):
        call(Server(f"http://127.0.0.1:{port}", Path("nowhere/token")), "GET", "/")
    with pytest.raises(
        ApiError, match=r"nowhere/ca.crt, the API server's authority, can't be read: No such file"
    ):
        call(Server("https://127.0.0.1:1", None, Path("nowhere/ca.crt")), "GET", "/")
    (tmp_path / "ca.crt").write_text("garbage")
    with pytest.raises(
        ApiError, match=f"{tmp_path}/ca.crt, the API server's authority, can't be read"
    ):
        call(Server("https://127.0.0.1:1", None, tmp_path / "ca.crt"), "GET", "/")


# Where the API is.


def test_a_pod_finds_its_own_api_server() -> None:
    for host, url in (("10.0.0.1", "https://10.0.0.1:6443"), ("fd00::1", "https://[fd00::1]:6443")):
        found = Server.of(
            None, None, None, {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "6443"}
        )
        assert found.url == url
        assert str(found.token) == "/var/run/secrets/kubernetes.io/serviceaccount/token"


def test_outside_a_cluster_it_must_be_told() -> None:
    with pytest.raises(ApiError, match=r"KUBERNETES_SERVICE_HOST is not set.*kubectl proxy"):
        Server.of(None, None, None, {})


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1",
        "ftp://localhost",
        "https://",
        "localhost:8001",
        "",
        "https://h:x",
        "https://h:99999",
        "https://[::1",
    ],
)
def test_an_address_that_would_leak_or_lead_nowhere_is_refused(url: str) -> None:
    with pytest.raises(
        ApiError, match="is not an API server's address; accepted: https://HOST:PORT"
    ):
        Server.of(url, None, None, {})


def test_a_path_in_front_is_kept() -> None:
    """Some platforms put many clusters behind one address."""
    seen: list[bytes] = []
    with listener(says(answer(OBJECT), seen)) as port:
        Client(
            Server.of(f"http://127.0.0.1:{port}/k8s/clusters/c-1/", None, None), NAMESPACE
        ).secret("ca")
    assert seen[0].startswith(b"GET /k8s/clusters/c-1/api/v1/namespaces/system/secrets/ca HTTP/1.1")


def test_warnings_and_dates_of_an_answer_are_read() -> None:
    headers = [
        'Warning: 299 - "say \\"hi\\" to C:\\\\"',
        "Warning: odd",
        f"Date: {format_datetime(NOW, usegmt=True)}",
    ]
    with listener(says(answer(OBJECT, "201 Created", *headers))) as port:
        found = call(Server(f"http://127.0.0.1:{port}"), "POST", "/x?dryRun=All", {})
    assert (found.status, found.warnings, found.date) == (201, ('say "hi" to C:\\', "odd"), NOW)


@pytest.mark.parametrize("date", ["yesterday", "", "Tue, 99 Foo 2026 25:00:00 GMT"])
def test_a_date_that_is_none_is_ignored(date: str) -> None:
    with listener(says(answer(OBJECT, "200 OK", f"Date: {date}"))) as port:
        client = plain(port)
        client.secret("ca")
    assert client.skew == timedelta()
