"""A Job that runs prove where the clients are: in the cluster, with the least rights. Manifests out.

    podgrace prove http://shop/ --pods app=shop -n shop --job | kubectl apply -f -
    until kubectl -n shop logs job/podgrace-prove | grep loading; do sleep 1; done
    kubectl -n shop rollout restart deployment/shop
    kubectl -n shop logs -f job/podgrace-prove > run.json
    podgrace prove compare run.json --html run.html

The Job can watch Pods and EndpointSlices of its namespace, and nothing else: so it can't roll anything
out. It loads until the Pods that were there at its beginning are gone: a rollout has to begin after
it has said "loading", or it would wait for the new Pods to go.
"""

from typing import Any, Final

import yaml

NAME: Final = "podgrace-prove"
_GRACE: Final = 120
"""Seconds beyond the load until Kubernetes ends a Job that hangs: answers that are owed, and the start."""
_KEPT: Final = 3600

Tree = dict[str, Any]


class _Dumper(yaml.CSafeDumper):  # type: ignore[misc]  # PyYAML has no types
    """PyYAML's safe dumper without anchors: what is used twice is written twice."""

    def ignore_aliases(self, _: Any) -> bool:
        """Say that nothing gets an anchor."""
        return True


def job(words: list[str], *, image: str, namespace: str, watches: bool, seconds: float) -> str:
    """Write the manifests. words: those of `prove`; seconds: the longest load."""
    trees = [
        *(_rights(namespace) if watches else ()),
        _job(words, image, namespace, watches, seconds),
    ]
    text: str = yaml.dump_all(trees, Dumper=_Dumper, sort_keys=False, width=4096)
    return text


def _meta(namespace: str) -> Tree:
    labels = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/part-of": "podgrace"}
    return {"name": NAME, **({"namespace": namespace} if namespace else {}), "labels": labels}


def _rights(namespace: str) -> list[Tree]:
    group = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _meta(namespace)},
        {
            "apiVersion": f"{group}/v1",
            "kind": "Role",
            "metadata": _meta(namespace),
            "rules": [
                {"apiGroups": [""], "resources": ["pods"], "verbs": ["watch"]},
                {
                    "apiGroups": ["discovery.k8s.io"],
                    "resources": ["endpointslices"],
                    "verbs": ["watch"],
                },
            ],
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": _meta(namespace),
            "roleRef": {"apiGroup": group, "kind": "Role", "name": NAME},
            "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": namespace}],
        },
    ]


def _job(words: list[str], image: str, namespace: str, watches: bool, seconds: float) -> Tree:
    container = {
        "name": "prove",
        "image": image,
        "args": ["prove", *words, "-o", "json"],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
    }
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": watches,
        **({"serviceAccountName": NAME} if watches else {}),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _meta(namespace),
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": int(seconds) + _GRACE,
            "ttlSecondsAfterFinished": _KEPT,
            "template": {"metadata": {"labels": _meta(namespace)["labels"]}, "spec": pod},
        },
    }
