"""Whose turn it is: only changes that we saw ourselves count, never another machine's clock."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from certs.lease import DURATION, Seen, released, turn

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def held(by: str = "b", *, renewed: datetime = NOW, seconds: Any = 30) -> dict[str, Any]:
    time = renewed.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {
        "holderIdentity": by,
        "leaseDurationSeconds": seconds,
        "acquireTime": time,
        "renewTime": time,
        "leaseTransitions": 3,
    }


def test_an_empty_lease_is_taken() -> None:
    step = turn({}, "a", NOW, None)
    assert step.mine and step.spec is not None
    assert step.spec["holderIdentity"] == "a"
    assert step.spec["renewTime"] == "2026-03-01T12:00:00.000000Z"
    assert step.spec["leaseDurationSeconds"] == 30


def test_a_lease_given_back_is_taken_at_once() -> None:
    step = turn(released(held(), NOW), "a", NOW, None)
    assert step.mine and step.spec and step.spec["leaseTransitions"] == 4


def test_anothers_lease_is_respected_for_its_whole_time_by_our_clock() -> None:
    first = turn(held(renewed=NOW - timedelta(days=1)), "a", NOW, None)
    assert not first.mine and first.spec is None, (
        "a day old by the holder's clock, and never looked at before"
    )
    spec = held(renewed=NOW - timedelta(days=1))
    assert not turn(spec, "a", NOW + DURATION - SECOND, first.seen).mine
    assert turn(spec, "a", NOW + DURATION, first.seen).mine


def test_a_renewed_lease_starts_the_time_again() -> None:
    seen = turn(held(), "a", NOW, None).seen
    later = turn(held(renewed=NOW + 20 * SECOND), "a", NOW + 29 * SECOND, seen)
    assert later.seen == Seen(later.seen.record, NOW + 29 * SECOND)
    assert not turn(held(renewed=NOW + 20 * SECOND), "a", NOW + 58 * SECOND, later.seen).mine


def test_our_own_is_renewed_after_a_third() -> None:
    seen = turn(held("a"), "a", NOW, None).seen
    assert turn(held("a"), "a", NOW + 9 * SECOND, seen).spec is None
    step = turn(held("a"), "a", NOW + 10 * SECOND, seen)
    assert step.mine and step.spec and step.spec["renewTime"].startswith("2026-03-01T12:00:10")
    assert step.spec["leaseTransitions"] == 3, "nothing changed hands"


def test_a_clock_set_back_starts_the_time_again() -> None:
    """Otherwise nobody would renew or take over for as long as the clock was set back."""
    seen = turn(held(), "a", NOW, None).seen
    step = turn(held(), "a", NOW - timedelta(hours=1), seen)
    assert turn(held(), "a", NOW - timedelta(hours=1) + DURATION, step.seen).mine


@pytest.mark.parametrize(
    ("seconds", "over"), [(86400, 120), (1, 5), (None, 30), ("x", 30), (-3, 5)]
)
def test_a_strange_duration_is_bounded(seconds: Any, over: int) -> None:
    seen = turn(held(seconds=seconds), "a", NOW, None).seen
    assert not turn(held(seconds=seconds), "a", NOW + (over - 1) * SECOND, seen).mine
    assert turn(held(seconds=seconds), "a", NOW + over * SECOND, seen).mine


def test_garbage_in_the_lease_is_overwritten() -> None:
    step = turn({"leaseTransitions": "many", "renewTime": 7}, "a", NOW, None)
    assert step.spec and step.spec["leaseTransitions"] == 1
