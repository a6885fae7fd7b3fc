"""Would a Pod of this namespace be injected? Asks the API server for a dry run.

In: a namespace of a cluster. Out: what happened, and the exit code. It changes nothing: the
creation is a server-side dry run, which goes through admission like any other. `helm test` runs
this. The installation belongs in `facts` and `verdict`, running Pods in `podgrace audit`.

| found        | exit | means                                                                   |
|--------------|------|-------------------------------------------------------------------------|
| injected     | 0    | the Pod came back with our mark                                         |
| unreachable  | 1    | no answer from the API server itself                                    |
| not-allowed  | 1    | we are not logged in, or may not create Pods there                      |
| no-namespace | 1    | it does not exist                                                       |
| refused      | 1    | something else refused the Pod: Pod Security, a quota, another webhook  |
| opted-out    | 3    | the namespace says `podgrace.io/inject: disabled`                       |
| excluded     | 3    | no entry of the webhook configuration selects the namespace             |
| missing      | 3    | there is no webhook configuration of ours                               |
| no-answer    | 3    | the webhook did not answer; the API server went on or gave up           |
| runtime      | 3    | the Pod mounts the helper as an image volume, and a node cannot do that |
| unmarked     | 3    | one of the last four; we may not read what would say which              |
"""

import json
import urllib.parse
from typing import Any, Final, NamedTuple

from webhook.cli.check.nodes import unable
from webhook.cli.check.selector import selects
from webhook.cli.cluster import Cluster, ClusterError
from webhook.cli.exits import DIFFERS, OK, UNUSABLE
from webhook.core.names import (
    DISABLED,
    ENABLED,
    INJECT_LABEL,
    OPERATOR_NAMESPACES,
    PREFIX,
    STATUS_ANNOTATION,
    VOLUME,
)

AGENT: Final = "podgrace-check"
FINAL: Final = ("injected", "opted-out", "excluded")
"""Waiting does not help against these."""

_CONFIGURATIONS: Final = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
_OURS: Final = f".{PREFIX.rstrip('/')}"
_LABELS: Final = {INJECT_LABEL: ENABLED}


class Found(NamedTuple):
    """The result."""

    what: str
    exit: int
    text: str


def ask(reach: Cluster, namespace: str) -> tuple[Found, tuple[str, ...]]:
    """Ask once. Returns what was found, and the warnings that came along.

    Raises `ClusterError` without an answer.
    """
    try:
        body, warnings = dry_run(reach, namespace, ENABLED)
    except ClusterError as error:
        if not error.status:
            raise
        return _refused(namespace, error), ()
    return found(reach, namespace, body), warnings


def dry_run(reach: Cluster, namespace: str, label: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Create the Pod with the label, as a dry run. Gives it as admitted, and the warnings."""
    path = f"/api/v1/namespaces/{urllib.parse.quote(namespace, safe='')}/pods"
    body, warnings = reach.dry_run(path, pod(label))
    if body.get("kind") != "Pod":
        raise ClusterError(f"POST {path}: the answer is no Pod")
    return body, warnings


def found(reach: Cluster, namespace: str, body: dict[str, Any]) -> Found:
    """Say what happened to the Pod that came back."""
    mark = ((body.get("metadata") or {}).get("annotations") or {}).get(STATUS_ANNOTATION)
    if mark is not None and (old := _without_image_volumes(reach, body)):
        text = f"the helper comes as an image volume, which these nodes cannot mount: {old}"
        remedy = "upgrade their runtime, or set config.helper.delivery: sidecar"
        return Found("runtime", DIFFERS, f"{text}; {remedy}")
    if mark is not None:
        text = f"a Pod labelled {INJECT_LABEL}={ENABLED} in {namespace} gets {_summary(mark)}"
        return Found("injected", OK, text)
    return _unmarked(reach, namespace)


def pod(label: str = ENABLED) -> dict[str, Any]:
    """Write a Pod that a `restricted` namespace with a quota takes, with something to inject."""
    container = {
        "name": "check",
        "image": "podgrace.invalid/check:none",
        "ports": [{"containerPort": 8080}],
        "resources": {what: {"cpu": "10m", "memory": "16Mi"} for what in ("requests", "limits")},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": f"{AGENT}-",
            "labels": {INJECT_LABEL: label, "app.kubernetes.io/name": AGENT},
        },
        "spec": {
            "automountServiceAccountToken": False,
            "containers": [container],
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        },
    }


def _refused(namespace: str, error: ClusterError) -> Found:
    """Find who refused, by the API server's own messages, which rarely change."""
    status, told = error.status, error.told
    text = f"{status}: {told}"
    if status == 401 or (status == 403 and "cannot create resource" in told):
        return Found("not-allowed", UNUSABLE, f"{text} (needed: create pods in {namespace})")
    if status == 404 and f'namespaces "{namespace}" not found' in told:
        return Found("no-namespace", UNUSABLE, told)
    if "failed calling webhook" in told and _OURS in told:
        return Found(
            "no-answer", DIFFERS, f"{told}; with failurePolicy Fail no such Pod is created now"
        )
    return Found("refused", UNUSABLE, text)


def _summary(mark: str) -> str:
    try:
        status = json.loads(mark)
        containers = status["containers"].values()
        version, codes = (
            status.get("version", "?"),
            sorted({code for item in containers for code in item.get("codes", ())}),
        )
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return f"the annotation {STATUS_ANNOTATION}"
    return f"the mark of podgrace {version}" + (f": {', '.join(map(str, codes))}" if codes else "")


def _unmarked(reach: Cluster, namespace: str) -> Found:
    """Find out why. If we lack the rights (more than `create pods`), name all reasons."""
    if namespace in OPERATOR_NAMESPACES:
        return Found("excluded", DIFFERS, f"{namespace} is never injected")
    labels = _labels(_read(reach, f"/api/v1/namespaces/{urllib.parse.quote(namespace, safe='')}"))
    if labels is not None and labels.get(INJECT_LABEL) == DISABLED:
        return Found(
            "opted-out", DIFFERS, f"namespace {namespace} is labelled {INJECT_LABEL}={DISABLED}"
        )
    listed = _read(reach, _CONFIGURATIONS)
    if labels is None or listed is None:
        return Found(
            "unmarked",
            DIFFERS,
            f"the Pod came back without {STATUS_ANNOTATION}: the webhook did not answer, or "
            f"{namespace} is excluded or opted out; "
            "with the right to read namespaces and mutatingwebhookconfigurations it says which",
        )
    entries = [
        entry
        for item in listed.get("items") or ()
        for entry in item.get("webhooks") or ()
        if str(entry.get("name")).endswith(_OURS)
    ]
    if not entries:
        return Found(
            "missing",
            DIFFERS,
            f"no MutatingWebhookConfiguration has an entry that ends in {_OURS}: is podgrace "
            "installed?",
        )
    chosen = [
        e["name"]
        for e in entries
        if selects(e.get("namespaceSelector"), labels) and selects(e.get("objectSelector"), _LABELS)
    ]
    if not chosen:
        names = ", ".join(sorted({str(entry["name"]) for entry in entries}))
        return Found(
            "excluded",
            DIFFERS,
            f"none of {names} selects namespace {namespace} with labels {labels}",
        )
    text = f"{', '.join(chosen)} selects the Pod, and it came back without {STATUS_ANNOTATION}"
    return Found("no-answer", DIFFERS, f"{text}: see `podgrace certs check` and docs/debugging.md")


def _without_image_volumes(reach: Cluster, body: dict[str, Any]) -> str:
    """Name the Linux nodes that cannot mount the Pod's image volume.

    "" if the Pod has none of ours, if all nodes can, or if we may not list nodes.
    """
    volumes = (body.get("spec") or {}).get("volumes") or ()
    if not any(v.get("name") == VOLUME and "image" in v for v in volumes):
        return ""
    listed = _read(reach, "/api/v1/nodes")
    return ", ".join(unable((listed or {}).get("items") or ()))


def _read(reach: Cluster, path: str) -> dict[str, Any] | None:
    """Read something for which we may lack the right."""
    try:
        return reach.get(path)
    except ClusterError:
        return None


def _labels(tree: dict[str, Any] | None) -> dict[str, str] | None:
    return None if tree is None else (tree.get("metadata") or {}).get("labels") or {}
