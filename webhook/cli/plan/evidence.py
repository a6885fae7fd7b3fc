"""What is known of one workload: the core's look at its Pod, its decision, its surroundings.

In: a `Workload`, the `Cluster` that it is in (indexed once, `Around`), and the configuration. Out:
`Evidence`, which each rule reads. Verdicts do not belong here.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import msgspec

from webhook.cli.documents import ManifestError
from webhook.cli.plan.objects import (
    Amount,
    Budget,
    Cluster,
    Limits,
    Node,
    Quota,
    Running,
    Scaler,
    Service,
    Workload,
)
from webhook.config import Config
from webhook.core import stops
from webhook.core.audit import opted_in
from webhook.core.decision import Desired, Facts, Look, Plan
from webhook.core.look import container_looks, pod_facts
from webhook.core.names import CLASS_LABEL, INJECT_LABEL
from webhook.core.plan import decide
from webhook.core.pod import Handler, handler
from webhook.core.prestop import literal_sleep
from webhook.core.stops import Effect
from webhook.policy import resolve


class Around:
    """A cluster, indexed: what selects a Pod is found by one of its labels."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.nodes: Mapping[str, Node] = {node.name: node for node in cluster.nodes}
        self._services: dict[tuple[str, str, str], list[Service]] = defaultdict(list)
        self._budgets: dict[str, list[Budget]] = defaultdict(list)
        self._budgets_by: dict[tuple[str, str, str], list[Budget]] = defaultdict(list)
        self._scalers = {(s.namespace, s.kind, s.target): s for s in cluster.scalers}
        self.quotas: dict[str, list[Quota]] = defaultdict(list)
        self.limits: dict[str, list[Limits]] = defaultdict(list)
        for service in cluster.services:
            key, value = next(iter(service.selector.items()))
            self._services[service.namespace, key, value].append(service)
        for budget in cluster.budgets:
            if budget.selector.match_labels:
                key, value = next(iter(budget.selector.match_labels.items()))
                self._budgets_by[budget.namespace, key, value].append(budget)
            else:
                self._budgets[budget.namespace].append(budget)
        for quota in cluster.quotas:
            self.quotas[quota.namespace].append(quota)
        for limits in cluster.limits:
            self.limits[limits.namespace].append(limits)

    def services(self, workload: Workload) -> list[Service]:
        """Give the Services that send to its Pods."""
        labels = workload.labels
        return [
            service
            for key, value in labels.items()
            for service in self._services.get((workload.namespace, key, value), ())
            if service.selector.items() <= labels.items()
        ]

    def budgets(self, workload: Workload) -> list[Budget]:
        """Give the PodDisruptionBudgets that hold for its Pods."""
        labels = workload.labels
        found = [
            budget
            for key, value in labels.items()
            for budget in self._budgets_by.get((workload.namespace, key, value), ())
        ]
        found += self._budgets.get(workload.namespace, ())
        return [budget for budget in found if budget.selector.selects(labels)]

    def scaler(self, workload: Workload) -> Scaler | None:
        """Give its HorizontalPodAutoscaler."""
        return self._scalers.get((workload.namespace, workload.kind, workload.name))

    def knows(self, kind: str) -> bool:
        """Whether objects of a kind were read, so that "none" is certain."""
        return kind in self.cluster.known


class Server(msgspec.Struct, frozen=True, gc=False):
    """A container that serves users.

    `hook`: its own preStop; `sleep`: the seconds that it sleeps if it does nothing else, None if
    that cannot be told; `effect`: what else it does. `keeper`: the shell or its like that stays in
    front of it and may keep TERM to itself, or "". `certain`: its program is known, not guessed.
    """

    look: Look
    desired: Desired | None
    hook: Handler | None
    sleep: int | None
    effect: Effect
    keeper: str
    certain: bool

    @property
    def name(self) -> str:
        """The container's name."""
        return self.look.container.name

    @property
    def known(self) -> bool:
        """Whether it is a server that podgrace knows."""
        return self.look.profile_from != "profile-generic"


class Evidence(msgspec.Struct, frozen=True, gc=False):
    """All that rules read of one workload.

    `reached`: whether a Service selects its Pods or a port of the node leads to them; None where no
    Services were read. `enabled`: the label opts it in. `injected`: its Pods carry our mark, or its
    template does. `running`: None where no Pods were read.
    """

    workload: Workload
    config: Config
    around: Around
    plan: Plan
    facts: Facts
    looks: Sequence[Look]
    servers: Sequence[Server]
    services: Sequence[Service]
    budgets: Sequence[Budget]
    scaler: Scaler | None
    running: Running | None
    reached: bool | None
    enabled: bool
    injected: bool

    @property
    def replicas(self) -> int | None:
        """The least number of Pods: an autoscaler's minimum, else the workload's own."""
        if self.scaler is not None and self.workload.replicas:
            return self.scaler.least
        return self.workload.replicas

    @property
    def grace(self) -> int:
        """Seconds of grace with podgrace."""
        now = self.facts.grace
        return now if self.plan.skip or self.plan.grace is None else max(now, self.plan.grace)

    @property
    def drain(self) -> int:
        """Seconds that a Pod waits at most before its server is told to stop."""
        waits = [one.waits for one in self.plan.containers if one.waits is not None]
        return max((one.delay_max + one.drain for one in waits), default=0)

    @property
    def helped(self) -> bool:
        """Whether podgrace makes one of its containers wait before it stops."""
        return any(one.waits is not None for one in self.plan.containers)

    @property
    def ready_made(self) -> str:
        """The container that podgrace gives a readiness probe, or ""."""
        for one in self.plan.containers:
            if isinstance(one.readiness, dict):
                return one.container.name
        return ""

    @property
    def requests(self) -> Mapping[str, str]:
        """What the sidecar requests in each Pod; {} without one."""
        return self._sidecar("requests")

    @property
    def limits(self) -> Mapping[str, str]:
        """What the sidecar is limited to."""
        return self._sidecar("limits")

    def _sidecar(self, what: str) -> Mapping[str, str]:
        sidecar = self.plan.sidecar
        found: Mapping[str, str] = sidecar["resources"].get(what, {}) if sidecar else {}
        return found

    @property
    def at_once(self) -> int | None:
        """Pods that a rolling update may remove before new ones are there; None if unknown."""
        replicas = self.replicas
        return None if replicas is None else unavailable(self.workload, replicas)


def of(workload: Workload, around: Around, config: Config) -> Evidence:
    """Look at one workload, by the configuration of its namespace's class.

    Raises `ManifestError` for a Pod that no API server would take.
    """
    labels = around.cluster.namespaces.get(workload.namespace, {})
    try:
        return _of(workload, around, config.of(labels.get(CLASS_LABEL, "")))
    except (msgspec.DecodeError, RecursionError) as error:
        raise ManifestError(
            f"{workload.kind} {workload.namespace}/{workload.name}: {error}"
        ) from error


def _of(workload: Workload, around: Around, config: Config) -> Evidence:
    pod, operator = workload.pod, config.operator
    settings = resolve(pod, config)
    plan = decide(pod, settings, operator, workload.namespace, workload.owner)
    facts = pod_facts(pod, settings, operator, workload.owner)
    looks = container_looks(pod, facts, settings, operator)
    desired = {one.index: one for one in plan.containers}
    servers = [
        _server(look, desired.get(look.index), config) for look in looks if look.role == "server"
    ]
    services = around.services(workload)
    exposed = bool(pod.spec.host_network) or any(
        port.host_port for container in pod.spec.containers for port in container.ports or ()
    )
    running = None
    if around.knows("Pod"):
        key = (workload.namespace, workload.owner, workload.name)
        running = around.cluster.running.get(key, Running())
    space = around.cluster.namespaces.get(workload.namespace, {})
    marked = running is not None and 0 < running.pods == running.marked
    return Evidence(
        workload,
        config,
        around,
        plan,
        facts,
        looks,
        servers,
        services,
        around.budgets(workload),
        around.scaler(workload),
        running,
        True if services or exposed else False if around.knows("Service") else None,
        opted_in(workload.labels.get(INJECT_LABEL), space.get(INJECT_LABEL)),
        not plan.skip and (marked or facts.status is not None),
    )


def _server(look: Look, desired: Desired | None, config: Config) -> Server:
    raw = look.view.pre_stop
    hook = None if raw is None else handler(raw)
    return Server(
        look,
        desired,
        hook,
        0 if hook is None else literal_sleep(hook),
        stops.NOTHING if hook is None else stops.effect(hook),
        config.operator.profiles.keeper(look.programs),
        look.profile_from in ("profile-command", "profile-annotated"),
    )


def share(amount: Amount, of_all: int, *, up: bool) -> int:
    """Resolve a number or a percentage (apimachinery, intstr). Anything else counts as nothing."""
    if isinstance(amount, int):
        return amount
    text = amount.removesuffix("%")
    if not text.isascii() or not text.isdigit():
        return 0
    exact = int(text) * of_all / 100
    return math.ceil(exact) if up else math.floor(exact)


def unavailable(workload: Workload, replicas: int) -> int | None:
    """Say how many Pods a rolling update removes at once, before new ones are there.

    Sources: apps/v1, the defaults of each kind; None where its kind or strategy is not known. Of a
    Deployment the share is rounded down, and where surge is 0 too, one Pod goes; of a StatefulSet
    one goes at a time, and of a DaemonSet as many as `maxUnavailable` says, rounded up, unless
    others come first (`maxSurge`).
    """
    written, surge = workload.unavailable, workload.surge
    if workload.strategy == "Recreate":
        return replicas
    if workload.strategy != "RollingUpdate":
        return None
    if workload.kind == "Deployment":
        gone = share("25%" if written is None else written, replicas, up=False)
        extra = share("25%" if surge is None else surge, replicas, up=True)
        return min(replicas, gone if gone or extra else 1)
    if workload.kind == "DaemonSet" and surge is not None and share(surge, replicas, up=True):
        return 0
    return min(replicas, max(1, share(1 if written is None else written, replicas, up=True)))
