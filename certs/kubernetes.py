"""The few calls to the Kubernetes API that certificates need, with the standard library.

Objects of two Secrets, one Lease and one webhook configuration come in and go out. Every write carries the resource version that it
was decided on, and raises `ApiConflict` when the object has changed since. Nothing is created: the chart makes the objects, so that the
right to do all this can be limited to their names (`create` can't be).
"""

import base64
import binascii
import http.client
import json
import os
import ssl
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
"""Seconds for each step of a call. Our writes may pass through slow webhooks of others, which may take 30 s (their own limit)."""
WRITE_TIMEOUT: Final = 40.0
BODY_LIMIT: Final = 4 << 20
"""etcd holds 1.5 MiB an object; managedFields and JSON may double that."""

_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Server:
    """Where the API is, and by what files it knows us and we know it. They are read again for every call: both rotate."""

    url: str
    token: Path | None = None
    ca: Path | None = None

    @classmethod
    def of(cls, url: str | None, token: Path | None, ca: Path | None, environ: Mapping[str, str] = os.environ) -> "Server":
        """Take what is given, and for the rest what the kubelet gives to every Pod."""
        if url is None:
            host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT", "443")
            if not host:
                raise ApiError(
                    "no API server is known: KUBERNETES_SERVICE_HOST is not set, as it is in a Pod; give --api https://HOST:PORT"
                )
            url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        parts = urllib.parse.urlsplit(url)
        if parts.scheme == "http" and parts.hostname in _LOOPBACK:
            return cls(url, token, ca)  # `kubectl proxy`
        if parts.scheme != "https" or not parts.hostname:
            raise ApiError(f"{url!r} is no address of an API server; accepted: https://HOST:PORT, or http:// on the loopback address")
        return cls(url, token or _ACCOUNT / "token", ca or _ACCOUNT / "ca.crt")


@dataclass(frozen=True, slots=True)
class Secret:
    """A Secret as read; `raw` goes back with other data, so that labels and annotations of others survive."""

    data: dict[str, bytes]
    raw: Json


@dataclass(frozen=True, slots=True)
class Webhooks:
    """A MutatingWebhookConfiguration: the names of its entries, and the bundle of each."""

    bundles: dict[str, bytes]
    resource_version: str


class Client:
    """Calls the API. A connection lives for one call: calls are rare, and a kept one could be dead when it matters."""

    def __init__(self, server: Server, namespace: str, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.skew = timedelta()
        """How far the API server's clock was ahead of ours at the last answer."""
        self._server, self._clock = server, clock
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
        return _secret(self._call("PUT", self._secrets, secret.raw["metadata"]["name"], {**secret.raw, "data": encoded}))

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

        Server-side apply under a field manager of our own: we own these fields and nothing else, so that no other tool's apply
        conflicts with ours as long as it leaves them out.
        """
        encoded = base64.b64encode(bundle).decode()
        body = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": name, "resourceVersion": webhooks.resource_version},
            "webhooks": [{"name": entry, "clientConfig": {"caBundle": encoded}} for entry in webhooks.bundles],
        }
        return _webhooks(self._call("PATCH", self._webhooks, name, body, query="&force=true"))

    def _call(self, method: str, prefix: str, name: str, body: Json | None = None, query: str = "") -> Json:
        path = prefix + urllib.parse.quote(name, safe="")
        what = f"{method} {path}"
        target = path if body is None else f"{path}?fieldManager={FIELD_MANAGER}{query}"
        kind = "application/apply-patch+yaml" if method == "PATCH" else "application/json"
        connection = self._connection(WRITE_TIMEOUT if body is not None else TIMEOUT)
        try:
            headers = {
                "Accept": "application/json",
                "Content-Type": kind,
                "User-Agent": FIELD_MANAGER,
                "Connection": "close",
                **self._authorization(),
            }
            connection.request(method, target, None if body is None else json.dumps(body).encode(), headers)
            response = connection.getresponse()
            content = response.read(BODY_LIMIT + 1)
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(f"{what} at {self._server.url}: {error or type(error).__name__}") from error
        finally:
            connection.close()
        self._note_time(response.getheader("Date"))
        if len(content) > BODY_LIMIT:
            raise ApiError(f"{what}: the answer is longer than {BODY_LIMIT} bytes")
        return _judge(what, response.status, content)

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        parts = urllib.parse.urlsplit(self._server.url)
        if parts.scheme == "http":
            return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
        try:
            context = ssl.create_default_context(cafile=str(self._server.ca))
        except OSError as error:
            raise ApiError(f"{self._server.ca}, the API server's authority, can't be read: {error.strerror or error}") from error
        return http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=timeout, context=context)

    def _authorization(self) -> dict[str, str]:
        if self._server.token is None:
            return {}
        try:
            return {"Authorization": f"Bearer {self._server.token.read_text().strip()}"}
        except OSError as error:
            raise ApiError(f"{self._server.token}, the token for the API server, can't be read: {error.strerror}") from error

    def _note_time(self, header: str | None) -> None:
        if header is None:
            return
        try:
            there = parsedate_to_datetime(header)
        except ValueError:
            return
        if there.tzinfo:
            self.skew = there - self._clock()


def _judge(what: str, status: int, content: bytes) -> Json:
    """Map statuses to errors. 404 missing, 409 conflict, other than 2xx failed; the text is the API server's own."""
    try:
        answer = json.loads(content)
    except ValueError:
        answer = None
    if 200 <= status < 300:
        if not isinstance(answer, dict) or not isinstance(answer.get("metadata"), dict):
            raise ApiError(f"{what}: {status}, but the answer is no Kubernetes object")
        return answer
    told = answer.get("message") if isinstance(answer, dict) else None
    text = f"{what}: {status} {told or http.client.responses.get(status, '')}".rstrip()
    raise {404: ApiMissing, 409: ApiConflict}.get(status, ApiError)(text)


def _secret(raw: Json) -> Secret:
    data: dict[str, bytes] = {}
    for key, value in (raw.get("data") or {}).items():
        try:
            data[key] = base64.b64decode(value)
        except (TypeError, binascii.Error):
            data[key] = b""
    return Secret(data, raw)


def _webhooks(raw: Json) -> Webhooks:
    bundles = {str(entry["name"]): _bundle(entry) for entry in raw.get("webhooks") or ()}
    return Webhooks(bundles, str(raw["metadata"].get("resourceVersion", "")))


def _bundle(entry: Json) -> bytes:
    try:
        return base64.b64decode((entry.get("clientConfig") or {}).get("caBundle") or "")
    except (TypeError, binascii.Error):
        return b""
