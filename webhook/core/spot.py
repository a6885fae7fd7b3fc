"""Spot nodes, which their cloud takes back soon after a notice.

In: the labels of a node, or those that a Pod's nodeSelector asks for. Out: the seconds of notice. A
longer grace period is not granted there: the drain and then the server are cut off. So the author
is told (`write`); which waits fit is theirs to say, or the operator's (preset `spot-30s`), since a
rolling update has more time than that.
"""

from collections.abc import Mapping
from typing import Final

SPOT: Final[Mapping[tuple[str, str], int]] = {
    ("cloud.google.com/gke-spot", "true"): 30,
    ("cloud.google.com/gke-preemptible", "true"): 30,
    ("kubernetes.azure.com/scalesetpriority", "spot"): 30,
    ("eks.amazonaws.com/capacityType", "SPOT"): 120,
    ("karpenter.sh/capacity-type", "spot"): 120,
    ("node.kubernetes.io/lifecycle", "spot"): 120,
}
"""Label of a spot node -> seconds of notice, by the documentation of each cloud."""


def notice(labels: Mapping[str, str]) -> int:
    """Give the shortest notice of a node with these labels; 0 if it is not a spot node."""
    return min((seconds for label, seconds in SPOT.items() if label in labels.items()), default=0)
