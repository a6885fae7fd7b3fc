"""What is seen of a Pod from all sides: frozen values on one clock, written down as they come.

`PodState` and `SliceSeen` are what the API tells; a `Sample` is one question that a client asked
and the answer that it got, at a place (a node, or here). Times are seconds since the watch began;
another machine's clock has been aligned with ours by then. What it all means belongs in `lives`.
"""

from typing import Any, Final, NamedTuple

import msgspec

DIRECT: Final = "direct"
SERVICE: Final = "service"
INGRESS: Final = "ingress"
HEADLESS: Final = "headless"
NAME: Final = "name"
PATHS: Final = {
    SERVICE: "Service",
    INGRESS: "Ingress",
    HEADLESS: "headless DNS",
    NAME: "Service's DNS",
    DIRECT: "Pod directly",
}
"""A way by which clients come to a Pod -> its name for people."""

GREETING: Final = "podgrace-timeline "
"""What our own server's answers begin with; then its name, and words about itself."""
CHECKED: Final = "checked"
STOPPING: Final = "stopping"
"""What our own server says of itself: its readiness probe has asked; it has got SIGTERM."""

ANSWERED: Final = frozenset({"accepted", "NOERROR"})


class Container(NamedTuple):
    """A container as its Pod's status has it. state: waiting, running or terminated."""

    name: str
    state: str = "waiting"
    ready: bool = False


class PodState(NamedTuple):
    """A Pod as the API showed it at one moment. true: the conditions that are."""

    at: float
    name: str
    uid: str
    node: str = ""
    address: str = ""
    port: int = 0
    phase: str = ""
    true: frozenset[str] = frozenset()
    containers: tuple[Container, ...] = ()
    told: bool = False
    gone: bool = False


class Question(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a place asks again and again, each time on a new connection.

    key: the way, and for DIRECT the Pod: `direct/shop-1`. ask: tcp, http or dns. every: seconds.
    address: "" for DNS is the place's own server. pods: names that are looked for in an answer over
    HTTP. six: ask for IPv6 addresses.
    """

    key: str
    ask: str
    address: str
    port: int
    every: float
    path: str = "/"
    host: str = ""
    tls: bool = False
    six: bool = False
    pods: tuple[str, ...] = ()


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One question and its answer.

    at: when it began. answer: a status of HTTP, `accepted`, NOERROR, NXDOMAIN, or what went wrong.
    who: the Pods that answered, or the addresses of a name. said: what our own server says of
    itself. ttl: seconds for which a client may keep the answer, -1 where that is not known.
    """

    key: str
    at: float
    took: float
    answer: str
    who: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    ttl: int = -1

    @property
    def good(self) -> bool:
        """Whether a client got what it asked for."""
        return self.answer in ANSWERED or self.answer[:1] in ("2", "3")


class Heard(NamedTuple):
    """A sample, and the place that asked."""

    place: str
    sample: Sample


class _Meta(msgspec.Struct, rename="camel"):
    name: str = ""
    uid: str = ""
    deletion_timestamp: str | None = None


class _Port(msgspec.Struct, rename="camel"):
    container_port: int = 0
    protocol: str = "TCP"


class _Container(msgspec.Struct):
    ports: list[_Port] | None = None


class _Spec(msgspec.Struct, rename="camel"):
    node_name: str = ""
    containers: list[_Container] = []


class _Condition(msgspec.Struct):
    type: str = ""
    status: str = ""


class _ContainerStatus(msgspec.Struct):
    name: str = ""
    state: dict[str, Any] = {}
    ready: bool = False


class _Status(msgspec.Struct, rename="camel"):
    phase: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")
    conditions: list[_Condition] | None = None
    init_container_statuses: list[_ContainerStatus] | None = None
    container_statuses: list[_ContainerStatus] | None = None


class _Pod(msgspec.Struct):
    metadata: _Meta
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


def pod(kind: str, tree: Any, at: float) -> PodState:
    """Read an event of a Pod. Raises msgspec.ValidationError if it is none."""
    found = msgspec.convert(tree, _Pod)
    status = found.status
    ports = [port for made in found.spec.containers for port in made.ports or ()]
    statuses = [*(status.init_container_statuses or ()), *(status.container_statuses or ())]
    return PodState(
        at,
        found.metadata.name,
        found.metadata.uid,
        node=found.spec.node_name,
        address=status.pod_ip,
        port=next((port.container_port for port in ports if port.protocol == "TCP"), 0),
        phase=status.phase,
        true=frozenset(c.type for c in status.conditions or () if c.status == "True"),
        containers=tuple(
            Container(s.name, next(iter(s.state), "waiting"), s.ready) for s in statuses
        ),
        told=found.metadata.deletion_timestamp is not None,
        gone=kind == "DELETED",
    )
