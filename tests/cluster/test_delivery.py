"""The helper as an image volume, and drained nodes: both deliveries, under load, nothing lost.

The long form (PODGRACE_FULL) empties a node without podgrace, too.
The fixture `by_image` is a release that says `helper.delivery: image`. The drain needs two nodes.
"""

import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster import install, kube, mission
from tests.cluster.conftest import HELPER_IMAGE
from tests.cluster.install import Release, is_injected, try_pod
from tests.cluster.kube import Api, Tree
from tests.cluster.mission import Place, Prove, Row

ON = {"podgrace.io/inject": "enabled"}
SERVERS = ["exits", "nginx", "php-fpm"]


@pytest.fixture
def here(
    request: pytest.FixtureRequest,
    delivery: str,
    namespaces: Callable[..., str],
    servers_image: str,
    prove: Prove,
) -> Place:
    name = "by_image" if delivery == "image" else "podgrace"
    release: Release = request.getfixturevalue(name)
    return Place(release.api, namespaces(release.labels), servers_image, prove)


def lost(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row.lost]


def test_a_pod_has_the_image_and_no_sidecar(
    by_image: Release, namespaces: Callable[..., str]
) -> None:
    """Pod Security's strictest level takes it, and the API server stores what we wrote."""
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = namespaces({**by_image.labels, **ON, **restricted})
    context = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    app = install.simple_pod("try-")["spec"]["containers"][0] | {
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    }
    answer = try_pod(by_image.api, namespace, containers=[app], securityContext=context)
    assert answer.status == 201, answer.message
    pod = answer.body
    assert is_injected(pod) and not pod["spec"].get("initContainers")
    (volume,) = [v for v in pod["spec"]["volumes"] if v["name"] == "podgrace"]
    assert volume["image"]["reference"] == HELPER_IMAGE


@pytest.mark.timeout(900)
@pytest.mark.parametrize("delivery", ["image"])
def test_no_request_is_lost_without_a_sidecar(here: Place, tally: Any) -> None:
    disturbances = ["rolling update", "scale-down and eviction"]
    rows, _ = mission.run(here, SERVERS, "podgrace", disturbances)
    tally("podgrace-image", rows)
    assert not lost(rows)


def drain(api: Api, namespace: str, server: str, *flags: str) -> "tuple[int, str]":
    """Empty a node of a server's Pods as `kubectl drain` does; the node takes Pods again then."""
    node = api.pods(namespace, server)[0]["spec"]["nodeName"]
    words = ("--ignore-daemonsets", f"--pod-selector=app={server}", "--timeout=180s")
    try:
        done = kube.run("kubectl", "drain", node, *words, *flags, check=False)
    finally:
        kube.run("kubectl", "uncordon", node)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.timeout(900)
@pytest.mark.parametrize("delivery", ["image", "sidecar"])
def test_a_node_is_drained_under_load(
    here: Place, delivery: str, tally: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image volume is not local storage; the sidecar's emptyDir is: kubectl asks for a flag."""
    can_drain(here.api)
    flags = ["--delete-emptydir-data"] if delivery == "sidecar" else []

    def empty(api: Api, namespace: str, server: str) -> None:
        if flags:
            code, told = drain(api, namespace, server)
            assert code and "local storage" in told
        code, told = drain(api, namespace, server, *flags)
        assert code == 0, told

    monkeypatch.setitem(mission.DISTURBANCES, "drain of a node", empty)
    rows, _ = mission.run(here, ["nginx"], "podgrace", ["drain of a node"])
    tally(f"drain-{delivery}", rows)
    assert not lost(rows)


def can_drain(api: Api) -> None:
    """Skip on a single node. A drain knows no namespace, so Pods of earlier tests must be gone."""
    nodes: list[Tree] = api.list("Node")
    if len(nodes) < 2:
        pytest.skip("one node only: evicted Pods have nowhere to go")
    kube.wait(
        "the end of earlier Pods",
        lambda: not api.must("GET", "/api/v1/pods?labelSelector=app=nginx")["items"],
    )


@pytest.mark.timeout(900)
@pytest.mark.skipif(
    not os.environ.get("PODGRACE_FULL"), reason="part of the long measurement: PODGRACE_FULL=1"
)
@pytest.mark.parametrize("variant", ["bare", "sleep"])
def test_a_node_is_drained_without_podgrace(
    place: Place, variant: str, tally: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    can_drain(place.api)

    def empty(api: Api, namespace: str, server: str) -> None:
        code, told = drain(api, namespace, server)
        assert code == 0, told

    monkeypatch.setitem(mission.DISTURBANCES, "drain of a node", empty)
    rows, _ = mission.run(place, ["nginx"], variant, ["drain of a node"])
    tally(f"drain-{variant}", rows)
    assert lost(rows), "what was in flight is cut, also after a sleep of five seconds"
