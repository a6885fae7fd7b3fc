"""What no Pod patch can fix: replicas, budgets, autoscalers, host ports, time.

In: `Evidence`, with podgrace's decision in it, since a longer grace period costs time elsewhere.
Out: hits. Numbers and their sources:

| number      | what                                                                               |
|-------------|------------------------------------------------------------------------------------|
| 600 s       | when the Cluster Autoscaler stops waiting (--max-graceful-termination-sec)         |
| 30 s, 120 s | notice of a spot node: Azure and Google about 30 s, AWS two minutes                |
| 300 s       | a rollout of a StatefulSet or DaemonSet that takes longer is worth knowing of      |
| 5 %         | a sidecar that asks for more of what its Pod asks moves an autoscaler on CPU       |
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import Final

import msgspec

from webhook.cli.plan.evidence import Evidence, share
from webhook.cli.plan.objects import Budget
from webhook.cli.plan.rule import PODGRACE, Hit, Rule
from webhook.core.names import SIDECAR
from webhook.core.pod import present
from webhook.core.resources import quantity
from webhook.core.spot import notice

AUTOSCALER: Final = 600
_LONG: Final = 300
_FELT: Final = Fraction(5, 100)


class _Resources(msgspec.Struct):
    requests: dict[str, str | int | float] | None = None
    limits: dict[str, str | int | float] | None = None


_resources: Final = msgspec.json.Decoder(_Resources)


def _one_replica(it: Evidence) -> Iterator[Hit]:
    if it.workload.kind != "DaemonSet" and it.scaler is None and it.workload.replicas == 1:
        yield Hit("one replica: a node drain stops it before another one runs")


def _scales_to_one(it: Evidence) -> Iterator[Hit]:
    if it.scaler is not None and it.scaler.least == 1 and it.workload.replicas:
        yield Hit(f"HorizontalPodAutoscaler {it.scaler.name} may scale it down to one Pod")


def _no_budget(it: Evidence) -> Iterator[Hit]:
    if (
        it.around.knows("PodDisruptionBudget")
        and not it.budgets
        and it.workload.kind != "DaemonSet"
        and (it.workload.replicas or 0) > 1
    ):
        yield Hit(f"a drain of several nodes may stop all {it.workload.replicas} Pods at once")


def _budget_blocks(it: Evidence) -> Iterator[Hit]:
    replicas = it.workload.replicas
    for budget in it.budgets if replicas else ():
        if said := _blocked(budget, replicas or 0):
            yield Hit(f"PodDisruptionBudget {budget.name}: {said}")


def _blocked(budget: Budget, replicas: int) -> str:
    """Say why a budget never lets a Pod go; shares are rounded up (policy/v1)."""
    most, least = budget.max_unavailable, budget.min_available
    if most is not None and share(most, replicas, up=True) <= 0:
        return f"maxUnavailable is {most}"
    if least is not None and share(least, replicas, up=True) >= replicas:
        return f"minAvailable is {least} of {replicas}"
    return ""


def _overlap(it: Evidence) -> Iterator[Hit]:
    if len(it.budgets) > 1:
        names = ", ".join(sorted(budget.name for budget in it.budgets))
        yield Hit(f"{names}: the API server refuses every eviction of its Pods")


def _no_min_ready(it: Evidence) -> Iterator[Hit]:
    gated = bool(it.workload.pod.spec.readiness_gates)
    if it.workload.strategy == "RollingUpdate" and not it.workload.min_ready and not gated:
        yield Hit("the next old Pod goes as soon as a new one is ready")


def _host_port(it: Evidence) -> Iterator[Hit]:
    spec = it.workload.pod.spec
    ports = [
        str(port.host_port)
        for container in spec.containers
        for port in container.ports or ()
        if port.host_port
    ]
    if ports and not spec.host_network:
        yield Hit(f"port {', '.join(ports)} of its node")


def _replacement(it: Evidence) -> Iterator[Hit]:
    if it.workload.waits_for_end:
        yield Hit(f"podReplacementPolicy: TerminationComplete: up to {it.grace} s for each Pod")


def _slow(it: Evidence) -> Iterator[Hit]:
    replicas, gone = it.replicas, it.at_once
    if it.workload.kind not in ("StatefulSet", "DaemonSet") or not replicas or not gone:
        return
    steps = -(-replicas // gone)
    if steps > 1 and steps * it.grace >= _LONG:
        each = f"{steps} steps, each up to {it.grace} s of grace"
        yield Hit(
            f"{each}: up to {_minutes(steps * it.grace)}, {_minutes(steps * it.facts.grace)} today"
        )


def _minutes(seconds: int) -> str:
    return f"{seconds} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _autoscaler(it: Evidence) -> Iterator[Hit]:
    if it.grace > AUTOSCALER:
        yield Hit(f"grace {it.grace} s: the Cluster Autoscaler kills after {AUTOSCALER} s")


def _spot(it: Evidence) -> Iterator[Hit]:
    selected = notice(it.workload.pod.spec.node_selector or {})
    notices = [selected] if selected else []
    if notices:
        where = "its nodeSelector asks for spot nodes"
    else:
        nodes = [it.around.nodes.get(name) for name in (it.running.nodes if it.running else ())]
        found = [notice(node.labels) for node in nodes if node is not None]
        notices = [seconds for seconds in found if seconds]
        where = f"{len(notices)} of the {len(found)} nodes that it runs on are spot nodes"
    if notices and it.grace > min(notices):
        yield Hit(f"{where}, with {min(notices)} s of notice; grace {it.grace} s")


def _counts_sidecar(it: Evidence) -> Iterator[Hit]:
    if it.scaler is None or it.scaler.cpu is None or "cpu" not in it.requests:
        return
    own = sum((_cpu(it, i) for i in range(len(it.workload.pod.spec.containers))), Fraction(0))
    more = quantity(it.requests["cpu"])
    if own and more / own >= _FELT:
        percent = round(100 * more / own)
        yield Hit(
            f"HorizontalPodAutoscaler {it.scaler.name} aims at {it.scaler.cpu} % of CPU: with the"
            f" sidecar's {it.requests['cpu']} it would scale up at {percent} % more use"
        )


def _cpu(it: Evidence, index: int) -> Fraction:
    container = it.workload.pod.spec.containers[index]
    raw = present(container.resources)
    if raw is None or container.name == SIDECAR:
        return Fraction(0)
    own = _resources.decode(raw)
    return quantity((own.requests or {}).get("cpu", (own.limits or {}).get("cpu", 0)))


def _local(it: Evidence) -> Iterator[Hit]:
    for service in it.services:
        if service.local:
            by = PODGRACE if it.helped else "you"
            yield Hit(
                f"Service {service.name}: a node whose last Pod goes drops connections", "", by
            )


RULES: Final = (
    Rule(
        "host-port",
        "may-lose",
        "clients of a node's port do not learn when its Pod goes",
        "a Service instead of hostPort; or take the node out of its balancer first",
        _host_port,
    ),
    Rule(
        "one-replica",
        "drains",
        "it has a single Pod, which a node drain or an eviction stops without a replacement",
        "replicas: 2 or more, with a PodDisruptionBudget",
        _one_replica,
    ),
    Rule(
        "scales-to-one",
        "drains",
        "its autoscaler may leave a single Pod",
        "minReplicas: 2 or more",
        _scales_to_one,
    ),
    Rule(
        "no-budget",
        "drains",
        "no PodDisruptionBudget: node drains may stop all its Pods at the same time",
        "a PodDisruptionBudget with maxUnavailable: 1",
        _no_budget,
    ),
    Rule(
        "budget-blocks",
        "drains",
        "its PodDisruptionBudget never lets a Pod go: node drains hang until somebody kills it",
        "maxUnavailable: 1, or more replicas than minAvailable",
        _budget_blocks,
    ),
    Rule(
        "budgets-overlap",
        "drains",
        "more than one PodDisruptionBudget selects its Pods: none of them can be evicted",
        "one PodDisruptionBudget for each Pod",
        _overlap,
    ),
    Rule(
        "over-autoscaler",
        "drains",
        "its grace period is longer than the Cluster Autoscaler waits",
        "--max-graceful-termination-sec of the autoscaler, or a shorter podgrace.io/drain-timeout",
        _autoscaler,
    ),
    Rule(
        "spot-nodes",
        "drains",
        "it runs on spot nodes, whose notice is shorter than its grace period",
        "podgrace.io/delay and podgrace.io/drain-timeout that fit; long requests on other nodes",
        _spot,
    ),
    Rule(
        "replacement-waits",
        "slower",
        "a new Pod is made only when the old one is gone: rollouts take its whole drain",
        "podReplacementPolicy: TerminationStarted, or maxSurge",
        _replacement,
    ),
    Rule(
        "slow-rollout",
        "slower",
        "its Pods are replaced one after another, each after its whole drain",
        "a shorter podgrace.io/drain-timeout, or a larger maxUnavailable",
        _slow,
    ),
    Rule(
        "hpa-counts-sidecar",
        "advice",
        "its autoscaler counts what the sidecar requests, and scales up later",
        "a ContainerResource metric; a lower target; or helper.delivery: image",
        _counts_sidecar,
    ),
    Rule(
        "local-traffic",
        "advice",
        "externalTrafficPolicy Local: the load balancer learns late that a node has no Pod left",
        "a delay longer than its health check (podgrace.io/delay); two Pods on each node",
        _local,
    ),
    Rule(
        "no-min-ready",
        "advice",
        "minReadySeconds is 0: old Pods may go before load balancers know the new ones",
        "minReadySeconds: 5 to 15; with a cloud load balancer, its readiness gate",
        _no_min_ready,
    ),
)
