"""What the front page and the guides quote is what the measured tables say.

In: README.md, docs/guides.md, and the tables of docs/proof.md and docs/profiles.md.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
VARIANTS = 3
"""Columns of a table that compares: bare, a plain sleep, podgrace."""


def text(name: str) -> str:
    """Read a document without its bold type."""
    return (ROOT / name).read_text(encoding="utf-8").replace("**", "")


def counts(name: str) -> set[tuple[int, int]]:
    """Give each "lost of sent" of a document, however its lines are broken."""
    return {(int(a), int(b)) for a, b in re.findall(r"\b(\d+)\s+of\s+(\d+)\b", text(name))}


def by_client() -> dict[str, list[tuple[int, int]]]:
    """Add up the table of proof.md by kind of client: lost and sent of each variant."""
    table = text("docs/proof.md").partition("By kind of client")[2].split("\n\n")[1]
    totals: dict[str, list[tuple[int, int]]] = {}
    for row in table.splitlines()[2:]:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        found = [re.match(r"(\d+) of (\d+)", cell) for cell in cells[2:]]
        pairs = [(int(it[1]), int(it[2])) for it in found if it]
        assert len(pairs) == VARIANTS, row
        before = totals.get(cells[1], [(0, 0)] * VARIANTS)
        totals[cells[1]] = [(a + c, b + d) for (a, b), (c, d) in zip(before, pairs, strict=True)]
    return totals


def row(start: str) -> str:
    """Give the row of the front page's table that begins like this."""
    (found,) = (line for line in text("README.md").splitlines() if line.startswith(f"| {start}"))
    return found


def test_the_front_page_adds_up_what_was_measured() -> None:
    names = {"new": "a new connection", "keep-alive": "kept conn", "slow": "answers that take"}
    for client, totals in by_client().items():
        shown = re.findall(r"(\d+) of (\d+)", row(names[client]))
        assert [(int(a), int(b)) for a, b in shown] == totals, client


def test_the_front_page_says_how_long_a_rolling_update_takes() -> None:
    table = text("docs/proof.md").partition("Seconds until the controller")[2].split("\n\n")[1]
    rows = [line for line in table.splitlines() if line.startswith("| rolling update")]
    measured = [[int(it) for it in re.findall(r"(\d+) / \d+", line)] for line in rows]
    shown = re.findall(r"(\d+) to (\d+) s", row("a rolling update"))
    columns = zip(*measured, strict=True)
    assert [(int(a), int(b)) for a, b in shown] == [(min(it), max(it)) for it in columns]


def test_guides_quote_what_was_measured() -> None:
    quoted = counts("docs/guides.md")
    assert len(quoted) > 20
    assert quoted - counts("docs/proof.md") - counts("docs/profiles.md") == set()
