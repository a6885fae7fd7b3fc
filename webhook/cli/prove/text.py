"""A report for people at a terminal: tables, a timeline, the verdict, what to do. Text out."""

from collections.abc import Iterator
from typing import Final

from webhook.cli import terminal
from webhook.cli.prove.blame import KINDS
from webhook.cli.prove.ledger import LOSSES, NOTICES, RETRIED
from webhook.cli.prove.report import Client, Report, Row

_HEAD: Final = (
    "CLIENT",
    "SENT",
    "OK",
    "LOST",
    "LOST HOW",
    "RETRIED",
    "RECONNECTED",
    "P50",
    "P99",
    "MAX",
)
_EXAMPLES: Final = 3
_LINES: Final = 200
"""Most lines of the timeline at a terminal; JSON and picture have all of it."""


def text(report: Report, *, colour: bool) -> str:
    """Write a report."""
    return "\n".join(_parts(report, colour=colour))


def _parts(report: Report, *, colour: bool) -> Iterator[str]:
    yield terminal.table(_HEAD, [(name, *cells(client)) for name, client in report.clients.items()])
    yield ""
    timeline = list(_timeline(report))
    if timeline:
        yield terminal.bold("  WHEN  WHAT", colour=colour)
        yield from timeline[:_LINES]
        if len(timeline) > _LINES:
            yield f"        and {len(timeline) - _LINES} lines more: -o json or --html has them"
        yield ""
    seen = {name for client in report.clients.values() for name in client.outcomes}
    seen |= {name for row in report.timeline for name in row.marks if name in NOTICES}
    yield from (f"{name}: {what}" for name, what in {**LOSSES, **NOTICES}.items() if name in seen)
    yield from notes(report)
    if report.kinds:
        yield ""
        yield terminal.table(
            ("WHOSE LOSS", "LOST", "MEANS"),
            [
                (KINDS[kind].title, counted(report, kind), KINDS[kind].means)
                for kind in report.kinds
            ],
        )
        yield from _examples(report)
    yield ""
    yield terminal.bold(verdict(report), colour=colour)
    if report.kinds:
        yield ""
        yield terminal.bold("What to do", colour=colour)
        yield from (f"* {remedy}" for remedy in remedies(report))


def cells(client: Client) -> tuple[str, ...]:
    """Write the outcomes of one kind of client, without its name."""
    return (
        str(client.sent),
        str(client.ok),
        str(client.lost),
        ", ".join(f"{name} {count}" for name, count in client.outcomes.items()) or "-",
        str(client.retried),
        str(client.reconnected),
        short(client.p50_seconds),
        short(client.p99_seconds),
        short(client.max_seconds),
    )


def short(seconds: float) -> str:
    """Write a duration."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def verdict(report: Report) -> str:
    """Say the result in one sentence."""
    lost = f"{report.lost} of {report.sent}" if report.lost else f"none of {report.sent}"
    allowed = f" ({report.max_lost} may be)" if report.max_lost else ""
    retried = f", {report.retried} retried" if report.retried else ""
    line = f"{lost} requests lost{allowed}{retried} in {report.seconds:.1f} s"
    times = [
        (report.command_seconds, "the command took {:.1f} s"),
        (report.rollout_seconds, "the last new Pod was ready after {:.1f} s"),
        (report.last_old_pod_seconds, "the last old Pod was gone after {:.1f} s"),
    ]
    return "; ".join([line, *(form.format(at) for at, form in times if at is not None)])


def notes(report: Report) -> Iterator[str]:
    """Say what a reader must know to trust the numbers."""
    if report.retried:
        yield (
            "retried: sent again by the rule for requests that may be repeated "
            "(--no-retry counts them as lost)"
        )
    if report.latest_start_seconds > 0.5:
        late = report.latest_start_seconds
        yield f"this machine was too busy: a request started {late:.1f} s late"
    yield from (f"not seen: {what}" for what in report.troubles)
    if report.unproved:
        yield report.unproved


def counted(report: Report, kind: str) -> str:
    """Write how many losses are of a class, and how many of those are not sure."""
    row = report.kinds[kind]
    return f"{row.count} ({row.unsure} unsure)" if row.unsure else str(row.count)


def remedies(report: Report) -> Iterator[str]:
    """Say what to do about each class found."""
    for kind, row in report.kinds.items():
        about = KINDS[kind]
        after = row.after_seconds
        latest = "" if after is None or after <= 0 else " " + about.latest.format(after)
        yield f"{about.title}: {about.remedy}{latest}".rstrip()


def _examples(report: Report) -> Iterator[str]:
    for kind in report.kinds:
        some = [loss for loss in report.losses if loss.kind == kind and loss.evidence]
        for loss in some[:_EXAMPLES]:
            others = f" (or {', '.join(loss.others)})" if loss.others else ""
            yield f"{loss.at:6.1f}  {loss.client} {loss.outcome}: {kind}{others}: {loss.evidence}"
        if len(some) > _EXAMPLES:
            yield f"        and {report.kinds[kind].count - _EXAMPLES} more of {kind}"


def _timeline(report: Report) -> Iterator[str]:
    # A second's sum stands at its end, after what happened in it.
    lines = [
        (row.second + 0.999, f"{row.second:>4} s  {_marks(row)}")
        for row in report.timeline
        if row.marks
    ]
    lines += [(event.at, f"{event.at:6.1f}  {event.what}") for event in report.events]
    yield from (line for _, line in sorted(lines, key=lambda line: line[0]))


def _marks(row: Row) -> str:
    names = [name for name in (*LOSSES, RETRIED, *NOTICES) if row.marks.get(name)]
    marks = ", ".join(f"{name} {row.marks[name]}" for name in names)
    return f"{sum(row.sent.values())} sent; {marks}"
