"""Write the table of docs/reasons.md from the reasons themselves: `python -m tests.core.docs`. What reads tables is here too."""

import re
from pathlib import Path

from webhook.core.reasons import REASONS

DOCS = Path(__file__).parent.parent.parent / "docs"


def rows(name: str, marker: str) -> list[list[str]]:
    """Give the cells of the table between two markers of a document, without its head."""
    text = (DOCS / name).read_text(encoding="utf-8")
    found = re.findall(rf"<!-- {marker} -->\n(.*?)<!-- /{marker} -->", text, re.DOTALL)
    assert len(found) == 1, f"docs/{name}: the markers of {marker!r} are there {len(found)} times"
    lines = found[0].splitlines()
    assert lines[1].startswith("|--")
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines[2:]]


def reasons() -> str:
    """Print the table of reasons."""
    head = ("code", "meaning", "changed by")
    body = [
        (f"`{code}`", reason.sentence + (" (*warned*)" if reason.warn else ""), _safe(reason.hint))
        for code, reason in REASONS.items()
    ]
    widths = [max(len(row[i]) for row in (head, *body)) for i in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in (head, *body)
    ]
    return (
        "\n".join(
            [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]
        )
        + "\n"
    )


def _safe(hint: str) -> str:
    return hint.replace("<container>", "CONTAINER")


def written(text: str) -> str:
    """Fill the markers of docs/reasons.md."""
    return re.sub(
        r"<!-- codes -->\n.*?<!-- /codes -->",
        lambda _: f"<!-- codes -->\n{reasons()}<!-- /codes -->",
        text,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    path = DOCS / "reasons.md"
    path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")
