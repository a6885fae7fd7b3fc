"""Several runs beside each other: reports in, one table out. Pure.

    podgrace prove compare bare.json sleep.json podgrace.json --html beside.html

Runs to compare should have had the same load. If not, the table says so.
"""

from collections.abc import Sequence
from typing import NamedTuple

from webhook.cli import terminal
from webhook.cli.prove.blame import KINDS
from webhook.cli.prove.report import Report
from webhook.cli.prove.text import short

_SAME: float = 1.15
"""Loads count as the same if the fastest sends at most this many times what the slowest sends."""


class Beside(NamedTuple):
    """A table: its head, a row for each run, and caveats."""

    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: list[str]


def beside(reports: Sequence[Report]) -> Beside:
    """Put runs into one table."""
    kinds = [kind for kind in KINDS if any(kind in report.kinds for report in reports)]
    clients = list(dict.fromkeys(name for report in reports for name in report.clients))
    head = (
        "run",
        "sent",
        "lost",
        *(f"lost, {name}" for name in clients if len(clients) > 1),
        "retried",
        *(KINDS[kind].title.lower() for kind in kinds),
        "p99",
        "last new Pod ready",
        "last old Pod gone",
    )
    rows = [
        (
            report.title,
            str(report.sent),
            str(report.lost),
            *(_of(report, name) for name in clients if len(clients) > 1),
            str(report.retried),
            *(str(report.kinds[kind].count) if kind in report.kinds else "0" for kind in kinds),
            short(max((row.p99_seconds or 0.0 for row in report.timeline), default=0.0)),
            _seconds(report.rollout_seconds),
            _seconds(report.last_old_pod_seconds),
        )
        for report in reports
    ]
    return Beside(head, rows, list(_notes(reports)))


def text(reports: Sequence[Report]) -> str:
    """Write the table for a terminal."""
    found = beside(reports)
    table = terminal.table(tuple(name.upper() for name in found.head), found.rows)
    return "\n".join([table, *found.notes])


def _of(report: Report, client: str) -> str:
    return str(report.clients[client].lost) if client in report.clients else "-"


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f} s"


def _notes(reports: Sequence[Report]) -> list[str]:
    notes = []
    rates = [report.sent / report.seconds for report in reports if report.seconds]
    if rates and max(rates) > _SAME * min(rates):
        each = ", ".join(f"{rate:.1f}" for rate in rates)
        notes.append(f"not the same load: {each} requests a second")
    if len({report.method for report in reports}) > 1:
        notes.append("not the same load: methods differ")
    notes += [f"{r.title}: {r.unproved}" for r in reports if r.unproved]
    return notes
