"""`podgrace plan` on a real API server: before the label, and what it says has changed after it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.cli.command import spawned
from tests.cluster import kube
from tests.cluster.install import Release
from tests.cluster.kube import Tree, container, deployment, pod_template

READY = {"readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "timeoutSeconds": 5}}


def rows(text: str) -> dict[str, Any]:
    return {row["name"]: row for row in json.loads(text)["workloads"]}


def codes(row: Any) -> set[str]:
    return {found["code"] for found in row["findings"]}


def test_before_the_label_and_after_it(
    podgrace: Release, namespaces: Callable[..., str], servers_image: str, tmp_path: Path
) -> None:
    api, namespace = podgrace.api, namespaces(podgrace.labels)

    def served(app: str, **spec: Any) -> Tree:
        ports = [{"containerPort": 8080}]
        one = container("web", servers_image, args=["exits"], ports=ports, **READY)
        return deployment(app, 2, pod_template(app, [one]), **spec)

    api.create(served("rolling", minReadySeconds=1), namespace)
    api.create(served("outage", strategy={"type": "Recreate"}), namespace)
    api.create(kube.service("rolling"), namespace)
    api.create(kube.service("outage"), namespace)
    limit = {"type": "Container", "min": {"memory": "1Gi"}}
    metadata = {"name": "large", "namespace": namespace}
    # Only read: it would refuse every Pod, so remove it before new ones are made.
    limits = {"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata}
    kube.wait("four Pods", lambda: len(api.pods(namespace)) == 4)
    api.create(limits | {"spec": {"limits": [limit]}}, namespace)
    ran = spawned("plan", "-n", namespace, "-o", "json")
    assert ran.code == 0, ran.err
    api.delete("LimitRange", namespace, "large")
    before = rows(ran.out)
    assert {name: row["verdict"] for name, row in before.items()} == {
        "rolling": "unknown",
        "outage": "loses",
    }
    assert before["rolling"]["injected"] == 0
    assert {"no-delay", "no-budget"} <= codes(before["rolling"])
    assert "recreate" in codes(before["outage"])
    elsewhere = {one["code"] for one in json.loads(ran.out)["elsewhere"]}
    assert "limit-range" in elsewhere
    old = tmp_path / "old.json"
    old.write_text(ran.out, encoding="utf-8")

    enabled = {"metadata": {"labels": {"podgrace.io/inject": "enabled"}}}
    api.patch("Namespace", "", namespace, enabled)
    half = spawned("plan", "-n", namespace, "-o", "json", "-l", "app=rolling")
    assert codes(rows(half.out)["rolling"]) >= {"no-delay", "slipped-through"}

    restarted = {"metadata": {"annotations": {"restarted": "now"}}}
    api.patch("Deployment", namespace, "rolling", {"spec": {"template": restarted}})
    kube.wait(
        "the rollout", lambda: kube.rolled_out(api.get("Deployment", namespace, "rolling")), 240
    )
    kube.wait_ready(api, namespace, "rolling", 2, 240)
    ran = spawned("plan", "-n", namespace, "-o", "json", "--diff", str(old))
    assert ran.code == 0, ran.out
    changed = {one["name"]: one for one in json.loads(ran.out)["changed"]}
    assert changed["rolling"]["gone"] == ["no-delay"]
    assert (changed["rolling"]["was"], changed["rolling"]["verdict"]) == ("unknown", "drained")
    assert (changed["rolling"]["injectedWas"], changed["rolling"]["injected"]) == ("0/2", "2/2")
    assert changed["outage"]["verdict"] == "loses"
    print(spawned("plan", "-n", namespace, "--details").out)
    print(spawned("plan", "-n", namespace, "--diff", str(old)).out)
