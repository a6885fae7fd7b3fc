"""The report as one file of HTML that opens anywhere, offline: a report in, text out.

The template shows; `report` judges. Needs Jinja, which the webhook's own image does not have:
`pip install podgrace[prove]`.
"""

from webhook.cli.plan import text
from webhook.cli.plan.report import VERDICTS, Report
from webhook.cli.plan.rule import HARMS, PLACES
from webhook.cli.plan.rules import BY_PLACE
from webhook.cli.watching import page


def html(report: Report) -> str:
    """Draw a report. Raises `PageError` without Jinja."""
    numbers = dict(report.totals.codes)
    for one in report.elsewhere:
        numbers[one.code] = numbers.get(one.code, 0) + 1
    made: str = page.template("webhook.cli.plan", "plan.html").render(
        report=report,
        verdicts=VERDICTS,
        harms=HARMS,
        places=PLACES,
        rules={
            place: [rule for rule in rules if rule.code in numbers]
            for place, rules in BY_PLACE.items()
        },
        numbers=numbers,
        notes=list(text.notes(report)),
        cost=text.cost(report),
        does=text.does,
        pods=text.pods,
        grace=text.grace,
        requests=text.requests,
    )
    return made
