"""What the measured times ask of a workload: settings with a value and the reason. Pure.

| setting         | rule                                                                          |
|-----------------|-------------------------------------------------------------------------------|
| delay-min       | the latest new connection after the Pod was told, plus a second; never below  |
|                 | the default                                                                   |
| delay-max       | delay-min and the pause that ends it (`quiet`), never below the default; if   |
|                 | clients look up a headless name: the last answer with the address, plus its   |
|                 | time to live                                                                  |
| replicas        | two, if clients came until the server stopped: then no delay is long enough   |
| minReadySeconds | from Ready to the first answer by the slowest way, plus a second              |

The extra second covers what was not measured: other nodes, a busier API server. The defaults are
those of podgrace's annotations (docs/annotations.md).
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from webhook.cli.timeline.lives import Life
from webhook.cli.timeline.sight import DIRECT, HEADLESS, INGRESS, PATHS, SERVICE
from webhook.cli.timeline.spread import Row
from webhook.core.settings import Settings

MARGIN: Final = 1.0
MIN: Final = Settings().delay_min
MAX: Final = Settings().delay_max
QUIET: Final = Settings().quiet
_CONNECTIONS: Final = (PATHS[SERVICE], PATHS[INGRESS])


class Advice(msgspec.Struct, frozen=True):
    """A setting, the value that the measurement asks for, and why."""

    setting: str
    value: str
    because: str


class _Latest(NamedTuple):
    seconds: float
    where: str


def suggestion(coming: Sequence[Row], going: Sequence[Row], lives: Sequence[Life]) -> list[Advice]:
    """Suggest settings from what was measured."""
    made = []
    left = _latest((row, row.seconds.most) for row in going if _is(row, "left", _CONNECTIONS))
    named = _latest(
        (row, row.seconds.most) for row in going if _is(row, "left", (PATHS[HEADLESS],))
    )
    ttl = max((way.ttl for life in lives for way in life.ways if way.key == HEADLESS), default=-1)
    stopped = max(
        (row.seconds.most for row in going if _is(row, "left", (PATHS[DIRECT],))), default=None
    )
    if left and stopped is not None and left.seconds > max(stopped - MARGIN, MARGIN):
        made.append(_alone(left))
    elif left:
        made += _delays(left)
    if named:
        made.append(_cached(named, ttl))
    joined = _latest(
        (row, row.after_ready.most)
        for row in coming
        if row.after_ready and _is(row, "reached", _CONNECTIONS)
    )
    if joined:
        value = max(1, math.ceil(joined.seconds + MARGIN))
        made.append(
            Advice(
                "minReadySeconds",
                str(value),
                f"the first answer by {joined.where} came {_late(joined.seconds)} Ready, and"
                " a rollout stops the next old Pod once this one has been Ready for this long",
            )
        )
    return made


def _alone(left: _Latest) -> Advice:
    return Advice(
        "replicas",
        "2 or more",
        f"new connections by {left.where} came until the server stopped, {_late(left.seconds)} the"
        " Pod was told: no delay is long enough for a Service's only Pod, or --linger was too short"
        " to tell",
    )


def _delays(left: _Latest) -> list[Advice]:
    asked = math.ceil(left.seconds + MARGIN)
    low, high = max(MIN, asked), max(MAX, asked + QUIET)
    came = f"the last new connection by {left.where} began {_late(left.seconds)} the Pod was told"
    return [
        Advice(
            "podgrace.io/delay-min",
            str(low),
            came + (f"; the default of {MIN} s is enough" if low == MIN else ""),
        ),
        Advice(
            "podgrace.io/delay-max",
            str(high),
            f"leaves {high - left.seconds:.0f} s for a day on which it takes longer"
            + (" (the default)" if high == MAX else ""),
        ),
    ]


def _cached(named: _Latest, ttl: int) -> Advice:
    kept = max(ttl, 0)
    value = max(MIN, math.ceil(named.seconds + kept + MARGIN))
    return Advice(
        "podgrace.io/delay-min, if clients look up a headless name",
        str(value),
        f"the last answer with the address ({named.where}) came {_late(named.seconds)} the Pod was"
        f" told, and clients may keep it for {kept} s",
    )


def _late(seconds: float) -> str:
    return f"{seconds:.1f} s after" if seconds >= 0 else "before"


def _is(row: Row, moment: str, sources: tuple[str, ...]) -> bool:
    return row.moment == moment and row.source in sources


def _latest(rows: Iterable[tuple[Row, float]]) -> _Latest | None:
    found = [
        _Latest(seconds, f"{row.source}, asked from {row.place}" if row.place else row.source)
        for row, seconds in rows
    ]
    return max(found, key=lambda it: it.seconds, default=None)
