"""The readiness probe of a container that has none.

In: the container, its settings, ports and other probes. Out: a probe and the reason, or no probe and the reason. A probe
that is there is never replaced. Only http, tcp and grpc: an exec probe needs a program in the image, and during termination
it is broken in some versions of the kubelet (kubernetes 1.35, from 1.36.3).
"""

from collections.abc import Sequence
from typing import Any

from webhook.core.pod import Container, Handler, HttpGet, PortHandler, port_number
from webhook.core.ports import plausible
from webhook.core.settings import Settings
from webhook.core.status import PROBE_TIMES

Probe = dict[str, Any]


def choose(
    container: Container,
    settings: Settings,
    ports: Sequence[int],
    probes: Sequence[tuple[str, Handler]],
    *,
    mesh: bool,
) -> tuple[str, Probe | None]:
    """Settle the code and the probe for a container without one."""
    kind = settings.readiness
    if kind == "off":
        return "readiness-off", None
    if kind != "auto":
        return _annotated(container, settings, ports)
    if mesh:
        return "readiness-mesh", None
    for name, own in probes:
        if name != "readiness":
            where = own.http_get or own.tcp_socket
            if where is not None and where.host:
                # The server listens where only that name leads; a probe of the Pod's own address would keep it out for ever.
                return "readiness-host", None
            return f"readiness-{name}", {**_copy(own), **PROBE_TIMES}
    candidates = plausible(container, ports)
    if len(candidates) != 1:
        return ("readiness-ambiguous" if candidates else "readiness-no-port"), None
    if _on_loopback(container, candidates[0]):
        return "readiness-loopback", None
    return "readiness-tcp", _made("tcp", candidates[0], "")


def _on_loopback(container: Container, port: int) -> bool:
    """Whether the command says that the server listens where the kubelet cannot reach it."""
    line = " ".join([*(container.command or ()), *(container.args or ())])
    return f"127.0.0.1:{port}" in line or f"localhost:{port}" in line or f"[::1]:{port}" in line


def _annotated(
    container: Container, settings: Settings, ports: Sequence[int]
) -> tuple[str, Probe | None]:
    port: int | str | None = settings.readiness_port
    if port is None:
        candidates = plausible(container, ports)
        port = candidates[0] if len(candidates) == 1 else None
        if port is None:
            return ("readiness-ambiguous" if candidates else "readiness-no-port"), None
    # A name that the container does not declare would fail at every probe; a grpc probe takes numbers only.
    number = port_number(port, container)
    if number is None:
        return "readiness-no-port", None
    return "readiness-annotated", _made(
        settings.readiness,
        number if settings.readiness == "grpc" else port,
        settings.readiness_path,
    )


def _made(kind: str, port: int | str, path: str) -> Probe:
    if kind == "http":
        return {"httpGet": {"path": path, "port": port, "scheme": "HTTP"}, **PROBE_TIMES}
    return {"tcpSocket" if kind == "tcp" else "grpc": {"port": port}, **PROBE_TIMES}


def _copy(own: Handler) -> Probe:
    """Copy the handler of a probe. Without `host`: Pod Security "baseline" refuses one on what we add."""
    get: HttpGet | None = own.http_get
    if get is not None:
        copied: dict[str, Any] = {
            "path": get.path or "/",
            "port": get.port,
            "scheme": get.scheme or "HTTP",
        }
        if get.http_headers:
            copied["httpHeaders"] = [
                {"name": header.name, "value": header.value} for header in get.http_headers
            ]
        return {"httpGet": copied}
    if own.tcp_socket is not None:
        return {"tcpSocket": {"port": own.tcp_socket.port}}
    grpc: PortHandler = own.grpc or PortHandler()
    return {
        "grpc": {"port": grpc.port}
        if grpc.service is None
        else {"port": grpc.port, "service": grpc.service}
    }
