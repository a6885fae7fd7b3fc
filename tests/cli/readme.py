"""Write into the documents what the command line knows: `python -m tests.cli.readme`.

Between markers, wherever a document has them: the output of `explain` for a workload in
`workloads/`, and in docs/configuration.md the kinds of workload.
"""

import contextlib
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from webhook.cli import main
from webhook.cli.kinds import KINDS

WORKLOADS = Path(__file__).parent / "workloads"
ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
CONFIGURATION = DOCS / "configuration.md"
_MARKED = re.compile(r"<!-- explain:([a-z-]+) -->(.*?)<!-- /explain -->", re.DOTALL)


def documents() -> list[Path]:
    """Give the documents that may show what a command prints."""
    return [README, *sorted(DOCS.rglob("*.md"))]


def printed(name: str) -> str:
    """Run `podgrace explain` on a workload; the lines as they belong between the markers."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(["explain", "-f", str(WORKLOADS / f"{name}.yaml")])
    if code:
        raise SystemExit(code)
    return f"\n```\n$ podgrace explain -f {name}.yaml\n{out.getvalue()}```\n"


def shown(text: str) -> Iterator[tuple[str, str]]:
    """Give each workload that a document shows, and what stands between its markers."""
    return ((found[1], found[2]) for found in _MARKED.finditer(text))


def kinds() -> str:
    """Print the table of kinds."""
    rows = [
        (
            kind.group or "(core)",
            kind.kind,
            "(left alone)" if kind.refuses else ", ".join(f"`{p or '.'}`" for p in kind.paths),
        )
        for kind in KINDS
    ]
    lines = [f"| {' | '.join(row)} |" for row in (("group", "kind", "Pod templates"), *rows)]
    return "\n".join([lines[0], "|---|---|---|", *lines[1:]]) + "\n"


def update_kinds(text: str) -> str:
    """Fill the marker of the kinds."""
    return re.sub(
        r"(<!-- kinds -->\n).*?(<!-- /kinds -->)",
        lambda found: found[1] + kinds() + found[2],
        text,
        flags=re.DOTALL,
    )


def update(text: str) -> str:
    """Fill the markers of all workloads."""
    return _MARKED.sub(
        lambda found: f"<!-- explain:{found[1]} -->{printed(found[1])}<!-- /explain -->", text
    )


if __name__ == "__main__":
    for page in documents():
        text = page.read_text(encoding="utf-8")
        page.write_text(update_kinds(update(text)), encoding="utf-8")
    sys.exit(0)
