"""What a user feels: a Pod by dry run, without a webhook, with podgrace, with an empty one.

Part of the long measurement (PODGRACE_FULL). The stub answers with podgrace's own patch, so the API
server does the same work for both, both behind a Service with two replicas. The three take turns,
so that whatever else the machine does meets all of them alike. Nothing is asserted about a time.
"""

import base64
import contextlib
import http.client
import json
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from certs.local import ephemeral
from tests.cluster import install, kube
from tests.cluster.conftest import made_namespace
from tests.cluster.install import Release, b64, is_injected, is_untouched
from tests.cluster.kube import Api, Tree
from webhook.admission import answer
from webhook.config import parse

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not os.environ.get("PODGRACE_FULL"), reason="part of the long measurement: PODGRACE_FULL=1"
    ),
]
TURNS = 200
ON = {"podgrace.io/inject": "enabled"}
STUB = Path(__file__).with_name("stub.py")


def patch_of(release: Release, bare: Tree) -> str:
    """Give the patch that podgrace makes for a Pod, as it is configured there."""
    (config,) = [
        tree["data"]["config.yaml"]
        for tree in release.api.list("ConfigMap", release.namespace)
        if "config.yaml" in tree.get("data", {})
    ]
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    request = {"uid": "u", "kind": kind, "operation": "CREATE", "object": bare}
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    made = answer(json.dumps(review).encode(), parse(config))
    response = json.loads(made.body)["response"]
    return base64.b64decode(response["patch"]).decode()


@contextlib.contextmanager
def stub(podgrace: Release, image: str, patch: str, directory: Path, target: str) -> Iterator[None]:
    """Run it for one namespace, with as much CPU as podgrace has."""
    api = podgrace.api
    (resources,) = [
        container["resources"]
        for container in podgrace.deployment()["spec"]["template"]["spec"]["containers"]
        if container["name"] == "webhook"
    ]
    with made_namespace(api) as home:
        ephemeral(directory, [f"stub.{home}.svc"])
        files = {"stub.py": STUB.read_text(), "patch.json": patch}
        for tree in (
            {"kind": "ConfigMap", "metadata": {"name": "stub"}, "data": files},
            {
                "kind": "Secret",
                "metadata": {"name": "stub"},
                "data": {name: b64(directory / name) for name in ("tls.crt", "tls.key")},
            },
        ):
            api.create({"apiVersion": "v1", **tree}, home)
        command = ["python3", "/stub/stub.py", "8443", "/tls/tls.crt", "/tls/tls.key"]
        mounts = [{"name": name, "mountPath": f"/{name}"} for name in ("stub", "tls")]
        template = kube.pod_template(
            "stub",
            [
                kube.container(
                    "stub",
                    image,
                    command=[*command, "/stub/patch.json"],
                    volumeMounts=mounts,
                    resources=resources,
                    readinessProbe={"tcpSocket": {"port": 8443}, "periodSeconds": 1},
                )
            ],
            volumes=[
                {"name": "stub", "configMap": {"name": "stub"}},
                {"name": "tls", "secret": {"secretName": "stub"}},
            ],
        )
        api.create(kube.deployment("stub", 2, template), home)
        api.create(kube.service("stub", 8443), home)
        kube.wait_ready(api, home, "stub", 2)
        service = {"name": "stub", "namespace": home, "port": 80, "path": "/mutate"}
        entry = {
            "name": "stub.podgrace.test",
            "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": service, "caBundle": b64(directory / "ca.crt")},
            "failurePolicy": "Ignore",
            "sideEffects": "None",
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": target}},
            "rules": [
                {
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE"],
                    "resources": ["pods"],
                }
            ],
        }
        kind = "MutatingWebhookConfiguration"
        api.create(
            {
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": kind,
                "metadata": {"name": home},
                "webhooks": [entry],
            }
        )
        try:
            yield
        finally:
            api.delete(kind, "", home)


class Caller:
    """Creates Pods by dry run over one connection."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.api, self.namespace = api, namespace
        self.times: list[float] = []
        self._connection = http.client.HTTPConnection("127.0.0.1", api._port, timeout=60)
        self._pod = json.dumps(install.simple_pod("try-", labels=ON))

    def close(self) -> None:
        self._connection.close()

    def __call__(self) -> Tree:
        path = self.api.path("Pod", self.namespace) + "?dryRun=All"
        begin = time.perf_counter()
        self._connection.request("POST", path, self._pod, {"Content-Type": "application/json"})
        text = self._connection.getresponse().read()
        self.times.append(time.perf_counter() - begin)
        found: Tree = json.loads(text)
        return found


def comparable(pod: Tree) -> Tree:
    """Leave out what no two Pods have in common."""
    text = json.dumps([pod["spec"], pod["metadata"]["annotations"]], sort_keys=True)
    token = next(
        volume["name"]
        for volume in pod["spec"]["volumes"]
        if volume["name"].startswith("kube-api-access-")
    )
    found: Tree = json.loads(text.replace(token, "token"))
    return found


def test_a_dry_run_costs_no_more_than_with_a_webhook_that_does_nothing(
    api: Api, podgrace: Release, servers_image: str, tmp_path: Path
) -> None:
    with (
        made_namespace(api) as none,
        made_namespace(api, podgrace.labels) as ours,
        made_namespace(api) as theirs,
    ):
        callers = {
            "none": Caller(api, none),
            "the stub": Caller(api, theirs),
            "podgrace": Caller(api, ours),
        }
        bare = callers["none"]()
        assert is_untouched(bare)
        with stub(podgrace, servers_image, patch_of(podgrace, bare), tmp_path, theirs):
            kube.wait("the stub", lambda: is_injected(callers["the stub"]()), 60)
            same = [comparable(callers[name]()) for name in ("the stub", "podgrace")]
            assert same[0] == same[1], "both make the same Pod"
            for caller in callers.values():
                caller.times.clear()
            for _ in range(TURNS):
                for caller in callers.values():
                    caller()
        for caller in callers.values():
            caller.close()
    rows = {name: sorted(caller.times) for name, caller in callers.items()}
    lines = ["| webhook | p50 | p90 | n |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {statistics.median(times) * 1e3:.2f} ms "
        f"| {times[len(times) * 9 // 10] * 1e3:.2f} ms | {len(times)} |"
        for name, times in rows.items()
    ]
    middle = {name: statistics.median(times) for name, times in rows.items()}
    cost = [middle[name] - middle["none"] for name in ("podgrace", "the stub")]
    lines.append(f"\npodgrace adds {cost[0] / cost[1]:.2f} x what the stub adds")
    print("\ndry-run create\n\n" + "\n".join(lines))
    if where := os.environ.get("PODGRACE_RESULTS"):
        Path(where).mkdir(parents=True, exist_ok=True)
        (Path(where) / "latency.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
