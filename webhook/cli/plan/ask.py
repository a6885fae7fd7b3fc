"""A cluster, asked: every list that `plan` reads, once.

In: a way to the cluster (`webhook.cli.cluster`). Out: the values of `read`, and a sentence for each
list that could not be read: we have no right to it, or the cluster is too old for it. Deployments,
StatefulSets and DaemonSets are needed, everything else is optional. It changes nothing, and reads
no Secret or ConfigMap.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from webhook.cli import kinds
from webhook.cli.cluster import Cluster as Reach
from webhook.cli.cluster import Forbidden, Missing
from webhook.cli.plan.objects import Cluster
from webhook.cli.plan.read import Item, gather
from webhook.config import Config


class Listing(NamedTuple):
    """A list of the API. `needed`: without it there is no plan; `chosen`: the selector holds."""

    version: str
    kind: str
    resource: str
    namespaced: bool = True
    needed: bool = False
    chosen: bool = False


_WORKLOADS: Final = (
    Listing("apps/v1", "Deployment", "deployments", needed=True, chosen=True),
    Listing("apps/v1", "StatefulSet", "statefulsets", needed=True, chosen=True),
    Listing("apps/v1", "DaemonSet", "daemonsets", needed=True, chosen=True),
    Listing("v1", "ReplicationController", "replicationcontrollers", chosen=True),
)
_AROUND: Final = (
    Listing("v1", "Service", "services"),
    Listing("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    Listing("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    Listing("v1", "ResourceQuota", "resourcequotas"),
    Listing("v1", "LimitRange", "limitranges"),
    Listing("v1", "Node", "nodes", namespaced=False),
    Listing(
        "admissionregistration.k8s.io/v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        namespaced=False,
    ),
    Listing(
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicy",
        "validatingadmissionpolicies",
        namespaced=False,
    ),
    Listing("v1", "Pod", "pods"),
)
_BUILT_IN: Final = frozenset({"", "apps", "batch", "extensions"})
"""Groups whose workloads are in the table above, or end by themselves."""


class _Version(msgspec.Struct, rename="camel"):
    group_version: str = ""


class _Group(msgspec.Struct, rename="camel"):
    name: str = ""
    preferred_version: _Version = msgspec.field(default_factory=_Version)


class _Groups(msgspec.Struct):
    groups: list[_Group] | None = None


class _Resource(msgspec.Struct):
    name: str = ""
    kind: str = ""


class _Resources(msgspec.Struct):
    resources: list[_Resource] | None = None


def ask(reach: Reach, config: Config, selector: str = "") -> tuple[Cluster, list[str]]:
    """Read a cluster; `selector` chooses workloads. Raises `ClusterError`."""
    read: set[str] = set()
    missing: list[str] = []

    def items() -> Iterator[Item]:
        for one in listings(reach, config):
            try:
                yield from _listed(reach, one, selector if one.chosen else "")
            except (Forbidden, Missing) as error:
                if one.needed or (one.kind == "Namespace" and isinstance(error, Missing)):
                    raise
                missing.append(f"{one.resource} were not read: {error}")
            else:
                read.add(one.kind)

    cluster = gather(items(), config, "the cluster")
    return msgspec.structs.replace(cluster, known=frozenset(read)), missing


def listings(reach: Reach, config: Config) -> Sequence[Listing]:
    """Give the lists to ask for: those of every cluster, and the kinds that this one has."""
    spaces = Listing("v1", "Namespace", "namespaces", namespaced=False)
    return [spaces, *_WORKLOADS, *_others(reach, config), *_AROUND]


def _others(reach: Reach, config: Config) -> Iterator[Listing]:
    """Find the other kinds of workload that the API server knows."""
    wanted: dict[str, set[str]] = {}
    for kind in kinds.known(config):
        if kind.group not in _BUILT_IN:
            wanted.setdefault(kind.group, set()).add(kind.kind)
    for group in reach.get("/apis", _Groups).groups or ():
        if group.name not in wanted:
            continue
        version = group.preferred_version.group_version
        for found in reach.get(f"/apis/{version}", _Resources).resources or ():
            if found.kind in wanted[group.name] and "/" not in found.name:
                yield Listing(version, found.kind, found.name, chosen=True)


def _listed(reach: Reach, one: Listing, selector: str) -> Iterator[Item]:
    if one.kind == "Namespace" and not reach.everywhere:
        raw = reach.get(f"/api/v1/namespaces/{reach.namespace}", msgspec.Raw)
        yield Item(one.version, one.kind, raw)
        return
    path = reach.listing(one.version, one.resource, namespaced=one.namespaced)
    for raw in reach.items(path, msgspec.Raw, selector=selector):
        yield Item(one.version, one.kind, raw)
