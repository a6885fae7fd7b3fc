"""The geometry of the picture: a report in, places on one time axis out. Draws nothing. Pure.

Places on the axis are percent of its width, so that a drawing fits any screen. The two charts are
drawn in a box of 1000 x 100 that is stretched. What is drawn is bounded, whatever a report holds:

| what               | at most                                                         |
|--------------------|-----------------------------------------------------------------|
| columns of a chart | 400; longer runs share a column among seconds                   |
| marks of a class   | 80; overlapping losses share a mark that says how many they are |
| lanes              | 60 Pods; those without events are left out first                |
| rows of the table  | 200 losses, 120 columns of time                                 |
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final, NamedTuple

from webhook.cli.prove.blame import KINDS
from webhook.cli.prove.ledger import LOSSES, RETRIED
from webhook.cli.prove.lives import NAMES
from webhook.cli.prove.report import Lost, Pod, Report, Row, Told
from webhook.cli.prove.text import short
from webhook.cli.watching.axis import Phase, Tick, phase, place, ticks

_COLUMNS: Final = 400
_MARKS: Final = 80
_LANES: Final = 60
_LISTED: Final = 200
_SPANS: Final = 120
_EXAMPLES: Final = 2
_FASTEST: Final = 0.001
"""Seconds at the bottom of the latency chart, whose scale is logarithmic."""


class Mark(NamedTuple):
    """Lost or retried requests at one place. size: 1 for one request, more for more."""

    x: float
    size: float
    text: str


class MarkRow(NamedTuple):
    """The marks of one class."""

    kind: str
    title: str
    number: int
    marks: list[Mark]


class Lane(NamedTuple):
    """One Pod's life."""

    name: str
    text: str
    phases: list[Phase]
    moments: list[Tick]


class Chart(NamedTuple):
    """A chart's outline in a box of 1000 x 100, its scale, and the same in a sentence."""

    paths: dict[str, str]
    scale: list[tuple[float, str]]
    text: str


class Span(NamedTuple):
    """Some seconds as a row of the table."""

    begin: int
    end: int
    sent: int
    lost: int
    retried: int
    p50: str
    p99: str


class Picture(NamedTuple):
    """One run, ready to be drawn."""

    ticks: list[Tick]
    command: Phase | None
    rate: Chart
    latency: Chart
    rows: list[MarkRow]
    lanes: list[Lane]
    hidden: int
    spans: list[Span]
    losses: list[Lost]
    shown: int


PHASES: Final = {
    "starting": "starting: created, not yet in the endpoints",
    "serving": "serving: ready and in the endpoints",
    "leaving": "told to stop, still in the endpoints",
    "draining": "out of the endpoints, not yet signalled",
    "stopping": "signalled, not yet gone",
}
"""Phase of a Pod's life -> what it means, in the order of time."""


def length(reports: Iterable[Report]) -> float:
    """Say how many seconds an axis must hold for these runs."""
    ends = [report.seconds for report in reports]
    ends += [event.at for report in reports for event in report.events]
    ends += [loss.at for report in reports for loss in (*report.losses, *report.retries)]
    return max([*ends, 1.0])


def picture(report: Report, span: float) -> Picture:
    """Lay out one run on an axis of so many seconds."""
    lanes = _chosen(report.pods)
    losses = [*report.losses, *report.retries]
    return Picture(
        ticks=ticks(span),
        command=_command(report, span),
        rate=_rate(report.timeline, span),
        latency=_latency(report.timeline, span),
        rows=_marks(report, span),
        lanes=[_lane(pod, span, length([report])) for pod in lanes],
        hidden=len(report.pods) - len(lanes),
        spans=_spans(report.timeline),
        losses=sorted(losses, key=lambda loss: loss.at)[:_LISTED],
        shown=len(losses),
    )


def _command(report: Report, span: float) -> Phase | None:
    begins = [event.at for event in report.events if event.what.startswith("command began")]
    if not begins or report.command_seconds is None:
        return None
    return phase("command", begins[0], begins[0] + report.command_seconds, span)


# -- charts


class _Column(NamedTuple):
    """The seconds that share a column: from begin on, `width` of them."""

    begin: int
    width: int
    rows: list[Row]

    @property
    def sent(self) -> float:
        """Requests a second."""
        return sum(sum(row.sent.values()) for row in self.rows) / self.width

    @property
    def lost(self) -> int:
        """Lost requests that ended here."""
        return sum(n for row in self.rows for name, n in row.marks.items() if name in LOSSES)


def _columns(timeline: Sequence[Row], most: int) -> list[_Column]:
    if not timeline:
        return []
    last = max(row.second for row in timeline)
    width = math.ceil((last + 1) / most)
    rows: dict[int, list[Row]] = defaultdict(list)
    for row in timeline:
        rows[row.second // width].append(row)
    return [_Column(n * width, width, rows.get(n, [])) for n in range(last // width + 1)]


def _rate(timeline: Sequence[Row], span: float) -> Chart:
    columns = _columns(timeline, _COLUMNS)
    top = max((column.sent for column in columns), default=1.0) or 1.0
    area, bars = ["M0,100"], []
    for column in columns:
        left, right = _box(column, span)
        area.append(f"L{left},{_y(column.sent, top)}H{right}")
        if column.lost:
            bars.append(f"M{left},100V{_y(column.lost / column.width, top)}H{right}V100z")
    area.append("V100z")
    sent = sum(sum(row.sent.values()) for row in timeline)
    return Chart(
        {"sent": "".join(area), "lost": "".join(bars)},
        [(0.0, f"{top:.0f}/s")],
        f"Requests per second: {sent} sent, at most {top:.0f} per second",
    )


def _latency(timeline: Sequence[Row], span: float) -> Chart:
    columns = _columns(timeline, _COLUMNS)
    values = [row.p99_seconds for row in timeline if row.p99_seconds]
    top = max([*values, 0.01])
    decades = math.ceil(math.log10(top / _FASTEST) - 1e-9)

    def y(seconds: float) -> float:
        share = math.log10(max(seconds, _FASTEST) / _FASTEST) / decades
        return round(100 - 100 * share, 1)

    paths = {}
    for name in ("p50", "p99"):
        path, gap = [], True
        for column in columns:
            found = [getattr(row, f"{name}_seconds") for row in column.rows]
            known = [value for value in found if value is not None]
            if not known:
                gap = True
                continue
            left, right = _box(column, span)
            high = y(max(known) if name == "p99" else sorted(known)[len(known) // 2])
            path.append(f"{'M' if gap else 'L'}{left},{high}H{right}")
            gap = False
        paths[name] = "".join(path)
    scale = [
        (y(_FASTEST * 10**n), f"{10**n:g} ms" if n < 3 else f"{10 ** (n - 3):g} s")
        for n in range(1, decades + 1)
    ]
    text = (
        f"Latency, without slow requests: the worst p99 of a second is {short(max([*values, 0.0]))}"
    )
    return Chart(paths, scale, text)


def _box(column: _Column, span: float) -> tuple[float, float]:
    return (
        round(1000 * min(column.begin / span, 1.0), 1),
        round(1000 * min((column.begin + column.width) / span, 1.0), 1),
    )


def _y(value: float, top: float) -> float:
    return round(100 - 95 * min(value / top, 1.0), 1)


def _spans(timeline: Sequence[Row]) -> list[Span]:
    def latency(values: Iterable[float | None]) -> str:
        known = [value for value in values if value is not None]
        return short(max(known)) if known else "-"

    return [
        Span(
            column.begin,
            column.begin + column.width,
            sum(sum(row.sent.values()) for row in column.rows),
            column.lost,
            sum(row.marks.get(RETRIED, 0) for row in column.rows),
            latency(row.p50_seconds for row in column.rows),
            latency(row.p99_seconds for row in column.rows),
        )
        for column in _columns(timeline, _SPANS)
    ]


# -- marks


def _marks(report: Report, span: float) -> list[MarkRow]:
    rows = [
        MarkRow(
            kind,
            KINDS[kind].title,
            row.count,
            _grouped([loss for loss in report.losses if loss.kind == kind], span),
        )
        for kind, row in report.kinds.items()
    ]
    if report.retries:
        grouped = _grouped(report.retries, span)
        rows.append(MarkRow(RETRIED, "Retried by the client", report.retried, grouped))
    if report.notices:
        rows.append(
            MarkRow("told", "Told by the server", len(report.notices), _told_of(report, span))
        )
    return rows


def _told_of(report: Report, span: float) -> list[Mark]:
    """Mark what servers told clients before they went: GOAWAY, close frames."""
    groups: dict[int, list[Told]] = defaultdict(list)
    for notice in report.notices:
        groups[min(int(notice.at / span * _MARKS), _MARKS - 1)].append(notice)
    return [
        Mark(place(sum(one.at for one in group) / len(group), span), 1.0, "; ".join(_said(group)))
        for _, group in sorted(groups.items())
    ]


def _said(group: Sequence[Told]) -> Iterable[str]:
    for one in islice(group, _EXAMPLES):
        yield f"{one.at:.2f} s: {one.client}: {one.detail}"
    if len(group) > _EXAMPLES:
        yield f"and {len(group) - _EXAMPLES} more"


def _grouped(losses: Iterable[Lost], span: float) -> list[Mark]:
    """Make one mark of what would overlap."""
    groups: dict[int, list[Lost]] = defaultdict(list)
    for loss in losses:
        groups[min(int(_place(loss) / span * _MARKS), _MARKS - 1)].append(loss)
    return [
        Mark(
            place(sum(map(_place, group)) / len(group), span),
            round(1 + min(0.15 * math.log2(len(group)), 0.6), 2),
            "; ".join(_told(group)),
        )
        for _, group in sorted(groups.items())
    ]


def _place(loss: Lost) -> float:
    """Say when a loss happened: at its end, but where nobody answered, when it was sent."""
    return loss.at - loss.took if loss.outcome == "timeout" else loss.at


def _told(group: Sequence[Lost]) -> Iterable[str]:
    if len(group) > 1:
        places = sorted(map(_place, group))
        yield f"{len(group)} requests, {places[0]:.1f} to {places[-1]:.1f} s"
    for loss in islice(group, _EXAMPLES):
        yield f"{loss.at:.2f} s: {loss.client}, {loss.detail}, after {short(loss.took)}"
        if loss.evidence:
            yield loss.evidence
        if loss.others:
            yield "or: " + ", ".join(KINDS[kind].title for kind in loss.others)
    if len(group) > _EXAMPLES:
        yield f"and {len(group) - _EXAMPLES} more"


# -- lanes


def _chosen(pods: Sequence[Pod]) -> list[Pod]:
    """Choose the Pods that are drawn: those to which something happened go first."""
    changed = [pod for pod in pods if any(pod.moments.values())]
    still = [pod for pod in pods if not any(pod.moments.values())]
    chosen = (changed + still)[:_LANES]
    return sorted(chosen, key=lambda pod: (not pod.old, pod.moments.get("created", 0.0)))


def _lane(pod: Pod, span: float, until: float) -> Lane:
    moments = [(name, at) for name, at in pod.moments.items() if at > 0]
    order = sorted(moments, key=lambda moment: moment[1])
    words = [f"{NAMES.get(name, name)} at {at:.1f} s" for name, at in order]
    if pod.old:
        words.insert(0, "was there before")
    if pod.record:
        words.append(_record(pod))
    return Lane(
        pod.name,
        "; ".join([f"Pod {pod.name}", *words]),
        _phases(pod, span, until),
        [Tick(place(at, span), f"{NAMES.get(name, name)} at {at:.1f} s") for name, at in order],
    )


def _record(pod: Pod) -> str:
    """Say what the drain's record holds. It is a Pod's own text: only these fields, cut short."""
    fields = ("delay_end", "drain_end", "in_flight_start", "in_flight_end", "stop")
    known = [f"{name} {str(pod.record[name])[:40]}" for name in fields if name in pod.record]
    return "record of the drain: " + ", ".join(known)


def _phases(pod: Pod, span: float, until: float) -> list[Phase]:
    """Cut a life into its phases, up to the end of its run.

    A moment that wasn't seen leaves its phase out.
    """
    get = pod.moments.get
    end = next((at for at in (get("gone"), get("ended")) if at is not None), until)
    told, created = get("told"), get("created", 0.0)
    joined = next((at for at in (get("listed"), get("ready")) if at is not None), None)
    before = end if told is None else told
    cuts = [("starting", created, before if joined is None else min(joined, before))]
    if joined is not None:
        cuts.append(("serving", joined, before))
    if told is not None:
        unlisted, signalled = get("unlisted"), get("signalled")
        left = end if unlisted is None else min(unlisted, end)
        cuts.append(("leaving", told, left))
        if signalled is not None and signalled < end:
            cuts.append(("draining", left, max(left, signalled)))
            cuts.append(("stopping", max(left, signalled), end))
        else:
            cuts.append(("draining", left, end))
    return [phase(name, begin, stop, span) for name, begin, stop in cuts if stop > begin]
