"""The grace period as a budget.

In: what each container needs, and the bound. Out: the waits that fit, and the grace period. preStop and the stop share one
budget in Kubernetes (the countdown starts before preStop), and all containers start at once: so it is a maximum over
containers, of

    delay + drain + max(own hook + margin, grace as it was)

The last term keeps the promise that the application never has less time after its stop signal than before: it had the
grace as it was, less its own hook. An own hook of unknown length may have used all of it, hence the margin on top.
"""

from typing import Final

import msgspec

from webhook.core.helper import Waits
from webhook.core.settings import KILL_MARGIN

_PATIENCE_FLOOR: Final = 2
"""Seconds; the kubelet itself leaves no less between signal and kill."""


class Need(msgspec.Struct, frozen=True):
    """What one container needs. `hook`: seconds of its own preStop, None if unknown, 0 if there is none (or it is kept)."""

    waits: Waits
    hook: int | None


def total(need: Need, grace: int) -> int:
    """Seconds of grace that a container needs, `grace` being what the Pod had."""
    waits = need.waits
    tail = grace + KILL_MARGIN if need.hook is None else max(need.hook + KILL_MARGIN, grace)
    return waits.delay_max + waits.drain + tail


def fit(need: Need, limit: int) -> Waits | None:
    """Shorten the waits until they fit into `limit` seconds; None if not even a second of delay does.

    Cut first is the time after the signal (down to a third of it), then the drain, the delay above its minimum, the delay,
    and the rest of the patience: the delay is worth most, since half of all servers reset what reaches them after the signal.
    """
    waits = need.waits
    over = waits.delay_max + waits.drain + (need.hook or 0) + waits.patience + KILL_MARGIN - limit

    def cut(value: int, floor: int) -> int:
        nonlocal over
        less = max(0, min(over, value - floor))
        over -= less
        return value - less

    patience = cut(waits.patience, max(_PATIENCE_FLOOR, waits.patience // 3))
    drain = cut(waits.drain, 0)
    delay_max = cut(waits.delay_max, waits.delay_min)
    delay_max = cut(delay_max, 1)
    patience = cut(patience, _PATIENCE_FLOOR)
    if over > 0:
        return None
    return Waits(min(waits.delay_min, delay_max), min(waits.quiet, delay_max), delay_max, drain, patience)
