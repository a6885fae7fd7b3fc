"""Each rule on small objects: where it speaks, and where it does not."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import pytest

from tests.plan.clusters import (
    READINESS,
    Tree,
    budget,
    container,
    namespace,
    node,
    running,
    scaler,
    service,
    workload,
)
from webhook.cli.plan.read import Item, gather
from webhook.cli.plan.report import Report, Row, report
from webhook.cli.plan.rule import HARMS
from webhook.cli.plan.rules import RULES
from webhook.config import parse

NGINX = {"image": "acme/edge", "command": ["nginx", "-g", "daemon off;"]}
READY = {"readinessProbe": READINESS}


def planned(*items: Tree, config: str = "", known: Sequence[str] = ()) -> Report:
    settings = parse(config)
    raws = [Item(i["apiVersion"], i["kind"], msgspec.json.encode(i)) for i in items]
    return report(gather(raws, settings, "test", known), settings, "test")


def row(*items: Tree, **more: Any) -> Row:
    """Plan for a single workload."""
    (found,) = planned(*items, **more).workloads
    return found


def codes(found: Report) -> set[str]:
    return {f.code for r in found.workloads for f in r.findings} | {e.code for e in found.elsewhere}


def hooked(*line: str, **more: Any) -> Tree:
    command = ["sh", "-c", line[0]] if len(line) == 1 else list(line)
    return container(lifecycle={"preStop": {"exec": {"command": command}}}, **READY, **more)


def quota(hard: dict[str, str], used: dict[str, str]) -> Tree:
    metadata = {"name": "compute", "namespace": "shop"}
    head = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata}
    return head | {"spec": {"hard": hard}, "status": {"hard": hard, "used": used}}


def limit_range(**limit: Any) -> Tree:
    metadata = {"name": "limits", "namespace": "shop"}
    head = {"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata}
    return head | {"spec": {"limits": [{"type": "Container"} | limit]}}


def judge(kind: str, name: str, *resources: str) -> Tree:
    rule = {"operations": ["CREATE"], "resources": list(resources), "apiGroups": [""]}
    head = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind}
    head |= {"metadata": {"name": name}}
    if kind == "ValidatingAdmissionPolicy":
        return head | {"spec": {"matchConstraints": {"resourceRules": [rule]}}}
    return head | {"webhooks": [{"name": "a.b.c", "rules": [rule]}]}


class Case(NamedTuple):
    """Objects for which a rule speaks, and nearly the same for which it does not."""

    code: str
    hit: Sequence[Tree]
    miss: Sequence[Tree]
    config: str = ""


SERVED = service()
ENABLED = namespace("shop", **{"podgrace.io/inject": "enabled"})
IMAGE = "helper: {delivery: image}"
STATEFUL = {"replicas": 6}
GATE = {"readinessGates": [{"conditionType": "target-health.elbv2.k8s.aws/x"}]}


def strategy(kind: str = "RollingUpdate", **rolling: Any) -> Tree:
    return {"strategy": {"type": kind, **({"rollingUpdate": rolling} if rolling else {})}}


CASES = [
    # today
    Case("recreate", [workload(spec=strategy("Recreate")), SERVED], [workload(), SERVED]),
    Case(
        "all-unavailable",
        [workload(spec=strategy(maxUnavailable="100%")), SERVED],
        [workload(spec=strategy(maxUnavailable="50%")), SERVED],
    ),
    Case(
        "all-unavailable",
        [workload("StatefulSet", spec={"replicas": 1}), SERVED],
        [workload(spec={"replicas": 1}), SERVED],
    ),
    Case(
        "all-unavailable",
        [workload(spec={"replicas": 1} | strategy(maxUnavailable=0, maxSurge=0)), SERVED],
        [workload(spec={"replicas": 1} | strategy(maxUnavailable=0, maxSurge=1)), SERVED],
    ),
    Case(
        "grace-zero",
        [workload(pod={"terminationGracePeriodSeconds": 0}), SERVED],
        [workload(pod={"terminationGracePeriodSeconds": 1}), SERVED],
    ),
    Case(
        "no-delay",
        [workload(), SERVED],
        [workload("Deployment", "shop", hooked("sleep 9")), SERVED],
    ),
    Case(
        "pre-stop-stops",
        [workload("Deployment", "shop", hooked("nginx -s quit")), SERVED],
        [workload("Deployment", "shop", hooked("sleep 15 && nginx -s quit")), SERVED],
    ),
    Case(
        "pre-stop-over-grace",
        [workload("Deployment", "shop", hooked("sleep 30")), SERVED],
        [workload("Deployment", "shop", hooked("sleep 29")), SERVED],
    ),
    Case(
        "publishes-unready",
        [workload(), service(publishNotReadyAddresses=True)],
        [workload(), SERVED],
    ),
    Case(
        "short-delay",
        [workload("Deployment", "shop", hooked("sleep 2")), SERVED],
        [workload("Deployment", "shop", hooked("sleep 5")), SERVED],
    ),
    Case(
        "short-delay",
        [workload("Deployment", "shop", hooked("sleep 9"), pod=GATE), SERVED],
        [workload("Deployment", "shop", hooked("sleep 9")), SERVED],
    ),
    Case(
        "pre-stop-unknown",
        [workload("Deployment", "shop", hooked("/opt/bye", "now")), SERVED],
        [workload("Deployment", "shop", hooked("sleep 9")), SERVED],
    ),
    Case(
        "shell-pid-1",
        [
            workload("Deployment", "shop", container(command=["sh", "-c", "a; gunicorn app"])),
            SERVED,
        ],
        [
            workload("Deployment", "shop", container(command=["sh", "-c", "a; exec gunicorn app"])),
            SERVED,
        ],
    ),
    Case(
        "stop-signal",
        [workload("Deployment", "shop", container(**NGINX)), SERVED],
        [workload("Deployment", "shop", container(**NGINX | {"image": "nginx:1"})), SERVED],
    ),
    Case(
        "no-readiness",
        [workload(), SERVED],
        [workload("Deployment", "shop", container(**READY)), SERVED],
    ),
    Case(
        "undeclared-port",
        [workload("Deployment", "shop", {"name": "web", "image": "acme/shop"}), SERVED],
        [workload("Deployment", "shop", {"name": "web", "image": "acme/shop"})],
    ),
    # in the way
    Case("windows", [workload(pod={"os": {"name": "windows"}}), SERVED], [workload(), SERVED]),
    Case(
        "does-less",
        [workload(pod={"volumes": [{"name": "podgrace"}]}), SERVED],
        [workload(pod={"volumes": [{"name": "data"}]}), SERVED],
    ),
    Case(
        "slipped-through",
        [workload(), SERVED, ENABLED, running(1, marked=True), running(2)],
        [workload(), SERVED, namespace("shop"), running(1)],
    ),
    Case(
        "quota",
        [workload(), quota({"requests.cpu": "1"}, {"requests.cpu": "999m"})],
        [workload(), quota({"requests.cpu": "1"}, {"requests.cpu": "998m"})],
    ),
    Case(
        "quota",
        [workload(), quota({"memory": "1Gi"}, {"memory": "1020Mi"})],
        [workload(), quota({"pods": "1"}, {"pods": "1"})],
    ),
    Case(
        "limit-range",
        [workload(), limit_range(min={"cpu": "10m"})],
        [workload(), limit_range(min={"cpu": "1m"})],
    ),
    Case(
        "limit-range",
        [workload(), limit_range(max={"memory": "8Mi"})],
        [workload(), limit_range(max={"memory": "16Mi"})],
    ),
    Case(
        "limit-range",
        [workload(), limit_range(default={"cpu": "500m"}, maxLimitRequestRatio={"cpu": "10"})],
        [workload(), limit_range(default={"cpu": "10m"}, maxLimitRequestRatio={"cpu": "10"})],
    ),
    Case(
        "class-unknown",
        [workload(), namespace("shop", **{"podgrace.io/class": "edgy"})],
        [workload(), namespace("shop", **{"podgrace.io/class": "edge"})],
        "classes: {edge: {preset: aws-alb}}",
    ),
    Case(
        "pod-security",
        [workload(), namespace("shop", **{"pod-security.kubernetes.io/enforce": "restricted"})],
        [workload(), namespace("shop", **{"pod-security.kubernetes.io/enforce": "baseline"})],
        "helper: {securityContext: {allowPrivilegeEscalation: false}}",
    ),
    Case(
        "pod-security",
        [
            workload(),
            namespace(
                "shop",
                **{
                    "pod-security.kubernetes.io/enforce": "restricted",
                    "pod-security.kubernetes.io/enforce-version": "v1.32",
                },
            ),
        ],
        [workload(), namespace("shop", **{"pod-security.kubernetes.io/enforce": "restricted"})],
        IMAGE,
    ),
    Case("runtime", [node(runtime="containerd://1.7.2")], [node()], IMAGE),
    Case(
        "old-kubelet",
        [node() | {"status": {"nodeInfo": {"kubeletVersion": "v1.28.9"}}}],
        [node()],
    ),
    Case(
        "other-policies",
        [judge("ValidatingWebhookConfiguration", "gatekeeper", "*")],
        [judge("ValidatingWebhookConfiguration", "certificates", "certificates")],
    ),
    Case(
        "other-policies",
        [judge("ValidatingAdmissionPolicy", "limits", "pods")],
        [judge("ValidatingAdmissionPolicy", "limits", "services")],
    ),
    # beyond
    Case(
        "host-port",
        [workload("DaemonSet", "shop", container(ports=[{"containerPort": 80, "hostPort": 80}]))],
        [workload("DaemonSet", "shop", container(ports=[{"containerPort": 80}])), SERVED],
    ),
    Case(
        "one-replica",
        [workload(spec={"replicas": 1}), SERVED],
        [workload(spec={"replicas": 0}), SERVED],
    ),
    Case(
        "scales-to-one",
        [workload(), SERVED, scaler(None)],
        [workload(), SERVED, scaler(2)],
    ),
    Case(
        "no-budget",
        [workload(), SERVED, budget(app="other")],
        [workload(), SERVED, budget()],
    ),
    Case(
        "budget-blocks",
        [workload(), SERVED, budget(maxUnavailable="0%")],
        [workload(), SERVED, budget(maxUnavailable="1%")],
    ),
    Case(
        "budget-blocks",
        [workload(), SERVED, budget(minAvailable="51%")],
        [workload(), SERVED, budget(minAvailable="50%")],
    ),
    Case(
        "budgets-overlap",
        [workload(), SERVED, budget(), budget("all", selector={})],
        [workload(), SERVED, budget(), budget("other", app="other")],
    ),
    Case(
        "over-autoscaler",
        [workload(pod={"terminationGracePeriodSeconds": 590}), SERVED],
        [workload(pod={"terminationGracePeriodSeconds": 500}), SERVED],
    ),
    Case(
        "spot-nodes",
        [
            workload(),
            SERVED,
            running(1, node="s"),
            node("s", **{"cloud.google.com/gke-spot": "true"}),
        ],
        [
            workload(),
            SERVED,
            running(1),
            node(),
            node("s", **{"cloud.google.com/gke-spot": "true"}),
        ],
    ),
    Case(
        "spot-nodes",
        [workload(pod={"nodeSelector": {"kubernetes.azure.com/scalesetpriority": "spot"}}), SERVED],
        [workload(pod={"nodeSelector": {"karpenter.sh/capacity-type": "spot"}}), SERVED],
    ),
    Case(
        "replacement-waits",
        [workload(spec={"podReplacementPolicy": "TerminationComplete"}), SERVED],
        [workload(spec={"podReplacementPolicy": "TerminationStarted"}), SERVED],
    ),
    Case(
        "slow-rollout",
        [workload("StatefulSet", spec=STATEFUL), SERVED],
        [workload("StatefulSet", spec={"replicas": 3}), SERVED],
    ),
    Case(
        "slow-rollout",
        [workload("DaemonSet") | {"status": {"desiredNumberScheduled": 9}}, SERVED],
        [workload(spec=STATEFUL), SERVED],
    ),
    Case(
        "hpa-counts-sidecar",
        [
            workload("Deployment", "shop", container(resources={"requests": {"cpu": "20m"}})),
            SERVED,
            scaler(2, targetCPUUtilizationPercentage=80),
        ],
        [
            workload("Deployment", "shop", container(resources={"requests": {"cpu": "21m"}})),
            SERVED,
            scaler(2, targetCPUUtilizationPercentage=80),
        ],
    ),
    Case(
        "local-traffic", [workload(), service(externalTrafficPolicy="Local")], [workload(), SERVED]
    ),
    Case(
        "no-min-ready",
        [workload(), SERVED],
        [workload(spec={"minReadySeconds": 5}), SERVED],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.code)
def test_a_rule_speaks_where_it_should_and_nowhere_else(case: Case) -> None:
    assert case.code in codes(planned(*case.hit, config=case.config))
    assert case.code not in codes(planned(*case.miss, config=case.config))


def test_every_rule_has_a_case() -> None:
    assert {case.code for case in CASES} == set(RULES)


@pytest.mark.parametrize(
    ("one", "verdict", "harm"),
    [
        (container(**NGINX), "loses", "loses"),
        (container(image="nginx:1"), "may-lose", "may-lose"),
        (container(), "unknown", "may-lose"),
    ],
    ids=["by its command", "by its image", "unknown"],
)
def test_no_more_is_said_than_is_known(one: Tree, verdict: str, harm: str) -> None:
    found = row(workload("Deployment", "shop", one | READY), SERVED)
    assert found.verdict == verdict
    assert {f.harm for f in found.findings if f.code == "no-delay"} == {harm}


def test_without_a_service_nobody_is_said_to_lose() -> None:
    alone = workload("Deployment", "shop", container(**NGINX))
    assert row(alone, service("other")).verdict == "no-users"
    assert row(alone, pod := service("other")).findings[0].harm not in ("loses", "may-lose"), pod
    assert row(alone).verdict == "loses", (
        "no Services were read: it is not known that there is none"
    )


def test_a_kind_that_was_not_read_is_not_judged() -> None:
    assert "no-budget" not in codes(planned(workload(), SERVED))
    assert "no-budget" in codes(planned(workload(), SERVED, known=["PodDisruptionBudget"]))
    assert "PodDisruptionBudget" in planned(workload(), SERVED).unread


def test_what_podgrace_has_fixed_is_gone() -> None:
    pods = [running(n, marked=True) for n in (1, 2)]
    served = workload("Deployment", "shop", container(**READY))
    before = row(served, SERVED, ENABLED, running(1), running(2))
    after = row(served, SERVED, ENABLED, *pods)
    assert (before.verdict, before.injected, before.enabled) == ("unknown", 0, True)
    assert (after.verdict, after.injected) == ("drained", 2)
    assert {f.code for f in before.findings} - {f.code for f in after.findings} == {
        "no-delay",
        "slipped-through",
    }


def test_what_podgrace_cannot_fix_stays() -> None:
    pods = [running(n, marked=True) for n in (1, 2)]
    lost = workload(spec=strategy("Recreate"))
    assert row(lost, SERVED, ENABLED, *pods).verdict == "loses"


def test_pods_that_end_are_not_counted() -> None:
    ended = running(2) | {"status": {"phase": "Failed"}}
    ending = running(3, deletionTimestamp="2026-01-02T03:04:05Z")
    assert row(workload(), running(1, marked=True), ended, ending).pods == 1


@pytest.mark.parametrize(
    "alone",
    [
        workload(template={"labels": {"podgrace.io/inject": "disabled"}}),
        workload(namespace="kube-system"),
    ],
    ids=["opted out", "excluded"],
)
def test_who_is_left_alone_is_not_judged(alone: Tree) -> None:
    found = row(alone, SERVED)
    assert (found.verdict, found.findings) == ("left-alone", [])
    assert found.podgrace.why


def test_jobs_are_counted_and_a_part_of_another_workload_is_not_a_second_one() -> None:
    job = workload("CronJob") | {"apiVersion": "batch/v1"}
    job["spec"] = {"jobTemplate": {"spec": job["spec"]}}
    job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["restartPolicy"] = "Never"
    part = workload("ReplicaSet", "shop-5d9f")
    part["metadata"]["ownerReferences"] = [
        {"kind": "Deployment", "name": "shop", "controller": True}
    ]
    found = planned(workload(), part, job)
    assert (found.totals.workloads, found.totals.ending) == (1, 1)


def test_the_worst_comes_first() -> None:
    found = planned(
        workload("Deployment", "calm", hooked("sleep 9")),
        workload("Deployment", "guess"),
        workload("Deployment", "sure", container(**NGINX)),
        workload("Deployment", "alone", namespace="kube-system"),
        *[service(name) for name in ("calm", "guess", "sure")],
    )
    assert [r.name for r in found.workloads] == ["sure", "guess", "calm", "alone"]
    order = list(HARMS)
    for one in found.workloads:
        ranks = [order.index(f.harm) for f in one.findings]
        assert ranks == sorted(ranks)


def test_the_cost_is_that_of_all_pods() -> None:
    found = planned(workload(spec={"replicas": 5}), workload("StatefulSet", "db"), SERVED)
    assert found.totals.requests == {"cpu": "7m", "memory": "28Mi"}
    assert found.totals.longest_drain == 45
    assert {r.podgrace.grace for r in found.workloads} == {80}


@pytest.mark.parametrize("code", RULES)
def test_a_rule_reads_well(code: str) -> None:
    rule = RULES[code]
    assert len(rule.sentence) <= 100
    assert len(rule.remedy) <= 100
    assert not rule.sentence.endswith(".")
    assert not rule.remedy.endswith(".")


def test_a_workload_is_planned_for_by_the_class_of_its_namespace() -> None:
    label = {"podgrace.io/class": "edge"}
    config = "classes: {edge: {preset: aws-nlb}}"
    plain = row(workload(), SERVED, namespace("shop"), config=config)
    edge = row(workload(), SERVED, namespace("shop", **label), config=config)
    assert edge.podgrace.grace - plain.podgrace.grace >= 120
