"""The page shows what the command prints of a recorded run: `make docs` writes it."""

from tests.timeline.docs import RECORDED, WHEN, printed, update
from webhook.cli.timeline.report import read, write


def test_the_page_shows_the_commands_own_output() -> None:
    page = WHEN.read_text(encoding="utf-8")
    assert printed() in page
    assert update(page) == page


def test_a_report_that_was_written_can_be_read() -> None:
    report = read(RECORDED.read_bytes())
    assert read(write(report)) == report
    assert len(report.pods) == 5
