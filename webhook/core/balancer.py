"""Load balancers that deregister a Pod late, and how a Pod shows that one sends to it.

In: balancers as values (`webhook.profiles` reads them from balancers.toml, the operator may add
others), and the conditionTypes of a Pod's readiness gates. Out: the balancer with the longest
delay. What the delay does to a Pod belongs to the steps of the decision.
"""

from collections.abc import Iterable, Sequence

import msgspec

LONGEST_DELAY = 3600


class Balancer(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """One load balancer; `delay` in seconds. See the head of balancers.toml for each field."""

    name: str
    gates: tuple[str, ...]
    delay: int
    source: str = ""

    def __post_init__(self) -> None:
        """Check the values. Raises `ValueError`."""
        if not self.gates or not all(self.gates):
            raise ValueError("gates: accepted: one or more beginnings of a conditionType")
        if not 1 <= self.delay <= LONGEST_DELAY:
            raise ValueError(f"delay {self.delay}: accepted: 1 to {LONGEST_DELAY}")


def slowest(conditions: Iterable[str], balancers: Sequence[Balancer]) -> Balancer | None:
    """Of the balancers that added these readiness gates, return the one with the longest delay."""
    types = list(conditions)
    found = [b for b in balancers if any(t.startswith(b.gates) for t in types)]
    return max(found, key=lambda b: b.delay, default=None)
