"""From what the API server or kubectl printed to values: bytes in, `Cluster` out.

In: the JSON of objects, one by one (`gather`), or the text of a dump (`objects`): one or more
documents as `kubectl get ... -o json` prints them, or YAML. Out: frozen values. It keeps only the
fields that a rule reads, so that a large cluster fits into little memory. Asking a cluster belongs
in `webhook.cli.cluster`; which kinds are workloads in `webhook.cli.kinds`.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from webhook.cli import documents, edits, kinds
from webhook.cli.documents import ManifestError
from webhook.cli.plan.objects import (
    Amount,
    Budget,
    Cluster,
    Limit,
    Limits,
    Node,
    Policy,
    Quota,
    Running,
    Scaler,
    Selector,
    Service,
    ServicePort,
    Workload,
)
from webhook.config import Config
from webhook.core.names import STATUS_ANNOTATION
from webhook.core.pod import EMPTY, Pod

KINDS: Final = (
    "Namespace",
    "Node",
    "Service",
    "PodDisruptionBudget",
    "HorizontalPodAutoscaler",
    "ResourceQuota",
    "LimitRange",
    "Pod",
)
"""Kinds beside workloads; if a dump holds none of a kind, there may still be some."""

_ENDED: Final = ("Succeeded", "Failed")
_ENDING: Final = frozenset({"Job", "BroadcastJob"})
"""Owners of Pods that end by themselves."""
_HASHES: Final = ("pod-template-hash", "rollouts-pod-template-hash")
_CHART: Final = "app.kubernetes.io/name"
_SCOPED: Final = ("Terminating", "BestEffort")
_BETWEEN: Final = re.compile(rb"(?<=\n\})\s*\n(?=\{)")
"""Between two documents that kubectl printed one after the other."""

_Raw = msgspec.Raw | bytes


class Item(NamedTuple):
    """An object as JSON. In items of a list the API server leaves the first two out."""

    api_version: str
    kind: str
    raw: _Raw


class _Head(msgspec.Struct, rename="camel"):
    api_version: str = ""
    kind: str = ""


class _List(msgspec.Struct, rename="camel"):
    api_version: str = ""
    kind: str = ""
    items: list[msgspec.Raw] | None = None


class _Owner(msgspec.Struct):
    kind: str = ""
    name: str = ""
    controller: bool | None = None


class _Metadata(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[_Owner] | None = None
    deletion_timestamp: str | None = None


class _Named(msgspec.Struct):
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


class _ServiceSpec(msgspec.Struct, rename="camel"):
    selector: dict[str, str] | None = None
    ports: list[ServicePort] | None = None
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    publish_not_ready_addresses: bool = False
    external_traffic_policy: str = ""


class _Service(_Named):
    spec: _ServiceSpec = msgspec.field(default_factory=_ServiceSpec)


class _BudgetSpec(msgspec.Struct, rename="camel"):
    selector: Selector | None = None
    min_available: Amount | None = None
    max_unavailable: Amount | None = None


class _Budget(_Named):
    spec: _BudgetSpec = msgspec.field(default_factory=_BudgetSpec)


class _Target(msgspec.Struct, rename="camel"):
    kind: str = ""
    name: str = ""
    type: str = ""
    average_utilization: int | None = None


class _Resource(msgspec.Struct):
    name: str = ""
    target: _Target = msgspec.field(default_factory=_Target)


class _Metric(msgspec.Struct):
    type: str = ""
    resource: _Resource | None = None


class _ScalerSpec(msgspec.Struct, rename="camel"):
    scale_target_ref: _Target = msgspec.field(default_factory=_Target)
    min_replicas: int | None = None
    metrics: list[_Metric] | None = None
    target_cpu_utilization_percentage: int | None = msgspec.field(
        default=None, name="targetCPUUtilizationPercentage"
    )


class _Scaler(_Named):
    spec: _ScalerSpec = msgspec.field(default_factory=_ScalerSpec)


class _QuotaSpec(msgspec.Struct, rename="camel"):
    hard: dict[str, str] | None = None
    used: dict[str, str] | None = None
    scopes: list[str] | None = None
    scope_selector: msgspec.Raw = msgspec.Raw()


class _Quota(_Named):
    spec: _QuotaSpec = msgspec.field(default_factory=_QuotaSpec)
    status: _QuotaSpec = msgspec.field(default_factory=_QuotaSpec)


class _LimitsSpec(msgspec.Struct):
    limits: list[Limit] | None = None


class _Limits(_Named):
    spec: _LimitsSpec = msgspec.field(default_factory=_LimitsSpec)


class _Info(msgspec.Struct, rename="camel"):
    container_runtime_version: str = ""
    kubelet_version: str = ""
    operating_system: str = ""


class _NodeStatus(msgspec.Struct, rename="camel"):
    node_info: _Info = msgspec.field(default_factory=_Info)


class _Node(_Named):
    status: _NodeStatus = msgspec.field(default_factory=_NodeStatus)


class _PodSpec(msgspec.Struct, rename="camel"):
    node_name: str = ""


class _PodStatus(msgspec.Struct):
    phase: str = ""


class _Pod(_Named):
    spec: _PodSpec = msgspec.field(default_factory=_PodSpec)
    status: _PodStatus = msgspec.field(default_factory=_PodStatus)


class _Rule(msgspec.Struct, rename="camel"):
    operations: list[str] | None = None
    resources: list[str] | None = None


class _Hook(msgspec.Struct):
    rules: list[_Rule] | None = None


class _Hooks(_Named):
    webhooks: list[_Hook] | None = None


class _Constraints(msgspec.Struct, rename="camel"):
    resource_rules: list[_Rule] | None = None


class _PolicySpec(msgspec.Struct, rename="camel"):
    match_constraints: _Constraints = msgspec.field(default_factory=_Constraints)


class _Policy(_Named):
    spec: _PolicySpec = msgspec.field(default_factory=_PolicySpec)


class _Rolling(msgspec.Struct, rename="camel"):
    max_unavailable: Amount | None = None
    max_surge: Amount | None = None


class _Strategy(msgspec.Struct, rename="camel"):
    type: str = ""
    rolling_update: _Rolling | None = None


class _WorkloadSpec(msgspec.Struct, rename="camel"):
    replicas: int | None = None
    min_ready_seconds: int | None = None
    strategy: _Strategy | None = None
    update_strategy: _Strategy | None = None
    pod_replacement_policy: str | None = None


class _WorkloadStatus(msgspec.Struct, rename="camel"):
    desired_number_scheduled: int | None = None


class _Workload(_Named):
    spec: _WorkloadSpec = msgspec.field(default_factory=_WorkloadSpec)
    status: _WorkloadStatus = msgspec.field(default_factory=_WorkloadStatus)


_head: Final = msgspec.json.Decoder(_Head)
_whole: Final = msgspec.json.Decoder(_List)
_tree: Final = msgspec.json.Decoder()
_pod: Final = msgspec.json.Decoder(Pod)
_ROLLED: Final = frozenset({"Deployment", "StatefulSet", "DaemonSet"})
"""Kinds whose strategy has the form of apps/v1."""


def objects(data: bytes, where: str) -> Iterator[Item]:
    """Find every object of a dump, Lists unpacked. Raises `ManifestError` if it isn't one."""
    try:
        found = _documents(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        found = list(_from_yaml(data, where))
    for raw in found:
        whole = _whole.decode(raw)
        if not whole.kind.endswith("List"):
            yield Item(whole.api_version, whole.kind, raw)
            continue
        kind = whole.kind.removesuffix("List")
        for item in whole.items or ():
            head = _head.decode(item)
            yield Item(head.api_version or whole.api_version, head.kind or kind, item)


def gather(items: Iterable[Item], config: Config, where: str, known: Iterable[str] = ()) -> Cluster:
    """Keep of each object what a rule reads.

    `known`: kinds that were asked for, whether or not there is one. Raises `ManifestError` for an
    object that no API server would hold.
    """
    found = _Found(config)
    for item in items:
        try:
            found.add(item)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise ManifestError(f"{where}: {_what(item)}: {error}") from error
    return found.cluster(known)


def _documents(data: bytes) -> list[bytes]:
    """Separate JSON documents that kubectl printed one after the other.

    Raises `msgspec.DecodeError` if it is not JSON.
    """
    # One after the other: each way makes a copy, and a dump may have hundreds of megabytes.
    for split in (lambda: [data], lambda: _BETWEEN.split(data.strip()), data.splitlines):
        texts = split()
        try:
            for text in texts:
                _head.decode(text)
        except msgspec.DecodeError:
            continue
        return texts
    raise msgspec.DecodeError("not JSON")


def _from_yaml(data: bytes, where: str) -> Iterator[bytes]:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ManifestError(f"{where}: not UTF-8 at byte {error.start}") from error
    for chunk in documents.read(text, where):
        for root in chunk.roots:
            if isinstance(root.data, dict):
                yield msgspec.json.encode(root.data)


def _what(item: Item) -> str:
    try:
        named = msgspec.json.decode(item.raw, type=_Named).metadata
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return f"{item.kind or 'an object'} in it"
    return f"{item.kind or 'object'} {named.namespace}/{named.name}"


class _Found:
    """Collects values while objects come in; `cluster` gives them."""

    def __init__(self, config: Config) -> None:
        self._kinds = kinds.known(config)
        self._names = frozenset(kind.kind for kind in self._kinds) - {"Pod"}
        self._seen: set[str] = set()
        self._lists: dict[type, list[Any]] = defaultdict(list)
        self._namespaces: dict[str, Mapping[str, str]] = {}
        self._running: dict[tuple[str, str, str], list[tuple[bool, str]]] = defaultdict(list)
        self._ending = 0
        self._passed: list[str] = []

    def add(self, item: Item) -> None:
        group = item.api_version.rpartition("/")[0]
        self._seen.add(item.kind)
        take = _TAKEN.get((group, item.kind))
        if take is not None:
            made = take(item.raw)
            if made is not None:
                self._lists[type(made)].append(made)
        elif (group, item.kind) == ("", "Namespace"):
            named = msgspec.json.decode(item.raw, type=_Named).metadata
            self._namespaces[named.name] = named.labels or {}
        elif (group, item.kind) == ("", "Pod"):
            self._add_pod(item.raw)
        else:
            self._add_workload(item)

    def _add_pod(self, raw: _Raw) -> None:
        pod = msgspec.json.decode(raw, type=_Pod)
        metadata = pod.metadata
        owner = _controller(metadata)
        if owner is None or metadata.deletion_timestamp or pod.status.phase in _ENDED:
            return
        name, labels = owner.name, metadata.labels or {}
        for key in _HASHES:
            if key in labels:
                name = name.removesuffix(f"-{labels[key]}")
        mark = STATUS_ANNOTATION in (metadata.annotations or {})
        self._running[metadata.namespace, owner.kind, name].append((mark, pod.spec.node_name))

    def _add_workload(self, item: Item) -> None:
        tree = edits.without_nulls(_tree.decode(item.raw))
        tree |= {"apiVersion": item.api_version, "kind": item.kind}
        owner = _controller(msgspec.convert(tree, _Named).metadata)
        if owner is not None and owner.kind in self._names:
            return  # a part of another workload, which is read itself
        for found in kinds.find(tree, self._kinds):
            if isinstance(found, kinds.Passed):
                self._passed.append(f"not read: {found.what}: {found.why}")
            elif found.kind.owner in _ENDING:
                self._ending += 1
                return
            else:
                whole = msgspec.convert(tree, _Workload)
                self._lists[Workload].append(_workload_of(found, whole))

    def cluster(self, known: Iterable[str]) -> Cluster:
        lists = self._lists
        running = {
            key: Running(
                len(pods),
                sum(mark for mark, _ in pods),
                tuple(sorted({node for _, node in pods if node})),
            )
            for key, pods in self._running.items()
        }
        return Cluster(
            lists[Workload],
            lists[Service],
            lists[Budget],
            lists[Scaler],
            lists[Quota],
            lists[Limits],
            lists[Node],
            lists[Policy],
            self._namespaces,
            running,
            frozenset({*known, *self._seen}),
            self._ending,
            self._passed,
        )


def _controller(metadata: _Metadata) -> _Owner | None:
    return next((owner for owner in metadata.owner_references or () if owner.controller), None)


def _workload_of(found: kinds.Found, whole: _Workload) -> Workload:
    # A copy: what stays raw in it must not keep the whole dump in memory.
    pod = _pod.decode(msgspec.json.encode(found.data))
    spec, plain = whole.spec, len(found.path) == 2
    rolled = plain and found.kind.kind in _ROLLED
    strategy = (spec.strategy or spec.update_strategy) if rolled else None
    rolling = strategy.rolling_update if strategy is not None else None
    replicas = spec.replicas
    if found.kind.kind == "DaemonSet":
        replicas = whole.status.desired_number_scheduled
    elif replicas is None and plain:
        replicas = 1
    return Workload(
        found.kind.kind,
        found.namespace or "default",
        found.name,
        found.kind.owner,
        pod,
        (pod.metadata or EMPTY).labels or {},
        replicas,
        ("RollingUpdate" if strategy is None else strategy.type or "RollingUpdate")
        if rolled
        else "",
        None if rolling is None else rolling.max_unavailable,
        None if rolling is None else rolling.max_surge,
        (spec.min_ready_seconds or 0) if plain else 0,
        spec.pod_replacement_policy == "TerminationComplete",
    )


# -- the other kinds -------------------------------------------------------------------------------


def _service(raw: _Raw) -> Service | None:
    one = msgspec.json.decode(raw, type=_Service)
    spec = one.spec
    if not spec.selector:
        return None
    return Service(
        one.metadata.namespace or "default",
        one.metadata.name,
        spec.selector,
        spec.ports or (),
        spec.cluster_ip == "None",
        spec.publish_not_ready_addresses,
        spec.external_traffic_policy == "Local",
    )


def _budget(raw: _Raw) -> Budget | None:
    one = msgspec.json.decode(raw, type=_Budget)
    if one.spec.selector is None:
        return None
    return Budget(
        one.metadata.namespace or "default",
        one.metadata.name,
        one.spec.selector,
        one.spec.min_available,
        one.spec.max_unavailable,
    )


def _scaler(raw: _Raw) -> Scaler:
    one = msgspec.json.decode(raw, type=_Scaler)
    spec, cpu = one.spec, one.spec.target_cpu_utilization_percentage
    for metric in spec.metrics or ():
        if metric.type == "Resource" and metric.resource and metric.resource.name == "cpu":
            cpu = metric.resource.target.average_utilization
    return Scaler(
        one.metadata.namespace or "default",
        one.metadata.name,
        spec.scale_target_ref.kind,
        spec.scale_target_ref.name,
        1 if spec.min_replicas is None else spec.min_replicas,
        cpu,
    )


def _quota(raw: _Raw) -> Quota | None:
    one = msgspec.json.decode(raw, type=_Quota)
    if one.spec.scope_selector or any(scope in _SCOPED for scope in one.spec.scopes or ()):
        return None  # it may not count these Pods at all
    hard = one.status.hard or one.spec.hard or {}
    return Quota(
        one.metadata.namespace or "default", one.metadata.name, hard, one.status.used or {}
    )


def _limits(raw: _Raw) -> Limits:
    one = msgspec.json.decode(raw, type=_Limits)
    return Limits(
        one.metadata.namespace or "default", one.metadata.name, tuple(one.spec.limits or ())
    )


def _node(raw: _Raw) -> Node:
    one = msgspec.json.decode(raw, type=_Node)
    info = one.status.node_info
    return Node(
        one.metadata.name,
        one.metadata.labels or {},
        info.container_runtime_version,
        info.kubelet_version,
        info.operating_system,
    )


def _hooks(raw: _Raw) -> Policy | None:
    one = msgspec.json.decode(raw, type=_Hooks)
    rules = [rule for hook in one.webhooks or () for rule in hook.rules or ()]
    return _judging("ValidatingWebhookConfiguration", one.metadata, rules)


def _policy(raw: _Raw) -> Policy | None:
    one = msgspec.json.decode(raw, type=_Policy)
    rules = one.spec.match_constraints.resource_rules or ()
    return _judging("ValidatingAdmissionPolicy", one.metadata, rules)


def _judging(kind: str, metadata: _Metadata, rules: Iterable[_Rule]) -> Policy | None:
    """Keep it if one of its rules covers the creation of Pods, and it is not from our own chart."""
    judged = any(
        not {"*", "CREATE"}.isdisjoint(rule.operations or ())
        and not {"*", "*/*", "pods"}.isdisjoint(rule.resources or ())
        for rule in rules
    )
    ours = (metadata.labels or {}).get(_CHART) == "podgrace"
    return Policy(kind, metadata.name) if judged and not ours else None


_TAKEN: Final[Mapping[tuple[str, str], Callable[[_Raw], Any]]] = {
    ("", "Service"): _service,
    ("policy", "PodDisruptionBudget"): _budget,
    ("autoscaling", "HorizontalPodAutoscaler"): _scaler,
    ("", "ResourceQuota"): _quota,
    ("", "LimitRange"): _limits,
    ("", "Node"): _node,
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): _hooks,
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"): _policy,
}
"""Group and kind -> what is kept of it; None for one that no rule needs."""
