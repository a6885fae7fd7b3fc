"""Write the `explain` output of the workloads into README.md, between its markers: `python -m tests.cli.readme`."""

import contextlib
import io
import re
import sys
from pathlib import Path

from webhook.cli import main

WORKLOADS = Path(__file__).parent / "workloads"
README = Path(__file__).parent.parent.parent / "README.md"


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
    sys.exit(0)
