"""The webhook as a server: one route over HTTPS, and three on a plain port for the kubelet and Prometheus.

In: options, the configuration, files with a certificate. Out: a process that serves until it is told to stop, and exits with 0.
Deciding belongs to `admission`; bounds on connections and bytes to `protocol`; certificates to `tls`; stopping to `shutdown`.

HTTPS, `POST /mutate`. The body is taken as bytes and read by `admission` alone: FastAPI's 422 never reaches an API server.

| the request                                           | status | body                                                     |
|-------------------------------------------------------|--------|----------------------------------------------------------|
| a review                                              | 200    | AdmissionReview, see `admission`                         |
| a review while too many large ones are held           | 200    | allowed, no patch, a warning; `--failure-policy Fail`: 503 |
| a review whose own `?timeout=` has passed             | 200    | the same                                                 |
| not a review                                          | 400    | {"error": ...}, see `admission`                          |
| not HTTP                                              | 400    | {"error": ...}                                           |
| without an accepted client certificate (`--client-ca`)| 403    | {"error": ...}                                           |
| another path                                          | 404    | {"error": ...}                                           |
| another method                                        | 405    | {"error": ...}, header Allow                             |
| not complete within 10 s                              | 408    | {"error": ...}                                           |
| body over 3 MiB                                       | 413    | {"error": ...}                                           |
| another content type, or compressed                   | 415    | {"error": ...}                                           |
| headers over 16 KiB                                   | 431    | {"error": ...}                                           |
| a bug of ours outside the decision                    | 500    | {"error": ...}; one inside it is answered 200, allowed   |

Plain HTTP: `/livez` (the event loop turns), `/readyz` (200, or 503 and one line for everything that is missing), `/metrics`.
"""

import asyncio
import gc
import hashlib
import logging
import re
import ssl
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from time import perf_counter, time
from typing import Any, Final, Literal

import msgspec
import uvloop
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from webhook import admission
from webhook.config import Config
from webhook.protocol import WHOLE, Door, Limits
from webhook.replicas import Replicas
from webhook.shutdown import Shutdown
from webhook.telemetry import Log, Metrics
from webhook.tls import POLL, Keeper, Terms

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PATH: Final = "/mutate"

_LARGE: Final = 64 << 10
"""Bytes. Reviews of Pods are mostly below 20 KiB; what is above this is charged to a budget for all connections together."""
_LARGE_AT_ONCE: Final = 8
"""Large reviews held at a time: 24 MiB at the most."""
_FINISH: Final = 12.0
"""Seconds for the requests in flight when the ports close; a request that has begun is cut after 10 s."""
_DIAL: Final = 2.0
"""Seconds for the look at our own port, and for which what it saw holds."""
_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_TYPE: Final = b"application/json"
_HEADERS: Final = (b"content-type", _TYPE)
_UID = re.compile(rb'"request"\s*:\s*\{\s*"uid"\s*:\s*("[0-9A-Za-z-]{1,64}")')
_DURATION = re.compile(
    rb"(?:^|&)timeout=(?:([0-9]{1,3})m)?(?:([0-9]{1,4}(?:\.[0-9]{1,9})?)s)?(?:&|$)"
)


class ServeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `podgrace serve` is told by flags and environment."""

    host: str = ""
    """Every address."""
    port: int = 8443
    cert: str
    key: str
    ca: str | None = None
    plain_host: str = ""
    plain_port: int = 9090
    drain_seconds: float = 15.0
    failure_policy: Literal["Ignore", "Fail"] = "Ignore"
    connections: int = Limits().connections
    tls_min_version: Literal["1.2", "1.3"] = "1.2"
    client_ca: str | None = None
    client_names: tuple[str, ...] = ()


class Refused(Exception):
    """A request that is answered without a decision."""

    def __init__(self, status: int, error: str, *headers: tuple[bytes, bytes]) -> None:
        self.status, self.headers = status, headers
        super().__init__(error)


class Gone(Exception):
    """The client has left, or was answered by `protocol`."""


class Mutate:
    """`POST /mutate` as an ASGI application: limits and content type, the body, the decision, one answer."""

    def __init__(self, config: Config, metrics: Metrics, policy: str) -> None:
        self._metrics, self._fail = metrics, policy == "Fail"
        self._replicas = Replicas(config)
        metrics.counters(
            "podgrace_decisions",
            "Pods decided about, and those like one before.",
            "how",
            lambda: self._replicas.counts,
        )
        self.large = 0
        self._shed = metrics.counter(
            "podgrace_overload",
            "Reviews answered without a decision.",
            "cause",
            ("bytes", "deadline"),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        start = perf_counter()
        metrics = self._metrics
        metrics.in_flight += 1
        try:
            _acceptable(scope)
            body, cause = await self._read(receive)
            limit = _timeout(scope["query_string"]) if scope["query_string"] else 0.0
            if limit and perf_counter() - start >= limit:
                cause = "deadline"
            answer = (
                self._overloaded(body, cause)
                if cause
                else admission.answer_by(body, self._replicas.judge)
            )
            status, out = answer.status, answer.body
            metrics.call(answer, len(body), perf_counter() - start)
            headers = [_HEADERS]
        except Refused as why:
            status, out = why.status, msgspec.json.encode({"error": str(why)})
            metrics.refused(status)
            headers = [_HEADERS, *why.headers]
        except Gone:
            return
        finally:
            metrics.in_flight -= 1
        whole = scope["extensions"].get(WHOLE) if "extensions" in scope else None
        if whole is None or not whole(scope, status, headers, out):
            headers.append((b"content-length", b"%d" % len(out)))
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": out})

    async def _read(self, receive: Receive) -> tuple[bytes | bytearray, str]:
        """Give the body, and why it must not be decided about, or "". What is over the budget is read to its end, but not kept."""
        message = await receive()
        if message["type"] != "http.request":
            raise Gone
        if not message["more_body"]:
            return message["body"], ""
        body, charged, cause = bytearray(message["body"]), False, ""
        try:
            while message["more_body"]:
                message = await receive()
                if message["type"] != "http.request":
                    raise Gone
                if len(body) + len(message["body"]) > _LARGE and not charged and not cause:
                    if self.large < _LARGE_AT_ONCE:
                        self.large += 1
                        charged = True
                    else:
                        cause = "bytes"
                        body = body[:_LARGE]
                if not cause:
                    body += message["body"]
        finally:
            self.large -= charged
        return body, cause

    def _overloaded(self, body: bytes | bytearray, cause: str) -> admission.Answer:
        self._shed[cause] += 1
        found = _UID.search(body)
        if self._fail or found is None:
            raise Refused(503, f"overloaded: {cause}", (b"retry-after", b"1"))
        return admission.allow(b'{"request":{"uid":' + found[1] + b"}}", "overload")


class Webhook(FastAPI):
    """The application on the HTTPS port. Its one busy route goes before the middleware, which alone costs a third of a call."""

    def __init__(
        self, mutate: Mutate, failed: Callable[[Exception], None], refused: Callable[[int], None]
    ) -> None:
        super().__init__(title="podgrace", openapi_url=None, docs_url=None, redoc_url=None)
        _errors(self, refused)
        self._mutate, self._failed, self._refused = mutate, failed, refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Route: the admission call directly, all else as Starlette does."""
        try:
            if scope["type"] == "http" and scope["path"] == PATH:
                await self._mutate(scope, receive, send)
            else:
                await super().__call__(scope, receive, send)
        except Exception as error:  # noqa: BLE001 - no traceback, and no cut connection, for a bug of ours
            self._failed(error)
            self._refused(500)
            await JSONResponse({"error": "podgrace failed: see its log"}, 500)(scope, receive, send)


class Server:
    """All parts, put together."""

    def __init__(self, config: Config, options: ServeOptions, log: Log) -> None:
        self.config, self.options, self.log = config, options, log
        self.metrics = Metrics(log)
        self.keeper = Keeper(
            options.cert,
            options.key,
            options.ca,
            Terms(_VERSIONS[options.tls_min_version], options.client_ca, options.client_names),
        )
        self.shutdown = Shutdown(options.drain_seconds, log.event)
        self._dialled, self._seen = 0.0, "not tried yet"

    async def run(self) -> int:
        """Serve until told to stop; returns the exit code."""
        loop = asyncio.get_running_loop()
        self.log.attach(loop)
        loop.set_exception_handler(
            lambda _, context: self._failed(
                context.get("exception"), str(context.get("message", ""))
            )
        )
        self.shutdown.listen(loop)
        options = self.options
        self.mutate = Mutate(self.config, self.metrics, options.failure_policy)
        application = Webhook(self.mutate, self._failed, self.metrics.refused)
        self.keeper.poll(self.log.event)
        limits = Limits(connections=options.connections)
        self.door = Door(
            application, limits, self.metrics.refused, self.keeper.context, self._stranger
        )
        self.plain = Door(plain(self), Limits(connections=64, body=_LARGE, idle=60), lambda _: None)
        port, plain_port = (
            self.door.listen(options.host, options.port),
            self.plain.listen(options.plain_host, options.plain_port),
        )
        self._declare()
        gc.collect()
        gc.freeze()
        self.log.event("listening", port=port, plainPort=plain_port, host=options.host)
        polling = loop.create_task(self._poll())
        await self.shutdown.asked()
        self.door.drain()
        await self.shutdown.delayed()
        polling.cancel()
        cut = await self.door.close(_FINISH)
        await self.plain.close(0.2)
        self.log.event("stopped", connectionsCut=cut)
        return 0

    async def missing(self) -> list[str]:
        """Say everything that keeps this server from being ready."""
        found = ["draining: told to stop"] if self.shutdown.draining else []
        if certificate := self.keeper.missing(time()):
            found.append(f"certificate: {certificate}")
        elif dialled := await self._dial():
            found.append(f"TLS on the serving port: {dialled}")
        return found

    def _stranger(self, transport: asyncio.Transport) -> str:
        return (
            self.keeper.stranger(transport.get_extra_info("peercert"))
            if self.options.client_names
            else ""
        )

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL)
            self.keeper.poll(self.log.event)

    async def _dial(self) -> str:
        """Shake hands with our own port: what a client sees must be what is loaded."""
        if perf_counter() - self._dialled < _DIAL:
            return self._seen
        self._dialled = perf_counter()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = (
            False,
            ssl.CERT_NONE,
        )  # compared byte by byte below
        try:
            async with asyncio.timeout(_DIAL):
                _, writer = await asyncio.open_connection(*self.door.address(), ssl=context)
            shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            writer.transport.abort()
        except (OSError, TimeoutError) as error:
            self._seen = str(error) or "no answer"
            return self._seen
        pair = self.keeper.pair
        self._seen = (
            ""
            if pair is not None and shown == pair.leaf
            else "another certificate than the one that is loaded"
        )
        return self._seen

    def _failed(self, error: BaseException | None, note: str = "") -> None:
        """Log a failure by type and place; its message could quote a Pod."""
        if isinstance(error, (OSError, asyncio.CancelledError)):
            return
        self.metrics.failed += 1
        self.log.event("failed", note=note, error=type(error).__name__, at=admission.place(error))

    def _declare(self) -> None:
        """Tell the metrics what they read from other parts."""
        metrics, door, keeper, shown = (
            self.metrics,
            self.door,
            self.keeper,
            fingerprint(self.config),
        )
        metrics.counters(
            "podgrace_connections_events",
            "What became of connections to the webhook port.",
            "event",
            lambda: door.counts,
        )
        metrics.counters(
            "podgrace_certificate_reloads",
            "Changed certificate files, by what came of them; a refused pair is tried again every 5 s.",
            "result",
            lambda: {"loaded": keeper.succeeded, "refused": keeper.failed},
        )
        metrics.gauge(
            "podgrace_connections",
            "Open connections of the webhook port, those in handshake included.",
            lambda: door.open,
        )
        metrics.gauge(
            "podgrace_connections_limit", "The most there may be.", lambda: door.limits.connections
        )
        metrics.gauge(
            "podgrace_large_reviews",
            f"Reviews over {_LARGE} bytes that are held now.",
            lambda: self.mutate.large,
        )
        metrics.gauge(
            "podgrace_event_loop_lag_seconds",
            "How late the event loop was, at most, since the last look.",
            door.worst,
        )
        metrics.gauge("podgrace_draining", "1 after TERM.", lambda: self.shutdown.draining)
        metrics.gauges(
            "podgrace_certificate_not_after_seconds",
            "End of validity, Unix time.",
            "kind",
            keeper.expiries,
        )
        metrics.gauges(
            "podgrace_config_info",
            "1, with a hash of the configuration.",
            "hash",
            lambda: {shown: 1},
        )


def plain(server: Server) -> FastAPI:
    """Build the application on the plain port."""
    app = FastAPI(title="podgrace", openapi_url=None, docs_url=None, redoc_url=None)
    _errors(app, lambda _: None)

    @app.get("/livez")
    @app.get("/healthz")
    async def livez() -> Response:
        return Response("ok\n", media_type="text/plain")

    @app.get("/readyz")
    async def readyz() -> Response:
        missing = await server.missing()
        return Response(
            "\n".join([*missing, ""]) or "ok\n", 503 if missing else 200, media_type="text/plain"
        )

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(
            server.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8"
        )

    return app


def serve(config: Config, options: ServeOptions) -> int:
    """Serve until told to stop; returns the exit code."""
    log = Log()
    logger = logging.getLogger("uvicorn.error")
    logger.propagate = False
    logger.setLevel(
        logging.ERROR
    )  # a warning for every client that speaks no HTTP is a flood; they are counted as 400
    logger.addHandler(_Lines(log))
    try:
        return uvloop.run(Server(config, options, log).run())
    finally:
        log.close()


class _Lines(logging.Handler):
    """What uvicorn says, as a line of ours: never with the text of an exception."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self._log.event(
            "uvicorn",
            note=str(record.msg).strip(),
            error=type(error).__name__ if error else "",
            at=admission.place(error),
        )


def fingerprint(config: Config) -> str:
    """Hash the configuration: replicas with different ones show different values."""
    return hashlib.sha256(msgspec.json.encode(config.file, order="sorted")).hexdigest()[:12]


def _acceptable(scope: Scope) -> None:
    """Check what stands above the body. Raises `Refused`."""
    if scope["method"] != "POST":
        raise Refused(405, f"method {scope['method']}: accepted: POST", (b"allow", b"POST"))
    kind = b""
    for name, value in scope["headers"]:
        if name == b"content-type":
            kind = value
        elif name == b"content-encoding" and value != b"identity":
            raise Refused(415, f"Content-Encoding {_shown(value)}: accepted: none")
    if kind != _TYPE and kind.split(b";")[0].strip().lower() != _TYPE:
        raise Refused(415, f"Content-Type {_shown(kind)}: accepted: application/json")


@lru_cache(64)
def _timeout(query: bytes) -> float:
    """Read the seconds that the API server waits; 0 where it does not say."""
    found = _DURATION.search(query)
    return 60.0 * int(found[1] or 0) + float(found[2] or 0) if found else 0.0


def _shown(value: bytes) -> str:
    return repr(value[:64].decode("ascii", "replace"))


def _errors(app: FastAPI, refused: Callable[[int], None]) -> None:
    """Give Starlette's own errors the shape of ours."""

    @app.exception_handler(HTTPException)
    async def answer(request: Request, error: HTTPException) -> Response:
        refused(error.status_code)
        return JSONResponse(
            {"error": f"{request.method} {request.url.path[:64]}: {error.detail}"},
            error.status_code,
            error.headers,
        )
