"""What a real API server sent: every recorded review gets the right answer, and nothing more."""

import base64
import json
from pathlib import Path
from typing import Any

import jsonpatch
import pytest

from tests.core.passes import judged
from webhook.admission import answer
from webhook.config import parse
from webhook.core.reasons import REASONS

FOLDER = Path(__file__).parent.parent / "samples"
CONFIG = parse("")

EXPECTED = {
    "cronjob-create": "not-restarting",
    "cronjob-update": "not-create",
    "daemonset-create": "hook",
    "deployment-create": "hook",
    "deployment-delete": "not-create",
    "deployment-nginx-and-django-create": "wrap",
    "job-create": "not-restarting",
    "job-update": "not-create",
    "pod-all-probes-create": "readiness-kept",
    "pod-annotated-create": "sleep",
    "pod-bare-connect-exec": "sub-resource",
    "pod-bare-create": "hook",
    "pod-bare-create-eviction": "sub-resource",
    "pod-bare-delete": "not-create",
    "pod-bare-update": "not-create",
    "pod-bare-update-ephemeralcontainers": "sub-resource",
    "pod-bare-update-resize": "sub-resource",
    "pod-dry-run-create": "sleep",
    "pod-generate-name-create": "hook",
    "pod-grace-zero-create": "grace-zero",
    "pod-host-network-create": "host-network",
    "pod-many-containers-create": "hook",
    "pod-native-sidecar-create": "native-sidecar",
    "pod-no-labels-create": "nothing-to-do",
    "pod-no-service-account-token-create": "nothing-to-do",
    "pod-opted-out-create": "opted-out",
    "pod-prestop-http-create": "prestop-after-guess",
    "pod-prestop-sleep-create": "prestop-before",
    "pod-resources-at-pod-level-create": "hook",
    "pod-restart-on-failure-create": "not-restarting",
    "pod-scheduling-gate-create": "hook",
    "pod-shared-process-namespace-create": "shared-pid-namespace",
    "pod-windows-create": "windows",
    "statefulset-create": "hook",
}
"""Sample -> a reason that it must be given."""

WARNED = {
    "pod-grace-zero-create",
    "pod-no-service-account-token-create",
    "statefulset-create",
}

UNPATCHED = {"not-restarting", "not-create", "sub-resource", "opted-out"}


def recorded(name: str) -> bytes:
    return (FOLDER / f"{name}.json").read_bytes()


def test_every_sample_has_its_expectation() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_recorded_review(name: str) -> None:
    body = recorded(name)
    request = json.loads(body)["request"]
    answered = answer(body, CONFIG)
    assert answered.status == 200
    reply: dict[str, Any] = json.loads(answered.body)
    assert set(reply) == {"apiVersion", "kind", "response"}
    assert (reply["apiVersion"], reply["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    response = reply["response"]
    assert response["uid"] == request["uid"]
    assert response["allowed"] is True
    assert "status" not in response
    assert ("patch" in response) == ("patchType" in response) == (EXPECTED[name] not in UNPATCHED)
    assert ("warnings" in response) == (name in WARNED)
    codes = response["auditAnnotations"]["codes"].split(",")
    assert EXPECTED[name] in codes
    assert answered.codes == tuple(codes)
    if "patch" in response:
        assert response["patchType"] == "JSONPatch"
        patched = jsonpatch.apply_patch(
            request["object"], json.loads(base64.b64decode(response["patch"]))
        )
        assert patched == judged(request["object"], CONFIG, request["namespace"])[0]


@pytest.mark.parametrize("name", EXPECTED)
def test_nothing_of_the_pod_is_logged(name: str) -> None:
    """Only names and reasons: none of the Pod's environment, commands, images or annotations."""
    body = recorded(name)
    line = json.dumps(answer(body, CONFIG).log, default=str)
    pod = json.loads(body)["request"].get("object") or {}
    for container in pod.get("spec", {}).get("containers", []):
        assert container["image"] not in line
        for variable in container.get("env", []):
            assert variable["name"] not in line
    for value in pod.get("metadata", {}).get("annotations", {}).values():
        assert value in REASONS or value not in line


def test_dry_run_is_answered_alike() -> None:
    """There are no side effects to leave out."""
    wet, dry = (
        json.loads(recorded(name)) for name in ("pod-annotated-create", "pod-dry-run-create")
    )
    assert dry["request"]["dryRun"] is True
    dry["request"] = wet["request"] | {"dryRun": True}
    assert (
        answer(json.dumps(dry).encode(), CONFIG).body
        == answer(json.dumps(wet).encode(), CONFIG).body
    )
