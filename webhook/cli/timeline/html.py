"""The picture as one file of HTML that opens anywhere, offline: a report in, text out.

The template draws; `picture` says where. Needs Jinja, which the webhook's own image does not have:
`pip install podgrace[prove]`.
"""

from typing import Any

from webhook.cli.timeline.picture import PHASES, figures
from webhook.cli.timeline.report import Report
from webhook.cli.timeline.text import clients, heading, notes
from webhook.cli.watching import page


def html(report: Report) -> str:
    """Draw a run. Raises `PageError` without Jinja."""
    made: str = template().render(
        report=report,
        figures=figures(report),
        phases=PHASES,
        clients=clients(report),
        heading=heading,
        notes=list(notes(report)),
    )
    return made


def template() -> Any:
    """Load the template. Raises `PageError` without Jinja."""
    return page.template("webhook.cli.timeline", "timeline.html")
