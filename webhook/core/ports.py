"""Ports: where requests arrive at a container, and which ports serve its users.

In: a container, its probes, and what its command line says. Out: `Ports`: those whose requests we
wait for, and those that visibly serve users. Which readiness probe they get belongs to `readiness`.

Whom a port serves. The first row that fits decides. A name is split at its dashes, so "prom" does
not match "promotions". Its last word says what it is, but for words such as http, tcp and port:
"http-metrics" and "metrics-http" are for metrics, "stats-api" is not:

| its name or number                                    | the port is                            |
|-------------------------------------------------------|----------------------------------------|
| metrics, admin, debug, health, peer, raft... as the   | a side port: no user waits for answers |
| last word                                             |                                        |
| one of these, and another word after it               | unknown                                |
| the word http, https, web, www, grpc or h2c           | serving                                |
| no telling name, and an exporter's or a peer's number | a side port; unknown if a grpc probe   |
|                                                       | asks it, or an argument names it, or   |
|                                                       | it is the only one and readiness does  |
| 80, 443, 3000, 5000, 8000, 8080, 8443                 | serving                                |
| anything else                                         | unknown: watched, which harms nobody;  |
|                                                       | never probed by guess                  |

Which ports are watched. The first row that gives any decides:

| source    | ports                                                                            |
|-----------|----------------------------------------------------------------------------------|
| annotated | as the author says                                                               |
| declared  | every declared TCP port that is not a side port, and those of its network probes |
| probed    | those of its network probes, unless they are declared as side ports              |
| arguments | those that its command line or PORT names                                        |
| profile   | whatever listens, if a known server runs                                         |
| ready     | whatever listens, if only side ports are declared, and a program decides whether |
|           | the container is ready (exec)                                                    |
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import msgspec
from msgspec.structs import replace

from webhook.core.arguments import Told
from webhook.core.pod import Container, Handler, Port, Raw, handler, port_number, present
from webhook.core.profile import Profile, image_name
from webhook.core.status import Before

SERVING_NAMES: Final = frozenset({"http", "https", "web", "www", "grpc", "h2c"})
SERVING_NUMBERS: Final = frozenset({80, 443, 3000, 5000, 8000, 8080, 8443})
_FRONT_NUMBERS: Final = frozenset({80, 443, 8080, 8443})

PEER_NAMES: Final = frozenset(
    {"peer", "peers", "raft", "gossip", "cluster", "clustering", "serf", "memberlist", "swim"}
    | {"membership", "replication", "repl", "transport", "internode", "intra", "remoting"}
    | {"election", "leader", "quorum", "discovery", "epmd", "galera", "wsrep", "jgroups"}
)
"""Words that say: the members of a cluster come here."""

SIDE_NAMES: Final = frozenset(
    {"metrics", "metric", "prom", "prometheus", "monitor", "monitoring", "telemetry", "exporter"}
    | {"stats", "statistics", "scrape", "instrumentation"}
    | {"admin", "administration", "mgmt", "management", "ctl"}
    | {"debug", "debugger", "debugging", "pprof", "profiling", "profiler", "dlv", "jdwp"}
    | {"jmx", "jmxremote", "jolokia", "rmi", "inspect", "inspector", "zpages"}
    | {"health", "healthz", "healthcheck", "healthchecks", "probe", "probes", "status"}
    | {"livez", "liveness", "readyz", "readiness"}
    | PEER_NAMES
)
"""Words in a port's name that say: users do not come here."""

PEER_NUMBERS: Final = frozenset(
    # etcd, Serf, Consul, Elasticsearch, Cassandra, RabbitMQ, ZooKeeper, NATS, Galera
    {2380, 7946, 8300, 8301, 8302, 9300, 7199, 4369, 25672, 2888, 3888, 6222, 8222} | {4567, 4568}
)
SIDE_NUMBERS: Final = frozenset(
    # metrics: Prometheus' convention, and its list of default ports beyond 9100 to 9129
    {9090, *range(9100, 9130), 9150, 9153, 9182, 9187, 9216, 9256, 9273, 9308, 9404, 9419}
    | {9901, 10249, 10254, 10256, 24231}
    # meshes
    | {15000, 15004, 15014, 15020, 15021, 15090, 4191}
    # administration, debuggers, profilers, JMX
    | {2019, 5005, 6060, 9229, 9010, 1099, 8778}
    | PEER_NUMBERS
)
"""Numbers that say the same if no name does."""

UDP_NAMES: Final = frozenset(
    {"udp", "dns", "domain", "statsd", "syslog", "snmp", "ntp", "tftp", "dhcp", "quic", "h3"}
    | {"http3", "radius", "stun", "turn", "sip", "rtp", "wireguard", "vxlan", "netflow", "sflow"}
)
UDP_NUMBERS: Final = frozenset(
    {53, 67, 68, 69, 123, 137, 138, 161, 162, 500, 514, 520, 1194, 1812, 1813, 1900, 2055, 3478}
    | {4500, 4789, 5060, 5353, 6343, 8125, 8472, 51820}
)
"""Mostly UDP, and TCP in a manifest only because that is the default of `protocol`."""

SHY_NAMES: Final = frozenset({"mysql", "mysqlx", "mariadb"})
SHY_NUMBERS: Final = frozenset({3306, 33060})
"""Servers that count a connection without a greeting as an error, and block the node after 100
(max_connect_errors of MySQL and MariaDB)."""

TLS_NAMES: Final = frozenset({"https", "tls", "ssl", "mtls"})
TLS_NUMBERS: Final = frozenset({443, 8443, 6443, 9443})
"""Servers that may log every connection without a handshake."""

_NO_HEADS: Final = frozenset(
    {"http", "https", "grpc", "h2c", "web", "www", "tcp", "udp", "tls", "ssl", "rpc", "port"}
    | {"ports", "server", "svc", "service", "endpoint", "listener", "check", "checks", "lan"}
    | {"wan", "int", "internal", "ext", "external"}
)
"""Words after which another word says what a port is for."""
_SAYS_NOTHING: Final = frozenset({"", "tcp", "port", "ports", "p", "container", "main"})


class Ports(msgspec.Struct, frozen=True, gc=False):
    """What was found. `source`: the row of the second table, "side" if all are side ports, or "".

    `watched`: () with `source` "profile" or "ready" means whatever listens. `serving`: the declared
    ports that visibly serve users. `doubtful`: side ports by their number alone.
    """

    source: str = ""
    watched: Sequence[int] = ()
    serving: Sequence[int] = ()
    doubtful: Sequence[int] = ()


NONE: Final = Ports()


def network_probes(container: Container, view: Before) -> list[tuple[str, Handler]]:
    """Decode the container's own probes, without exec probes, which send no request."""
    found: list[tuple[str, Handler]] = []
    if view.readiness is not None:
        _add(found, "readiness", view.readiness)
    if container.liveness_probe:
        _add(found, "liveness", container.liveness_probe)
    if container.startup_probe:
        _add(found, "startup", container.startup_probe)
    return found


def _add(found: list[tuple[str, Handler]], kind: str, raw: Raw) -> None:
    if present(raw) is None:
        return
    probe = handler(raw)
    if probe.http_get is not None or probe.tcp_socket is not None or probe.grpc is not None:
        found.append((kind, probe))


def find(
    container: Container,
    probes: Sequence[tuple[str, Handler]],
    annotated: Sequence[int] | None,
) -> Ports:
    """Find the ports by what the Pod declares: rows "annotated", "declared" and "probed"."""
    open_ports, serving, side, doubtful = [], [], [], []
    for port in container.ports or ():
        if port.protocol is not None and port.protocol != "TCP":
            continue
        kind = _kind(port.name or "", port.container_port)
        if kind == "side":
            side.append(port.container_port)
            if not port.name or _says(port.name) != "side":
                doubtful.append(port.container_port)
            continue
        open_ports.append(port.container_port)
        if kind == "serving":
            serving.append(port.container_port)
    if annotated:
        return Ports("annotated", annotated, serving)
    if doubtful and (proven := _proven(container, probes, doubtful, alone=not open_ports)):
        open_ports += proven
        side = [number for number in side if number not in proven]
        doubtful = [number for number in doubtful if number not in proven]
    probed = []
    for _, probe in probes:
        where = probe.http_get or probe.tcp_socket or probe.grpc
        number = port_number(where.port, container) if where is not None else None
        if number and number not in side:
            probed.append(number)
    source = "declared" if open_ports else "probed" if probed else "side" if side else ""
    if len(open_ports) + len(probed) > 1:
        return Ports(source, sorted({*open_ports, *probed}), sorted(set(serving)), doubtful)
    return Ports(source, open_ports or probed, serving, doubtful)


def _proven(
    container: Container,
    probes: Sequence[tuple[str, Handler]],
    doubtful: Sequence[int],
    *,
    alone: bool,
) -> list[int]:
    """Give those of `doubtful` that probes ask as if users came there.

    `alone`: no other port is declared for users. An exporter is known by its name, or by a probe
    that asks for its metrics.
    """
    words = re.split(r"[-_.]", f"{container.name}-{image_name(container.image or '')}")
    alone = alone and SIDE_NAMES.isdisjoint(words)
    proven = []
    for kind, probe in probes:
        get = probe.http_get
        if not probe.grpc and not (alone and kind == "readiness"):
            continue
        if get is not None and "metrics" in (get.path or ""):
            continue
        where = probe.grpc or get or probe.tcp_socket
        number = port_number(where.port, container) if where is not None else None
        if number is not None and number in doubtful:
            proven.append(number)
    return sorted(set(proven))


def named(found: Ports, told: Told) -> Ports:
    """Add the side ports known by their number alone that the arguments name as the server's."""
    more = told.listens.intersection(found.doubtful)
    return replace(found, watched=sorted({*found.watched, *more})) if more else found


def of_unnamed(found: Ports, told: Told, profile: Profile, *, ready: bool) -> Ports:
    """Find the ports of a container that declares none for users: the other rows.

    `ready`: it has a readiness probe that asks no port (exec).
    """
    if told.listens:
        return Ports("arguments", sorted(told.listens), found.serving)
    if profile.ports or profile.standalone or profile.front:
        return Ports("profile")
    return Ports("ready") if ready and found.source == "side" else found


def plausible(container: Container, ports: Sequence[int]) -> Sequence[int]:
    """Narrow down several ports: by conventional name, then by conventional number."""
    if len(ports) < 2:
        return ports
    named = {p.container_port for p in container.ports or () if _is_named_serving(p)}
    for narrowed in ([p for p in ports if p in named], [p for p in ports if p in SERVING_NUMBERS]):
        if len(narrowed) == 1:
            return narrowed
    return ports


def distance(container: Container, ports: Sequence[int], profile: Profile) -> int:
    """Tell how far a container is from its users: 0 for what usually stands in front."""
    if profile.front:
        return 0
    if not _FRONT_NUMBERS.isdisjoint(ports):
        return 1
    # A list is quicker.
    named = any([_is_named_serving(p) for p in container.ports or ()])  # noqa: C419
    return 1 if named else 2


def name_words(name: str) -> list[str]:
    """Split a port's name: `http8080-tcp` is http8080, http and tcp."""
    words = name.split("-")
    return words + [word.rstrip("0123456789") for word in words if word[-1:].isdigit()]


def is_udp(container: Container, number: int) -> bool:
    """Whether a port is mostly UDP, and only the default of `protocol` says TCP."""
    for port in container.ports or ():
        if port.container_port == number:
            if not UDP_NAMES.isdisjoint(name_words(port.name or "")):
                return True
            if "tcp" in name_words(port.name or ""):
                return False
    return number in UDP_NUMBERS


def has_peers(container: Container) -> bool:
    """Whether a declared port is one for the members of a cluster."""
    return any([_is_peers(p.name or "", p.container_port) for p in container.ports or ()])  # noqa: C419


def is_shy(container: Container, number: int) -> bool:
    """Whether the server counts a bare connection as an error."""
    return number in SHY_NUMBERS or not SHY_NAMES.isdisjoint(_words_of(container, number))


def is_tls(container: Container, number: int) -> bool:
    """Whether the server expects a handshake."""
    return number in TLS_NUMBERS or not TLS_NAMES.isdisjoint(_words_of(container, number))


def _words_of(container: Container, number: int) -> list[str]:
    return [
        word
        for port in container.ports or ()
        if port.container_port == number
        for word in name_words(port.name or "")
    ]


def _is_named_serving(port: Port) -> bool:
    return bool(port.name) and _says(port.name or "") == "serving"


@lru_cache(maxsize=4096)
def _is_peers(name: str, number: int) -> bool:
    if not PEER_NAMES.isdisjoint(name_words(name)):
        return True
    return number in PEER_NUMBERS and (not name or _says(name) == "nothing")


@lru_cache(maxsize=4096)
def _kind(name: str, number: int) -> str:
    """Read the first table: "side", "serving" or ""."""
    said = _says(name) if name else "nothing"
    if said == "nothing" and number in SIDE_NUMBERS:
        return "side"
    if said == "mixed":
        return ""
    if said in ("side", "serving"):
        return said
    return "serving" if number in SERVING_NUMBERS else ""


@lru_cache(maxsize=4096)
def _says(name: str) -> str:
    """Tell what a name says: "side", "mixed", "serving", "nothing", or "" if it is not known."""
    words = name_words(name)
    if not SIDE_NAMES.isdisjoint(words):
        heads = [w for w in name.split("-") if w.rstrip("0123456789") not in {"", *_NO_HEADS}]
        return "mixed" if SIDE_NAMES.isdisjoint(name_words(heads[-1])) else "side"
    if not SERVING_NAMES.isdisjoint(words):
        return "serving"
    if all(word.rstrip("0123456789") in _SAYS_NOTHING for word in words):
        return "nothing"
    return ""
