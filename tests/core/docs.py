"""Write the tables of docs/reasons.md and of presets: `python -m tests.core.docs`.

The functions that read tables of documents are here, too.
"""

import re
from pathlib import Path

from webhook.core.reasons import REASONS
from webhook.profiles import PRESETS

DOCS = Path(__file__).parent.parent.parent / "docs"


def rows(name: str, marker: str) -> list[list[str]]:
    """Give the cells of the table between two markers of a document, without its header."""
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


def presets() -> str:
    """Print the table of presets."""
    lines = ["| preset | sets | source |", "|---|---|---|"]
    for name, preset in PRESETS.items():
        settings = [
            f"`{section}.{key}: {value}`"
            for section in ("defaults", "bounds")
            for key, value in getattr(preset, section).items()
        ]
        lines.append(f"| `{name}` | {', '.join(settings)} | {preset.source} |")
    return "\n".join(lines) + "\n"


def filled(text: str, marker: str, table: str) -> str:
    """Replace what is between two markers."""
    return re.sub(
        rf"<!-- {marker} -->\n.*?<!-- /{marker} -->",
        lambda _: f"<!-- {marker} -->\n{table}<!-- /{marker} -->",
        text,
        flags=re.DOTALL,
    )


TABLES = (("reasons.md", "codes", reasons), ("configuration.md", "presets", presets))

if __name__ == "__main__":
    for name, marker, table in TABLES:
        path = DOCS / name
        text = path.read_text(encoding="utf-8")
        path.write_text(filled(text, marker, table()), encoding="utf-8")
