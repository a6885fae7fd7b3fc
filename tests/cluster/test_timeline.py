"""`podgrace timeline` in a real cluster: a Pod comes and goes, seen from every node.

Nothing is left behind.
"""

import json
import subprocess
import sys

from tests.cluster import kube
from tests.cluster.conftest import IMAGE
from tests.cluster.kube import Api


def test_a_pod_is_seen_to_come_and_go_from_every_node(api: Api, namespace: str) -> None:
    words = ["timeline", "-n", namespace, "--image", IMAGE, "--linger", "3", "-o", "json"]
    done = subprocess.run(
        [sys.executable, "-m", "webhook.cli", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    places = set(report["places"])
    assert places == {node["metadata"]["name"] for node in api.list("Node")}
    assert report["troubles"] == []

    at = {(row["moment"], row["source"], row["place"]): row["seconds"]["median"]
          for row in report["coming"] + report["going"]}  # fmt: skip
    coming = [at[name, "Pod", ""] for name in ("created", "scheduled", "sandbox", "ready")]
    assert coming == sorted(coming)
    for place in places:
        # Nobody gets to a Pod that does not listen; everybody leaves before it no longer does.
        assert at["accepts", "Pod directly", place] <= at["reached", "Service", place] + 0.1
        assert at["left", "Service", place] <= at["refuses", "Pod directly", place]
        assert at["reached", "headless DNS", place] > at["sandbox", "Pod", ""]
    assert at["unlisted", "EndpointSlice", ""] < at["dropped", "EndpointSlice", ""]
    assert {it["setting"] for it in report["suggestions"]} >= {
        "podgrace.io/delay-min",
        "minReadySeconds",
    }

    # Its own Pods go within a second; the Service's name is free at once.
    kube.wait(
        "what it made to be removed",
        lambda: not api.pods(namespace) and not api.list("Service", namespace),
    )
