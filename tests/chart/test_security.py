"""The chart's Pods pass Pod Security "restricted" in every mode, by our own check of it."""

from pathlib import Path
from typing import Any

import pytest

from tests.chart.rendering import CI_FILES, Object, ci, objects

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def pods(file: Path) -> list[tuple[str, Object]]:
    rendered = objects(file)
    found = [
        (item["metadata"]["name"], item["spec"]["template"]["spec"])
        for item in rendered.of("Deployment")
    ]
    return found + [
        (item["metadata"]["name"], item["spec"])
        for item in rendered.hooks()
        if item["kind"] == "Pod"
    ]


def violations(pod: Object, *, host_network: bool) -> list[str]:
    """List what "restricted" forbids, and what we forbid ourselves beyond it.

    Source: kubernetes/pod-security-admission, policy/check_*.go.
    """
    context: Object = pod.get("securityContext", {})
    found = [key for key in ("hostPID", "hostIPC", "shareProcessNamespace") if pod.get(key)]
    if pod.get("hostNetwork") and not host_network:
        found.append("hostNetwork")
    found += [
        f"volume {volume['name']}"
        for volume in pod.get("volumes", [])
        if not (set(volume) - {"name"}) <= VOLUMES
    ]
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        own: Object = {**context, **container.get("securityContext", {})}
        checks: dict[str, Any] = {
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "privileged": not own.get("privileged"),
            "drop ALL": "ALL" in own.get("capabilities", {}).get("drop", [])
            and not own["capabilities"].get("add"),
            "runAsNonRoot": own.get("runAsNonRoot") is True,
            "runAsUser": own.get("runAsUser") != 0,
            "seccomp": own.get("seccompProfile", {}).get("type") in ("RuntimeDefault", "Localhost"),
            "procMount": own.get("procMount", "Default") == "Default",
            "read-only root": own.get("readOnlyRootFilesystem") is True,
            "memory limit": "memory" in container.get("resources", {}).get("limits", {}),
            "hostPort": host_network
            or not any("hostPort" in port for port in container.get("ports", [])),
        }
        found += [f"{container['name']}: {check}" for check, held in checks.items() if not held]
    return found


@pytest.mark.parametrize("file", CI_FILES, ids=lambda file: file.name.removesuffix("-values.yaml"))
def test_pods_are_restricted(file: Path) -> None:
    for name, pod in pods(file):
        assert violations(pod, host_network=file == ci("eks-own-cni")) == [], name


@pytest.mark.parametrize(
    ("sets", "seen"),
    [
        ({"securityContext.privileged": "true"}, "webhook: privileged"),
        ({"securityContext.capabilities": '{"drop":["NET_RAW"]}'}, "webhook: drop ALL"),
        ({"podSecurityContext.runAsUser": "0"}, "webhook: runAsUser"),
        ({"podSpec": '{"hostPID":true}'}, "hostPID"),
        ({"extraVolumes": '[{"name":"h","hostPath":{"path":"/"}}]'}, "volume h"),
    ],
)
def test_the_check_can_fail(sets: dict[str, str], seen: str) -> None:
    assert seen in violations(objects(sets=sets).pod(), host_network=False)


@pytest.mark.parametrize("file", CI_FILES, ids=lambda file: file.name.removesuffix("-values.yaml"))
def test_no_right_over_what_is_not_named(file: Path) -> None:
    """No wildcard, no rule without names, except for Pods of `helm test` in its namespace."""
    rendered = objects(file)
    for item in [item for item in rendered.all if item["kind"] in ("Role", "ClusterRole")]:
        for rule in item["rules"]:
            assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]
            assert rule.get("resourceNames") or (
                item in rendered.hooks() and rule["verbs"] == ["create"]
            )
