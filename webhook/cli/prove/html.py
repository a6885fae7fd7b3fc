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
from webhook.cli.prove.target import LoadError
from webhook.cli.prove.text import cells, counted, notes, remedies, short, verdict


def html(reports: Sequence[Report]) -> str:
    """Draw one run, or several below each other on the same scale. Raises `LoadError` without Jinja."""
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
    """Load the template. Raises `LoadError` without Jinja."""
    try:
        import jinja2  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise LoadError("--html needs Jinja: pip install 'podgrace[prove]'") from error
    return jinja2.Environment(
        loader=jinja2.PackageLoader("webhook.cli.prove", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    ).get_template("picture.html")
