"""Which objects are workloads, and where their Pod templates are: a table.

In: the data of a document, and the kinds that the configuration adds (`workloads`). Out: `Found`,
one for each Pod or Pod template, in Lists too; and `Passed` for an object that has containers, or
whose operator makes them, but is not read, so that this is said. What happens to a Pod belongs in
`webhook.admission`.

A kustomize patch names a kind but is not a whole workload: it has no template, no containers, or no
image in any of them. It is not read, like an object of another kind.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from webhook.cli.edits import Path
from webhook.config import Config


class Kind(NamedTuple):
    """A kind of workload.

    `group`: of its API, "" for core. `paths`: where its Pod templates are; `*` is each item of a
    list, "" the object itself. `owner`: the kind that will own its Pods; a Pod is its own.
    `refuses`: why its Pods are left alone. `version`: of its API, "" for any.
    """

    group: str
    kind: str
    paths: tuple[str, ...] = ("spec.template",)
    owner: str = ""
    refuses: str = ""
    version: str = ""


KINDS: Final = (
    Kind("", "Pod", ("",), "Pod"),
    Kind("", "PodTemplate", ("template",), "PodTemplate"),
    Kind("", "ReplicationController", owner="ReplicationController"),
    Kind("apps", "Deployment", owner="ReplicaSet"),
    Kind("apps", "StatefulSet", owner="StatefulSet"),
    Kind("apps", "DaemonSet", owner="DaemonSet"),
    Kind("apps", "ReplicaSet", owner="ReplicaSet"),
    Kind("extensions", "Deployment", owner="ReplicaSet"),
    Kind("extensions", "DaemonSet", owner="DaemonSet"),
    Kind("extensions", "ReplicaSet", owner="ReplicaSet"),
    Kind("batch", "Job", owner="Job"),
    Kind("batch", "CronJob", ("spec.jobTemplate.spec.template",), "Job"),
    Kind("argoproj.io", "Rollout", owner="ReplicaSet"),
    Kind("apps.openshift.io", "DeploymentConfig", owner="ReplicationController"),
    Kind("apps.kruise.io", "CloneSet", owner="CloneSet"),
    Kind("apps.kruise.io", "StatefulSet", owner="StatefulSet"),
    Kind("apps.kruise.io", "DaemonSet", owner="DaemonSet"),
    Kind("apps.kruise.io", "BroadcastJob", owner="BroadcastJob"),
    Kind(
        "apps.kruise.io",
        "AdvancedCronJob",
        (
            "spec.template.jobTemplate.spec.template",
            "spec.template.broadcastJobTemplate.spec.template",
        ),
        "Job",
    ),
    Kind(
        "apps.kruise.io",
        "UnitedDeployment",
        tuple(
            f"spec.template.{name}Template.spec.template"
            for name in ("statefulSet", "advancedStatefulSet", "cloneSet", "deployment")
        ),
        "StatefulSet",
    ),
    Kind(
        "leaderworkerset.x-k8s.io",
        "LeaderWorkerSet",
        (
            "spec.leaderWorkerTemplate.leaderTemplate",
            "spec.leaderWorkerTemplate.workerTemplate",
        ),
        "StatefulSet",
    ),
    Kind("jobset.x-k8s.io", "JobSet", ("spec.replicatedJobs.*.template.spec.template",), "Job"),
    # Its webhook refuses `lifecycle` and `terminationGracePeriodSeconds` in a revision. Its
    # queue-proxy, which takes all requests, drains and sets a preStop in the user's container.
    *(
        Kind(
            "serving.knative.dev",
            kind,
            ("spec.template",) if kind != "Revision" else ("",),
            "ReplicaSet",
            "Knative drains requests in its own proxy,"
            " and refuses Pods that set a preStop or a grace period",
        )
        for kind in ("Service", "Configuration", "Revision")
    ),
)
"""The kinds that are built in, each for all versions of its API."""

_MADE: Final = "its operator makes the Pods, and only the webhook sees those"

OPERATED: Final = frozenset(
    (group, kind)
    for group, kinds in {
        "kafka.strimzi.io": "Kafka KafkaNodePool KafkaConnect KafkaMirrorMaker KafkaMirrorMaker2"
        " KafkaBridge",
        "elasticsearch.k8s.elastic.co": "Elasticsearch",
        "kibana.k8s.elastic.co": "Kibana",
        "logstash.k8s.elastic.co": "Logstash",
        "postgresql.cnpg.io": "Cluster Pooler",
        "acid.zalan.do": "postgresql",
        "postgres-operator.crunchydata.com": "PostgresCluster PGAdmin",
        "pxc.percona.com": "PerconaXtraDBCluster",
        "psmdb.percona.com": "PerconaServerMongoDB",
        "mongodbcommunity.mongodb.com": "MongoDBCommunity",
        "mysql.oracle.com": "InnoDBCluster",
        "k8s.mariadb.com": "MariaDB MaxScale",
        "rabbitmq.com": "RabbitmqCluster",
        "databases.spotahome.com": "RedisFailover",
        "redis.redis.opstreelabs.in": "Redis RedisCluster RedisReplication RedisSentinel",
        "cassandra.datastax.com": "CassandraDatacenter",
        "scylla.scylladb.com": "ScyllaCluster",
        "clickhouse.altinity.com": "ClickHouseInstallation",
        "monitoring.coreos.com": "Prometheus PrometheusAgent Alertmanager ThanosRuler",
        "operator.victoriametrics.com": "VMSingle VMCluster VMAgent VMAlert VMAuth VMAlertmanager",
        "opentelemetry.io": "OpenTelemetryCollector",
        "grafana.integreatly.org": "Grafana",
        "k8s.keycloak.org": "Keycloak",
        "flink.apache.org": "FlinkDeployment",
        "solr.apache.org": "SolrCloud",
        "serving.kserve.io": "InferenceService",
        "minio.min.io": "Tenant",
        "temporal.io": "TemporalCluster",
    }.items()
    for kind in kinds.split()
)
"""Kinds of operators that are widespread: (group, kind). They need not name a container."""

_CORE: Final = re.compile(r"v[0-9]+(?:(?:alpha|beta)[0-9]+)?")


def known(config: Config) -> tuple[Kind, ...]:
    """Give the kinds to look for: first the operator's, of these those with a version first."""
    own = []
    for entry in config.file.workloads:
        group, _, version = entry.api_version.partition("/")
        if _CORE.fullmatch(group):
            group, version = "", group
        owner = entry.owner or entry.kind
        own.append(Kind(group, entry.kind, tuple(entry.paths), owner, version=version))
    return (*sorted(own, key=lambda kind: not kind.version), *KINDS)


_LISTS: Final = ("containers", "initContainers")


class Found(NamedTuple):
    """A Pod or Pod template: where it is in its document, and whose it is."""

    kind: Kind
    path: Path
    data: dict[str, Any]
    name: str
    namespace: str
    item: str
    """`, item 3` in a List, else ""."""


class Passed(NamedTuple):
    """An object that has containers and is not read: `kind name`, where they are, and why not."""

    what: str
    path: Path
    why: str


def find(
    data: Any, kinds: Sequence[Kind], path: Path = (), item: str = ""
) -> Iterator[Found | Passed]:
    """Find the workloads of a document."""
    if not isinstance(data, dict):
        return
    named = str(data.get("kind") or "")
    items = data.get("items")
    if named.endswith("List") and isinstance(items, list):
        for n, one in enumerate(items):
            # Items of a PodList name no kind of their own.
            head = {"apiVersion": data.get("apiVersion"), "kind": named.removesuffix("List")}
            whole = {**head, **one} if isinstance(one, dict) and named != "List" else one
            yield from find(whole, kinds, (*path, "items", n), f", item {n + 1}")
        return
    group, _, version = str(data.get("apiVersion") or "").rpartition("/")
    metadata = data.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    name, namespace = (str(metadata.get(key) or "") for key in ("name", "namespace"))
    what = f"{named}.{group}" if group else named
    what += f" {name or '(no name)'}{item}"
    kind = next(
        (
            one
            for one in kinds
            if one.kind == named and one.group == group and one.version in ("", version)
        ),
        None,
    )
    if kind is None:
        if (group, named) in OPERATED:
            yield Passed(what, path, _MADE)
            return
        where = next(_containers(data, path), None) if named else None
        if where is not None:
            yield Passed(what, where, "podgrace does not know this kind")
        return
    for template in kind.paths:
        for at, pod in _follow(data, template.split(".") if template else [], path):
            if kind.refuses:
                yield Passed(what, at, kind.refuses)
            elif (why := _why_patch(pod)) is None:
                own = pod.get("metadata") if isinstance(pod, dict) else None
                made = own.get("generateName") if isinstance(own, dict) else None
                yield Found(kind, at, pod, name or str(made or ""), namespace, item)
            elif why:
                yield Passed(what, at, why)


def _why_patch(pod: Any) -> str | None:
    """Say why a template is part of a patch: None if it is none, "" if nothing needs saying."""
    if pod is None:
        return ""
    if not isinstance(pod, dict):
        return None
    spec = pod.get("spec")
    if spec is None:
        return ""
    containers = spec.get("containers") if isinstance(spec, dict) else ()
    if containers is None or containers == []:
        return ""
    if not isinstance(containers, list) or not all(isinstance(one, dict) for one in containers):
        return None
    if any(one.get("image") for one in containers):
        return None
    return "none of its containers has an image: a patch of a workload, not a whole one"


def _follow(data: Any, keys: Sequence[str], path: Path) -> Iterator[tuple[Path, Any]]:
    """Walk down a path; give nothing where a key on the way is missing."""
    if not keys:
        yield path, data
    elif keys[0] == "*":
        for n, item in enumerate(data if isinstance(data, list) else ()):
            yield from _follow(item, keys[1:], (*path, n))
    elif isinstance(data, dict) and keys[0] in data:
        yield from _follow(data[keys[0]], keys[1:], (*path, keys[0]))


def _containers(data: Any, path: Path) -> Iterator[Path]:
    """Find lists of containers with an image, however deep. A schema has no such list."""
    if isinstance(data, dict):
        for key, item in data.items():
            if key in _LISTS and isinstance(item, list):
                if any(isinstance(one, dict) and isinstance(one.get("image"), str) for one in item):
                    yield (*path, key)
            elif isinstance(item, dict | list):
                yield from _containers(item, (*path, key))
    elif isinstance(data, list):
        for n, item in enumerate(data):
            yield from _containers(item, (*path, n))
