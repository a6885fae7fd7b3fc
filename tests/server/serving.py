"""A server as users run it: a `podgrace serve` process, real sockets, certificates of a test CA.

In: a directory, options. Out: `Served`: ports, log, memory, and ways to speak to it: HTTP by
http.client, or bytes for what no client would send.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import trustme
from prometheus_client.parser import text_string_to_metric_families

SAMPLES = Path(__file__).parents[1] / "samples"
REVIEW = SAMPLES / "deployment-nginx-and-django-create.json"
ENDURANCE = 30.0
"""Seconds that anything may take on a loaded machine."""


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def until(condition: Callable[[], Any], what: str, seconds: float = ENDURANCE) -> Any:
    """Wait for a condition; its truthy value."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds:g} s: {what}")


class Authority:
    """A CA, and a directory with what it issued."""

    def __init__(self, directory: Path, **issue: Any) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.renew(**issue)

    def renew(self, ca: trustme.CA | None = None, **issue: Any) -> None:
        """Write a new pair, not as a kubelet or a person would: one file after the other, whole."""
        self.ca = ca or trustme.CA()
        self.leaf = self.ca.issue_cert("localhost", **issue)
        self.put("ca.crt", self.ca.cert_pem.bytes())
        self.put("tls.key", self.leaf.private_key_pem.bytes())
        self.put("tls.crt", b"".join(blob.bytes() for blob in self.leaf.cert_chain_pems))

    def put(self, name: str, content: bytes) -> None:
        new = self.directory / f".{name}"
        new.write_bytes(content)
        new.replace(self.directory / name)

    def trust(self, *others: trustme.CA) -> ssl.SSLContext:
        """Make a client's context that trusts this CA and others."""
        context = ssl.create_default_context()
        for ca in (self.ca, *others):
            ca.configure_trust(context)
        return context


class Served:
    """A running server."""

    def __init__(
        self,
        authority: Authority,
        *options: str,
        environment: dict[str, str] | None = None,
        log: Path | None = None,
        reader: int | None = None,
        main: Sequence[str] = ("-m", "webhook.cli"),
    ) -> None:
        self.authority = authority
        self.context = authority.trust()
        self._log = log or authority.directory / f"log-{time.monotonic_ns()}"
        self._reader, self._seen = reader, b""
        command = [
            sys.executable,
            *main,
            "serve",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--plain-port",
            "0",
        ]
        with self._log.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, "--cert-dir", str(authority.directory), *options],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
            )
        listening = self.wait_for("listening")
        self.port, self.plain_port = listening["port"], listening["plainPort"]

    def text(self) -> str:
        if self._reader is None:
            return self._log.read_text(encoding="utf-8")
        with contextlib.suppress(BlockingIOError):
            self._seen += os.read(self._reader, 65536)
        return self._seen.decode()

    def events(self, *names: str) -> list[dict[str, Any]]:
        lines = self.text().splitlines(keepends=True)
        assert all(line.startswith("{") for line in lines), self.text()
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        return [event for event in found if not names or event["event"] in names]

    def wait_for(self, event: str, **fields: Any) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            for found in self.events(event):
                if fields.items() <= found.items():
                    return found
            assert self.process.poll() is None, self.text()
            return None

        return until(look, f"{event} {fields}")

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(ENDURANCE)

    # -- speaking to it ----------------------------------------------------------------------------

    def connect(self, context: ssl.SSLContext | None = None) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            "localhost", self.port, context=context or self.context, timeout=ENDURANCE
        )

    def ask(
        self, body: bytes, path: str = "/mutate", method: str = "POST", **headers: str
    ) -> Response:
        connection = self.connect()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body, {"Content-Type": "application/json", **named})
            return _read(connection.getresponse())
        finally:
            connection.close()

    def plain(self, path: str, method: str = "GET") -> Response:
        connection = http.client.HTTPConnection("localhost", self.plain_port, timeout=ENDURANCE)
        try:
            connection.request(method, path)
            return _read(connection.getresponse())
        finally:
            connection.close()

    @contextmanager
    def raw(self) -> Iterator[ssl.SSLSocket]:
        """Open a TLS connection for bytes."""
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=ENDURANCE) as plain,
            self.context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            yield secure

    # -- looking into it ---------------------------------------------------------------------------

    def metric(self, name: str, **labels: str) -> float:
        """Read one sample."""
        for family in text_string_to_metric_families(self.plain("/metrics").body.decode()):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return sample.value
        raise AssertionError(f"no {name} {labels}")

    def memory(self, field: str = "VmRSS") -> int:
        """Bytes; VmHWM is the peak."""
        for line in (
            Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines()
        ):
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
        raise AssertionError(field)


def receive(secure: socket.socket) -> Response:
    """Read one response with a Content-Length from a socket."""
    response = http.client.HTTPResponse(secure)
    response.begin()
    return _read(response)


def _read(response: http.client.HTTPResponse) -> Response:
    return Response(
        response.status,
        {name.lower(): value for name, value in response.getheaders()},
        response.read(),
    )


@contextmanager
def served(directory: Path, *options: str, **settings: Any) -> Iterator[Served]:
    """Serve for the time of a block."""
    server = Served(Authority(directory), "--drain-seconds", "0", *options, **settings)
    try:
        yield server
    finally:
        server.stop()


def review(**changes: Any) -> dict[str, Any]:
    """Give the recorded review with members of its request changed (None takes one away)."""
    tree = json.loads(REVIEW.read_bytes())
    for name, value in changes.items():
        tree["request"][name] = value
    return tree


def encode(tree: Any) -> bytes:
    return json.dumps(tree).encode()
