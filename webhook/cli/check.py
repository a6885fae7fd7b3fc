"""`podgrace check`: would a Pod of this namespace be injected? The API server is asked to create one, and not to keep it.

In: a namespace and an API server (in a Pod its own; elsewhere through `kubectl proxy`). Out: one line that says what happened, and
the exit code of the command's table. Nothing is changed: the creation is a server-side dry run, which goes through admission
like any other. `helm test` runs it. Whether the certificates are right is `podgrace certs check`; Pods that already run are
`podgrace audit`'s.

| found        | exit | means                                                                                    |
|--------------|------|------------------------------------------------------------------------------------------|
| injected     | 0    | the Pod came back with our mark                                                          |
| unreachable  | 1    | no answer from the API server, or none that is its own                                   |
| not-allowed  | 1    | we may not create Pods there, or are not known                                           |
| no-namespace | 1    | it does not exist                                                                        |
| refused      | 1    | something else refused the Pod: Pod Security, a quota, another webhook or policy         |
| opted-out    | 3    | the namespace says `podgrace.io/inject: disabled`                                        |
| excluded     | 3    | no entry of the webhook configuration selects the namespace                              |
| missing      | 3    | there is no webhook configuration of ours                                                |
| no-answer    | 3    | the webhook was to be called and did not answer; the API server went on or gave up       |
| runtime      | 3    | the Pod mounts the helper as an image volume, and a node cannot do that                  |
| unmarked     | 3    | one of the last four; the right to read namespaces and webhook configurations would tell |
"""

import argparse
import json
import re
import sys
import time
import urllib.parse
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from webhook.cli import cluster, terminal
from webhook.cli.arguments import command, duration
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
"""Waiting changes nothing about these."""

_CONFIGURATIONS: Final = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
_OURS: Final = f".{PREFIX.rstrip('/')}"
_LABELS: Final = {INJECT_LABEL: ENABLED}


class Found(NamedTuple):
    """What came out."""

    what: str
    exit: int
    text: str


def add_parser(commands: Any) -> None:
    """Add the command to the top parser's."""
    text = (
        "Ask the API server whether a labelled Pod would be injected now"
        " (a dry run: nothing is created)."
    )
    made = command(commands, "check", run, text)
    made.add_argument(
        "--wait",
        type=duration,
        default=duration("0s"),
        metavar="TIME",
        help="ask again until it is injected, at most for this time (0s)",
    )
    cluster.add_options(made)
    terminal.add_output(made, "table", "json", "yaml")


def run(args: argparse.Namespace) -> int:
    """Ask, perhaps again, and tell."""
    end = time.monotonic() + args.wait.total_seconds()
    while True:
        try:
            reach = cluster.of(args)
            found, warnings = ask(reach, reach.namespace)
        except ClusterError as error:
            found, warnings = Found("unreachable", UNUSABLE, str(error)), ()
        if found.what in FINAL or time.monotonic() >= end:
            break
        time.sleep(1)
    if args.output != "table":
        whole = {"found": found.what, "text": found.text, "warnings": warnings}
        print(terminal.structured(whole, args.output))
        return found.exit
    out = sys.stdout if found.exit == OK else sys.stderr
    print(f"podgrace: {found.what}: {found.text}", file=out)
    for warning in warnings:
        print(f"warning: {warning}", file=out)
    return found.exit


def ask(reach: Cluster, namespace: str) -> tuple[Found, tuple[str, ...]]:
    """Ask once. Returns what was found, and the warnings that came along.

    Raises `ClusterError` without an answer.
    """
    path = f"/api/v1/namespaces/{urllib.parse.quote(namespace, safe='')}/pods"
    try:
        body, warnings = reach.dry_run(path, pod())
    except ClusterError as error:
        if not error.status:
            raise
        return _refused(namespace, error), ()
    if body.get("kind") != "Pod":
        raise ClusterError(f"POST {path}: the answer is no Pod")
    mark = ((body.get("metadata") or {}).get("annotations") or {}).get(STATUS_ANNOTATION)
    if mark is not None and (old := _without_image_volumes(reach, body)):
        text = f"the helper comes as an image volume, which these nodes cannot mount: {old}"
        mend = "upgrade their runtime, or set config.helper.delivery: sidecar"
        return Found("runtime", DIFFERS, f"{text}; {mend}"), warnings
    if mark is not None:
        text = f"a Pod labelled {INJECT_LABEL}={ENABLED} in {namespace} gets {_summary(mark)}"
        return Found("injected", OK, text), warnings
    return _unmarked(reach, namespace), warnings


def pod() -> dict[str, Any]:
    """Write a Pod that even a `restricted` namespace with a quota takes, and that has something to inject."""
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
            "labels": {**_LABELS, "app.kubernetes.io/name": AGENT},
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
    """Tell apart who said no, by the API server's own messages, which rarely change."""
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
    """Find out why. Needs rights that `create pods` does not bring; without them all reasons are named."""
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
            f"the Pod came back without {STATUS_ANNOTATION}: the webhook did not answer, or {namespace} is excluded or opted out; "
            "who may read namespaces and mutatingwebhookconfigurations is told which",
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
            f"no MutatingWebhookConfiguration has an entry that ends in {_OURS}: is podgrace installed?",
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
    old = []
    for node in (listed or {}).get("items") or ():
        info = (node.get("status") or {}).get("nodeInfo") or {}
        runtime, kubelet = (
            str(info.get(f"{what}Version")) for what in ("containerRuntime", "kubelet")
        )
        if info.get("operatingSystem") != "windows" and not mounts_images(runtime, kubelet):
            name = (node.get("metadata") or {}).get("name")
            old.append(f"{name} ({runtime}, kubelet {kubelet})")
    return ", ".join(old)


def mounts_images(runtime: str, kubelet: str) -> bool:
    """Whether a node mounts image volumes, by `status.nodeInfo`.

    `runtime` is like `containerd://2.1.0`, `kubelet` like `v1.36.3`. Source: KEP-4639, on by
    default from 1.35, and the release notes of the runtimes. Unknown runtimes count as able.
    """
    name, _, version = runtime.partition("://")
    if name == "docker" or _numbers(version) < _IMAGE_VOLUMES.get(name, ()):
        return False
    return _numbers(kubelet) >= (1, 35)


_IMAGE_VOLUMES: Final = {"containerd": (2, 1), "cri-o": (1, 33)}
"""The first version of each runtime that mounts image volumes; Docker's (cri-dockerd) never did."""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _read(reach: Cluster, path: str) -> dict[str, Any] | None:
    """Read what we may perhaps not."""
    try:
        return reach.get(path)
    except ClusterError:
        return None


def _labels(tree: dict[str, Any] | None) -> dict[str, str] | None:
    return None if tree is None else (tree.get("metadata") or {}).get("labels") or {}


def selects(selector: dict[str, Any] | None, labels: dict[str, str]) -> bool:
    """Evaluate a label selector as the API server does; an empty one selects everything."""
    selector = selector or {}
    expressions: Iterable[dict[str, Any]] = selector.get("matchExpressions") or ()
    return all(
        labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items()
    ) and all(
        _OPERATORS[item["operator"]](labels.get(item["key"]), item.get("values") or ())
        for item in expressions
    )


_OPERATORS: Final[dict[str, Any]] = {
    "In": lambda value, values: value in values,
    "NotIn": lambda value, values: value not in values,
    "Exists": lambda value, _: value is not None,
    "DoesNotExist": lambda value, _: value is None,
}
