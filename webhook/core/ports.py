"""Ports: where requests arrive at a container.

In: a container and its decoded probes. Out: TCP port numbers. Declared ports come first; where there are several, those of
exporters, debuggers and meshes are left out. Which probe is made of them belongs to `readiness`.
"""

import re
from collections.abc import Sequence
from typing import Final

from webhook.core.pod import Container, Handler, Raw, handler, port_number, present
from webhook.core.profile import Profile
from webhook.core.status import Before

_SERVING_NUMBERS: Final = frozenset({80, 443, 3000, 5000, 8000, 8080, 8443})
_SERVING_NAMES: Final = ("http", "https", "web", "grpc", "h2c", "www")
_FRONT_NUMBERS: Final = frozenset({80, 443, 8080, 8443})
_SIDE_NAMES: Final = re.compile("metrics|prom|admin|debug|health|pprof|jmx|probe|status")
_SIDE_NUMBERS: Final = frozenset(
    {*range(9090, 9130), 15020, 15021, 15090, 4191, 2019, 6060, 5005, 9229}
)
"""Ports that exporters, debuggers and meshes use by convention: not where users' requests arrive."""


def network_probes(container: Container, view: Before) -> list[tuple[str, Handler]]:
    """Decode the container's own probes; exec ones serve no request and are left out."""
    found: list[tuple[str, Handler]] = []
    if view.readiness is not None:
        _add(found, "readiness", view.readiness)
    if (raw := present(container.liveness_probe)) is not None:
        _add(found, "liveness", raw)
    if (raw := present(container.startup_probe)) is not None:
        _add(found, "startup", raw)
    return found


def _add(found: list[tuple[str, Handler]], kind: str, raw: Raw) -> None:
    probe = handler(raw)
    if probe.http_get is not None or probe.tcp_socket is not None or probe.grpc is not None:
        found.append((kind, probe))


def serving(container: Container, probes: Sequence[tuple[str, Handler]]) -> Sequence[int]:
    """Return the ports on which requests arrive: those declared, less exporters' where others remain; else those probed."""
    declared = [
        port for port in container.ports or () if port.protocol is None or port.protocol == "TCP"
    ]
    if len(declared) == 1:
        return (declared[0].container_port,)
    if declared:
        declared = [
            port for port in declared if not _is_side(port.name or "", port.container_port)
        ] or declared
    if declared:
        return sorted({port.container_port for port in declared})
    found = set()
    for _, probe in probes:
        where = probe.http_get or probe.tcp_socket or probe.grpc
        if where is not None and (number := port_number(where.port, container)):
            found.add(number)
    return sorted(found)


def plausible(container: Container, ports: Sequence[int]) -> Sequence[int]:
    """Narrow several ports down: by conventional name, then by conventional number."""
    if len(ports) < 2:
        return ports
    named = {
        port.container_port
        for port in container.ports or ()
        if port.name and port.name.split("-")[0] in _SERVING_NAMES
    }
    for narrowed in ([p for p in ports if p in named], [p for p in ports if p in _SERVING_NUMBERS]):
        if len(narrowed) == 1:
            return narrowed
    return ports


def distance(container: Container, ports: Sequence[int], profile: Profile) -> int:
    """Tell how far from the users a container stands among those of its Pod: 0 for what is usually put in front."""
    if profile.front:
        return 0
    named = [
        port
        for port in container.ports or ()
        if port.name and port.name.split("-")[0] in _SERVING_NAMES
    ]
    return 1 if named or not _FRONT_NUMBERS.isdisjoint(ports) else 2


def _is_side(name: str, number: int) -> bool:
    return number in _SIDE_NUMBERS or _SIDE_NAMES.search(name) is not None
