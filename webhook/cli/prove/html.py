"""The picture as one file of HTML that opens anywhere, offline: reports in, text out.

The template draws; `picture` says where. Needs Jinja, which the webhook's own image does not have:
`pip install podgrace[prove]`.
"""

from collections.abc import Sequence
from typing import Any

from webhook.cli.prove.blame import KINDS
from webhook.cli.prove.compare import beside
from webhook.cli.prove.lives import MOMENTS, NAMES
from webhook.cli.prove.picture import PHASES, length, picture
from webhook.cli.prove.report import Report
from webhook.cli.prove.text import cells, counted, notes, remedies, short, verdict
from webhook.cli.watching import page


def html(reports: Sequence[Report]) -> str:
    """Draw one run, or several below each other, to one scale. Raises `PageError` without Jinja."""
    span = length(reports)
    made: str = template().render(
        runs=[(report, picture(report, span)) for report in reports],
        kinds=KINDS,
        phases=PHASES,
        moments=MOMENTS,
        names=NAMES,
        beside=beside(reports),
        verdict=verdict,
        counted=counted,
        remedies=remedies,
        notes=notes,
        cells=cells,
        short=short,
    )
    return made


def template() -> Any:
    """Load the template. Raises `PageError` without Jinja."""
    return page.template("webhook.cli.prove", "picture.html")
