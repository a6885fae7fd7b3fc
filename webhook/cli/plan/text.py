"""The report as a person reads it at a terminal: tables, the worst first.

In: a `Report`, or `Changes`. Out: text. Nothing is judged here.
"""

from collections.abc import Iterator
from typing import Final

from webhook.cli import terminal
from webhook.cli.plan.changes import Changed, Changes
from webhook.cli.plan.report import VERDICTS, Report, Row
from webhook.cli.plan.rule import HARMS
from webhook.cli.plan.rules import RULES

_NAMED: Final = 12
"""Workloads that came or went are named up to here."""


def text(report: Report, *, details: bool, colour: bool) -> str:
    """Set out a report. `details`: with a line for each finding of each workload."""
    parts = ["\n".join(summary(report))]
    if report.workloads:
        parts.append(_details(report, colour=colour) if details else _rows(report))
    if report.elsewhere:
        rows = [
            (one.namespace or "(cluster)", one.code, HARMS[one.harm], one.detail)
            for one in report.elsewhere
        ]
        parts.append(terminal.table(("NAMESPACE", "FINDING", "HARM", "DETAIL"), rows))
    if meaning := _meanings(report):
        parts.append(meaning)
    return "\n\n".join(parts)


def summary(report: Report) -> Iterator[str]:
    """Say the totals in a few lines."""
    totals = report.totals
    yield (
        f"{_number(totals.workloads, 'workload')} in {_number(totals.namespaces, 'namespace')};"
        f" {totals.enabled} enabled, {totals.injected} injected"
    )
    for verdict, number in totals.verdicts.items():
        yield f"  {number:>5}  {VERDICTS[verdict]}"
    if totals.ending:
        yield f"  {totals.ending:>5}  Jobs and the like, which end by themselves: not judged"
    yield cost(report)


def _number(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def cost(report: Report) -> str:
    """Say what podgrace would cost."""
    totals = report.totals
    asked = ", ".join(f"{value} {name}" for name, value in totals.requests.items())
    return (
        f"All of them enabled: the sidecars request {asked or 'nothing'} more; longest drain"
        f" {totals.longest_drain} s, longest grace period {totals.longest_grace} s"
    )


def notes(report: Report) -> Iterator[str]:
    """Say what was not judged, a sentence each."""
    if report.unread:
        yield f"nothing of these kinds was read, so they are not judged: {', '.join(report.unread)}"
    yield from report.passed


def does(row: Row) -> str:
    """Say what podgrace would do to a workload, or does."""
    it = row.podgrace
    if it.why:
        return f"left alone: {', '.join(it.why)}"
    modes = [f"{name}: {mode}" for name, mode in it.modes.items()]
    if len(set(it.modes.values())) == 1:
        modes = list(dict.fromkeys(it.modes.values()))
    if it.readiness:
        modes.append("readiness probe")
    return ", ".join(modes) or "nothing"


def pods(row: Row) -> str:
    """Say how many Pods run with podgrace."""
    if row.pods is None:
        return "-" if row.replicas is None else str(row.replicas)
    return f"{row.injected}/{row.pods}"


def grace(row: Row) -> str:
    """Say the grace period now and then."""
    now, then = row.podgrace.grace_now, row.podgrace.grace
    return f"{now} s" if now == then else f"{now} -> {then} s"


def requests(row: Row) -> str:
    """Say what the sidecar requests in each Pod."""
    return " ".join(row.podgrace.requests.values()) or "-"


def _rows(report: Report) -> str:
    head = ("NAMESPACE", "WORKLOAD", "PODS", "TODAY", "WITH PODGRACE", "GRACE", "COST", "FINDINGS")
    rows = [
        (
            row.namespace,
            f"{row.kind.lower()}/{row.name}",
            pods(row),
            VERDICTS[row.verdict],
            does(row),
            grace(row),
            requests(row),
            ", ".join(dict.fromkeys(found.code for found in row.findings)) or "-",
        )
        for row in report.workloads
    ]
    return terminal.table(head, rows)


def _details(report: Report, *, colour: bool) -> str:
    parts = []
    for row in report.workloads:
        it, name = row.podgrace, f"{row.namespace} {row.kind.lower()}/{row.name}"
        would = f"{does(row)}; grace {grace(row)}"
        if it.drain and not it.why:
            would += f"; drains up to {it.drain} s"
        if it.requests:
            would += f"; requests {requests(row)} a Pod"
        lines = [
            terminal.bold(f"{name}: {VERDICTS[row.verdict]}", colour=colour),
            f"  podgrace: {would}",
        ]
        lines += [
            f"  {found.code} ({HARMS[found.harm]}, fixed by {found.by}): {found.detail}"
            for found in row.findings
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _meanings(report: Report) -> str:
    numbers = dict(report.totals.codes)
    for one in report.elsewhere:
        numbers[one.code] = numbers.get(one.code, 0) + 1
    rows = [
        (code, str(numbers[code]), f"{rule.sentence}. To fix it: {rule.remedy}")
        for code, rule in RULES.items()
        if code in numbers
    ]
    return terminal.table(("FINDING", "NUMBER", "MEANS"), rows) if rows else ""


def changes_text(found: Changes) -> str:
    """Set out what changed."""
    totals = [
        (VERDICTS[verdict], str(was), str(now)) for verdict, (was, now) in found.verdicts.items()
    ]
    parts = [terminal.table(("WORKLOADS", "WERE", "ARE"), totals)] if totals else []
    if found.changed:
        head = ("NAMESPACE", "WORKLOAD", "INJECTED", "TODAY", "GONE", "NEW")
        parts.append(terminal.table(head, [_change(one) for one in found.changed]))
    for names, what in ((found.came, "new"), (found.went, "gone")):
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            parts.append(f"{len(names)} {what}: {', '.join(names[:_NAMED])}{more}")
    parts.append(f"{found.same} as before")
    return "\n\n".join(parts)


def _change(one: Changed) -> tuple[str, ...]:
    verdict = VERDICTS[one.verdict]
    if one.was != one.verdict:
        verdict = f"{VERDICTS[one.was]} -> {verdict}"
    injected = one.injected
    if one.injected_was != injected:
        injected = f"{one.injected_was} -> {injected}"
    return (
        one.namespace,
        f"{one.kind.lower()}/{one.name}" + (" (worse)" if one.worse else ""),
        injected,
        verdict,
        ", ".join(one.gone) or "-",
        ", ".join(one.new) or "-",
    )
