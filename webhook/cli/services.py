"""What a manifest's Services and Ingresses say about its Pods, which the Pods do not say.

In: the objects of a file, and what was decided about its workloads. Out: a sentence for each
workload that

* a load balancer reaches without a node between, without a readiness gate: it lets go of Pods late;
* gets UDP on a port for which a TCP probe was made up.

The webhook sees Pods alone, so the decision stays as it is, and the author is told.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from webhook.admission import Outcome
from webhook.cli.manifests import Workload
from webhook.core.balancer import Balancer
from webhook.core.names import PREFIX
from webhook.core.pod import Container, port_number


class Sign(NamedTuple):
    """An annotation with which a load balancer of this name sends straight to Pods."""

    kind: str
    annotation: str
    value: re.Pattern[str]
    balancer: str


def _sign(kind: str, annotation: str, value: str, balancer: str) -> Sign:
    return Sign(kind, annotation, re.compile(value, re.IGNORECASE | re.DOTALL), balancer)


_AWS: Final = "service.beta.kubernetes.io/aws-load-balancer-"

SIGNS: Final = (
    _sign("Service", _AWS + "nlb-target-type", "ip", "aws"),
    _sign("Service", _AWS + "type", "nlb-ip", "aws"),
    _sign("Ingress", "alb.ingress.kubernetes.io/target-type", "ip", "aws"),
    _sign("Service", "cloud.google.com/neg", r'.*("ingress"\s*:\s*true|exposed_ports).*', "gke"),
    _sign("Ingress", "kubernetes.io/ingress.class", "gce(-internal)?", "gke"),
    _sign("Service", "service.beta.kubernetes.io/backend-type", "eni", "alibaba"),
    _sign("Service", "service.cloud.tencent.com/direct-access", "true", "tencent"),
    _sign("Ingress", "ingress.cloud.tencent.com/direct-access", "true", "tencent"),
)
"""From the documentation of each cloud's controller."""

_DELAYS: Final = (PREFIX + "delay", PREFIX + "delay-min")


def late(
    objects: Sequence[Any],
    decided: Sequence[tuple[Workload, Outcome]],
    balancers: Sequence[Balancer],
) -> Iterator[str]:
    """Name each workload whose delay may be too short for the load balancer in front of it."""
    known = {one.name: one for one in balancers}
    services = [one for one in map(_Object.of, objects) if one is not None]
    fronts = [(one, known[name]) for one in services if (name := _straight(one)) in known]
    for workload, outcome in decided:
        metadata = workload.pod.metadata
        if any(key.startswith(_DELAYS) for key in (metadata and metadata.annotations) or ()):
            continue
        if not any(made.waits for made in outcome.plan.containers):
            continue
        if any(found.code == "balancer" for found in outcome.plan.decisions):
            continue
        labels = (metadata and metadata.labels) or {}
        for front, balancer in fronts:
            if any(
                _selects(service, labels, workload.namespace)
                for service in _behind(front, services)
            ):
                yield (
                    f"{workload.place}: {workload.kind} {workload.name}: the load balancer of"
                    f" {front.kind} {front.name} ({balancer.name}) sends straight to its Pods and"
                    f" lets go of them late: set podgrace.io/delay-min: {balancer.delay}, or its"
                    " readiness gate"
                )
                break


def datagrams(objects: Sequence[Any], decided: Sequence[tuple[Workload, Outcome]]) -> Iterator[str]:
    """Name each container with a made-up TCP probe on a port that only gets UDP."""
    services = [one for one in map(_Object.of, objects) if one is not None]
    for workload, outcome in decided:
        metadata = workload.pod.metadata
        labels = (metadata and metadata.labels) or {}
        own = [one for one in services if _selects(one, labels, workload.namespace)]
        for made in outcome.plan.containers:
            probe = made.readiness if isinstance(made.readiness, dict) else {}
            port = probe.get("tcpSocket", {}).get("port")
            sent = {
                (one.name, str(sent.get("protocol", "TCP")))
                for one in own
                for sent in map(_map, _list(one.spec.get("ports")))
                if port is not None and _target(sent, made.container) == port
            }
            name = made.container.name
            if sent and all(protocol == "UDP" for _, protocol in sent):
                yield (
                    f"{workload.place}: {workload.kind} {workload.name}: {name}: Service"
                    f" {min(sent)[0]} sends UDP to port {port}, for which a TCP probe is added: say"
                    f" protocol: UDP there, or podgrace.io/readiness-probe.{name}: disabled"
                )


class _Object(NamedTuple):
    """A Service or Ingress."""

    kind: str
    name: str
    namespace: str
    annotations: Mapping[str, Any]
    spec: Mapping[str, Any]

    @classmethod
    def of(cls, data: Any) -> "_Object | None":
        if not isinstance(data, dict) or data.get("kind") not in ("Service", "Ingress"):
            return None
        metadata, spec = _map(data.get("metadata")), _map(data.get("spec"))
        name, namespace = (str(metadata.get(key) or "") for key in ("name", "namespace"))
        return cls(str(data["kind"]), name, namespace, _map(metadata.get("annotations")), spec)


def _map(data: Any) -> dict[str, Any]:
    return data if isinstance(data, dict) else {}


def _list(data: Any) -> list[Any]:
    return data if isinstance(data, list) else []


def _straight(one: _Object) -> str:
    """Give the name of the balancer that an object's annotations ask for, or ""."""
    for sign in SIGNS:
        value = one.annotations.get(sign.annotation)
        if one.kind == sign.kind and value is not None and sign.value.fullmatch(str(value)):
            return sign.balancer
    return ""


def _behind(front: _Object, objects: Sequence[_Object]) -> Iterator[_Object]:
    """Give the Services that an object sends to: itself, or an Ingress's backends."""
    if front.kind == "Service":
        yield front
        return
    names = set(_backends(front.spec))
    for one in objects:
        if one.kind == "Service" and one.name in names and one.namespace == front.namespace:
            yield one


def _backends(data: Any) -> Iterator[str]:
    """Find the Services' names in an Ingress's spec."""
    if isinstance(data, dict):
        service = data.get("service")
        if isinstance(service, dict) and isinstance(service.get("name"), str):
            yield service["name"]
        for item in data.values():
            yield from _backends(item)
    elif isinstance(data, list):
        for item in data:
            yield from _backends(item)


def _target(sent: Mapping[str, Any], container: Container) -> int | None:
    """Give the container's port that a Service's port sends to."""
    target = sent.get("targetPort") or sent.get("port")
    return port_number(target, container) if isinstance(target, int | str) else None


def _selects(service: _Object, labels: Mapping[str, str], namespace: str) -> bool:
    selector = _map(service.spec.get("selector"))
    return (
        bool(selector)
        and service.namespace == namespace
        and all(labels.get(key) == value for key, value in selector.items())
    )
