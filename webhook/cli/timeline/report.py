"""The report: what a run saw in, one tree out, the source of `-o json` and other forms. Pure."""

from typing import NamedTuple

import msgspec

from webhook import __version__
from webhook.cli.timeline import spread
from webhook.cli.timeline.lives import Event, Life, gaps
from webhook.cli.timeline.spread import Row
from webhook.cli.timeline.suggestion import Advice, suggestion


class _Struct(msgspec.Struct, frozen=True, rename="camel"):
    pass


class Line(_Struct, frozen=True):
    """An event. seconds: since the Pod was created, or told to stop. after: since the last line."""

    seconds: float
    after: float
    source: str
    place: str
    what: str
    moment: str


class Met(_Struct, frozen=True):
    """What clients met on one way while a Pod went. after: its answers after it was told."""

    way: str
    place: str
    asked: int
    after: int | None
    failed: dict[str, int]
    ttl_seconds: int | None


class Pod(_Struct, frozen=True):
    """One Pod. created, told: seconds since the watch began; None where that was not seen."""

    name: str
    node: str
    created: float | None
    told: float | None
    coming: list[Line]
    going: list[Line]
    met: list[Met]


class Report(_Struct, frozen=True):
    """One whole run. places: where from, and by how many seconds times may be wrong."""

    podgrace: str
    title: str
    namespace: str
    began: str
    every_seconds: float
    places: dict[str, float]
    pods: list[Pod]
    coming: list[Row]
    going: list[Row]
    suggestions: list[Advice]
    troubles: list[str]


class About(NamedTuple):
    """What the command line says of a run."""

    title: str
    namespace: str
    began: str
    every: float


def make(
    about: About, lives: tuple[Life, ...], places: dict[str, float], troubles: tuple[str, ...]
) -> Report:
    """Make the report."""
    coming, going = spread.coming(lives), spread.going(lives)
    return Report(
        __version__,
        about.title,
        about.namespace,
        about.began,
        about.every,
        places,
        [_pod(life) for life in lives],
        coming,
        going,
        suggestion(coming, going, lives),
        list(troubles),
    )


def write(report: Report) -> str:
    """Write it as JSON."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode()


def read(text: str | bytes) -> Report:
    """Read what `write` wrote. Raises msgspec.ValidationError if it isn't a report."""
    return msgspec.json.decode(text, type=Report)


def _pod(life: Life) -> Pod:
    return Pod(
        life.name,
        life.node,
        None if life.began is None else round(life.began, 3),
        None if life.told is None else round(life.told, 3),
        _lines(life.coming),
        _lines(life.going),
        [
            Met(
                way.key,
                way.place,
                way.asked,
                way.after if way.after >= 0 else None,
                way.failed,
                way.ttl if way.ttl >= 0 else None,
            )
            for way in life.ways
        ],
    )


def _lines(events: tuple[Event, ...]) -> list[Line]:
    return [
        Line(event.at, gap, event.source, event.place, event.what, event.moment)
        for event, gap in zip(events, gaps(events), strict=True)
    ]
