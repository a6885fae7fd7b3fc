"""A Job that runs prove where the clients are: in the cluster, least rights. Manifests out.

    podgrace prove http://shop/ --pods app=shop -n shop --job | kubectl apply -f -
    until kubectl -n shop logs job/podgrace-prove | grep loading; do sleep 1; done
    kubectl -n shop rollout restart deployment/shop
    kubectl -n shop logs -f job/podgrace-prove > run.json
    podgrace prove compare run.json --html run.html

The Job can only watch Pods and EndpointSlices of its namespace: it can't roll anything out. It
loads until the Pods that were there when it began are gone, so begin the rollout after it has said
"loading", or it would wait for the new Pods to go.
"""

from typing import Any, Final, NamedTuple

import yaml

NAME: Final = "podgrace-prove"
_GRACE: Final = 120
"""Seconds beyond the load until Kubernetes ends a Job that hangs: start and last answers."""
_REPORT: Final = 30
"""Seconds for the report itself, once nothing is in flight."""
_KEPT: Final = 3600

Tree = dict[str, Any]


class _Dumper(yaml.CSafeDumper):  # type: ignore[misc]  # PyYAML has no types
    """PyYAML's safe dumper without anchors: a value used twice is written twice."""

    def ignore_aliases(self, _: Any) -> bool:
        """Say that nothing gets an anchor."""
        return True


class Plan(NamedTuple):
    """What the Job is. words: those of `prove`. seconds: the longest load. owed: longest answer."""

    words: list[str]
    image: str
    namespace: str
    watches: bool
    seconds: float
    owed: float
    name: str = NAME


def job(plan: Plan) -> str:
    """Write the manifests."""
    trees = [*(_rights(plan) if plan.watches else ()), _job(plan)]
    text: str = yaml.dump_all(trees, Dumper=_Dumper, sort_keys=False, width=4096)
    return text


def _meta(plan: Plan) -> Tree:
    labels = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/part-of": "podgrace"}
    where = {"namespace": plan.namespace} if plan.namespace else {}
    return {"name": plan.name, **where, "labels": labels}


def _rights(plan: Plan) -> list[Tree]:
    group = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _meta(plan)},
        {
            "apiVersion": f"{group}/v1",
            "kind": "Role",
            "metadata": _meta(plan),
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
            "metadata": _meta(plan),
            "roleRef": {"apiGroup": group, "kind": "Role", "name": plan.name},
            "subjects": [
                {"kind": "ServiceAccount", "name": plan.name, "namespace": plan.namespace}
            ],
        },
    ]


def _job(plan: Plan) -> Tree:
    container = {
        "name": "prove",
        "image": plan.image,
        "args": ["prove", *plan.words, "-o", "json"],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
    }
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": plan.watches,
        **({"serviceAccountName": plan.name} if plan.watches else {}),
        "terminationGracePeriodSeconds": int(plan.owed) + _REPORT,
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
        "metadata": _meta(plan),
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": int(plan.seconds + plan.owed) + _GRACE,
            "ttlSecondsAfterFinished": _KEPT,
            "template": {"metadata": {"labels": _meta(plan)["labels"]}, "spec": pod},
        },
    }
