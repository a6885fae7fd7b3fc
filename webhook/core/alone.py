"""Which Pods are left alone as a whole, and why.

In: a Pod, the namespaces that the operator excludes, and the namespace of the request. Out: every
code of `reasons.REASONS` that holds; the table at the head of `reasons` lists them. Which single
containers are left alone belongs to `look`.
"""

from webhook.core import size
from webhook.core.names import DISABLED, INJECT_LABEL, MIRROR_ANNOTATION
from webhook.core.pod import EMPTY, Pod


def left_alone(pod: Pod, excluded_namespaces: frozenset[str], namespace: str = "") -> list[str]:
    """Say why a Pod gets no patch at all; an empty list if it is to be decided."""
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
    if size.crowded(pod):
        reasons.append("oversized")
    if metadata.annotations and size.annotated(metadata.annotations) > size.ANNOTATIONS_LIMIT:
        reasons.append("annotations-full")
    return reasons
