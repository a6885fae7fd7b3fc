"""One Pod that stops with a request in flight: what kubelet and recorder say."""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.cluster import kube
from tests.cluster.install import Release
from tests.cluster.kube import Answer, container, deployment, pod_template

ON = {"podgrace.io/inject": "enabled"}


def test_a_normal_stop_makes_no_noise_and_leaves_a_record(
    podgrace: Release, namespaces: Callable[..., str], servers_image: str
) -> None:
    """The answer in flight arrives, no event tells of a failed hook, the sidecar logs the wait."""
    api, namespace = podgrace.api, namespaces({**podgrace.labels, **ON})
    app = container(
        "app",
        servers_image,
        args=["exits"],
        ports=[{"containerPort": 8080}],
        env=[{"name": "SLEEP", "value": "8"}],
    )
    api.create(deployment("one", 1, pod_template("one", [app])), namespace)
    (pod,) = kube.wait_ready(api, namespace, "one", 1)
    name = pod["metadata"]["name"]
    path = f"{api.path('Pod', namespace, name)}:8080/proxy/sleep"
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.append(api.ask("GET", path)))
    thread.start()
    time.sleep(1)  # the request is under way; nothing can be asked about it from here
    records: list[str] = []
    begin = time.monotonic()
    api.delete("Pod", namespace, name)

    def gone() -> Any:
        seen = api.ask("GET", api.path("Pod", namespace, name))
        if seen.status == 404:
            return True
        records.extend(
            line
            for line in api.log(namespace, name, "podgrace").splitlines()
            if line.startswith("{") and line not in records
        )
        return f"not yet: {kube.state(seen.body)}"

    kube.wait("the end of the Pod", gone, 60, every=0.1)
    took = time.monotonic() - begin
    thread.join()
    assert answers[0].status == 200, answers
    assert 6 < took < 30, "it neither cut the answer nor waited for the grace period"
    events = [
        event
        for event in api.list("Event", namespace)
        if event["involvedObject"].get("name") == name
    ]
    # Until the server listens its readiness probe fails, and says so: that is no news.
    complaints = [
        f"{event['reason']}: {event['message']}"
        for event in events
        if event["type"] != "Normal" and event["reason"] != "Unhealthy"
    ]
    assert not complaints
    (drain,) = [record for record in map(json.loads, records) if record["podgrace"] == "drain"]
    assert drain["container"] == "app"
    assert drain["in_flight_start"] >= 1
    assert drain["in_flight_end"] == 0
