"""A real API server accepts the chart, keeps what is written at run time, and applies the policies.

Any cluster will do (KUBECONFIG); no image is needed, since no Pod has to run. Everything has names
of its own, with a revision of its own, so that an installation beside it sees none of it.
"""

import base64
import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.chart.rendering import CHART, CI_FILES, Object, ci, need, objects

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not os.environ.get("KUBECONFIG"), reason="no cluster: set KUBECONFIG"),
]


def kubectl(*arguments: str, given: object = None) -> subprocess.CompletedProcess[str]:
    """Run kubectl with this input, as JSON."""
    told = None if given is None else json.dumps(given)
    return subprocess.run(
        [need("kubectl"), *arguments],
        input=told,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def done(process: subprocess.CompletedProcess[str]) -> str:
    assert process.returncode == 0, process.stderr
    return process.stdout


def get(*arguments: str) -> Any:
    return json.loads(done(kubectl("get", "-o", "json", "--show-managed-fields", *arguments)))


def until(what: str, check: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds:g} s"
        time.sleep(0.2)


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"chart-{uuid.uuid4().hex[:8]}"
    done(kubectl("create", "namespace", name))
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.parametrize("file", CI_FILES, ids=lambda file: file.name.removesuffix("-values.yaml"))
def test_the_api_server_accepts_it(file: Path, namespace: str) -> None:
    """With strict validation: a misspelt field is an error.

    Kinds whose operator is not installed are left out.
    """
    version = json.loads(done(kubectl("version", "-o", "json")))["serverVersion"]["gitVersion"]
    if file == ci("policy") and "mutatingadmissionpolicies" not in done(
        kubectl("api-resources", "-o", "name")
    ):
        pytest.skip(f"{version} has no MutatingAdmissionPolicy")
    known = {
        line.split()[-1] for line in done(kubectl("api-resources", "--no-headers")).splitlines()
    }
    rendered = objects(
        file, sets={"namespaceOverride": f'"{namespace}"'}, options=("--kube-version", version)
    )
    items = [
        item for item in rendered.all if item["kind"] in known and item not in rendered.hooks()
    ]
    wanted = "MutatingAdmissionPolicy" if file == ci("policy") else "MutatingWebhookConfiguration"
    assert wanted in {item["kind"] for item in items}
    for item in items:
        if "namespace" in item["metadata"]:
            item["metadata"]["namespace"] = namespace
    made = kubectl(
        "apply",
        "--dry-run=server",
        "--validate=strict",
        "-f",
        "-",
        given={"apiVersion": "v1", "kind": "List", "items": items},
    )
    assert made.returncode == 0, made.stderr
    assert "Warning" not in made.stderr


# --- what is written at run time survives helm


RUNTIME = "podgrace-certs"
"""Field manager of `podgrace certs run`."""


def fill(namespace: str, configuration: str) -> None:
    """Write what `podgrace certs run` writes, in the same way."""
    for name in ("podgrace-ca", "podgrace-tls"):
        secret = get("secret", "-n", namespace, name)
        secret["data"] = {"tls.crt": base64.b64encode(name.encode()).decode()}
        done(kubectl("replace", f"--field-manager={RUNTIME}", "-f", "-", given=secret))
    lease = get("lease", "-n", namespace, "podgrace-certs")
    done(
        kubectl(
            "replace",
            f"--field-manager={RUNTIME}",
            "-f",
            "-",
            given={**lease, "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15}},
        )
    )
    bundle = base64.b64encode(trustme.CA().cert_pem.bytes()).decode()
    body = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": configuration},
        "webhooks": [
            {"name": f"{entry}.podgrace.io", "clientConfig": {"caBundle": bundle}}
            for entry in ("pod", "namespace")
        ],
    }
    done(
        kubectl(
            "apply",
            "--server-side",
            "--force-conflicts",
            f"--field-manager={RUNTIME}",
            "-f",
            "-",
            given=body,
        )
    )


def written(namespace: str, configuration: str) -> Object:
    """Read it back."""
    return {
        **{
            name: get("secret", "-n", namespace, name).get("data")
            for name in ("podgrace-ca", "podgrace-tls")
        },
        "lease": get("lease", "-n", namespace, "podgrace-certs")
        .get("spec", {})
        .get("holderIdentity"),
        "bundles": [
            entry["clientConfig"].get("caBundle")
            for entry in get("mutatingwebhookconfiguration", configuration)["webhooks"]
        ],
    }


def left_over(namespace: str) -> list[str]:
    """List everything with the release's label, anywhere."""
    kinds = (
        "deployments,services,configmaps,secrets,serviceaccounts,leases,roles,rolebindings,"
        "poddisruptionbudgets,clusterroles,clusterrolebindings,"
        "mutatingwebhookconfigurations,validatingadmissionpolicies,"
        "validatingadmissionpolicybindings,namespaces"
    )
    found = get(kinds, "-A", "-l", "app.kubernetes.io/part-of=podgrace")["items"]
    return [
        f"{item['kind']} {item['metadata']['name']}"
        for item in found
        if namespace
        in (item["metadata"].get("namespace"), *item["metadata"]["name"].split("podgrace-"))
    ]


@pytest.mark.parametrize(
    "chain",
    [("helm", "helm"), ("helm3", "helm3"), ("helm3", "helm")],
    ids=["helm4", "helm3", "from-3-to-4"],
)
def test_helm_keeps_what_is_written_at_run_time(chain: tuple[str, str], namespace: str) -> None:
    """Install, upgrade with the same values, with others, roll back, uninstall.

    Certificates, Lease and bundle stay until then; after that, nothing does.
    """
    first, then = chain
    configuration = f"podgrace-{namespace}"

    def helm(program: str, *arguments: str) -> None:
        values = ("--set", f"revision={namespace},replicas=1,image.repository=example.invalid/none")
        found = subprocess.run(
            [
                need(program), *arguments, "--namespace", namespace,
                *(values if arguments[0] in ("install", "upgrade") else ()),
            ],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert found.returncode == 0, found.stderr

    helm(first, "install", "podgrace", str(CHART))
    assert written(namespace, configuration) == {
        "podgrace-ca": None,
        "podgrace-tls": None,
        "lease": None,
        "bundles": [None, None],
    }
    fill(namespace, configuration)
    before = written(namespace, configuration)
    assert all(before.values())
    helm(first, "upgrade", "podgrace", str(CHART))
    assert written(namespace, configuration) == before, "after an upgrade that changes nothing"
    changed = "--set=webhook.timeoutSeconds=2,commonLabels.changed=yes,tls.selfManaged.leafLife=30d"
    helm(then, "upgrade", "podgrace", str(CHART), changed)
    assert get("mutatingwebhookconfiguration", configuration)["webhooks"][0]["timeoutSeconds"] == 2
    assert get("secret", "-n", namespace, "podgrace-ca")["metadata"]["labels"]["changed"] == "yes"
    assert written(namespace, configuration) == before, "after an upgrade that changes all objects"
    helm(then, "rollback", "podgrace", "1")
    assert get("mutatingwebhookconfiguration", configuration)["webhooks"][0]["timeoutSeconds"] == 3
    assert written(namespace, configuration) == before, "after a rollback"
    helm(then, "uninstall", "podgrace")
    until("the end of all objects", lambda: left_over(namespace) == [])


# --- policies


def apply(namespace: str, *files: Path, wait_for: str, **sets: str) -> list[Object]:
    """Make the rendered policies, limited to our own namespaces."""
    rendered = objects(
        *files,
        sets={"revision": f'"{namespace}"'} | sets,
        namespace=namespace,
        options=("--kube-version", "1.36.0"),
    )
    items = [
        item
        for item in rendered.all
        if item["kind"].startswith(wait_for) or item["kind"].startswith(f"{wait_for}Binding")
    ]
    done(kubectl("apply", "-f", "-", given={"apiVersion": "v1", "kind": "List", "items": items}))
    return items


@pytest.fixture
def policies(namespace: str) -> Iterator[Callable[..., str]]:
    """Give a function that makes policies and a namespace for Pods; all are deleted again."""
    made: list[Object] = []
    shop = f"{namespace}-shop"

    def make(kind: str, *files: Path, **sets: str) -> str:
        made.extend(apply(namespace, *files, wait_for=kind, **sets))
        labels = {"podgrace.io/revision": namespace, "podgrace.io/inject": "enabled"}
        done(
            kubectl(
                "apply",
                "-f",
                "-",
                given={
                    "apiVersion": "v1",
                    "kind": "Namespace",
                    "metadata": {"name": shop, "labels": labels},
                },
            )
        )
        return shop

    yield make
    kubectl(
        "delete",
        "--wait=false",
        "-f",
        "-",
        given={"apiVersion": "v1", "kind": "List", "items": made},
    )
    kubectl("delete", "namespace", shop, "--wait=false", "--ignore-not-found")


def pod(
    namespace: str,
    *,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    **spec: Any,
) -> Object:
    containers = [
        {"name": "web", "image": "example.invalid/web:1", "ports": [{"containerPort": 80}]}
    ]
    metadata = {
        "name": "a",
        "namespace": namespace,
        "labels": labels or {},
        "annotations": annotations or {},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": containers} | spec,
    }


def create(item: Object) -> tuple[Object, str]:
    """Create an object in a dry run; returns the result and the warnings."""
    answer = kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", given=item)
    return json.loads(done(answer)), answer.stderr


def test_the_audit_finds_pods_that_slipped_through(policies: Callable[..., str]) -> None:
    """Only these: not opted-out Pods, Pods with our mark, or Pods of Jobs."""
    shop = policies("ValidatingAdmissionPolicy")
    seen = "podgrace did not see this Pod"
    until("a warning", lambda: seen in create(pod(shop))[1])
    _, warning = create(pod(shop))
    (line,) = [line for line in warning.splitlines() if "podgrace-" in line]
    assert f"kubectl -n {shop} rollout restart" in line
    quiet = {
        "marked": pod(shop, annotations={"podgrace.io/status": "{}"}),
        "opted out": pod(shop, labels={"podgrace.io/inject": "disabled"}),
        "not restarting": pod(shop, restartPolicy="Never"),
    }
    assert {name: create(item)[1] for name, item in quiet.items()} == dict.fromkeys(quiet, "")
    done(kubectl("label", "namespace", shop, "podgrace.io/inject-", "--overwrite"))
    until("the namespace's label to be gone", lambda: create(pod(shop))[1] == "")
    assert seen in create(pod(shop, labels={"podgrace.io/inject": "enabled"}))[1], (
        "by the Pod's own label"
    )
    done(kubectl("label", "namespace", shop, "podgrace.io/inject=disabled"))
    until(
        "the namespace to be opted out",
        lambda: create(pod(shop, labels={"podgrace.io/inject": "enabled"}))[1] == "",
    )


def test_authors_are_told_of_labels_that_have_no_effect(policies: Callable[..., str]) -> None:
    shop = policies("ValidatingAdmissionPolicy")

    def deployment(
        workload: dict[str, str],
        template: dict[str, str],
        annotations: dict[str, str] | None = None,
    ) -> Object:
        containers = [{"name": "web", "image": "example.invalid/web:1"}]
        spec = {
            "selector": {"matchLabels": {"app": "a"}},
            "template": {
                "metadata": {"labels": {"app": "a"} | template},
                "spec": {"containers": containers},
            },
        }
        metadata = {
            "name": "a",
            "namespace": shop,
            "labels": workload,
            "annotations": annotations or {},
        }
        return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}

    misplaced = deployment({"podgrace.io/inject": "enabled"}, {})
    until("a warning", lambda: "no effect on the Deployment itself" in create(misplaced)[1])
    assert (
        '"true" and has no effect; accepted: enabled, disabled'
        in create(deployment({}, {"podgrace.io/inject": "true"}))[1]
    )
    assert (
        "move them to spec.template.metadata.annotations"
        in create(deployment({}, {}, {"podgrace.io/delay": "3"}))[1]
    )
    assert create(deployment({}, {"podgrace.io/inject": "enabled"}))[1] == ""
    assert create(deployment({"app": "a"}, {}))[1] == ""


def test_policy_mode_adds_the_sleep_and_the_time_for_it(policies: Callable[..., str]) -> None:
    if "mutatingadmissionpolicies" not in done(kubectl("api-resources", "-o", "name")):
        pytest.skip("this API server has no MutatingAdmissionPolicy")
    shop = policies("MutatingAdmissionPolicy", ci("policy"))

    def grace(item: Object) -> int:
        return int(create(item)[0]["spec"]["terminationGracePeriodSeconds"])

    until("the policy to work", lambda: grace(pod(shop)) == 40)
    own = {
        "name": "own",
        "image": "i",
        "ports": [{"containerPort": 81}],
        "lifecycle": {"preStop": {"sleep": {"seconds": 3}}},
    }
    made, _ = create(
        pod(
            shop,
            containers=[
                {"name": "web", "image": "i", "ports": [{"containerPort": 80}]},
                {"name": "idle", "image": "i"},
                own,
            ],
        )
    )
    hooks = {
        container["name"]: container.get("lifecycle", {}).get("preStop")
        for container in made["spec"]["containers"]
    }
    assert hooks == {
        "web": {"sleep": {"seconds": 10}},
        "idle": None,
        "own": {"sleep": {"seconds": 3}},
    }
    assert made["metadata"]["annotations"]["podgrace.io/policy"] == "sleep=10"
    assert grace(pod(shop, terminationGracePeriodSeconds=60)) == 70
    assert grace(pod(shop, terminationGracePeriodSeconds=0)) == 0, "0 means at once, on purpose"
    assert grace(pod(shop, labels={"podgrace.io/inject": "disabled"})) == 30
    assert grace(pod(shop, restartPolicy="Never")) == 30
    assert grace(pod(shop, annotations={"podgrace.io/policy": "sleep=10"})) == 30, (
        "a second pass adds nothing"
    )
