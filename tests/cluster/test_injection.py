"""One label, and every kind of workload: who is injected, who is not, and that it runs."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster import kube
from tests.cluster.install import STATUS, Release, is_injected, is_untouched, simple_pod, try_pod
from tests.cluster.kube import Tree, container, deployment, pod_template

ON, OFF = {"podgrace.io/inject": "enabled"}, {"podgrace.io/inject": "disabled"}


@pytest.mark.parametrize(
    ("namespace_label", "pod_label", "injected"),
    [
        ({}, {}, False),
        ({}, ON, True),
        ({}, OFF, False),
        (ON, {}, True),
        (ON, ON, True),
        (ON, OFF, False),
        (OFF, {}, False),
        (OFF, ON, False),
    ],
)
def test_labels(
    podgrace: Release,
    namespaces: Callable[..., str],
    namespace_label: dict[str, str],
    pod_label: dict[str, str],
    injected: bool,
) -> None:
    """Either side may opt in or out, and out wins; other Pods carry nothing of ours."""
    namespace = namespaces({**podgrace.labels, **namespace_label})
    answer = try_pod(podgrace.api, namespace, labels=pod_label)
    assert answer.status == 201, answer.message
    if injected:
        assert is_injected(answer.body)
        assert answer.body["spec"]["terminationGracePeriodSeconds"] > 30
        assert answer.body["spec"]["containers"][0]["lifecycle"]["preStop"]
    else:
        assert is_untouched(answer.body)


@pytest.mark.parametrize("kind", ["", "edge", "unheard-of"])
def test_a_label_chooses_the_class_of_a_namespace(
    by_image: Release, namespaces: Callable[..., str], kind: str
) -> None:
    """Whoever opts in, Pod or namespace, meets the entry of the class; an unknown class is none."""
    label = {"podgrace.io/class": kind} if kind else {}
    spaces = namespaces({**by_image.labels, **label, **ON}), namespaces(by_image.labels | label)
    for namespace, own in zip(spaces, ({}, ON), strict=True):
        answer = try_pod(by_image.api, namespace, labels=own)
        assert answer.status == 201, answer.message
        spec, edge = answer.body["spec"], kind == "edge"
        assert bool(spec.get("initContainers")) == edge
        assert (spec["terminationGracePeriodSeconds"] > 150) == edge
        assert "podgrace.io/status" in answer.body["metadata"]["annotations"]


def test_dry_run_stores_nothing(podgrace: Release, namespaces: Callable[..., str]) -> None:
    namespace = namespaces({**podgrace.labels, **ON})
    assert is_injected(try_pod(podgrace.api, namespace).body)
    assert podgrace.api.pods(namespace) == []


def test_every_kind_of_workload(
    podgrace: Release, namespaces: Callable[..., str], servers_image: str
) -> None:
    """What serves is injected and becomes ready; what ends by itself is left alone and ends."""
    api, namespace = podgrace.api, namespaces({**podgrace.labels, **ON})

    def serving(app: str) -> Tree:
        return pod_template(
            app, [container("app", servers_image, args=["exits"], ports=[{"containerPort": 8080}])]
        )

    def ending(app: str) -> Tree:
        return pod_template(
            app, [container("app", servers_image, command=["true"])], restartPolicy="Never"
        )

    cron = {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": ending("cron")}}}
    api.create(
        {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "cron"}, "spec": cron},
        namespace,
    )
    api.create(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "job"},
            "spec": {"template": ending("job")},
        },
        namespace,
    )
    api.create(deployment("deployment", 1, serving("deployment")), namespace)
    selected = {"selector": {"matchLabels": {"app": "daemon"}}, "template": serving("daemon")}
    api.create(
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": "daemon"},
            "spec": selected,
        },
        namespace,
    )
    api.create(kube.service("stateful"), namespace)
    ordered = {
        "serviceName": "stateful",
        "replicas": 2,
        "selector": {"matchLabels": {"app": "stateful"}},
        "template": serving("stateful"),
    }
    api.create(
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": "stateful"},
            "spec": ordered,
        },
        namespace,
    )
    bare = serving("bare")
    api.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "bare", **bare["metadata"]},
            "spec": bare["spec"],
        },
        namespace,
    )

    nodes = len([node for node in api.list("Node") if not node["spec"].get("unschedulable")])
    for app, count in {"deployment": 1, "daemon": nodes, "stateful": 2, "bare": 1}.items():
        for pod in kube.wait_ready(api, namespace, app, count):
            assert is_injected(pod), app
            # The members of a StatefulSet may wait for each other: no probe is guessed for them.
            probe = {"tcpSocket": {"port": 8080}} if app != "stateful" else {}
            assert probe.items() <= pod["spec"]["containers"][0].get("readinessProbe", {}).items()
            assert ("readinessProbe" in pod["spec"]["containers"][0]) == bool(probe), app
    for app in ("job", "cron"):

        def ended(app: str = app) -> Any:
            pods = api.pods(namespace, app)
            return [
                pod for pod in pods if pod["status"].get("phase") == "Succeeded"
            ] or f"not yet: {list(map(kube.state, pods))}"

        for pod in kube.wait(f"the end of {app}", ended, 120):
            assert is_untouched(pod), app


def test_a_restricted_namespace_accepts_what_is_injected(
    podgrace: Release, namespaces: Callable[..., str], servers_image: str
) -> None:
    """Pod Security `restricted` judges after mutation; the Pod runs, as a user without rights."""
    api = podgrace.api
    namespace = namespaces(
        {**podgrace.labels, **ON, "pod-security.kubernetes.io/enforce": "restricted"}
    )
    strict = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    app = container(
        "app",
        servers_image,
        args=["exits"],
        ports=[{"containerPort": 8080}],
        securityContext=strict,
    )
    secure = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
    api.create(
        deployment("strict", 1, pod_template("strict", [app], securityContext=secure)), namespace
    )
    (pod,) = kube.wait_ready(api, namespace, "strict", 1)
    assert is_injected(pod)


def test_a_quota_and_a_limit_range_accept_what_is_injected(
    podgrace: Release, namespaces: Callable[..., str]
) -> None:
    """A quota refuses containers without requests and limits; a limit range has bounds for them."""
    api, namespace = podgrace.api, namespaces({**podgrace.labels, **ON})
    hard = dict.fromkeys(("requests.cpu", "limits.cpu"), "2") | dict.fromkeys(
        ("requests.memory", "limits.memory"), "1Gi"
    )
    api.create(
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "all"},
            "spec": {"hard": hard},
        },
        namespace,
    )
    bounds = {
        "type": "Container",
        "min": {"cpu": "1m", "memory": "4Mi"},
        "max": {"cpu": "1", "memory": "512Mi"},
        "default": {"cpu": "100m"},
    }
    api.create(
        {
            "apiVersion": "v1",
            "kind": "LimitRange",
            "metadata": {"name": "all"},
            "spec": {"limits": [bounds]},
        },
        namespace,
    )

    app = simple_pod("try-")["spec"]["containers"][0]
    app["resources"] = {
        "requests": {"cpu": "10m", "memory": "16Mi"},
        "limits": {"cpu": "10m", "memory": "16Mi"},
    }

    def accepted() -> Any:
        answer = try_pod(api, namespace, containers=[app])
        return (
            answer if answer.status == 201 else f"not yet: {answer.message}"
        )  # the quota's controller counts first

    pod = kube.wait("the quota to admit the Pod", accepted, 30).body
    assert is_injected(pod)
    assert pod["status"]["qosClass"] == "Guaranteed"


def test_a_quota_that_is_full_refuses_as_it_would_without_us(
    podgrace: Release, namespaces: Callable[..., str]
) -> None:
    """The counter-check of the test above: the sidecar counts, and a quota below it says so."""
    api, namespace = podgrace.api, namespaces({**podgrace.labels, **ON})
    app = simple_pod("try-")["spec"]["containers"][0]
    app["resources"] = {"requests": {"memory": "16Mi"}, "limits": {"memory": "16Mi"}}
    quota = {"hard": {"requests.memory": "18Mi"}}
    api.create(
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}, "spec": quota},
        namespace,
    )

    def refused() -> Any:
        answer = try_pod(api, namespace, containers=[app])
        return (
            answer
            if answer.status == 403 and "exceeded quota" in answer.message
            else f"not yet: {answer.status} {answer.message}"
        )

    kube.wait("the quota's refusal", refused, 30)


def test_the_status_on_the_pod_says_what_was_done(
    podgrace: Release, namespaces: Callable[..., str]
) -> None:
    pod = try_pod(podgrace.api, namespaces({**podgrace.labels, **ON})).body
    assert "prestop-added" in pod["metadata"]["annotations"][STATUS]
