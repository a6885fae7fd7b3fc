"""The few Kubernetes API calls that certificates need, with the standard library.

In and out: two Secrets, one Lease and one webhook configuration. Every write carries the resource
version on which it was decided, and raises `ApiConflict` if the object has changed since. Nothing
is created: the chart makes the objects, so that our permissions can be limited to their names
(`create` can't be).
"""

import base64
import contextlib
import http.client
import json
import os
import re
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final

from certs.errors import ApiConflict, ApiError, ApiMissing

FIELD_MANAGER: Final = "podgrace-certs"
TIMEOUT: Final = 10.0
"""Seconds for a whole call, so that a slow trickle of an answer can't hold us up."""
WRITE_TIMEOUT: Final = 40.0
"""The same for writes: they may pass through other people's webhooks, each of which may take 30
s."""
BODY_LIMIT: Final = 4 << 20
"""etcd holds 1.5 MiB per object; managedFields and JSON may double that."""

_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Server:
    """Where the API is, and the files by which it knows us and we know it.

    Both rotate, so they are read again for every call.
    """

    url: str
    token: Path | None = None
    ca: Path | None = None

    @classmethod
    def of(
        cls,
        url: str | None,
        token: Path | None,
        ca: Path | None,
        environ: Mapping[str, str] = os.environ,
    ) -> "Server":
        """Take what is given, and for the rest what the kubelet gives to every Pod."""
        if url is None:
            host, port = (
                environ.get("KUBERNETES_SERVICE_HOST"),
                environ.get("KUBERNETES_SERVICE_PORT", "443"),
            )
            if not host:
                raise ApiError(
                    "no API server is known: KUBERNETES_SERVICE_HOST is not set, as it is in a Pod;"
                    " start `kubectl proxy` and give --api http://127.0.0.1:8001"
                )
            url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        try:
            parts = urllib.parse.urlsplit(url)
            scheme, host, _ = parts.scheme, parts.hostname, parts.port
        except ValueError:
            scheme, host = "", None
        if scheme == "http" and host in _LOOPBACK:
            return cls(url, token, ca)  # `kubectl proxy`
        if scheme != "https" or not host:
            raise ApiError(
                f"{url!r} is not an API server's address; accepted: https://HOST:PORT, or http:// "
                "on the loopback address"
            )
        return cls(url, token or _ACCOUNT / "token", ca or _ACCOUNT / "ca.crt")

    def __call__(self, method: str, target: str, body: "Json | None") -> "Answer":
        """Make one call."""
        return call(self, method, target, body)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: status, JSON if any, texts of `Warning` headers, the API server's time."""

    status: int
    body: Any
    warnings: tuple[str, ...]
    date: datetime | None


Ask = Callable[[str, str, Json | None], Answer]
"""Makes one call: method, path with query, body. `Server` is one; kubectl is another."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A Secret as read; `raw` goes back with new data: others' labels and annotations stay."""

    data: dict[str, bytes]
    raw: Json


@dataclass(frozen=True, slots=True)
class Webhooks:
    """A MutatingWebhookConfiguration: its entries' names, and the bundle of each."""

    bundles: dict[str, bytes]
    resource_version: str


class Client:
    """Calls the API, with a new connection each time.

    Calls are rare, and a kept connection could be dead when it matters.
    """

    def __init__(
        self,
        ask: "Ask",
        namespace: str,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.skew = timedelta()
        """How far the API server's clock was ahead of ours at the last answer."""
        self._ask, self._clock = ask, clock
        quoted = urllib.parse.quote(namespace, safe="")
        self._secrets = f"/api/v1/namespaces/{quoted}/secrets/"
        self._leases = f"/apis/coordination.k8s.io/v1/namespaces/{quoted}/leases/"
        self._webhooks = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/"

    def secret(self, name: str) -> Secret:
        """Read a Secret."""
        return _secret(self._call("GET", self._secrets, name))

    def save_secret(self, secret: Secret, data: Mapping[str, bytes]) -> Secret:
        """Replace the data of a Secret."""
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        return _secret(
            self._call(
                "PUT",
                self._secrets,
                secret.raw["metadata"]["name"],
                {**secret.raw, "data": encoded},
            )
        )

    def lease(self, name: str) -> Json:
        """Read a Lease."""
        return self._call("GET", self._leases, name)

    def save_lease(self, lease: Json, spec: Json) -> Json:
        """Replace the spec of a Lease."""
        return self._call("PUT", self._leases, lease["metadata"]["name"], {**lease, "spec": spec})

    def webhooks(self, name: str) -> Webhooks:
        """Read the bundles of a MutatingWebhookConfiguration."""
        return _webhooks(self._call("GET", self._webhooks, name))

    def publish(self, name: str, webhooks: Webhooks, bundle: bytes) -> Webhooks:
        """Put the bundle into every entry.

        Server-side apply with our own field manager: we own only these fields, so no other tool's
        apply conflicts with ours as long as it leaves them out.
        """
        encoded = base64.b64encode(bundle).decode()
        body = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": name, "resourceVersion": webhooks.resource_version},
            "webhooks": [
                {"name": entry, "clientConfig": {"caBundle": encoded}} for entry in webhooks.bundles
            ],
        }
        return _webhooks(self._call("PATCH", self._webhooks, name, body, query="&force=true"))

    def _call(
        self, method: str, prefix: str, name: str, body: Json | None = None, query: str = ""
    ) -> Json:
        path = prefix + urllib.parse.quote(name, safe="")
        what = f"{method} {path}"
        target = path if body is None else f"{path}?fieldManager={FIELD_MANAGER}{query}"
        answer = self._ask(method, target, body)
        if answer.date:
            self.skew = answer.date - self._clock()
        return judge(what, answer)


@dataclass(frozen=True, slots=True)
class Response:
    """What came back, undecoded: status, body, text of `Warning` headers, the API server's time."""

    status: int
    content: bytes
    warnings: tuple[str, ...]
    date: datetime | None


def call(
    server: Server,
    method: str,
    target: str,
    body: Json | None = None,
    *,
    agent: str = FIELD_MANAGER,
) -> Answer:
    """Make one call. Raises ApiError if there is no answer; the caller interprets the status."""
    sent = None if body is None else json.dumps(body).encode()
    got = exchange(server, method, target, sent, agent=agent)
    return Answer(got.status, _parsed(got.content), got.warnings, got.date)


def exchange(
    server: Server,
    method: str,
    target: str,
    body: bytes | None = None,
    *,
    agent: str = FIELD_MANAGER,
    seconds: float | None = None,
    limit: int = BODY_LIMIT,
) -> Response:
    """Make one call with a JSON body that the caller encodes and decodes.

    `seconds` bounds the whole call, `limit` the bytes of the answer. Raises ApiError if there is no
    whole answer.
    """
    what = f"{method} {target.partition('?')[0]} at {server.url}"
    if seconds is None:
        seconds = TIMEOUT if body is None else WRITE_TIMEOUT
    connection = _connection(server, seconds)
    deadline: threading.Timer | None = None
    late = threading.Event()
    try:
        headers = {
            "Accept": "application/json",
            "Content-Type": "application/apply-patch+yaml"
            if method == "PATCH"
            else "application/json",
            "User-Agent": agent,
            "Connection": "close",
            **_authorization(server),
        }
        base = urllib.parse.urlsplit(server.url).path.rstrip("/")
        connection.connect()
        # The library's timeout applies to each single read.
        deadline = threading.Timer(seconds, _cut, (connection.sock, late))
        deadline.daemon = True
        deadline.start()
        connection.request(method, base + target, body, headers)
        response = connection.getresponse()
        content = response.read(limit + 1)
        # When it reads with a limit, the library does not tell an end from a cut; our cut looks
        # like an end, too.
        if len(content) <= limit and (response.length or late.is_set()):
            raise http.client.IncompleteRead(content, response.length)
    except (OSError, http.client.HTTPException) as error:
        told = f"no whole answer within {seconds:.0f} s: " if late.is_set() else ""
        raise ApiError(f"{what}: {told}{error or type(error).__name__}") from error
    finally:
        if deadline is not None:
            deadline.cancel()
        connection.close()
    if len(content) > limit:
        raise ApiError(f"{what}: the answer is longer than {limit} bytes")
    warnings = tuple(_warning(text) for text in response.headers.get_all("Warning", ()))
    return Response(response.status, content, warnings, _date(response.getheader("Date")))


def message(got: Response) -> str:
    """Give what the API server says about a status other than 2xx."""
    parsed = _parsed(got.content)
    told = parsed.get("message") if isinstance(parsed, dict) else None
    return str(told or http.client.responses.get(got.status, got.status))


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _cut(sock: socket.socket, late: threading.Event) -> None:
    """End a connection from another thread: its reader gets the end of the stream at once."""
    late.set()
    with contextlib.suppress(OSError):  # it ended by itself just now
        # Below TLS: the TLS socket's own method would pull its state from under the reader.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _connection(server: Server, timeout: float) -> http.client.HTTPConnection:
    parts = urllib.parse.urlsplit(server.url)
    if parts.scheme == "http":
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    try:
        context = ssl.create_default_context(cafile=str(server.ca))
    except OSError as error:
        raise ApiError(
            f"{server.ca}, the API server's authority, can't be read: {error.strerror or error}"
        ) from error
    # The default since Python 3.13. Many clusters' authorities lack the key identifier that it
    # requires.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return http.client.HTTPSConnection(
        parts.hostname or "", parts.port, timeout=timeout, context=context
    )


def _authorization(server: Server) -> dict[str, str]:
    if server.token is None:
        return {}
    try:
        token = server.token.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise ApiError(
            f"{server.token}, the token for the API server, can't be read: {reason}"
        ) from error
    if not token or not token.isprintable():
        raise ApiError(
            f"{server.token}, the token for the API server,"
            f" is {'empty' if not token else 'more than one line'}"
        )
    return {"Authorization": f"Bearer {token}"}


def _date(header: str | None) -> datetime | None:
    try:
        there = parsedate_to_datetime(header or "")
    except ValueError:
        return None
    return there if there.tzinfo else None


def _warning(header: str) -> str:
    """Take the text out of `299 - "text"`; a backslash quotes a character (RFC 9110, 5.6.4)."""
    match = re.match(r'\s*\d{3}\s+\S+\s+"((?:[^"\\]|\\.)*)"', header)
    return re.sub(r"\\(.)", r"\1", match[1]) if match else header


def judge(what: str, answer: Answer) -> Json:
    """Map statuses to errors: 404 missing, 409 conflict, other than 2xx failed.

    The text is the API server's own.
    """
    body = answer.body
    if 200 <= answer.status < 300:
        # Without a version, writing it back would be unconditional.
        if (
            not isinstance(body, dict)
            or not isinstance(body.get("metadata"), dict)
            or not body["metadata"].get("resourceVersion")
        ):
            raise ApiError(f"{what}: {answer.status}, but the answer is not a Kubernetes object")
        return body
    told = body.get("message") if isinstance(body, dict) else None
    text = (
        f"{what}: {answer.status} {told or http.client.responses.get(answer.status, '')}".rstrip()
    )
    raise {404: ApiMissing, 409: ApiConflict}.get(answer.status, ApiError)(text)


def _secret(raw: Json) -> Secret:
    data = raw.get("data")
    return Secret(
        {key: _decoded(value) for key, value in data.items()} if isinstance(data, dict) else {}, raw
    )


def _webhooks(raw: Json) -> Webhooks:
    entries = raw.get("webhooks")
    named = (
        [entry for entry in entries if isinstance(entry, dict) and "name" in entry]
        if isinstance(entries, list)
        else []
    )
    return Webhooks(
        {str(entry["name"]): _bundle(entry) for entry in named},
        str(raw["metadata"]["resourceVersion"]),
    )


def _bundle(entry: Json) -> bytes:
    config = entry.get("clientConfig")
    return _decoded(config.get("caBundle") or "") if isinstance(config, dict) else b""


def _decoded(value: Any) -> bytes:
    """Read base64; anything else counts as empty."""
    try:
        return base64.b64decode(value)
    except (TypeError, ValueError):
        return b""
