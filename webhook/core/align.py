"""Containers wait for each other: none that a server needs stops while requests are in flight.

In: the containers that have a rung, each as if it were alone. Out: a new list, in which they wait
for each other. All preStop hooks of a Pod run at the same time, so each container itself waits as
long as the others need it:

1. Those that wait for requests wait for the ports of all that do.
2. One with permanent connections of its own (a database) waits for the others' ports, if any.
3. One behind another drains longer: if drains reach their cap, the front must be gone first.
4. One without users of its own (a mesh proxy, a database proxy, php-fpm on a socket, a log shipper)
   waits as long as the longest of them; its own preStop runs after that. Whatever its protocol, the
   others may need it to answer.
5. If the ports of one server are not known, all wait for whatever listens in the Pod.
6. While the user's own sleep runs in one of them, it goes on serving: the delays of the others end
   no sooner than its own, unless their author set them. How long any other hook takes is not known;
   what is in flight keeps them.

What the waits cost belongs to `budget`.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from webhook.core import ports
from webhook.core.budget import HELD, ahead
from webhook.core.decision import NONE, Choice, Need
from webhook.core.helper import Waits
from webhook.core.settings import BEHIND, KILL_MARGIN


def align(choices: Sequence[Choice], grace: int) -> list[Choice]:
    """Let the containers wait for each other. `grace`: seconds that the Pod has now."""
    apps = _share([c for c in choices if c.rung.name and c.look.role == "server"])
    # In the order of the Pod's containers.
    settled = list(choices)
    for choice in apps:
        settled[choice.look.index] = choice
    for choice in choices:
        if choice.rung.name and choice.look.role in HELD:
            settled[choice.look.index] = _held(choice, apps, grace)
    return settled


def _share(apps: Sequence[Choice]) -> Sequence[Choice]:
    """Apply rules 1 to 3."""
    helped = [c for c in apps if c.rung.name != "sleep"]
    fronts = [c for c in helped if c.observe]
    if not fronts or len(helped) < 2:
        return apps
    watched = [c.ports for c in fronts]
    shared = sorted(set[int]().union(*watched)) if all(watched) else ()
    period = min([c.probe_period for c in helped if c.probe_period], default=0)
    distances = [ports.distance(c.look.container, c.ports, c.look.profile) for c in helped]
    nearest = min(distances)
    settled = [c for c in apps if c.rung.name == "sleep"]
    for choice, distance in zip(helped, distances, strict=True):
        need = choice.need
        if need is not None and not choice.observe:
            drain = max([c.need.waits.drain for c in fronts if c.need], default=0)
            need = replace(need, waits=replace(need.waits, drain=drain))
        if need is not None and distance > nearest:
            drain = need.waits.drain + BEHIND
            need = replace(need, waits=replace(need.waits, drain=drain))
        settled.append(replace(choice, ports=shared, probe_period=period, observe=True, need=need))
    asleep = [choice for choice in settled if ahead(choice)]
    if not asleep:
        return settled
    low, high = _delays(asleep)
    return [_delayed(choice, low, high) for choice in settled]


def _delays(apps: Sequence[Choice]) -> tuple[int, int]:
    """Give when the last delay ends, from the deletion on: at least, and at most."""
    ends = [(ahead(c), c.need.waits) for c in apps if c.need]
    low = max([slept + waits.delay_min for slept, waits in ends], default=0)
    return low, max([slept + waits.delay_max for slept, waits in ends], default=0)


def _delayed(choice: Choice, low: int, high: int) -> Choice:
    """Apply rule 6."""
    need, slept = choice.need, ahead(choice)
    if need is None or choice.rung.name == "sleep" or choice.look.settings.delay_set:
        return choice
    waits = need.waits
    least, most = max(waits.delay_min, low - slept), max(waits.delay_max, high - slept)
    return replace(
        choice, need=replace(need, waits=replace(waits, delay_min=least, delay_max=most))
    )


def _held(choice: Choice, apps: Sequence[Choice], grace: int) -> Choice:
    """Apply rule 4."""
    waits = [c.need.waits for c in apps if c.need]
    if not waits:
        return replace(choice, rung=NONE)
    helped = next((c for c in apps if c.rung.name != "sleep" and c.observe), None)
    code = "mesh-aligned" if choice.look.role == "proxy" else "held"
    tail = max(0, grace - KILL_MARGIN)
    # If drains reach their cap, the others must be gone first, as in rule 3.
    later = BEHIND if helped is not None and code == "held" else 0
    low, delay = _delays(apps)
    drain = max(w.drain for w in waits)
    if choice.rung.name == "sleep":
        whole = delay + (drain or choice.look.settings.default_drain)
        held = Waits(whole, 0, whole, 0, tail)
    else:
        quiet = max(w.quiet for w in waits)
        held = Waits(low, quiet, delay, drain + later, tail)
    return replace(
        choice,
        ports=helped.ports if helped is not None else (),
        probe_period=helped.probe_period if helped is not None else 0,
        need=Need(held, choice.hook.seconds, shared=choice.hook.seconds is None),
        notes=(*choice.notes, (code, choice.rung.name)),
    )
