"""One report or several, as Markdown: for a job summary or a merge request. Text out."""

from collections.abc import Iterator, Sequence

from webhook.cli.prove.blame import KINDS
from webhook.cli.prove.compare import beside
from webhook.cli.prove.report import Report
from webhook.cli.prove.text import cells, counted, notes, remedies, verdict

_HEAD = (
    "client",
    "sent",
    "ok",
    "lost",
    "lost how",
    "retried",
    "reconnected",
    "p50",
    "p99",
    "longest",
)


def markdown(reports: Sequence[Report]) -> str:
    """Write them."""
    if len(reports) > 1:
        found = beside(reports)
        return "\n".join([*_table(found.head, found.rows), "", *map(_plain, found.notes)])
    return "\n".join(_one(reports[0]))


def _one(report: Report) -> Iterator[str]:
    sign = "❌" if report.failed or report.unproved else "✅"
    yield f"### {sign} {_plain(report.title)}: {_plain(verdict(report))}"
    yield ""
    rows = [(name, *cells(client)) for name, client in report.clients.items()]
    yield from _table(_HEAD, rows)
    yield ""
    yield from (f"{_plain(note)}  " for note in notes(report))
    if not report.kinds:
        return
    classes = [
        (KINDS[kind].title, counted(report, kind), KINDS[kind].means) for kind in report.kinds
    ]
    yield from ["", *_table(("whose loss", "lost", "means"), classes), "", "What to do:", ""]
    yield from (f"* {_plain(remedy)}" for remedy in remedies(report))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for row in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(map(_plain, row))} |"


def _plain(text: str) -> str:
    """Keep text from being markup: it may hold what a server or a Pod said."""
    escaped = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return " ".join(escaped.split())
