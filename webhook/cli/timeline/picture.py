"""The geometry of the picture: a report in, lanes on one time axis out. Draws nothing. Pure.

A Pod that came or went has a figure for each; a lane is one thing that was watched in it. At most
six figures are drawn: the last Pods of a long run.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from webhook.cli.timeline.report import Line, Pod, Report
from webhook.cli.timeline.sight import DIRECT, HEADLESS, INGRESS, PATHS, SERVICE
from webhook.cli.watching.axis import Phase, Tick, phase, place, ticks

_FIGURES: Final = 6

PHASES: Final = {
    "starting": "not there yet, or not ready",
    "serving": "there, ready, answers",
    "leaving": "told to stop, and clients still come to it",
    "draining": "told to stop, and clients no longer come to it",
    "stopping": "has got SIGTERM, or has ended",
}
"""What a colour means."""
_BEGINS: Final = {
    "started": "serving",
    "accepts": "serving",
    "ready": "serving",
    "listed": "serving",
    "reached": "serving",
    "unlisted": "draining",
    "left": "draining",
    "signalled": "stopping",
    "refuses": "stopping",
    "ended": "stopping",
    "unready": "stopping",
    "dropped": "stopping",
    "gone": "stopping",
}
"""Moment -> the colour that begins in its lane; others are marks only."""


_LANES: Final = (
    "Pod",
    "container",
    "EndpointSlice",
    PATHS[SERVICE],
    PATHS[INGRESS],
    PATHS[HEADLESS],
    "",
)


class Lane(NamedTuple):
    """One thing that was watched. text: all of it in a sentence."""

    name: str
    text: str
    phases: list[Phase]
    moments: list[Tick]


class Figure(NamedTuple):
    """A Pod's coming or going."""

    title: str
    ticks: list[Tick]
    lanes: list[Lane]


def figures(report: Report) -> list[Figure]:
    """Lay out what is drawn."""
    made = []
    for pod in report.pods:
        for which, lines in (("comes", pod.coming), ("goes", pod.going)):
            if lines:
                made.append(_figure(pod, which, lines))
    return made[-_FIGURES:]


def _figure(pod: Pod, which: str, lines: Sequence[Line]) -> Figure:
    span = max(lines[-1].seconds * 1.02, 0.5)
    first = "starting" if which == "comes" else "leaving"
    by_lane: dict[str, list[Line]] = {}
    for line in lines:
        name = f"{line.source}, from {line.place}" if line.place else line.source
        by_lane.setdefault(name, []).append(line)
    node = f" on {pod.node}" if pod.node else ""
    since = "its creation" if which == "comes" else "the order to stop"
    order = sorted(by_lane, key=_rank)
    return Figure(
        f"{pod.name}{node} {which}; seconds since {since}",
        ticks(span),
        [_lane(name, first, by_lane[name], span) for name in order],
    )


def _rank(name: str) -> tuple[bool, int, str]:
    """Put what the API tells first, then the ways of clients, and the Pod itself last."""
    place_of = next(n for n, start in enumerate(_LANES) if name.startswith(start))
    return name.startswith(PATHS[DIRECT]), place_of, name


def _lane(name: str, first: str, lines: Sequence[Line], span: float) -> Lane:
    cuts = [(first, 0.0)]
    cuts += [(_BEGINS[it.moment], it.seconds) for it in lines if it.moment in _BEGINS]
    ends = [*(at for _, at in cuts[1:]), span]
    words = [f"{it.what} at {it.seconds:.3f} s" for it in lines]
    return Lane(
        name,
        "; ".join([name, *words]),
        [
            phase(colour, begin, end, span)
            for (colour, begin), end in zip(cuts, ends, strict=True)
            if end > begin
        ],
        [Tick(place(it.seconds, span), f"{it.what} at {it.seconds:.3f} s") for it in lines],
    )
