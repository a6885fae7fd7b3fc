"""What `plan` knows of a cluster: frozen values, each with only the fields that a rule reads.

In: nothing. Out: `Cluster`, and what it is made of. How objects become these values belongs in
`read`, what follows from them in `rules`. Field meanings are those of the Kubernetes API.
"""

from collections.abc import Mapping, Sequence

import msgspec

from webhook.core.pod import Pod

Amount = int | str
"""A number, or a share like "25%"."""


class Requirement(msgspec.Struct, frozen=True, gc=False):
    """One of `matchExpressions`."""

    key: str = ""
    operator: str = ""
    values: tuple[str, ...] | None = None


class Selector(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A label selector; one without a member selects everything in its namespace."""

    match_labels: dict[str, str] | None = None
    match_expressions: tuple[Requirement, ...] | None = None

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether it selects a Pod with these labels."""
        return is_part(self.match_labels or {}, labels) and all(
            _meets(wanted, labels) for wanted in self.match_expressions or ()
        )


class ServicePort(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """`spec.ports[]` of a Service."""

    port: int = 0
    target_port: int | str | None = None
    protocol: str = "TCP"


class Service(msgspec.Struct, frozen=True, gc=False):
    """A Service with a selector."""

    namespace: str
    name: str
    selector: Mapping[str, str]
    ports: Sequence[ServicePort] = ()
    headless: bool = False
    publishes_unready: bool = False
    local: bool = False
    """`externalTrafficPolicy: Local`."""


class Budget(msgspec.Struct, frozen=True, gc=False):
    """A PodDisruptionBudget."""

    namespace: str
    name: str
    selector: Selector
    min_available: Amount | None = None
    max_unavailable: Amount | None = None


class Scaler(msgspec.Struct, frozen=True, gc=False):
    """A HorizontalPodAutoscaler. `cpu`: the average utilization that it aims at, percent."""

    namespace: str
    name: str
    kind: str
    target: str
    least: int = 1
    cpu: int | None = None


class Quota(msgspec.Struct, frozen=True, gc=False):
    """A ResourceQuota that counts every Pod: resource name -> amount."""

    namespace: str
    name: str
    hard: Mapping[str, str]
    used: Mapping[str, str]


class Limit(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """`spec.limits[]` of a LimitRange."""

    type: str = ""
    min: dict[str, str] = {}
    max: dict[str, str] = {}
    default: dict[str, str] = {}
    default_request: dict[str, str] = {}
    max_limit_request_ratio: dict[str, str] = {}


class Limits(msgspec.Struct, frozen=True, gc=False):
    """A LimitRange."""

    namespace: str
    name: str
    limits: Sequence[Limit]


class Node(msgspec.Struct, frozen=True, gc=False):
    """A Node."""

    name: str
    labels: Mapping[str, str]
    runtime: str = ""
    kubelet: str = ""
    system: str = ""


class Policy(msgspec.Struct, frozen=True, gc=False):
    """Something else that judges Pods at their creation."""

    kind: str
    name: str


class Running(msgspec.Struct, frozen=True, gc=False):
    """The Pods of a workload that run now: how many, how many with our mark, on which nodes."""

    pods: int = 0
    marked: int = 0
    nodes: tuple[str, ...] = ()


class Workload(msgspec.Struct, frozen=True, gc=False):
    """A workload. `owner`: the kind that its Pods belong to; `replicas`: None where unknown.

    `strategy`: "RollingUpdate", "Recreate", "OnDelete" or "" where its kind has none that we know;
    `unavailable`, `surge`: as written, None for the kind's default.
    """

    kind: str
    namespace: str
    name: str
    owner: str
    pod: Pod
    labels: Mapping[str, str]
    replicas: int | None = None
    strategy: str = ""
    unavailable: Amount | None = None
    surge: Amount | None = None
    min_ready: int = 0
    waits_for_end: bool = False
    """`podReplacementPolicy: TerminationComplete`: no new Pod before the old one is gone."""


class Cluster(msgspec.Struct, frozen=True, gc=False):
    """All of it.

    `namespaces`: name -> labels. `running`: by namespace, owner kind and name. `known`: kinds whose
    objects were read; of any other kind there may be some. `ending`: Jobs, CronJobs and the like.
    `passed`: a sentence for each object with containers that is not read.
    """

    workloads: Sequence[Workload]
    services: Sequence[Service] = ()
    budgets: Sequence[Budget] = ()
    scalers: Sequence[Scaler] = ()
    quotas: Sequence[Quota] = ()
    limits: Sequence[Limits] = ()
    nodes: Sequence[Node] = ()
    policies: Sequence[Policy] = ()
    namespaces: Mapping[str, Mapping[str, str]] = {}
    running: Mapping[tuple[str, str, str], Running] = {}
    known: frozenset[str] = frozenset()
    ending: int = 0
    passed: Sequence[str] = ()


def is_part(wanted: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether all wanted labels are there."""
    return all(labels.get(key) == value for key, value in wanted.items())


def _meets(wanted: Requirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(wanted.key)
    if wanted.operator == "Exists":
        return value is not None
    if wanted.operator == "DoesNotExist":
        return value is None
    named = value in (wanted.values or ())
    return named if wanted.operator == "In" else not named
