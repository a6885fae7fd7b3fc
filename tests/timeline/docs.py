"""Write the recorded run into docs/when.md as printed: `python -m tests.timeline.docs`."""

import re
from pathlib import Path

from webhook.cli.timeline.report import read
from webhook.cli.timeline.text import text

RECORDED = Path(__file__).parent / "recorded.json"
WHEN = Path(__file__).parents[2] / "docs" / "when.md"
_MARKED = re.compile(r"(<!-- timeline -->\n).*?(<!-- /timeline -->)", re.DOTALL)


def printed() -> str:
    """Give the lines between the markers."""
    lines = text(read(RECORDED.read_bytes()), colour=False).splitlines()
    return "\n" + "".join(f"    {line}".rstrip() + "\n" for line in lines) + "\n"


def update(page: str) -> str:
    """Fill the marker."""
    return _MARKED.sub(lambda found: found[1] + printed() + found[2], page)


if __name__ == "__main__":
    WHEN.write_text(update(WHEN.read_text(encoding="utf-8")), encoding="utf-8")
