"""Dubbo: providers that consumers find by a registry and call without a Service, rolled under load.

In: a provider, a consumer and ZooKeeper of `images/dubbo`, which Maven and a JDK build. Out: every
call counted, none of them sent twice; and beside it, on one clock, when a provider was told to
stop, left the registry, and closed its port.

Part of the long measurement (PODGRACE_FULL): Maven and its JARs would cost every run minutes.
"""

import json
import os
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cluster import kube
from tests.cluster.follow import Follower
from tests.cluster.install import Release
from tests.cluster.kube import Api, Tree
from webhook.core.probe import TIMES

FULL = bool(os.environ.get("PODGRACE_FULL"))
SOURCES = Path(__file__).parent / "images" / "dubbo"
PORT = 20880
REPLICAS = 2
QUICK, SLOW, SLOW_MS = "10", "0.5", "15000"
"""Calls a second of each kind; how long a slow one takes: longer than Dubbo waits (10 s)."""

SHARE = {"requests": {"cpu": "200m", "memory": "200Mi"}}

INSTANCES = "/services/provider"
"""Where Dubbo 3 keeps the addresses of an application called provider."""


class Stop(NamedTuple):
    """The end of one old provider. Seconds from its deletion."""

    deregistered: float
    """From then on the registry gives its address to nobody."""
    last_call: float
    """The last call that was sent to it."""
    signalled: float
    closed: float
    """Its port."""


class Roll(NamedTuple):
    """One rolling update. Times in seconds."""

    variant: str
    calls: int
    failed: dict[str, int]
    stops: list[Stop]
    done: float
    gone: float
    drains: list[Tree]


def _program(name: str, image: str, *args: str, **fields: Any) -> Tree:
    return kube.container(name, image, args=[name, *args], resources=SHARE, **fields)


def provider(variant: str, image: str) -> Tree:
    """Make the Deployment of the providers, in one variant of `workloads`."""
    made = _program("provider", image, "zookeeper:2181", ports=[{"containerPort": PORT}])
    if variant == "sleep":
        made["lifecycle"] = {"preStop": {"sleep": {"seconds": 5}}}
        made["readinessProbe"] = {"tcpSocket": {"port": PORT}, **TIMES}
    labels = {"podgrace.io/inject": "enabled"} if variant.startswith("podgrace") else {}
    annotations = {"podgrace.io/profile": "dubbo"} if variant == "podgrace" else {}
    template = kube.pod_template("provider", [made], labels=labels, annotations=annotations)
    return kube.deployment("provider", REPLICAS, template)


def deploy(api: Api, namespace: str, variant: str, image: str) -> None:
    """Make registry, providers and consumer, each when what it needs is there."""
    registry = _program("zookeeper", image, "2181", "/tmp/zookeeper")
    api.create(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "zookeeper"},
            "spec": {"selector": {"app": "zookeeper"}, "ports": [{"port": 2181}]},
        },
        namespace,
    )
    registry["readinessProbe"] = {"tcpSocket": {"port": 2181}, "periodSeconds": 1}
    template = kube.pod_template("zookeeper", [registry])
    api.create(kube.deployment("zookeeper", 1, template), namespace)
    kube.wait_ready(api, namespace, "zookeeper", 1, 240)
    api.create(provider(variant, image), namespace)
    kube.wait_ready(api, namespace, "provider", REPLICAS, 240)
    words = ("zookeeper:2181", QUICK, SLOW, SLOW_MS)
    template = kube.pod_template("consumer", [_program("consumer", image, *words)])
    api.create(kube.deployment("consumer", 1, template), namespace)
    kube.wait_ready(api, namespace, "consumer", 1)


def roll(api: Api, namespace: str, variant: str, image: str) -> Roll:
    """Deploy, load, restart the providers, count."""
    deploy(api, namespace, variant, image)
    (consumer,) = api.pods(namespace, "consumer")
    old = {
        pod["metadata"]["name"]: pod["status"]["podIP"] for pod in api.pods(namespace, "provider")
    }
    calls = Follower(namespace, consumer["metadata"]["name"], "consumer")
    logs = {pod: Follower(namespace, pod, "provider") for pod in old}
    sidecars = (
        {pod: Follower(namespace, pod, "podgrace") for pod in old}
        if variant.startswith("podgrace")
        else {}
    )
    told: dict[str, float] = {}
    try:
        kube.wait(
            "a call to each provider",
            lambda: {line["by"] for line in calls.lines if "by" in line} >= set(old),
            240,
        )
        time.sleep(4)
        begin = time.time()
        stamp = {"kubectl.kubernetes.io/restartedAt": str(begin)}
        change = {"spec": {"template": {"metadata": {"annotations": stamp}}}}
        api.patch("Deployment", namespace, "provider", change)
        done = 0.0

        def gone() -> Any:
            nonlocal done
            pods = api.pods(namespace, "provider")
            for pod in pods:
                if kube.going(pod):
                    told.setdefault(pod["metadata"]["name"], time.time())
            if not done and kube.rolled_out(api.get("Deployment", namespace, "provider")):
                done = time.time() - begin
            left = [pod for pod in pods if pod["metadata"]["name"] in old]
            return (done and not left) or f"not yet: {[kube.state(pod) for pod in pods]}"

        kube.wait("the end of the rolling update", gone, 400, every=0.2)
        finish = time.time() - begin
        time.sleep(float(SLOW_MS) / 1000 + 2)
    finally:
        for follower in (calls, *logs.values(), *sidecars.values()):
            follower.close()
    made = [line for line in calls.lines if "call" in line]
    stops = [_stop(calls.lines, logs[pod].lines, pod, old[pod], told[pod]) for pod in old]
    return Roll(
        variant,
        len(made),
        dict(Counter(_what(line["failed"]) for line in made if "failed" in line)),
        stops,
        round(done, 1),
        round(finish, 1),
        [line for one in sidecars.values() for line in one.lines if line["podgrace"] == "drain"],
    )


def _stop(seen: Sequence[Tree], own: Sequence[Tree], pod: str, address: str, told: float) -> Stop:
    """Lay a provider's end beside what the consumer saw. `told`: when its Pod was deleted."""

    def event(name: str) -> float:
        return next((line["at"] for line in own if line.get("event") == name), float("nan"))

    listed = [line for line in seen if line.get("registry") == INSTANCES and "has" in line]
    held = [line["at"] for line in listed if f"{address}:" in line["has"]]
    left = next((line["at"] for line in listed if line["at"] > held[-1]), float("nan"))
    last = max(line["at"] for line in seen if line.get("by") == pod)
    times = (left, last, event("told"), event("closed"))
    return Stop(*(round(at - told, 2) for at in times))


def _what(error: str) -> str:
    """Shorten an error to what went wrong, without addresses."""
    return re.sub(r"[0-9a-f.]*[0-9][^ ]*", "N", error.split(":", 1)[-1].strip())[:60]


@pytest.fixture(scope="session")
def dubbo_image(build_image: Callable[..., str]) -> str:
    """Build the image, from what Maven resolves."""
    with tempfile.TemporaryDirectory() as scratch:
        context = Path(scratch) / "dubbo"
        shutil.copytree(SOURCES, context, ignore=shutil.ignore_patterns("target"))
        return build_image("podgrace.test/e2e-dubbo", context, lambda: kube.run(f"{context}/build"))


@pytest.mark.timeout(900)
@pytest.mark.skipif(not FULL, reason="part of the long measurement: PODGRACE_FULL=1")
@pytest.mark.parametrize("variant", ["bare", "sleep", "podgrace-unnamed", "podgrace"])
def test_a_rolling_update_of_dubbo_providers(
    podgrace: Release, namespaces: Callable[..., str], dubbo_image: str, variant: str
) -> None:
    """No call fails with podgrace, since a provider leaves the registry before it stops serving."""
    found = roll(podgrace.api, namespaces(podgrace.labels), variant, dubbo_image)
    print(f"\n{json.dumps(found._asdict(), indent=1)}")
    if where := os.environ.get("PODGRACE_RESULTS"):
        Path(where).mkdir(parents=True, exist_ok=True)
        file = Path(where) / f"dubbo-{variant}.json"
        file.write_text(json.dumps(found._asdict(), indent=1), encoding="utf-8")
    if variant == "podgrace":
        assert not found.failed
        assert all(stop.deregistered < stop.closed for stop in found.stops)
