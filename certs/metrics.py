"""The manager's figures for Prometheus and its health for the kubelet, over plain HTTP.

The serving process itself exposes when its certificate expires; only the manager knows whether
renewing works.

`/startz` fails until the serving Secret holds a pair. That matters: when a startup probe succeeds,
the kubelet looks at the whole Pod again, its Secret volumes included, and so the serving container
gets its first certificate at once. Otherwise it would come with the kubelet's next look, up to 90 s
later.
"""

import socket
import threading
from collections.abc import Callable
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from typing import Any, Final

from certs.manager import Figures

PHASES: Final = ("missing", "steady", "trusting", "retiring")
PATIENCE: Final = 15.0
"""Seconds. Without an API server there is no point in waiting for one: the mounted pair may
serve."""


def render(figures: Figures) -> str:
    """Write the figures in the text format."""
    expiries = dict(figures.expiries)
    families: list[tuple[str, str, str, list[tuple[str, float]]]] = [
        (
            "not_after_timestamp_seconds",
            "gauge",
            "End of validity of what is stored in the cluster; authorities on the leader only.",
            [(f'{{kind="{kind}"}}', time.timestamp()) for kind, time in sorted(expiries.items())],
        ),
        (
            "last_success_timestamp_seconds",
            "gauge",
            "When this replica, as leader, last found or put everything right; 0 if it never led.",
            [("", _seconds(figures.succeeded_at))],
        ),
        ("failures_total", "counter", "Looks in which something failed.", [("", figures.failures)]),
        (
            "writes_total",
            "counter",
            "Writes by this replica.",
            [(f'{{object="{name}"}}', count) for name, count in sorted(figures.writes.items())],
        ),
        ("leader", "gauge", "1 on the replica whose turn it is.", [("", float(figures.leader))]),
        (
            "phase",
            "gauge",
            "1 for the phase that the authority is in; on the leader only.",
            [
                (f'{{phase="{name}"}}', float(figures.leader and name == figures.phase))
                for name in PHASES
            ],
        ),
    ]
    lines = []
    for name, kind, text, samples in families:
        lines += [f"# HELP podgrace_certs_{name} {text}", f"# TYPE podgrace_certs_{name} {kind}"]
        lines += [f"podgrace_certs_{name}{labels} {value:.0f}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def listen(
    figures: Figures, host: str, port: int, *, clock: Callable[[], float] = monotonic
) -> ThreadingHTTPServer:
    """Serve /metrics, /healthz and /startz in a thread.

    Host "" is every address, port 0 any free one.
    """
    end = clock() + PATIENCE

    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # a silent client holds no thread
        server_version = "podgrace-certs"

        def do_GET(self) -> None:
            started = figures.served or clock() >= end
            answers = {
                "/metrics": (200, render(figures)),
                "/healthz": (200, "ok\n"),
                "/startz": (200, "ok\n") if started else (503, "no serving certificate yet\n"),
            }
            nothing = (404, f"accepted: {', '.join(answers)}\n")
            status, text = answers.get(self.path.partition("?")[0], nothing)
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Keep scrapes out of the log."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        # A Pod may have IPv6 addresses only; such a socket takes IPv4 as well.
        address_family = (
            socket.AF_INET6 if not host and socket.has_dualstack_ipv6() else socket.AF_INET
        )

        def server_bind(self) -> None:
            if self.address_family == socket.AF_INET6:
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            super().server_bind()

    server = Server((host, port), Handler)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server


def _seconds(time: datetime | None) -> float:
    return time.timestamp() if time else 0.0
