"""What every test has in common: at the end, one line for each thing that this machine lacked."""

from collections import Counter

import pytest
from _pytest.terminal import TerminalReporter

from tests import needs


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
