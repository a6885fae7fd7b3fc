"""Write into the documents what the command line knows: `python -m tests.cli.readme`.

Between markers: the output of `explain` for each workload in README.md, and the kinds of workload
in docs/configuration.md.
"""

import contextlib
import io
import re
import sys
from pathlib import Path

from webhook.cli import main
from webhook.cli.kinds import KINDS

WORKLOADS = Path(__file__).parent / "workloads"
README = Path(__file__).parent.parent.parent / "README.md"
CONFIGURATION = README.parent / "docs" / "configuration.md"


def printed(name: str) -> str:
    """Run `podgrace explain` on a workload; the lines as they belong between the markers."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(["explain", "-f", str(WORKLOADS / f"{name}.yaml")])
    if code:
        raise SystemExit(code)
    return f"\n```\n$ podgrace explain -f {name}.yaml\n{out.getvalue()}```\n"


def between(text: str, name: str) -> str | None:
    """Give what stands between the markers of a workload; None if they are not there once."""
    found = re.findall(rf"<!-- explain:{name} -->(.*?)<!-- /explain -->", text, re.DOTALL)
    return found[0] if len(found) == 1 else None


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
    """Fill all markers."""
    return re.sub(
        r"<!-- explain:([a-z-]+) -->.*?<!-- /explain -->",
        lambda found: f"<!-- explain:{found[1]} -->{printed(found[1])}<!-- /explain -->",
        text,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    README.write_text(update(README.read_text(encoding="utf-8")), encoding="utf-8")
    text = CONFIGURATION.read_text(encoding="utf-8")
    CONFIGURATION.write_text(update_kinds(text), encoding="utf-8")
    sys.exit(0)
