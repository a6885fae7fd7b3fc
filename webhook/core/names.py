"""Every name that podgrace puts into a Pod, in one place.

In: nothing. Out: constants. What a name is *used for* belongs elsewhere; to spell one of these
anywhere else is a mistake. Kubernetes sets the bounds: container and volume names are DNS labels,
unique in the Pod. A mount path must not hide what an image has, hence the leading dot.
"""

from typing import Final

PREFIX: Final = "podgrace.io/"
"""Begins the label and every annotation."""

INJECT_LABEL: Final = "podgrace.io/inject"
CLASS_LABEL: Final = PREFIX + "class"
"""On a namespace: the operator's class for its Pods (`webhook.config`)."""
ENABLED: Final = "enabled"
DISABLED: Final = "disabled"

STATUS_ANNOTATION: Final = "podgrace.io/status"
"""What was decided, as JSON: read back by a second pass and by `uninject`."""

SIDECAR: Final = "podgrace"
VOLUME: Final = "podgrace"
MOUNT_PATH: Final = "/.podgrace"
HELPER: Final = "/.podgrace/podgrace-helper"
"""The helper as containers of the Pod see it."""

IMAGE_HELPER: Final = "/podgrace-helper"
"""The helper in its own image."""

TOKEN_PATH: Final = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path
"""Our volume, mounted here, keeps the ServiceAccount admission plugin from mounting an API token
into the sidecar."""

SAFE_TO_EVICT: Final = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"
"""Volumes, separated by commas, that do not keep a node alive (cluster-autoscaler, FAQ)."""

MIRROR_ANNOTATION: Final = "kubernetes.io/config.mirror"

OPERATOR_NAMESPACES: Final = ("kube-system", "kube-public", "kube-node-lease")

MESH_PROXIES: Final = frozenset(
    {"istio-proxy", "linkerd-proxy", "kuma-sidecar", "consul-dataplane", "envoy-sidecar", "daprd"}
)
"""Containers that carry the others' traffic: they stay up until the others have drained."""
