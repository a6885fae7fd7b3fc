"""Whose turn it is: one replica does the work, and the others take over when it stops.

In: the Lease's spec and the time. Out: whether we hold it, and what to write. It saves work and
noise, but protects nothing, since a sleeping holder can wake up late. The resource version of each
write protects (`certs.rotation`).

As in client-go's leader election, a Lease is over when we have not seen it change for its whole
duration by *our* clock: we never compare other clocks with ours.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

DURATION = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Seen:
    """A Lease, and when we first saw it in this state."""

    record: tuple[object, ...]
    since: datetime


@dataclass(frozen=True, slots=True)
class Turn:
    """What to do: write `spec` unless it is None; once that has worked, the turn is ours."""

    mine: bool
    spec: dict[str, Any] | None
    seen: Seen


def turn(spec: dict[str, Any], identity: str, now: datetime, seen: Seen | None) -> Turn:
    """Decide whose turn it is."""
    record = (spec.get("holderIdentity"), spec.get("renewTime"), spec.get("leaseTransitions"))
    # A clock that was set back would make the Lease look young for just as long.
    seen = (
        seen
        if seen is not None and seen.record == record and seen.since <= now
        else Seen(record, now)
    )
    holder = spec.get("holderIdentity")
    if holder == identity:
        if now - seen.since < DURATION / 3:
            return Turn(True, None, seen)
        return Turn(True, {**spec, "renewTime": _micro(now)}, seen)
    if holder and now - seen.since < _duration(spec):
        return Turn(False, None, seen)
    transitions = spec.get("leaseTransitions")
    claim = {
        "holderIdentity": identity,
        "leaseDurationSeconds": int(DURATION.total_seconds()),
        "acquireTime": _micro(now),
        "renewTime": _micro(now),
        "leaseTransitions": (transitions if isinstance(transitions, int) else 0) + 1,
    }
    return Turn(True, claim, seen)


def released(spec: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Give the Lease back, so that nobody has to wait until it ends."""
    return {**spec, "holderIdentity": "", "renewTime": _micro(now), "leaseDurationSeconds": 1}


def _duration(spec: dict[str, Any]) -> timedelta:
    seconds = spec.get("leaseDurationSeconds")
    # With a stranger's duration of an hour we would not renew for an hour; with one second,
    # replicas would fight.
    return timedelta(seconds=min(max(seconds, 5), 120)) if isinstance(seconds, int) else DURATION


def _micro(time: datetime) -> str:
    """Write a MicroTime."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
