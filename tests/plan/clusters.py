"""Clusters to plan for: small objects by hand, and a large one as kubectl would print it."""

import json
from collections.abc import Iterator
from typing import Any

Tree = dict[str, Any]

READINESS = {"httpGet": {"path": "/healthz", "port": 8080}}


def container(name: str = "web", image: str = "acme/shop:1", **more: Any) -> Tree:
    return {"name": name, "image": image, "ports": [{"containerPort": 8080}], **more}


def workload(
    kind: str = "Deployment",
    name: str = "shop",
    *containers: Tree,
    namespace: str = "shop",
    spec: Tree | None = None,
    pod: Tree | None = None,
    template: Tree | None = None,
) -> Tree:
    """Make a workload with two replicas whose Pods carry the label `app`."""
    metadata = {"labels": {"app": name}, **(template or {})}
    made = {"containers": list(containers) or [container()], **(pod or {})}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": 2, "template": {"metadata": metadata, "spec": made}, **(spec or {})},
    }


def service(name: str = "shop", *, namespace: str = "shop", app: str = "", **spec: Any) -> Tree:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": app or name}, "ports": [{"port": 80, "targetPort": 8080}]}
        | spec,
    }


def budget(name: str = "shop", *, namespace: str = "shop", app: str = "", **spec: Any) -> Tree:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"matchLabels": {"app": app or "shop"}}} | spec,
    }


def scaler(least: int | None, kind: str = "Deployment", target: str = "shop", **spec: Any) -> Tree:
    reference = {"apiVersion": "apps/v1", "kind": kind, "name": target}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": target, "namespace": "shop"},
        "spec": {"scaleTargetRef": reference, "minReplicas": least, "maxReplicas": 9} | spec,
    }


def running(
    number: int, *, marked: bool = False, node: str = "one", owner: str = "shop", **more: Any
) -> Tree:
    """Make a Pod of a Deployment that runs."""
    annotations = {"podgrace.io/status": "{}"} if marked else {}
    reference = {"kind": "ReplicaSet", "name": f"{owner}-5d9f", "controller": True}
    metadata = {
        "name": f"{owner}-5d9f-{number}",
        "namespace": "shop",
        "labels": {"app": owner, "pod-template-hash": "5d9f"},
        "annotations": annotations,
        "ownerReferences": [reference],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata | more,
        "spec": {"nodeName": node, "containers": [container()]},
        "status": {"phase": "Running"},
    }


def namespace(name: str = "shop", **labels: str) -> Tree:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def node(name: str = "one", *, runtime: str = "containerd://2.1.0", **labels: str) -> Tree:
    info = {
        "containerRuntimeVersion": runtime,
        "kubeletVersion": "v1.36.1",
        "operatingSystem": "linux",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "status": {"nodeInfo": info},
    }


def as_list(items: list[Tree]) -> Tree:
    return {"apiVersion": "v1", "kind": "List", "items": items}


# -- a large one -----------------------------------------------------------------------------------

_SERVERS = (
    {"image": "nginx:1.27", "command": ["nginx", "-g", "daemon off;"]},
    {"image": "registry.example/team/shop:4.2"},
    {"image": "registry.example/team/api:7", "command": ["gunicorn", "shop.wsgi"]},
    {"image": "registry.example/team/web:2", "command": ["sh", "-c", "sleep 1; npm start"]},
    {"image": "registry.example/team/old:1", "readinessProbe": READINESS},
    {
        "image": "registry.example/team/slow:1",
        "readinessProbe": READINESS,
        "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "sleep 10"]}}},
    },
)
_NOISE = {f"team.example/annotation-{n}": "x" * 60 for n in range(8)}
_ENV = [{"name": f"SETTING_{n}", "value": "v" * 40} for n in range(20)]
_CONDITIONS = [
    {"type": kind, "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z", "reason": "Fine"}
    for kind in ("Available", "Progressing", "ContainersReady", "Initialized")
]


def large(workloads: int, *, pods: int = 3) -> Iterator[Tree]:
    """Make a cluster of this many workloads, with Services, budgets, autoscalers and Pods."""
    spaces = max(1, workloads // 25)
    for n in range(spaces):
        yield namespace(f"team-{n}")
    for n in range(40):
        yield node(f"node-{n}", **({"karpenter.sh/capacity-type": "spot"} if n % 4 == 0 else {}))
    for n in range(workloads):
        space, name = f"team-{n % spaces}", f"app-{n}"
        one = (
            container("app", env=_ENV, resources={"requests": {"cpu": "50m", "memory": "64Mi"}})
            | (_SERVERS[n % len(_SERVERS)])
        )
        kind = "StatefulSet" if n % 10 == 0 else "Deployment"
        made = workload(
            kind,
            name,
            one,
            namespace=space,
            spec={"replicas": 1 + n % 4},
            template={"annotations": _NOISE},
        )
        yield made | {"status": {"replicas": 3, "conditions": _CONDITIONS}}
        yield service(name, namespace=space)
        if n % 3 == 0:
            yield budget(name, namespace=space, app=name, maxUnavailable=n % 2)
        for number in range(pods):
            pod = running(number, owner=name, node=f"node-{(n + number) % 40}")
            pod["metadata"]["namespace"] = space
            pod["metadata"]["annotations"] |= _NOISE
            pod["spec"]["containers"] = [one]
            yield pod | {"status": {"phase": "Running", "conditions": _CONDITIONS}}


def dump(workloads: int, *, pods: int = 3) -> bytes:
    """Write it as `kubectl get ... -A -o json` does."""
    return json.dumps(as_list(list(large(workloads, pods=pods))), indent=4).encode()
