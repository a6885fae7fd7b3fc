"""Which Pods are left alone as a whole, and why.

In: a Pod, the namespaces that the operator excludes, and the namespace of the request. Out: codes of `reasons.REASONS`,
all that hold; the table at the head of `reasons` lists them. What a single container is spared of belongs to `look`.
"""

from typing import Final

from webhook.core.names import DISABLED, INJECT_LABEL, MIRROR_ANNOTATION
from webhook.core.pod import EMPTY, Pod

MOST_CONTAINERS: Final = 1000
MOST_PORTS: Final = 1000
"""Kubernetes has no such bounds. A kubelet runs some 110 Pods, and a container has a handful of ports."""


def left_alone(pod: Pod, excluded_namespaces: frozenset[str], namespace: str = "") -> list[str]:
    """Say why a Pod gets no patch at all; an empty list for one that is decided about."""
    metadata = pod.metadata or EMPTY
    reasons = []
    if metadata.labels and metadata.labels.get(INJECT_LABEL) == DISABLED:
        reasons.append("opted-out")
    if (namespace or metadata.namespace or "") in excluded_namespaces:
        reasons.append("excluded-namespace")
    if metadata.annotations and MIRROR_ANNOTATION in metadata.annotations:
        reasons.append("mirror-pod")
    if pod.spec.restart_policy not in (None, "Always"):
        reasons.append("not-restarting")
    if _is_oversized(pod):
        reasons.append("oversized")
    return reasons


def _is_oversized(pod: Pod) -> bool:
    """Whether a Pod is not meant to run: deciding about it would take seconds, and others would wait."""
    inits = pod.spec.init_containers or ()
    if len(pod.spec.containers) + len(inits) > MOST_CONTAINERS:
        return True
    return any(
        [len(container.ports or ()) > MOST_PORTS for container in (*pod.spec.containers, *inits)]  # noqa: C419
    )
