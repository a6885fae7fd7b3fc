"""A report for a terminal: the ordered list, the table over repeats, what to set. Text out."""

from collections.abc import Iterator, Sequence
from textwrap import fill
from typing import Final

from webhook.cli import terminal
from webhook.cli.timeline.report import Line, Met, Pod, Report
from webhook.cli.timeline.sight import PATHS
from webhook.cli.timeline.spread import Row, Spread

_WIDE: Final = 94
"""Columns of a sentence."""


def text(report: Report, *, colour: bool) -> str:
    """Write a report."""
    return "\n".join(_parts(report, colour=colour))


def _parts(report: Report, *, colour: bool) -> Iterator[str]:
    for which, pod in _examples(report):
        yield terminal.bold(heading(which, pod), colour=colour)
        yield listing(pod.coming if which == "comes" else pod.going)
        yield ""
    met = [(pod, it) for pod in report.pods for it in pod.met if pod.going]
    if met:
        yield terminal.bold("New clients between the order to stop and the end", colour=colour)
        yield terminal.table(
            ("WAY", "FROM", "ASKED", "CAME TO IT", "FAILED", "TTL"), clients(report)
        )
        yield ""
    many = max((row.seconds.count for row in (*report.coming, *report.going)), default=0)
    for title, rows in (("Coming", report.coming), ("Going", report.going)):
        if rows and many > 1:
            yield terminal.bold(f"{title}, {_of(rows)}: seconds", colour=colour)
            yield moments(rows)
            yield ""
    yield from (fill(note, _WIDE, break_long_words=False) for note in notes(report))
    if report.suggestions:
        yield ""
        yield terminal.bold("Suggested", colour=colour)
        for it in report.suggestions:
            yield fill(
                f"{it.setting}: {it.value}: {it.because}",
                _WIDE,
                initial_indent="* ",
                subsequent_indent="  ",
                break_long_words=False,
            )


def heading(which: str, pod: Pod) -> str:
    """Name a list of events."""
    node = f" ({pod.node})" if pod.node else ""
    since = "its creation" if which == "comes" else "the order to stop"
    return f"{pod.name}{node} {which}: seconds since {since}, and since the line before"


def listing(lines: Sequence[Line]) -> str:
    """Write events as an ordered list."""
    return terminal.table(
        ("   AT", " AFTER", "WHO", "FROM", "WHAT"),
        [
            (f"{it.seconds:7.3f}", f"{it.after:+7.3f}", it.source, it.place or "-", it.what)
            for it in lines
        ],
    )


def moments(rows: Sequence[Row]) -> str:
    """Write the moments of all lives as a table."""
    ready = any(row.after_ready for row in rows)
    head = ("WHO", "FROM", "WHAT", "MIN", "MEDIAN", "MAX", "SEEN")
    return terminal.table(
        (*head[:6], *(("AFTER READY",) if ready else ()), head[6]),
        [
            (
                row.source,
                row.place or "-",
                row.what,
                *_three(row.seconds),
                *((_middle(row.after_ready),) if ready else ()),
                str(row.seconds.count),
            )
            for row in rows
        ],
    )


def clients(report: Report) -> list[tuple[str, ...]]:
    """Say what clients met while Pods went, a row for each way and place."""
    found: dict[tuple[str, str], list[Met]] = {}
    for pod in report.pods:
        for it in pod.met:
            found.setdefault((it.way, it.place), []).append(it)
    rows: list[tuple[str, ...]] = []
    for (way, place), group in found.items():
        failed: dict[str, int] = {}
        for it in group:
            for answer, count in it.failed.items():
                failed[answer] = failed.get(answer, 0) + count
        ttls = [it.ttl_seconds for it in group if it.ttl_seconds is not None]
        rows.append(
            (
                PATHS.get(way, way),
                place,
                str(sum(it.asked for it in group)),
                _sum([it.after for it in group]) if way != "name" else "-",
                ", ".join(f"{answer} {count}" for answer, count in failed.items()) or "-",
                f"{max(ttls)} s" if ttls else "-",
            )
        )
    return rows


def _sum(counts: Sequence[int | None]) -> str:
    known = [count for count in counts if count is not None]
    return str(sum(known)) if known else "-"


def notes(report: Report) -> Iterator[str]:
    """Say what a reader must know to trust the numbers."""
    apart = [place for place, unsure in report.places.items() if unsure]
    asked = f"Each way was asked every {report.every_seconds * 1000:.0f} ms from each place"
    unsure = max(report.places.values(), default=0.0)
    clock = f"; other machines' clocks are known to {max(unsure * 1000, 1):.0f} ms" if apart else ""
    yield f"{asked}{clock}. Where two Pods share a Service, one of two answers is this Pod's."
    yield from (f"not seen: {what}" for what in report.troubles)


def _examples(report: Report) -> Iterator[tuple[str, Pod]]:
    """Choose the lives to list in full: the last Pod that came, and the last one that went."""
    for which in ("comes", "goes"):
        pods = [pod for pod in report.pods if (pod.coming if which == "comes" else pod.going)]
        if pods:
            yield which, pods[-1]


def _of(rows: Sequence[Row]) -> str:
    count = max(row.seconds.count for row in rows)
    return f"{count} Pods"


def _three(spread: Spread) -> tuple[str, str, str]:
    return f"{spread.least:.2f}", f"{spread.median:.2f}", f"{spread.most:.2f}"


def _middle(spread: Spread | None) -> str:
    return "-" if spread is None else f"{spread.median:+.2f}"
