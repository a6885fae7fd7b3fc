"""The webhook as a server: all of its parts, put together.

In: options, the configuration, files with a certificate. Out: a process that serves until it is
told to stop, and exits with 0. From the wire up:

| room          | idea                                                                       |
|---------------|----------------------------------------------------------------------------|
| `limits`      | how much all connections may take together, and which to close first       |
| `channel`     | bytes between TCP and HTTP, plain or in TLS                                |
| `connection`  | HTTP/1.1 on one connection: states, deadlines, one answer for each request |
| `listener`    | a port: lets connections in, keeps the time, closes without losing any     |
| `certificate` | the serving certificate, renewed while serving                             |
| `replicas`    | Pods that are alike are decided about once                                 |
| `telemetry`   | log lines and metrics                                                      |
| `application` | `POST /mutate`, its statuses, where decisions run                          |
| `health`      | `/livez`, `/readyz`, `/metrics` on a thread of their own                   |
| `shutdown`    | signals, and the way from serving to gone                                  |
| `options`     | what flags and environment say                                             |
"""

import asyncio
import contextlib
import gc
import hashlib
import logging
import resource
import ssl
import sys
from time import monotonic, time
from typing import Any, Final

import msgspec
import uvloop

from webhook import admission
from webhook.config import Config
from webhook.server.application import LARGE, Mutate, application, routes
from webhook.server.certificate import FIRST, POLL, CertificateSource, TLSOptions
from webhook.server.health import Health
from webhook.server.limits import Limits
from webhook.server.listener import Listener, bind
from webhook.server.options import ServeOptions
from webhook.server.shutdown import Shutdown
from webhook.server.telemetry import Log, Metrics

__all__ = ["SWITCH", "ServeOptions", "serve"]

_FINISH: Final = 12.0
"""Seconds for requests in flight when the port closes; each is cut after 10 s anyway."""
_SPARE: Final = 128
"""File descriptors for all but connections to the HTTPS port."""
SWITCH: Final = 0.001
"""Seconds until a computing thread lets another one run: health must not wait."""
_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class Server:
    """All parts."""

    def __init__(self, config: Config, options: ServeOptions, log: Log) -> None:
        self.config, self.options, self.log = config, options, log
        self.metrics = Metrics(log)
        self.certificate = CertificateSource(
            options.cert,
            options.key,
            options.ca,
            TLSOptions(
                _VERSIONS[options.tls_min_version],
                options.client_ca,
                options.client_names,
                options.service_name,
            ),
        )
        self.shutdown = Shutdown(options.drain_seconds, log.event)
        self.health = Health(lambda: self.turned, self.missing, self.metrics.text, self.failed)
        self.turned = monotonic()
        self.listener: Listener | None = None

    async def run(self) -> int:
        """Serve until told to stop; returns the exit code."""
        loop = asyncio.get_running_loop()
        self.log.attach(loop)
        loop.set_exception_handler(
            lambda _, context: self.failed(
                context.get("exception"), str(context.get("message", ""))
            )
        )
        self.shutdown.listen(loop)
        options, metrics = self.options, self.metrics
        mutate = Mutate(self.config, metrics, options.failure_policy)
        self.certificate.poll(self.log.event)
        listening = bind(options.host, options.port)
        plain = bind(options.plain_host, options.plain_port)
        self.listener = Listener(
            application(mutate, metrics.responded, self.failed),
            routes(mutate),
            Limits(connections=_connections(options.connections)),
            context=self.certificate.context,
            trusted=options.api_servers,
            stranger=self.certificate.stranger if options.client_ca else None,
            counted=metrics.responded,
            report=self.failed,
        )
        self._declare(mutate, self.listener)
        gc.collect()
        gc.freeze()
        sys.setswitchinterval(SWITCH)
        port = await self.listener.listen(listening)
        self.health.start(plain)
        self.log.event("listening", port=port, plainPort=plain.getsockname()[1], host=options.host)
        tasks = [loop.create_task(self._poll()), loop.create_task(self._turn())]
        await self.shutdown.asked()
        self.listener.drain()
        await self.shutdown.delayed()
        cut = await self.listener.close(_FINISH)
        for task in tasks:
            task.cancel()
        self.health.stop()
        self.log.event("stopped", connectionsCut=cut)
        return 0

    def missing(self) -> list[str]:
        """Say what keeps this server from being ready, except the loop's pace.

        Called on the thread of `health`.
        """
        found = ["draining: told to stop"] if self.shutdown.draining else []
        if certificate := self.certificate.missing(time()):
            found.append(f"certificate: {certificate}")
        if not found and (self.listener is None or not self.listener.listening()):
            found.append("serving port: does not take connections")
        return found

    def failed(self, error: BaseException | None, note: str = "") -> None:
        """Log a failure by type and place; its message could quote a Pod."""
        if isinstance(error, (OSError, asyncio.CancelledError)):
            return
        self.metrics.failed += 1
        self.log.event("failed", note=note, error=type(error).__name__, at=admission.place(error))

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL if self.certificate.pair else FIRST)
            self.certificate.poll(self.log.event)

    async def _turn(self) -> None:
        """Tell `health` that the loop turns."""
        while True:
            self.turned = monotonic()
            await asyncio.sleep(0.5)

    def _declare(self, mutate: Mutate, listener: Listener) -> None:
        """Tell the metrics what they read from other parts."""
        metrics, certificate = self.metrics, self.certificate
        shown = fingerprint(self.config)
        metrics.counters(
            "podgrace_connections_events",
            "What became of connections to the webhook port.",
            "event",
            listener.events,
        )
        metrics.counters(
            "podgrace_certificate_reloads",
            "Changed certificate files, by what came of them; "
            "a refused pair is tried again every 5 s.",
            "result",
            lambda: {"loaded": certificate.succeeded, "refused": certificate.failed},
        )
        for name, text, read in (
            (
                "podgrace_requests_in_flight",
                "Requests without an answer yet.",
                lambda: listener.in_flight,
            ),
            (
                "podgrace_connections",
                "Open connections of the webhook port, those in handshake included.",
                lambda: listener.open,
            ),
            (
                "podgrace_connections_limit",
                "The most there may be.",
                lambda: listener.limits.connections,
            ),
            (
                "podgrace_connections_bytes",
                "Memory charged to the connections of the webhook port.",
                lambda: listener.budget.held,
            ),
            (
                "podgrace_connections_bytes_limit",
                "The most it may be: the first in line are closed for others.",
                lambda: listener.limits.memory,
            ),
            (
                "podgrace_large_reviews",
                f"Reviews over {LARGE} bytes that wait for their decision now.",
                lambda: mutate.large,
            ),
            (
                "podgrace_event_loop_lag_seconds",
                "How late the event loop was, at most, since the last look.",
                listener.worst,
            ),
            ("podgrace_draining", "1 after TERM.", lambda: self.shutdown.draining),
        ):
            metrics.gauge(name, text, read)
        metrics.gauges(
            "podgrace_certificate_not_after_seconds",
            "End of validity, Unix time.",
            "kind",
            certificate.expiries,
        )
        metrics.gauges(
            "podgrace_config_info",
            "1, with a hash of the configuration.",
            "hash",
            lambda: {shown: 1},
        )


def serve(config: Config, options: ServeOptions) -> int:
    """Serve until told to stop; returns the exit code."""
    log = Log()
    logger = logging.getLogger("uvicorn.error")
    logger.propagate = False
    logger.setLevel(logging.ERROR)  # clients that speak no HTTP would fill the log with warnings
    logger.addHandler(_Lines(log))
    try:
        return uvloop.run(Server(config, options, log).run())
    finally:
        log.close()


def fingerprint(config: Config) -> str:
    """Hash the configuration: replicas with different ones show different values."""
    return hashlib.sha256(msgspec.json.encode(config.file, order="sorted")).hexdigest()[:12]


def _connections(wanted: int) -> int:
    """Raise the limit of file descriptors as far as it goes; gives how many connections fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = wanted + _SPARE + 1024
    if hard == resource.RLIM_INFINITY or hard >= need:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, need), hard))
    else:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(8, min(wanted, soft - _SPARE - 1024 if soft > 3072 else soft * 3 // 4))


class _Lines(logging.Handler):
    """uvicorn's messages as our log lines: never with the text of an exception."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        problem: Any = record.exc_info[1] if record.exc_info else None
        self._log.event(
            "uvicorn",
            note=str(record.msg).strip(),
            error=type(problem).__name__ if problem else "",
            at=admission.place(problem),
        )
