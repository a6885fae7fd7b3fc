"""Write the tables of docs/plan.md from the rules themselves: `python -m tests.plan.docs`."""

import re
from collections.abc import Sequence

from tests.core.docs import DOCS
from webhook.cli.plan.report import VERDICTS
from webhook.cli.plan.rule import HARMS, PLACES
from webhook.cli.plan.rules import BY_PLACE

PAGE = DOCS / "plan.md"


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in (head, *body)) for i in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in (head, *body)
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]]) + "\n"


def parts() -> dict[str, str]:
    """Give each marker's text."""
    found = {
        place: table(
            ("code", "harm", "means", "what to do"),
            [
                (
                    f"`{r.code}`",
                    HARMS[r.harm],
                    r.sentence,
                    r.remedy.replace("<container>", "CONTAINER"),
                )
                for r in rules
            ],
        )
        for place, rules in BY_PLACE.items()
    }
    assert set(found) == set(PLACES)
    found["verdicts"] = table(
        ("in JSON", "in the table"), [(f"`{code}`", said) for code, said in VERDICTS.items()]
    )
    return found


def written(text: str) -> str:
    """Fill the markers of docs/plan.md."""
    for marker, body in parts().items():
        text, number = re.subn(
            rf"<!-- {marker} -->\n.*?<!-- /{marker} -->",
            lambda _, marker=marker, body=body: f"<!-- {marker} -->\n{body}<!-- /{marker} -->",
            text,
            flags=re.DOTALL,
        )
        assert number == 1, f"docs/plan.md: the markers of {marker!r} are there {number} times"
    return text


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
