"""Places on one time axis: seconds in, percent of its width out, for any screen. Pure."""

import math
from typing import Final, NamedTuple

_STEPS: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600)
_TICKS: Final = 8


class Tick(NamedTuple):
    """A place on the axis, and what stands there."""

    x: float
    text: str


class Phase(NamedTuple):
    """A part of a life, from a place on."""

    name: str
    x: float
    width: float


def place(at: float, span: float) -> float:
    """Say where a moment is on an axis of so many seconds: 0 to 100."""
    return round(100 * min(max(at / span, 0.0), 1.0), 2)


def phase(name: str, begin: float, end: float, span: float) -> Phase:
    """Lay a part between two moments on the axis."""
    left = place(begin, span)
    return Phase(name, left, round(place(end, span) - left, 2))


def ticks(span: float) -> list[Tick]:
    """Give the axis at most eight marks with round numbers, from 0 on."""
    step = next((step for step in _STEPS if span / step <= _TICKS), _STEPS[-1])
    count = math.floor(span / step)
    return [Tick(place(i * step, span), f"{round(i * step, 1):g} s") for i in range(count + 1)]
