"""A small API server on a socket: two Secrets, a Lease, a webhook configuration, real conflicts.

It keeps every version that ever was, so that a test can judge the whole past.
"""

import base64
import copy
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NAMESPACE = "system"
CORE = f"/api/v1/namespaces/{NAMESPACE}/secrets/"
CA, TLS = CORE + "ca", CORE + "tls"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/turn"
CONFIG = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/podgrace"

Json = dict[str, Any]


class Clock:
    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


class ApiServer:
    def __init__(
        self,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        entries: tuple[str, ...] = ("a.podgrace.io", "b.podgrace.io"),
    ) -> None:
        self.clock = clock
        self.lock = threading.RLock()
        self.version = 0
        self.objects: dict[str, Json] = {}
        self.history: list[tuple[datetime, str, Json]] = []
        self.refused: dict[str, int] = {}
        """Statuses by "METHOD path": the answer, instead of doing it."""
        self.requests: list[str] = []
        self.conflicts = 0
        self.before_write: Callable[[str, str], None] = lambda _method, _path: None
        """Called with the method and path of every write, before it is judged."""
        webhooks = [
            {"name": name, "clientConfig": {"service": {"name": "podgrace"}}, "sideEffects": "None"}
            for name in entries
        ]
        for path, kind in (
            (CA, "Secret"),
            (TLS, "Secret"),
            (LEASE, "Lease"),
            (CONFIG, "MutatingWebhookConfiguration"),
        ):
            rest = {"webhooks": webhooks} if path == CONFIG else {}
            self.put(
                path,
                {
                    "kind": kind,
                    "metadata": {"name": path.rpartition("/")[2], "labels": {"of": "helm"}},
                    **rest,
                },
            )
        self.port = 0
        self.start()

    def start(self) -> None:
        """Listen; after a `close`, on the same port again."""
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}
        )
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def put(self, path: str, value: Json) -> Json:
        with self.lock:
            self.version += 1
            stored = copy.deepcopy(value)
            stored["metadata"]["resourceVersion"] = str(self.version)
            self.objects[path] = stored
            self.history.append((self.clock(), path, copy.deepcopy(stored)))
            return stored

    def data(self, path: str) -> dict[str, bytes]:
        return decoded(self.objects[path])

    def bundles(self) -> list[bytes]:
        return bundles(self.objects[CONFIG])

    def edit(self, path: str, data: dict[str, bytes]) -> None:
        """Let a person change a Secret."""
        found = self.objects.get(path) or {
            "kind": "Secret",
            "metadata": {"name": path.rpartition("/")[2]},
        }
        self.put(
            path,
            {
                **found,
                "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
            },
        )

    def edit_bundle(self, number: int, bundle: bytes) -> None:
        """Let a person change an entry of the configuration."""
        changed = copy.deepcopy(self.objects[CONFIG])
        changed["webhooks"][number]["clientConfig"]["caBundle"] = base64.b64encode(bundle).decode()
        self.put(CONFIG, changed)

    def answer(self, method: str, path: str, body: Json | None) -> tuple[int, Json]:
        with self.lock:
            self.requests.append(f"{method} {path}")
            if status := self.refused.get(f"{method} {path}"):
                return status, {"kind": "Status", "message": "refused by the test"}
            if path not in self.objects:
                return 404, {"kind": "Status", "message": f"{path} not found"}
            found = self.objects[path]
            if body is None:
                return 200, found
            self.before_write(method, path)
            found = self.objects[path]
            if body["metadata"].get("resourceVersion") != found["metadata"]["resourceVersion"]:
                self.conflicts += 1
                return 409, {"kind": "Status", "message": "the object has been modified"}
            if method == "PUT" and body["metadata"]["name"] == found["metadata"]["name"]:
                return 200, self.put(path, body)
            if method == "PATCH" and path == CONFIG:
                changed = copy.deepcopy(found)
                applied = {
                    entry["name"]: entry["clientConfig"]["caBundle"] for entry in body["webhooks"]
                }
                if set(applied) != {entry["name"] for entry in changed["webhooks"]}:
                    return 422, {
                        "kind": "Status",
                        "message": "an entry that is not there would be made",
                    }
                for entry in changed["webhooks"]:
                    entry["clientConfig"]["caBundle"] = applied[entry["name"]]
                return 200, self.put(path, changed)
            return 405, {"kind": "Status", "message": f"{method} {path}"}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            def serve(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                status, answer = api.answer(self.command, self.path.partition("?")[0], body)
                content = json.dumps(answer).encode()
                self.send_response_only(status)
                self.send_header("Date", format_datetime(api.clock(), usegmt=True))
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_PUT = do_PATCH = serve  # noqa: N815 - the library's names

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


def decoded(secret: Json) -> dict[str, bytes]:
    return {key: base64.b64decode(value) for key, value in secret.get("data", {}).items()}


def bundles(config: Json) -> list[bytes]:
    return [
        base64.b64decode(entry["clientConfig"].get("caBundle", "")) for entry in config["webhooks"]
    ]
