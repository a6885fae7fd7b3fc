"""Several lives -> of each moment the least, the median and the most. Pure.

Coming is counted from the creation, and again from Ready, because a rollout waits for that; going
from the moment when the Pod was told to stop.
"""

from collections.abc import Iterable, Sequence
from statistics import median

import msgspec

from webhook.cli.timeline.lives import Event, Life, moment


class Spread(msgspec.Struct, frozen=True, rename="camel"):
    """Seconds. count: in how many lives it was seen."""

    least: float
    median: float
    most: float
    count: int


class Row(msgspec.Struct, frozen=True, rename="camel"):
    """A moment over several lives. after_ready: the same counted from Ready; None while going."""

    moment: str
    source: str
    what: str
    place: str
    seconds: Spread
    after_ready: Spread | None = None


def spread(values: Sequence[float]) -> Spread:
    """Sum up at least one value."""
    low, middle, high = min(values), median(values), max(values)
    return Spread(round(low, 3), round(middle, 3), round(high, 3), len(values))


def coming(lives: Iterable[Life]) -> list[Row]:
    """Give the moments of coming, in the order of their medians."""
    found = [life for life in lives if life.coming]
    rows = []
    for key, events in _together([life.coming for life in found]).items():
        name, source, place = key
        ready = [
            event.at - base
            for life in found
            for event in life.coming
            if _key(event) == key and (base := moment(life.coming, "ready")) is not None
        ]
        rows.append(
            Row(
                name,
                source,
                events[0].what,
                place,
                spread([event.at for event in events]),
                spread(ready) if ready else None,
            )
        )
    return sorted(rows, key=lambda row: row.seconds.median)


def going(lives: Iterable[Life]) -> list[Row]:
    """Give the moments of going, in the order of their medians."""
    rows = [
        Row(name, source, events[0].what, place, spread([event.at for event in events]))
        for (name, source, place), events in _together(
            [life.going for life in lives if life.going]
        ).items()
    ]
    return sorted(rows, key=lambda row: row.seconds.median)


def _key(event: Event) -> tuple[str, str, str]:
    return event.moment, event.source, event.place


def _together(lists: Iterable[tuple[Event, ...]]) -> dict[tuple[str, str, str], list[Event]]:
    """Put events of the same moment together: of each life the first one."""
    found: dict[tuple[str, str, str], list[Event]] = {}
    for events in lists:
        seen = set()
        for event in events:
            if event.moment and _key(event) not in seen:
                seen.add(_key(event))
                found.setdefault(_key(event), []).append(event)
    return found
