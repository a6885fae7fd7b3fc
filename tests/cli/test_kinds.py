"""Which objects are workloads to the command line, and that no other one passes in silence."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import podgrace
from webhook.cli import manifests
from webhook.cli.kinds import KINDS, Kind, known
from webhook.config import parse

POD = {
    "metadata": {"labels": {"app": "a"}},
    "spec": {
        "containers": [{"name": "web", "image": "nginx:1.27", "ports": [{"containerPort": 80}]}]
    },
}


def nested(path: str, pod: Any = POD) -> Any:
    """Put a Pod at a path; `*` is a list of one."""
    key, _, rest = path.partition(".")
    if not path:
        return pod
    inner = nested(rest, pod)
    return [inner] if key == "*" else {key: inner}


def whole(kind: Kind, path: str, pod: Any = POD) -> dict[str, Any]:
    """Make an object of a kind, with a Pod at one of its paths."""
    version = f"{kind.group}/v1beta1" if kind.group else "v1"
    return {"apiVersion": version, "kind": kind.kind, **nested(path, pod)}


EVERY = [(kind, path) for kind in KINDS for path in kind.paths]


@pytest.mark.parametrize(("kind", "path"), EVERY, ids=lambda value: getattr(value, "kind", value))
def test_a_kind_is_injected_where_its_pods_are(kind: Kind, path: str) -> None:
    text = json.dumps(whole(kind, path))
    ran = podgrace("inject", "-f", "-", stdin=text)
    assert ran.code == 0
    if kind.refuses:
        assert ran.out == text
        assert f"not read: {kind.kind}.{kind.group} (no name): {kind.refuses}" in ran.err
        return
    assert f"{kind.kind.lower()} '' injected" in ran.err
    (workload,) = manifests.read(text, "").workloads
    assert workload.owner_kind == kind.owner
    assert podgrace("uninject", "-f", "-", stdin=ran.out).out == text


def test_two_templates_of_one_object() -> None:
    kind = next(kind for kind in KINDS if kind.kind == "LeaderWorkerSet")
    templates = {"leaderTemplate": POD, "workerTemplate": POD}
    tree = whole(kind, "") | {"spec": {"leaderWorkerTemplate": templates}}
    tree.pop("metadata")
    text = json.dumps(tree, indent=2)
    ran = podgrace("inject", "-f", "-", stdin=text)
    assert ran.out.count("podgrace.io/status") == 2
    assert podgrace("uninject", "-f", "-", stdin=ran.out).out == text


HEAD = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: patch}\n"
SILENT = {
    "a patch without a template": HEAD + "spec: {replicas:   3}\n",
    "a patch without a spec": HEAD,
    "a patch of a template's labels": HEAD + "spec: {template: {metadata: {labels: {a:   b}}}}\n",
    "a patch of a volume": HEAD + "spec: {template: {spec: {volumes:   []}}}\n",
    "no containers": HEAD + "spec: {template: {spec: {containers:   []}}}\n",
    "null for a template": HEAD + "spec: {template:   ~}\n",
    "a Rollout of another's template": "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\n"
    "metadata: {name: r}\nspec: {workloadRef:   {kind: Deployment, name: d}}\n",
    "a Service": "apiVersion: v1\nkind: Service\nmetadata: {name: plain}\nspec: {ports:   []}\n",
    "a schema": "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n"
    "spec: {properties:   {containers: {type: array, image: x}}}\n",
    "another kind of an operator": "apiVersion: kafka.strimzi.io/v1beta2\nkind: KafkaTopic\n"
    "metadata: {name: t}\nspec: {partitions:   3, replicas: 3}\n",
    "values of a chart": "containers: [{image:   x}]\n",
}


@pytest.mark.parametrize("name", SILENT)
def test_what_has_no_pod_passes_in_silence(name: str) -> None:
    for command in ("inject", "uninject"):
        assert podgrace(command, "-f", "-", stdin=SILENT[name]) == (0, SILENT[name], "")


FARM = "apiVersion: example.com/v1\nkind: Farm\nmetadata: {name: f}\n"
NAMED = {
    "another kind": (
        FARM + "spec:\n  pool:\n    containers: [{image: x}]\n",
        "line 6: not read: Farm.example.com f: podgrace does not know this kind",
    ),
    "another group": (
        FARM.replace("Farm", "Job") + "spec: [{template: {initContainers: [{image: x}]}}]\n",
        "not read: Job.example.com f: podgrace does not",
    ),
    "an operator's kind": (
        FARM.replace("example.com/v1\nkind: Farm", "kafka.strimzi.io/v1beta2\nkind: Kafka"),
        "line 1: not read: Kafka.kafka.strimzi.io f: its operator makes the Pods",
    ),
    "a patch of a container": (
        HEAD + "spec: {template: {spec: {containers: [{name: a, resources: {}}]}}}\n",
        "not read: Deployment.apps patch: none of its containers has an image",
    ),
    "an item of a List": (
        "kind: List\nitems:\n- {}\n- {apiVersion: a/v1, kind: B, x: {containers: [{image: x}]}}\n",
        "not read: B.a (no name), item 2",
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_what_has_containers_and_is_not_read_is_named(name: str) -> None:
    text, said = NAMED[name]
    for command in ("inject", "explain"):
        ran = podgrace(command, "-f", "-", stdin=text)
        assert ran.code == 0
        assert said in ran.err
        assert command == "explain" or ran.out == text


def test_a_patch_does_not_keep_the_rest_of_its_file_from_being_injected() -> None:
    text = HEAD + "spec: {replicas: 1}\n---\n" + json.dumps(whole(KINDS[0], ""))
    assert "podgrace.io/status" in podgrace("inject", "-f", "-", stdin=text).out


def test_items_of_a_list_of_pods_name_no_kind() -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "PodList", "items": [POD, POD]})
    assert podgrace("inject", "-f", "-", stdin=text).out.count("podgrace.io/status") == 2


FARMS = """
workloads:
- apiVersion: example.com
  kind: Farm
  paths: [spec.pools.*.template, spec.head]
  owner: ReplicaSet
- {apiVersion: example.com/v2, kind: Farm}
- {apiVersion: v1, kind: Herd}
"""


def farm(version: str, kind: str, path: str) -> str:
    return json.dumps({"apiVersion": version, "kind": kind, **nested(path)}, indent=1)


@pytest.fixture
def farms(tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(FARMS, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("version", "kind", "path"),
    [
        ("example.com/v1", "Farm", "spec.pools.*.template"),
        ("example.com/v1", "Farm", "spec.head"),
        ("example.com/v2", "Farm", "spec.template"),
        ("v1", "Herd", "spec.template"),
    ],
)
def test_the_configuration_adds_kinds(farms: str, version: str, kind: str, path: str) -> None:
    text = farm(version, kind, path)
    option = ("--config", farms, "-f", "-")
    ran = podgrace("inject", *option, stdin=text)
    assert f"{kind.lower()} '' injected" in ran.err
    assert ran.out.count("podgrace.io/status") == 1
    assert f"{kind} \n" in podgrace("explain", *option, stdin=text).out
    assert podgrace("uninject", *option, stdin=ran.out) == (0, text, "")
    without = podgrace("inject", "-f", "-", stdin=text)
    assert without.out == text
    assert "podgrace does not know this kind" in without.err


@pytest.mark.parametrize(
    ("version", "kind", "path"),
    [
        ("example.com/v2", "Farm", "spec.head"),
        ("example.org/v1", "Farm", "spec.head"),
        ("v2", "Herd", "spec.template"),
        ("example.com/v1", "Herd", "spec.template"),
    ],
)
def test_an_added_kind_is_no_other(farms: str, version: str, kind: str, path: str) -> None:
    text = farm(version, kind, path)
    assert podgrace("inject", "--config", farms, "-f", "-", stdin=text).out == text


def test_an_added_kind_names_the_owner_of_its_pods() -> None:
    kinds = known(parse(FARMS))
    (workload,) = manifests.read(farm("example.com/v1", "Farm", "spec.head"), "", kinds).workloads
    assert workload.owner_kind == "ReplicaSet"
    (workload,) = manifests.read(farm("v1", "Herd", "spec.template"), "", kinds).workloads
    assert workload.owner_kind == "Herd"


def test_an_added_kind_wins_over_a_built_in_one() -> None:
    kinds = known(parse("workloads: [{apiVersion: apps, kind: Deployment, paths: [spec.other]}]"))
    (workload,) = manifests.read(farm("apps/v1", "Deployment", "spec.other"), "", kinds).workloads
    assert workload.path == ("spec", "other")
    assert not manifests.read(farm("apps/v1", "Deployment", "spec.template"), "", kinds).workloads
