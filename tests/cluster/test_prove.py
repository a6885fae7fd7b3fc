"""`podgrace prove --run-job`: load in the cluster, command here, one report, nothing left."""

import json
import sys
from pathlib import Path

from tests.cluster import kube
from tests.cluster.conftest import IMAGE
from tests.cluster.kube import Api

LEFT = ("Job", "ServiceAccount", "Role", "RoleBinding")


def test_a_job_loads_while_the_command_runs_here(
    api: Api, namespace: str, servers_image: str, tmp_path: Path
) -> None:
    """The command only asks for the rollout: the load must last until it is over."""
    web = kube.container("app", servers_image, args=["exits"])
    api.create(kube.deployment("shop", 2, kube.pod_template("shop", [web])), namespace)
    api.create(kube.service("shop"), namespace)
    kube.wait_ready(api, namespace, "shop", 2)
    page = tmp_path / "run.html"
    roll = ("kubectl", "--namespace", namespace, "rollout", "restart", "deployment/shop")
    done = kube.run(
        *(sys.executable, "-m", "webhook.cli", "prove", "http://shop/", "--run-job"),
        *("--image", IMAGE, "--pods", "app=shop", "--namespace", namespace, "--rate", "5"),
        *("--before", "1", "--after", "2", "--html", str(page), "-o", "json", "--", *roll),
        check=False,
    )
    assert done.returncode in (0, 3), done.stderr
    report = json.loads(done.stdout)
    assert report["command"] == list(roll)
    assert report["commandExit"] == 0
    assert report["sent"] > 20
    assert report["rolloutSeconds"] is not None
    assert report["lastOldPodSeconds"] is not None
    assert len(report["pods"]) == 4
    assert sum("unlisted" in pod["moments"] for pod in report["pods"]) == 2
    assert report["troubles"] == []
    assert page.read_text(encoding="utf-8").count("<figure>") == 1
    ours = "app.kubernetes.io/name=podgrace-prove"
    kube.wait(
        "the end of what was created",
        lambda: not any(api.list(kind, namespace, ours) for kind in LEFT),
    )
