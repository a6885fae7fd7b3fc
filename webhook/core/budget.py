"""The grace period as a budget.

In: what each container needs, and the bound. Out: `Budget`: the containers with waits that fit, and
the grace period. In Kubernetes, preStop and the stop share one budget (the countdown starts before
preStop), and all containers begin at once. So it is the maximum over all containers of

    delay + drain + max(own hook + patience + margin, grace as it was)

Unless an annotation or a profile says otherwise, the patience is what the application had before:
the grace as it was, minus its own hook. So it never has less time after its stop signal than it
had.

A hook of unknown length shared the grace as it was with the stop: the signal got what the hook did
not use. They share the same time again, with the margin on top:

    delay + drain + max(grace as it was, patience) + margin

Only an annotated patience is added to all the time that such a hook may use.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from webhook.core.decision import NONE, Choice, Facts, Need, Note
from webhook.core.helper import Waits
from webhook.core.settings import KILL_MARGIN, Operator
from webhook.core.status import GraceStatus

HELD: Final = ("proxy", "idle", "side")
"""Roles of containers without users of their own, which the others may need."""

PATIENCE_FLOOR: Final = 2
"""Seconds; the kubelet itself leaves at least this between signal and kill."""


class Budget(msgspec.Struct, frozen=True, gc=False):
    """The containers with waits that fit. `grace`: what the Pod gets, None if it stays as it is."""

    choices: Sequence[Choice]
    grace: GraceStatus | None
    notes: tuple[Note, ...]


def settle(
    choices: Sequence[Choice], facts: Facts, operator: Operator, *, may_raise: bool
) -> Budget:
    """Fit all containers into the bound, and raise the grace period to what they need.

    It is never lowered. `may_raise`: neither the author nor the operator switched that off.
    """
    limit = max(operator.grace_bound, facts.grace) if may_raise else facts.grace

    def shortened(choice: Choice, least: int) -> tuple[int, Choice]:
        bound = operator.grace_bound
        return _fitted(choice, facts.grace, limit, bound, least, noted=may_raise)

    # First those with users: as long as they drain, those that they need stay.
    users = [None if c.look.role in HELD else shortened(c, 0) for c in choices]
    held = None in users
    least = max([_drained(found[1]) for found in users if found], default=0) if held else 0
    fitted: list[Choice] = []
    seconds, longest = 0, None
    for choice, found in zip(choices, users, strict=True):
        wanted, fits = found or shortened(choice, least)
        fitted.append(fits)
        if wanted > seconds:
            seconds, longest = wanted, fits
    if longest is None or longest.need is None:
        return Budget(fitted, None, ())
    if not may_raise:
        return Budget(fitted, None, (("grace-off", f"{facts.grace} s"),))
    if seconds <= facts.grace:
        return Budget(fitted, None, (("grace-enough", f"{facts.grace} s"),))
    said = f"bound {seconds}" if longest.capped else words(longest.need, facts.grace)
    said = f"{longest.look.container.name}: {said}"
    note = ("grace-raised", f"{facts.grace} -> {seconds} s = {said}")
    return Budget(fitted, GraceStatus(seconds, facts.grace_was, said), (note,))


def patience(grace: int, hook: int | None) -> int:
    """Seconds that the application had after its stop signal."""
    return max(PATIENCE_FLOOR, grace - (hook or 0))


def total(need: Need, grace: int) -> int:
    """Seconds of grace that a container needs; `grace` is what the Pod had."""
    waits = need.waits
    return waits.delay_max + waits.drain + max(_tail(need, grace) + KILL_MARGIN, grace)


def words(need: Need, grace: int) -> str:
    """Spell out the sum of `total`."""
    waits = need.waits
    tail = _tail(need, grace)
    head = f"delay {waits.delay_max} + " + (f"drain {waits.drain} + " if waits.drain else "")
    if tail + KILL_MARGIN <= grace:
        return f"{head}{grace} as before"
    if need.shared:
        return f"{head}own hook (unknown) and patience {tail} + margin {KILL_MARGIN}"
    own = tail - waits.patience
    hook = f"own hook {own}{' (unknown)' if need.hook is None else ''} + " if own else ""
    return f"{head}{hook}patience {waits.patience} + margin {KILL_MARGIN}"


def fit(need: Need, grace: int, limit: int, least: int = 0) -> Waits | None:
    """Shorten the waits to fit into `limit` seconds; None if not even 1 s of delay fits.

    `least`: seconds for which others drain, delay included, and need this container.

    What is cut, in this order, and down to what:

    1. the time after the signal    a third of it; 2 s, as far as `least` asks for it
    2. the drain                    a quarter of the time to share
    3. the delay                    its minimum
    4. the delay                    1 s
    5. the time after the signal    2 s
    6. the drain                    nothing

    The delay is worth most, since half of all servers reset what reaches them after the signal; but
    some drain stays as long as possible. A hook of unknown length gets at most a third of the
    limit: it must not push everything else out.
    """
    waits = need.waits
    own = 0 if need.shared else min(grace, limit // 3) if need.hook is None else need.hook
    room = max(0, limit - own - KILL_MARGIN)
    over = waits.delay_max + waits.drain + waits.patience - room

    def cut(value: int, floor: int) -> int:
        nonlocal over
        less = max(0, min(over, value - floor))
        over -= less
        return value - less

    left = cut(waits.patience, max(PATIENCE_FLOOR, min(waits.patience, limit) // 3))
    if least:
        left = cut(left, max(PATIENCE_FLOOR, min(left, room - least)))
    drain = cut(waits.drain, max(1, room // 4, least - waits.delay_max))
    delay_max = cut(waits.delay_max, waits.delay_min)
    delay_max = cut(delay_max, 1)
    left = cut(left, PATIENCE_FLOOR)
    drain = cut(drain, 0)
    if over > 0:
        return None
    return Waits(
        min(waits.delay_min, delay_max), min(waits.quiet, delay_max), delay_max, drain, left
    )


def ahead(choice: Choice) -> int:
    """Give the seconds for which the user's own sleep runs before our wait."""
    return (choice.hook.seconds or 0) if choice.hook.order == "before" else 0


def _drained(choice: Choice) -> int:
    """Give the seconds after which a container is drained, at most; 0 if it is not."""
    need = choice.need
    return 0 if need is None else ahead(choice) + need.waits.delay_max + need.waits.drain


def _tail(need: Need, grace: int) -> int:
    """Seconds that its own hook and its stop take; `grace` is what the Pod had."""
    if need.shared:
        return max(grace, need.waits.patience)
    return (grace if need.hook is None else need.hook) + need.waits.patience


def _fitted(
    choice: Choice, grace: int, limit: int, bound: int, least: int, *, noted: bool
) -> tuple[int, Choice]:
    """Shorten a container's waits to the limit. Returns the seconds of grace that it then needs.

    It loses its rung if not even a second is left.
    """
    need = choice.need
    if need is None or not choice.rung.name:
        return 0, choice
    wanted = total(need, grace)
    if wanted <= limit:
        return wanted, choice
    waits = fit(need, grace, limit, least)
    if waits is None:
        refused = (*choice.notes, ("grace-no-room", f"{limit} s"))
        return 0, replace(choice, rung=NONE, need=None, notes=refused)
    notes = choice.notes
    if noted:
        code = "grace-capped" if limit > grace else "grace-over-bound"
        notes = (*notes, (code, f"wanted {wanted} s, bound {bound} s"))
    return limit, replace(choice, need=replace(need, waits=waits), capped=True, notes=notes)
