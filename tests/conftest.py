"""What all tests have in common: which are slow, and what this machine lacked.

At the end of a run there is one line for each thing that was not there.
"""

from collections import Counter
from pathlib import Path

import pytest
from _pytest.terminal import TerminalReporter

from tests import needs

HERE = Path(__file__).parent
SLOW = frozenset(
    HERE / path
    for path in (
        "admission/test_worst.py",
        "core/test_never_worse.py",
        "core/test_properties.py",
        "entrypoint/test_connections.py",
        "entrypoint/test_drain.py",
        "entrypoint/test_finishes.py",
        "entrypoint/test_fuzz.py",
        "entrypoint/test_neighbours.py",
        "entrypoint/test_processes.py",
        "server/test_attacks.py",
        "servers",
    )
)
"""Folders and files that take long by nature. A single slow test wears the marker itself."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `make test` leaves to `make test-all`."""
    for item in items:
        if not SLOW.isdisjoint((item.path, *item.path.parents)):
            item.add_marker("slow")


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Say what was not run, why, and what would make it run."""
    skipped: list[pytest.TestReport] = terminalreporter.stats.get("skipped", [])
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in skipped
        if isinstance(report.longrepr, tuple)
    )
    if not reasons:
        return
    terminalreporter.section("not run on this machine")
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count:5} {reason}")
    words = {
        word
        for reason in reasons
        for word in reason.partition(needs.INSTALL)[2].split()
        if needs.INSTALL in reason
    }
    if words:
        terminalreporter.write_line(f"To run them too: {needs.INSTALL}{' '.join(sorted(words))}")
