"""What changed between two reports: `plan -o json` of before, and now. Pure.

In: two `Report`s. Out: `Changes`: workloads that came and went, and what differs in each other one.
Worse means a worse verdict, or a new finding.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from webhook.cli.plan.report import VERDICTS, Report, Row

_RANK: Final = {verdict: rank for rank, verdict in enumerate(VERDICTS)}
_HARMFUL: Final = ("loses", "may-lose", "refused")
_SIMPLE: Final = ("no-cause", "drained", "no-users", "left-alone")


class Changed(msgspec.Struct, frozen=True, rename="camel"):
    """A workload in both. `gone`, `new`: codes of findings; Pods with our mark before and now."""

    namespace: str
    kind: str
    name: str
    was: str
    verdict: str
    gone: list[str]
    new: list[str]
    injected_was: str
    injected: str
    worse: bool


class Changes(msgspec.Struct, frozen=True):
    """All of it; workloads are named as `namespace kind/name`."""

    came: list[str]
    went: list[str]
    changed: list[Changed]
    same: int
    verdicts: dict[str, tuple[int, int]]
    """Verdict -> how many workloads had it before, and have it now."""

    @property
    def worse(self) -> bool:
        """Whether anything is worse than it was."""
        return any(one.worse for one in self.changed)


def changes(old: Report, new: Report) -> Changes:
    """Compare two reports."""
    before = {_key(row): row for row in old.workloads}
    now = {_key(row): row for row in new.workloads}
    pairs = [(before[key], row) for key, row in now.items() if key in before]
    changed = [_changed(was, row) for was, row in pairs if _differs(was, row)]
    return Changes(
        [_name(row) for key, row in sorted(now.items()) if key not in before],
        [_name(row) for key, row in sorted(before.items()) if key not in now],
        sorted(changed, key=lambda one: (not one.worse, one.namespace, one.kind, one.name)),
        len(pairs) - len(changed),
        {verdict: pair for verdict in VERDICTS if any(pair := _numbers(verdict, old, new))},
    )


def _numbers(verdict: str, old: Report, new: Report) -> tuple[int, int]:
    return old.totals.verdicts.get(verdict, 0), new.totals.verdicts.get(verdict, 0)


def _key(row: Row) -> tuple[str, str, str]:
    return row.namespace, row.kind, row.name


def _name(row: Row) -> str:
    return f"{row.namespace} {row.kind.lower()}/{row.name}"


def _codes(row: Row) -> list[str]:
    return list(dict.fromkeys(found.code for found in row.findings))


def _share(row: Row) -> str:
    return "-" if row.pods is None else f"{row.injected}/{row.pods}"


def _marked(row: Row) -> bool:
    return bool(row.pods) and row.pods == row.injected


def _differs(was: Row, row: Row) -> bool:
    return (
        was.verdict != row.verdict
        or set(_codes(was)) != set(_codes(row))
        or _marked(was) != _marked(row)
    )


def _changed(was: Row, row: Row) -> Changed:
    gone = _without(_codes(was), _codes(row))
    new = _without(_codes(row), _codes(was))
    harmful = {found.code for found in row.findings if found.harm in _HARMFUL}
    worse = not harmful.isdisjoint(new) or (
        _RANK[row.verdict] < _RANK[was.verdict] and row.verdict not in _SIMPLE
    )
    return Changed(*_key(row), was.verdict, row.verdict, gone, new, _share(was), _share(row), worse)


def _without(codes: Sequence[str], others: Sequence[str]) -> list[str]:
    return [code for code in codes if code not in others]
