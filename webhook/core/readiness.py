"""The readiness probe of a container that has none.

In: the `Look` of a container. Out: a probe and the reason, or no probe and the reason. A probe
that is there is never replaced. Only http, tcp and grpc: an exec probe needs a program in the image, and during termination
it is broken in some versions of the kubelet (kubernetes 1.35, from 1.36.3).
"""

from webhook.core import probe
from webhook.core.decision import Look
from webhook.core.pod import Container, port_number
from webhook.core.ports import plausible
from webhook.core.probe import Probe


def choose(look: Look, *, mesh: bool) -> tuple[str, Probe | None]:
    """Settle the code and the probe for a container without one."""
    kind = look.settings.readiness
    if kind == "off":
        return "readiness-off", None
    if kind != "auto":
        return _annotated(look)
    if mesh:
        return "readiness-mesh", None
    for name, own in look.probes:
        if name != "readiness":
            where = own.http_get or own.tcp_socket
            if where is not None and where.host:
                # The server listens where only that name leads; a probe of the Pod's own address
                # would keep it out for ever.
                return "readiness-host", None
            return f"readiness-{name}", probe.copied(own)
    candidates = plausible(look.container, look.ports)
    if len(candidates) != 1:
        return ("readiness-ambiguous" if candidates else "readiness-no-port"), None
    if _on_loopback(look.container, candidates[0]):
        return "readiness-loopback", None
    return "readiness-tcp", probe.made("tcp", candidates[0])


def _on_loopback(container: Container, port: int) -> bool:
    """Whether the command says that the server listens where the kubelet cannot reach it."""
    line = " ".join([*(container.command or ()), *(container.args or ())])
    return f"127.0.0.1:{port}" in line or f"localhost:{port}" in line or f"[::1]:{port}" in line


def _annotated(look: Look) -> tuple[str, Probe | None]:
    settings = look.settings
    port: int | str | None = settings.readiness_port
    if port is None:
        candidates = plausible(look.container, look.ports)
        port = candidates[0] if len(candidates) == 1 else None
        if port is None:
            return ("readiness-ambiguous" if candidates else "readiness-no-port"), None
    # A name that the container does not declare would fail at every probe; a grpc probe takes
    # numbers only.
    number = port_number(port, look.container)
    if number is None:
        return "readiness-no-port", None
    return "readiness-annotated", probe.made(
        settings.readiness,
        number if settings.readiness == "grpc" else port,
        settings.readiness_path,
    )
