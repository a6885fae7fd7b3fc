"""What a start costs: until Ready, and until a Deployment of three has rolled.

Beside the same Pods without podgrace.

The long form (PODGRACE_FULL) takes more turns. All variants have the readiness probe that podgrace
adds, and take turns, so that whatever else the machine does meets all of them alike. Nothing is
asserted about a time: the machine decides.
"""

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster import kube
from tests.cluster.conftest import without_image_volumes
from tests.cluster.install import Release, is_injected
from tests.cluster.kube import Api, Tree
from tests.cluster.workloads import manifest
from webhook.core.probe import TIMES

pytestmark = pytest.mark.timeout(1200)
FULL = bool(os.environ.get("PODGRACE_FULL"))
TURNS = 10 if FULL else 2
PROBE = {"tcpSocket": {"port": 8080}, **TIMES}


def variant_of(server: str, variant: str, image: str) -> Tree:
    """Make the Deployment; only the label differs."""
    made = manifest(server, "bare" if variant == "bare" else "podgrace", image)
    made["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] = PROBE
    return made


def until_ready(api: Api, namespace: str, pod: Tree) -> tuple[float, Tree]:
    """Create a Pod; returns seconds until it is Ready, and the Pod."""
    begin = time.monotonic()
    name = api.create(pod, namespace)["metadata"]["name"]

    def found() -> Tree | None:
        seen = api.get("Pod", namespace, name)
        return seen if kube.ready(seen) else None

    seen: Tree = kube.wait("a ready Pod", found, every=0.02)
    return time.monotonic() - begin, seen


def table(name: str, rows: dict[str, list[float]]) -> None:
    """Print minimum, median and maximum, and keep them where results are kept."""
    lines = ["| variant | min | median | max | n |", "|---|---|---|---|---|"]
    lines += [
        f"| {variant} | {min(times):.2f} s | {statistics.median(times):.2f} s "
        f"| {max(times):.2f} s | {len(times)} |"
        for variant, times in rows.items()
    ]
    print(f"\n{name}\n\n" + "\n".join(lines))
    if where := os.environ.get("PODGRACE_RESULTS"):
        Path(where).mkdir(parents=True, exist_ok=True)
        (Path(where) / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def rooms(
    request: pytest.FixtureRequest,
    api: Api,
    podgrace: Release,
    namespaces: Callable[..., str],
) -> dict[str, str]:
    """Make a namespace for each variant; without the image volume where a node cannot mount one."""
    labels = {"bare": {}, "sidecar": podgrace.labels}
    if not without_image_volumes(api):
        labels["image"] = request.getfixturevalue("by_image").labels
    return {variant: namespaces(labels[variant]) for variant in labels}


def test_how_long_until_a_pod_is_ready(api: Api, rooms: dict[str, str], servers_image: str) -> None:
    times: dict[str, list[float]] = {variant: [] for variant in rooms}
    for turn in range(TURNS + 1):
        for variant, room in rooms.items():
            template = variant_of("exits", variant, servers_image)["spec"]["template"]
            pod = {"apiVersion": "v1", "kind": "Pod", **template}
            pod["metadata"] = {**template["metadata"], "name": f"start-{turn}"}
            seconds, seen = until_ready(api, room, pod)
            assert is_injected(seen) == (variant != "bare")
            if turn:  # the first of each fills caches
                times[variant].append(seconds)
            api.delete("Pod", room, f"start-{turn}", gracePeriodSeconds=0)
    table("start", times)


def test_how_long_a_rolling_update_of_three_takes(
    api: Api, rooms: dict[str, str], servers_image: str
) -> None:
    times: dict[str, list[float]] = {variant: [] for variant in rooms}
    for variant, room in rooms.items():
        api.create(variant_of("nginx", variant, servers_image), room)
    for room in rooms.values():
        kube.wait_ready(api, room, "nginx", 3)
    for turn in range(10 if FULL else 1):
        for variant, room in rooms.items():
            stamp = {"metadata": {"annotations": {"turn": str(turn)}}}
            begin = time.monotonic()
            api.patch("Deployment", room, "nginx", {"spec": {"template": stamp}})
            kube.wait(
                "the rolling update",
                lambda r=room: kube.rolled_out(api.get("Deployment", r, "nginx")),  # type: ignore[misc]
                120,
                every=0.05,
            )
            times[variant].append(time.monotonic() - begin)
            kube.wait_ready(api, room, "nginx", 3)
    table("rolling-update", times)
