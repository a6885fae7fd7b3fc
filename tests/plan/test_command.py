"""`podgrace plan` as it is run: dumps in every form, every output, what changed; and its manual."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.command import podgrace, spawned
from tests.plan import docs
from tests.plan.clusters import (
    READINESS,
    Tree,
    as_list,
    budget,
    container,
    dump,
    namespace,
    running,
    service,
    workload,
)

EDGE = container("edge", "acme/edge", command=["nginx", "-g", "daemon off;"])
SLOW = container("app", readinessProbe=READINESS, lifecycle={"preStop": {"sleep": {"seconds": 9}}})
CLUSTER: list[Tree] = [
    namespace("shop"),
    workload("Deployment", "edge", EDGE, spec={"replicas": 3}),
    workload("Deployment", "shop"),
    workload("StatefulSet", "store", SLOW, spec={"replicas": 6, "minReadySeconds": 5}),
    workload("Deployment", "dns", namespace="kube-system"),
    service("edge"),
    service("shop"),
    service("store"),
    budget("store", app="store", maxUnavailable=1),
    running(1),
    running(2),
]
WANTED = {"edge": "loses", "shop": "unknown", "store": "no-cause", "dns": "left-alone"}

GOLDEN = """\
4 workloads in 2 namespaces; 0 enabled, 0 injected
      1  would lose requests
      1  unknown server, may lose requests
      1  no cause found
      1  left alone
All of them enabled: the sidecars request 11m cpu, 44Mi memory more; longest drain 45 s, longest\
 grace period 80 s

NAMESPACE    WORKLOAD           PODS  TODAY                              WITH PODGRACE\
                   GRACE       COST    FINDINGS
shop         deployment/edge    0/0   would lose requests                wrap, readiness probe\
           30 -> 75 s  1m 4Mi  no-delay, stop-signal, no-readiness, no-budget, no-min-ready
"""


def verdicts(text: str) -> dict[str, str]:
    return {row["name"]: row["verdict"] for row in json.loads(text)["workloads"]}


def lists(items: list[Tree]) -> list[Tree]:
    """Give the same as the API server lists them: each kind alone, its items without a kind."""
    kinds: dict[tuple[str, str], list[Tree]] = {}
    for item in items:
        bare = {key: value for key, value in item.items() if key not in ("apiVersion", "kind")}
        kinds.setdefault((item["apiVersion"], item["kind"]), []).append(bare)
    return [
        {"apiVersion": version, "kind": f"{kind}List", "items": found}
        for (version, kind), found in kinds.items()
    ]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(as_list(CLUSTER)),
        json.dumps(as_list(CLUSTER), indent=4),
        "\n".join(json.dumps(one, indent=4) for one in lists(CLUSTER)),
        "\n".join(json.dumps(one) for one in lists(CLUSTER)),
        "\n".join(json.dumps(one) for one in CLUSTER),
        yaml.safe_dump(as_list(CLUSTER)),
        yaml.safe_dump_all(CLUSTER),
    ],
    ids=["compact", "kubectl", "kinds", "kinds on lines", "lines", "yaml list", "yaml documents"],
)
def test_a_dump_of_any_form_says_the_same(text: str) -> None:
    ran = podgrace("plan", "-f", "-", "-o", "json", stdin=text)
    assert ran.code == 0, ran.err
    assert verdicts(ran.out) == WANTED


def test_several_files_are_one_cluster(tmp_path: Path) -> None:
    args = []
    for n, one in enumerate(lists(CLUSTER)):
        path = tmp_path / f"{n}.json"
        path.write_text(json.dumps(one), encoding="utf-8")
        args += ["-f", str(path)]
    ran = podgrace("plan", *args, "-o", "json")
    assert verdicts(ran.out) == WANTED


def test_as_a_table() -> None:
    ran = spawned("plan", "-f", "-", stdin=json.dumps(as_list(CLUSTER)))
    assert ran.code == 0
    assert ran.out.startswith(GOLDEN), ran.out
    assert "left alone: excluded-namespace" in ran.out
    assert "To fix it: enable podgrace" in ran.out
    assert "not judged: Node, HorizontalPodAutoscaler, ResourceQuota, LimitRange" in " ".join(
        ran.err.replace("they are", "").split()
    )


def test_details_say_who_fixes_what() -> None:
    ran = podgrace("plan", "--details", "-f", "-", stdin=json.dumps(as_list(CLUSTER)))
    lines = ran.out.splitlines()
    assert "shop deployment/edge: would lose requests" in lines
    assert (
        "  no-delay (loses requests, fixed by podgrace): edge (nginx): no preStop, so its stop"
        " signal comes at once" in lines
    )


def enabled(*, marked: bool) -> list[Tree]:
    """Give the cluster after its label and a restart; `edge` with one Pod that slipped through."""
    kept = [item for item in CLUSTER if item["kind"] not in ("Namespace", "Pod")]
    pods = [running(n, marked=True) for n in (1, 2)]
    pods += [running(n, marked=marked and n < 3, owner="edge") for n in (1, 2, 3)]
    return [*kept, *pods, namespace("shop", **{"podgrace.io/inject": "enabled"})]


def test_what_changed_since(tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    old.write_text(podgrace("plan", "-f", "-", "-o", "json", stdin=as_text(CLUSTER)).out, "utf-8")
    now = as_text(enabled(marked=True))
    ran = podgrace("plan", "-f", "-", "--diff", str(old), "-o", "json", stdin=now)
    found = json.loads(ran.out)
    assert ran.code == 0
    changed = {one["name"]: one for one in found["changed"]}
    assert set(changed) == {"edge", "shop"}
    assert changed["shop"]["gone"] == ["no-delay", "no-readiness"]
    assert (changed["shop"]["injectedWas"], changed["shop"]["injected"]) == ("0/2", "2/2")
    assert changed["edge"]["new"] == ["slipped-through"]
    assert not changed["edge"]["worse"]
    shown = podgrace("plan", "-f", "-", "--diff", str(old), stdin=now)
    assert "0/2 -> 2/2" in shown.out


def test_what_is_worse_ends_with_3(tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    old.write_text(podgrace("plan", "-f", "-", "-o", "json", stdin=as_text(CLUSTER)).out, "utf-8")
    items = [item for item in CLUSTER if item != workload("Deployment", "shop")]
    items.append(workload("Deployment", "shop", spec={"strategy": {"type": "Recreate"}}))
    ran = podgrace("plan", "-f", "-", "--diff", str(old), stdin=as_text(items))
    assert ran.code == 3
    assert "deployment/shop (worse)" in ran.out


def as_text(items: list[Tree]) -> str:
    return json.dumps(as_list(items))


def test_nothing_changed(tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    old.write_text(podgrace("plan", "-f", "-", "-o", "json", stdin=as_text(CLUSTER)).out, "utf-8")
    ran = podgrace("plan", "-f", "-", "--diff", str(old), stdin=as_text(CLUSTER))
    assert ran.code == 0
    assert ran.out.endswith("\n4 as before\n")


@pytest.mark.parametrize(
    ("args", "stdin", "said"),
    [
        (["-f", "-"], "{", "standard input"),
        (["-f", "-"], '{"kind": "Service", "apiVersion": "v1", "spec": {"ports": 1}}', "Service"),
        (["-f", "-"], as_text([workload(pod={"containers": [{"image": "a"}]})]), "shop/shop"),
        (["-f", "/nowhere.json"], "", "/nowhere.json"),
        (["-f", "-", "--diff", "/nowhere.json"], "{}", "/nowhere.json"),
    ],
)
def test_what_cannot_be_used_is_named(args: list[str], stdin: str, said: str) -> None:
    ran = podgrace("plan", *args, stdin=stdin)
    assert ran.code == 1
    assert said in ran.err


def test_a_diff_is_no_page(tmp_path: Path) -> None:
    ran = podgrace("plan", "-f", "-", "-o", "html", "--diff", str(tmp_path), stdin="{}")
    assert (ran.code, "accepted" in ran.err or "goes with" in ran.err) == (2, True)


def test_a_large_cluster_is_planned() -> None:
    """`make bench` measures 5 000 workloads; here only that nothing grows with the square."""
    ran = podgrace("plan", "-f", "-", "-o", "json", stdin=dump(500, pods=1))
    found: Any = json.loads(ran.out)
    assert found["totals"]["workloads"] == 500
    assert sum(found["totals"]["verdicts"].values()) == 500


def test_the_manual_is_up_to_date() -> None:
    """`make docs` rewrites it."""
    text = docs.PAGE.read_text(encoding="utf-8")
    assert docs.written(text) == text
