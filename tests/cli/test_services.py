"""Who is told that a load balancer in the same file lets go of Pods late, and who need not be."""

import json
from typing import Any

import pytest

from tests.cli.command import podgrace
from webhook.cli.services import SIGNS, Sign

VALUES = {
    "cloud.google.com/neg": '{"ingress": true}',
    "kubernetes.io/ingress.class": "gce-internal",
}


def web(*gates: str, annotations: Any = None, labels: Any = None) -> dict[str, Any]:
    container = {"name": "web", "image": "shop:1", "ports": [{"containerPort": 8080}]}
    spec = {
        "containers": [container],
        "readinessGates": [{"conditionType": gate} for gate in gates],
    }
    metadata = {"labels": labels or {"app": "web", "tier": "a"}, "annotations": annotations or {}}
    template = {"metadata": metadata, "spec": spec}
    head = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}
    return {**head, "spec": {"template": template}}


def front(sign: Sign, value: str = "") -> list[dict[str, Any]]:
    """Make the Service with the sign, or a Service and the Ingress before it."""
    value = value or VALUES.get(sign.annotation) or sign.value.pattern
    annotated = {"name": "front", "annotations": {sign.annotation: value}}
    plain = {"name": "back"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": annotated if sign.kind == "Service" else plain,
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    }
    if sign.kind == "Service":
        return [service]
    backend = {"service": {"name": "back", "port": {"number": 80}}}
    rules = [{"http": {"paths": [{"path": "/", "backend": backend}]}}]
    head = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": annotated}
    return [service, {**head, "spec": {"rules": rules}}]


def told(*objects: dict[str, Any]) -> str:
    """Give what inject says besides the line that sums up a workload; explain says the same."""
    text = "\n---\n".join(map(json.dumps, objects))
    said, also = (podgrace(verb, "-f", "-", stdin=text).err for verb in ("inject", "explain"))
    rest = "".join(line for line in said.splitlines(True) if line.startswith("podgrace: "))
    assert also == rest
    return rest


@pytest.mark.parametrize("sign", SIGNS, ids=lambda sign: sign.annotation)
def test_a_workload_behind_one_is_named(sign: Sign) -> None:
    said = told(web(), *front(sign))
    assert "Deployment web: the load balancer of" in said
    assert f"{sign.kind} front ({sign.balancer})" in said
    items = {"apiVersion": "v1", "kind": "List", "items": [*front(sign), web()]}
    assert "Deployment web: the load balancer of" in told(items)


SIGN = SIGNS[0]
OTHER = {"app": "other"}


@pytest.mark.parametrize(
    "objects",
    [
        [web(), *front(SIGN, "instance")],
        [web(labels=OTHER), *front(SIGN)],
        [web("target-health.elbv2.k8s.aws/k8s-web"), *front(SIGN)],
        [web(annotations={"podgrace.io/delay": "60"}), *front(SIGN)],
        [web(annotations={"podgrace.io/delay-min.web": "60"}), *front(SIGN)],
        [web(annotations={"podgrace.io/mode": "off"}), *front(SIGN)],
        [web(), *front(SIGNS[2])[1:]],
        front(SIGN),
    ],
    ids=[
        "sends to nodes",
        "another's Pods",
        "a gate",
        "a delay",
        "a delay of one container",
        "left alone",
        "a backend elsewhere",
        "no workload",
    ],
)
def test_nobody_else_is(objects: list[dict[str, Any]]) -> None:
    assert told(*objects) == ""


def echo(*ports: dict[str, Any]) -> dict[str, Any]:
    head = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "echo"}}
    return {**head, "spec": {"selector": {"app": "web"}, "ports": [*ports]}}


@pytest.mark.parametrize(
    "port", [{"port": 8080}, {"port": 80, "targetPort": 8080}], ids=["same", "another"]
)
def test_a_probe_on_a_port_that_gets_udp_is_named(port: dict[str, Any]) -> None:
    said = told(web(), echo(port | {"protocol": "UDP"}))
    assert "Deployment web: web: Service echo sends UDP to port 8080" in said
    assert told(web(), echo(port)) == ""
    assert told(web(), echo(port | {"protocol": "UDP"}, port | {"protocol": "TCP"})) == ""
    assert told(web(), echo({"port": 9, "protocol": "UDP"})) == ""
    assert told(web(labels=OTHER), echo(port | {"protocol": "UDP"})) == ""
    broken = echo() | {"spec": {"selector": {"app": "web"}, "ports": 8080}}
    assert told(web(), broken, {"kind": "Service", "spec": [], "metadata": 1}) == ""
    off = {"podgrace.io/readiness-probe": "disabled"}
    assert told(web(annotations=off), echo(port | {"protocol": "UDP"})) == ""
