"""The grace period as a budget.

In: what each container needs, and the bound. Out: the waits that fit, and the grace period. preStop and the stop share one
budget in Kubernetes (the countdown starts before preStop), and all containers start at once: so it is a maximum over
containers, of

    delay + drain + max(own hook + patience + margin, grace as it was)

The patience is, unless an annotation or a profile says otherwise, what the application had before: the grace as it was, less
its own hook. So it never has less time after its stop signal than it had. A hook of unknown length may have used all of the
grace, and is counted with all of it.
"""

from typing import Final

import msgspec

from webhook.core.helper import Waits
from webhook.core.settings import KILL_MARGIN

PATIENCE_FLOOR: Final = 2
"""Seconds; the kubelet itself leaves no less between signal and kill."""


class Need(msgspec.Struct, frozen=True):
    """What one container needs. `hook`: seconds of its own preStop, None if unknown, 0 if there is none."""

    waits: Waits
    hook: int | None


def patience(grace: int, hook: int | None) -> int:
    """Seconds that the application had after its stop signal."""
    return max(PATIENCE_FLOOR, grace - (hook or 0))


def total(need: Need, grace: int) -> int:
    """Seconds of grace that a container needs, `grace` being what the Pod had."""
    waits = need.waits
    own = grace if need.hook is None else need.hook
    return waits.delay_max + waits.drain + max(own + waits.patience + KILL_MARGIN, grace)


def words(need: Need, grace: int) -> str:
    """Say the sum of `total`."""
    waits = need.waits
    own = grace if need.hook is None else need.hook
    head = f"delay {waits.delay_max} + " + (f"drain {waits.drain} + " if waits.drain else "")
    if own + waits.patience + KILL_MARGIN <= grace:
        return f"{head}{grace} as before"
    hook = f"own hook {own}{' (unknown)' if need.hook is None else ''} + " if own else ""
    return f"{head}{hook}patience {waits.patience} + margin {KILL_MARGIN}"


def fit(need: Need, grace: int, limit: int) -> Waits | None:
    """Shorten the waits until they fit into `limit` seconds; None if not even a second of delay does.

    Cut first is the time after the signal (down to a third of it), then the drain, the delay above its minimum, the delay,
    and the rest of the patience: the delay is worth most, since half of all servers reset what reaches them after the signal.
    A hook of unknown length is given a third of the limit at most: it must not push everything else out.
    """
    waits = need.waits
    own = min(grace, limit // 3) if need.hook is None else need.hook
    over = waits.delay_max + waits.drain + own + waits.patience + KILL_MARGIN - limit

    def cut(value: int, floor: int) -> int:
        nonlocal over
        less = max(0, min(over, value - floor))
        over -= less
        return value - less

    left = cut(waits.patience, max(PATIENCE_FLOOR, waits.patience // 3))
    drain = cut(waits.drain, 0)
    delay_max = cut(waits.delay_max, waits.delay_min)
    delay_max = cut(delay_max, 1)
    left = cut(left, PATIENCE_FLOOR)
    if over > 0:
        return None
    return Waits(
        min(waits.delay_min, delay_max), min(waits.quiet, delay_max), delay_max, drain, left
    )
