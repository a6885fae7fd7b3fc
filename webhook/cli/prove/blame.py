"""Whose loss it was: a lost request and the Pods' lives in, a class with evidence out. Pure.

A client behind a Service can't see which Pod it reached. So a loss is compared with every Pod's
life, and a class fits only if that Pod could have caused it at that time. Steps:

1. If the client connected to a Pod's own address (headless Services), only that Pod counts.
2. Each rule of `_RULES` looks at each Pod. It says no, or how far in time the loss was from the
   moment that explains it, and how strong the explanation is. It is weak if the cause was seen
   after the effect (the watch is late), or if a readinessProbe speaks against it.
3. The strongest explanation wins, then the nearest. If other classes explain the loss as strongly,
   the ledger can't tell them apart, and the report names them too.
4. If no Pod explains it, the evidence is the EndpointSlices at that time.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from webhook.cli.prove.ledger import Loss, Seen
from webhook.cli.prove.lives import Life
from webhook.cli.watching.slices import SliceSeen

SLACK: Final = 0.5
"""Seconds by which the watch may report a moment late: two hops and a busy machine."""
LAG: Final = 15.0
"""Seconds that a balancer may still send to a Pod that left its EndpointSlice: `delay-max`."""
EARLY: Final = 10.0
"""Seconds after a Pod joined that a server which is not up yet can explain a loss."""


class Kind(NamedTuple):
    """A class of losses: its title, what it means, what to do about it.

    latest: how to say when the latest of them came, after the moment that explains it.
    """

    title: str
    means: str
    remedy: str
    latest: str = ""


KINDS: Final = {
    "start": Kind(
        "Ready too early",
        "a new Pod was in the endpoints before its server answered",
        "Give the container a readinessProbe that fails until the server answers requests. "
        "podgrace adds one where that is safe (`podgrace explain` says why not); "
        "podgrace.io/readiness-probe.CONTAINER names one.",
        "The latest came {:.1f} s after its Pod had joined.",
    ),
    "deregistration": Kind(
        "Deregistration",
        "a new connection was sent to a Pod that had been told to stop, and its server had stopped",
        "The server must serve until load balancers deregister it. Label the Pods "
        "podgrace.io/inject: enabled. If they are: raise podgrace.io/delay-min.",
        "The latest came {:.1f} s after its Pod had been told.",
    ),
    "in-flight": Kind(
        "In flight at the signal",
        "the request was in flight when the server got its stop signal, and was cut",
        "The stop must wait for answers. Label the Pods podgrace.io/inject: enabled. If they are: "
        "raise podgrace.io/drain-timeout above the longest answer, and look at the profile in "
        "`podgrace explain`.",
        "The latest was cut {:.1f} s after its Pod had been told.",
    ),
    "after-end": Kind(
        "After the end",
        "the request was sent to a Pod whose containers had ended",
        "Something in front of the Pods learns too late that one is gone (an ingress or load "
        "balancer with its own health checks, a DNS cache, a kept connection). Raise "
        "podgrace.io/delay-min and delay-max above its delay, or make it follow EndpointSlices.",
        "The latest came {:.1f} s after the end.",
    ),
    "crash": Kind(
        "Crash",
        "a container was restarted although nobody had told its Pod to stop",
        "No hook runs before a crash, an OOM kill or a failed liveness probe. "
        "`kubectl describe pod` and `kubectl logs --previous` say which it was.",
    ),
    "no-pod": Kind(
        "No Pod to blame",
        "no Pod came or went at that time, in a way that explains it",
        "Look at what is between client and Pods: ingress, load balancer, network policy, node, a "
        "machine that is too busy (run it again without COMMAND: what is lost then is not the "
        "rollout's). Without a ready endpoint: more replicas, or maxUnavailable: 0.",
    ),
    "not-watched": Kind(
        "Not watched",
        "the Pods were not watched, so nobody can say",
        "Give --pods SELECTOR.",
    ),
}
"""Class -> what it means. The order is that of reports."""


class Verdict(NamedTuple):
    """Whose loss it was.

    others: classes that would explain it as well. after: seconds from the moment that explains it
    (the order to stop, the start, the end) to the request.
    """

    kind: str
    pod: str
    evidence: str
    after: float | None = None
    others: tuple[str, ...] = ()


class _Fit(NamedTuple):
    """How well a class explains a loss with one Pod; the best one sorts first."""

    weak: bool
    steps: int
    order: int
    distance: float
    kind: str
    pod: str
    evidence: str
    after: float


class _Match(NamedTuple):
    """How well a rule explains a loss. distance: seconds to the moment that explains it."""

    distance: float
    after: float
    evidence: str
    weak: bool = False


Rule = Callable[[Loss, Life], _Match | None]


def _start(loss: Loss, life: Life) -> _Match | None:
    """Say whether a new connection came to a Pod that had just joined the endpoints.

    A Pod without a readiness probe joins as soon as its containers run. With one, its server has
    answered the probe: then this is the weaker explanation.
    """
    joined = life.ready if life.listed is None else life.listed
    if life.old or joined is None or not joined - SLACK <= _begun(loss) <= joined + EARLY:
        return None
    if life.told is not None and _begun(loss) >= life.told:
        return None
    after = _begun(loss) - joined
    probe = "with a readinessProbe" if life.probed else "without a readinessProbe"
    weak = life.probed or after < 0
    return _Match(abs(after), after, f"{_past(after)} it joined, {probe}", weak)


def _deregistration(loss: Loss, life: Life) -> _Match | None:
    """Say whether a new connection came to a Pod that was told to stop and could stop serving.

    A connection that never opened can't have been in flight: it may have begun a little before the
    watch told us that the Pod was to stop.
    """
    told, end = life.told, life.end
    if told is None or _begun(loss) < told - (SLACK if loss.opened is None else 0.0):
        return None
    if end is not None and loss.sent >= end:
        return None
    if _begun(loss) > _routed_until(life, told) or not _could_stop(loss, life):
        return None
    after = _begun(loss) - told
    text = f"a new connection {_past(after)} it was told to stop"
    return _Match(abs(after), after, text, weak=after < 0)


def _in_flight(loss: Loss, life: Life) -> _Match | None:
    """Say whether a request was on an open connection when the Pod's server stopped."""
    told, end = life.told, life.end
    if told is None or loss.opened is None or _begun(loss) >= told:
        return None
    if end is not None and loss.sent >= end:
        return None
    if loss.at < told - SLACK or not _could_stop(loss, life):
        return None
    if end is not None and loss.outcome != "timeout" and loss.at > end + SLACK:
        return None
    after = loss.at - told
    cut = "no answer came" if loss.outcome == "timeout" else f"cut {_past(after)} it"
    took = f"asked {loss.took:.1f} s before" if loss.took >= 0.05 else "asked just before"
    moment = life.signalled
    if moment is None:  # a hook of unknown length: the Pod's end says more than its start
        moment = told if end is None else end
    text = f"{cut} was told to stop" if loss.outcome != "timeout" else cut
    return _Match(abs(loss.at - moment), after, f"{text}, {took}")


def _after_end(loss: Loss, life: Life) -> _Match | None:
    """Say whether a request was sent when nothing in the Pod was running."""
    end = life.end
    if life.told is None or end is None or not end <= loss.sent <= end + LAG:
        return None
    after = loss.sent - end
    where = "a new connection" if _begun(loss) >= end else "a kept connection"
    # Load balancers could follow since it left the endpoints, not since its end.
    left = end if life.unlisted is None else min(end, life.unlisted)
    return _Match(loss.sent - left, after, f"on {where}, {_past(after)} it ended")


def _crash(loss: Loss, life: Life) -> _Match | None:
    """Say whether a container was restarted although the Pod was not told to stop.

    The restart shows when the container runs again; the requests were lost before that.
    """
    near = [at for at in life.crashes if loss.sent - SLACK <= at <= loss.at + EARLY]
    if not near:
        return None
    after = loss.at - near[0]
    return _Match(abs(after), after, f"a container was restarted at {near[0]:.1f} s")


_RULES: Final[dict[str, Rule]] = {
    "crash": _crash,
    "in-flight": _in_flight,
    "deregistration": _deregistration,
    "start": _start,
    "after-end": _after_end,
}
"""Class -> rule. Of classes equally near, within what the watch can tell, the first wins."""


def _routed_until(life: Life, told: float) -> float:
    """Say until when a load balancer may have sent to a Pod that was told to stop."""
    if life.unlisted is not None:
        return life.unlisted + LAG
    if life.listed is not None:
        return math.inf  # the endpoints had it all the time
    return max(told, life.signalled or told) + LAG  # no EndpointSlice was seen


def _begun(loss: Loss) -> float:
    """When the lost request's connection began.

    A status is an answer: its connection works, and something behind it failed (an ingress answers
    502). So then the time of the request counts.
    """
    return loss.sent if loss.outcome == "status" else loss.dialled


def _could_stop(loss: Loss, life: Life) -> bool:
    """Say whether the Pod's server may have got its signal by then: its hook holds it back."""
    return life.signalled is None or loss.at >= life.signalled - SLACK


def _past(seconds: float) -> str:
    """Say how long before or after; the watch can't tell a tenth of a second."""
    if abs(seconds) < 0.05:
        return "just as"
    return f"{abs(seconds):.1f} s {'before' if seconds < 0 else 'after'}"


def blame(loss: Loss, pods: Sequence[Life], seen: Iterable[Seen], *, watched: bool) -> Verdict:
    """Class one lost or retried request."""
    if not watched:
        return Verdict("not-watched", "", "")
    mine = [life for life in pods if life.address and life.address == loss.address]
    fits = sorted(
        _Fit(
            match.weak,
            int(match.distance / SLACK),
            order,
            match.distance,
            kind,
            life.name,
            match.evidence,
            match.after,
        )
        for life in (mine or pods)
        for order, (kind, rule) in enumerate(_RULES.items())
        if (match := rule(loss, life)) is not None
    )
    if not fits:
        return Verdict("no-pod", "", _no_pod(loss, pods, seen))
    best = fits[0]
    strong = {fit.kind: None for fit in fits if fit.weak == best.weak and fit.kind != best.kind}
    pod = best.pod if mine or len({fit.pod for fit in fits}) == 1 else ""
    evidence = f"{best.pod}: {best.evidence}" if pod else f"probably {best.pod}: {best.evidence}"
    return Verdict(best.kind, best.pod, evidence, round(best.after, 3), tuple(strong))


def _no_pod(loss: Loss, pods: Sequence[Life], seen: Iterable[Seen]) -> str:
    """Say what is known when no Pod explains a loss."""
    ready, leaving, slices = _endpoints(seen, loss.at)
    parts = [f"to {loss.address}" if loss.address else "no address"]
    if loss.address and all(life.address != loss.address for life in pods):
        parts[0] += " (not a Pod's)"
    parts.append(
        f"EndpointSlice: {ready} ready, {leaving} terminating"
        if slices
        else "EndpointSlice: unseen"
    )
    # Pods whose drain is on record and covers the moment: they were still serving.
    serving = [
        f"{life.name} drained to {life.drained:.1f} s ({life.record.get('drain_end', '?')})"
        for life in pods
        if life.told is not None
        and life.drained is not None
        and life.told <= loss.at < life.drained
    ]
    return "; ".join(parts + serving[:2])


def _endpoints(seen: Iterable[Seen], at: float) -> tuple[int, int, bool]:
    """Count the ready and the terminating endpoints at a moment."""
    latest = {
        entry.name: entry for entry in seen if isinstance(entry, SliceSeen) and entry.at <= at
    }
    states: dict[str, tuple[bool, bool]] = {}
    for entry in latest.values():
        for endpoint in entry.endpoints:
            before = states.get(endpoint.pod, (False, False))
            states[endpoint.pod] = (
                before[0] or endpoint.ready,
                before[1] or endpoint.terminating,
            )
    ready = sum(r for r, _ in states.values())
    return ready, sum(t for _, t in states.values()), bool(latest)
