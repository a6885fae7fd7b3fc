"""`podgrace audit`: the Pods that slipped through, from what kubectl prints."""

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from ruamel.yaml import YAML

from tests.cli.command import WORKLOADS, podgrace, spawned
from tests.core.passes import once
from webhook import __version__
from webhook.config import parse
from webhook.core.audit import opted_in

CONFIG = parse("")


def pod(
    name: str,
    namespace: str = "shop",
    label: str | None = None,
    *,
    marked: bool = False,
    **more: Any,
) -> dict[str, Any]:
    labels = {} if label is None else {"podgrace.io/inject": label}
    made: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            "creationTimestamp": "2026-01-02T03:04:05Z",
        },
        "spec": {
            "restartPolicy": "Always",
            "containers": [{"name": "web", "image": "shop", "ports": [{"containerPort": 80}]}],
        },
        "status": {"phase": "Running"},
    }
    made["metadata"] |= more.pop("metadata", {})
    made |= more
    return once(made, CONFIG)[0] if marked else made


def namespace(name: str, label: str | None = None) -> dict[str, Any]:
    labels = {} if label is None else {"podgrace.io/inject": label}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def aged(made: dict[str, Any], version: str) -> dict[str, Any]:
    annotations = made["metadata"]["annotations"]
    annotations["podgrace.io/status"] = annotations["podgrace.io/status"].replace(
        f'"version":"{__version__}"', f'"version":"{version}"'
    )
    return made


def worker(name: str) -> dict[str, Any]:
    made = pod(name)
    made["spec"]["containers"] = [{"name": "worker", "image": "shop"}]
    return once(made, CONFIG)[0]


OWNER = {
    "ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-1", "uid": "x"}
    ]
}
RUN_ONCE = {"restartPolicy": "Never", "containers": [{"name": "a"}]}

CLUSTER = [
    namespace("shop", "enabled"),
    namespace("plain"),
    namespace("closed", "disabled"),
    namespace("kube-system", "enabled"),
    pod("good", marked=True),
    worker("idle"),
    pod("bare", metadata=OWNER),
    pod("garbled", metadata={"annotations": {"podgrace.io/status": "{"}}),
    aged(pod("old", marked=True), "0.0.9"),
    pod("out", label="disabled"),
    pod("typo", label="yes"),
    pod("asked", "plain", "enabled"),
    pod("not-asked", "plain"),
    pod("asked-in-closed", "closed", "enabled"),
    pod("system", "kube-system"),
    pod("job", spec=RUN_ONCE),
    pod("mirror", metadata={"annotations": {"kubernetes.io/config.mirror": "x"}}),
    pod("ending", metadata={"deletionTimestamp": "2026-01-02T03:04:05Z"}),
    pod("done", status={"phase": "Failed"}),
]
EXPECTED = {
    ("plain", "asked"): "slipped-through",
    ("shop", "bare"): "slipped-through",
    ("shop", "garbled"): "mark-unreadable",
    ("shop", "old"): "other-version",
    ("shop", "typo"): "slipped-through",
}


def as_list(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": items}


def as_yaml(tree: Any) -> str:
    out = io.StringIO()
    yaml.safe_dump(tree, out)
    return out.getvalue()


@pytest.mark.parametrize(
    "text", [json.dumps(as_list(CLUSTER)), as_yaml(as_list(CLUSTER))], ids=["json", "yaml"]
)
def test_those_that_slipped_through(text: str) -> None:
    ran = podgrace("audit", "-o", "json", "-f", "-", stdin=text)
    assert (ran.code, ran.err) == (3, "")
    found = json.loads(ran.out)
    assert {(f["namespace"], f["pod"]): f["code"] for f in found["findings"]} == EXPECTED
    assert found["pods"] == 15
    bare = next(f for f in found["findings"] if f["pod"] == "bare")
    assert (bare["owner"], bare["created"]) == ("ReplicaSet/shop-1", "2026-01-02T03:04:05Z")
    assert (
        next(f for f in found["findings"] if f["pod"] == "old")["detail"]
        == f"0.0.9, not {__version__}"
    )


def test_as_a_table() -> None:
    ran = spawned("audit", "-f", "-", stdin=json.dumps(as_list(CLUSTER)))
    assert ran.code == 3
    assert ran.out.splitlines()[0].split() == [
        "NAMESPACE",
        "POD",
        "OWNER",
        "WHAT",
        "CREATED",
        "WHY",
    ]
    assert len(ran.out.splitlines()) == 1 + len(EXPECTED)
    assert "5 of 15 Pods" in ran.err


def test_all_is_well() -> None:
    ran = podgrace(
        "audit",
        "-f",
        "-",
        stdin=json.dumps(
            as_list([namespace("shop", "enabled"), pod("good", marked=True), worker("idle")])
        ),
    )
    said = f"2 Pods, none slipped through: what is opted in has the mark of {__version__}\n"
    assert ran == (0, said, "")
    assert podgrace("audit", "-f", "-", stdin=json.dumps(as_list([]))).code == 0


def test_without_namespaces_only_the_pods_own_labels_count() -> None:
    ran = podgrace(
        "audit",
        "-f",
        "-",
        stdin=json.dumps({"kind": "PodList", "items": [pod("a"), pod("b", label="enabled")]}),
    )
    assert ran.code == 3
    assert "no namespaces in it" in ran.err
    assert ran.out.splitlines()[1].split()[:2] == ["shop", "b"]


def test_a_namespace_of_a_class_that_is_not_there_is_named(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("classes: {edge: {}}", encoding="utf-8")
    spaces = [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {"podgrace.io/class": name}},
        }
        for name in ("edge", "edgy")
    ]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": spaces})
    done = podgrace("audit", "-f", "-", "--config", str(file), stdin=text)
    assert done.code == 0
    told = "podgrace: namespace edgy: podgrace.io/class: edgy: the configuration has edge"
    assert done.err.splitlines() == [told]


def test_excluded_namespaces_are_the_operators(tmp_path: Any) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("{excludedNamespaces: [shop]}", encoding="utf-8")
    items = [namespace("shop", "enabled"), pod("bare")]
    assert (
        podgrace("audit", "-f", "-", "--config", str(config), stdin=json.dumps(as_list(items))).code
        == 0
    )


@pytest.mark.parametrize("label", ["enabled", "disabled", "other", None])
def test_who_is_opted_in_is_what_the_chart_selects(label: str | None) -> None:
    """The two entries of the webhook configuration, written as its selectors are."""
    for space in ("enabled", "disabled", "other", None):
        pod_entry = label == "enabled" and space != "disabled"
        namespace_entry = space == "enabled" and label not in ("enabled", "disabled")
        assert opted_in(label, space) == (pod_entry or namespace_entry)


def test_manifests_that_were_injected_pass() -> None:
    text = podgrace(
        "inject", "-f", "-", stdin=(WORKLOADS / "nginx.yaml").read_text(encoding="utf-8")
    ).out
    template = YAML(typ="safe").load(text)["spec"]["template"]
    made = {
        "apiVersion": "v1",
        "kind": "Pod",
        **template,
        "metadata": {**template["metadata"], "name": "x", "namespace": "shop"},
    }
    assert (
        podgrace(
            "audit", "-f", "-", stdin=json.dumps(as_list([namespace("shop", "enabled"), made]))
        ).code
        == 0
    )


def test_a_cluster_is_read_page_by_page_through_kubectl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Namespaces and Pods are told by their paths; the selector is the API server's to apply."""
    found = [item for item in CLUSTER if item["kind"] == "Pod"]
    for index, item in enumerate(found):
        item["metadata"]["uid"] = str(index)
    pages = {"pods1": found[:4], "pods2": found[4:]}
    for name, items in pages.items():
        token = {"continue": "next"} if name == "pods1" else {}
        page = {"metadata": token, "items": [{**i, "kind": None} for i in items]}
        (tmp_path / name).write_text(json.dumps(page))
    spaces = [item for item in CLUSTER if item["kind"] == "Namespace"]
    (tmp_path / "namespaces").write_text(json.dumps({"items": spaces}))
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(
        f'#!/bin/sh\ncd {tmp_path}; echo "$*" >> calls\ncase $* in\n'
        "*continue*) cat pods2;; */v1/pods*) cat pods1;; */v1/namespaces*) cat namespaces;; esac\n"
    )
    kubectl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    ran = podgrace("audit", "-A", "-l", "app=x", "--context", "c", "-o", "json")
    whole = podgrace("audit", "-f", "-", "-o", "json", stdin=json.dumps(as_list(CLUSTER)))
    assert (ran.code, json.loads(ran.out)) == (whole.code, json.loads(whole.out))
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == 3 and all(call.startswith("--context=c get ") for call in calls)
    assert all("labelSelector=app%3Dx" in call for call in calls[1:])
