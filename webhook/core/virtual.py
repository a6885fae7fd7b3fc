"""Whether a Pod may run on a virtual node, where a cloud's service plays the kubelet.

In: a Pod. Out: yes or no. Such a service runs the containers, and often neither init containers nor
hooks: virtual nodes of AKS refuse both (its documentation, "limitations"; only version 2 takes
them), so a Pod with our sidecar would never start there; nor would one with a TCP probe (source of
virtual-kubelet/azure-aci: only exec and httpGet). What is left belongs to `ladder` and `readiness`.

| what the Pod says                                          | is                         |
|------------------------------------------------------------|----------------------------|
| `nodeSelector` type: virtual-kubelet                       | made for a virtual node    |
| a toleration for virtual-kubelet.io/provider or            | allowed to overflow to one |
| azure.com/aci, by name                                     |                            |
"""

from typing import Final

from webhook.core.pod import Pod

_TAINTS: Final = frozenset({"virtual-kubelet.io/provider", "azure.com/aci"})
_TYPE: Final = "virtual-kubelet"


def is_virtual(pod: Pod) -> bool:
    """Whether any row of the table fits."""
    spec = pod.spec
    if spec.node_selector and spec.node_selector.get("type") == _TYPE:
        return True
    return any([found.key in _TAINTS for found in spec.tolerations or ()])  # noqa: C419
