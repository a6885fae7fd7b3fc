# ruff: noqa: INP001 - a program, not a package
"""Make the tables of podgrace/README.md from the comments in podgrace/values.yaml.

In: values.yaml. Out: README.md with the text between the two markers replaced. A row is a key with
a comment right above it; keys below a commented key that have no comment of their own are part of
its default. `--check` writes nothing and exits 1 on a difference.

    python charts/readme.py [--check]
"""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

CHART = Path(__file__).parent / "podgrace"
BEGIN, END = "<!-- values: begin; made by charts/readme.py -->", "<!-- values: end -->"


@dataclass
class Row:
    """One value: where it is, what it does, and its default."""

    section: str
    path: tuple[str, ...]
    text: str


def rows(source: str) -> list[Row]:
    """Read the commented keys of values.yaml, in order."""
    found: list[Row] = []
    section, comment, stack = "", [], []
    for line in source.splitlines():
        stripped = line.strip()
        if stripped.startswith("## "):
            section, comment = stripped[3:], []
        elif stripped.startswith("#"):
            comment.append(stripped[1:].strip())
        elif key := re.match(r"( *)([A-Za-z]\w*):(?: |$)", line):
            depth = len(key[1]) // 2
            stack = [*stack[:depth], key[2]]
            if comment:
                found.append(Row(section, tuple(stack), " ".join(comment)))
            comment = []
        else:
            comment = []
    return found


def value(tree: Any, path: tuple[str, ...]) -> Any:
    """Look up a path."""
    for key in path:
        tree = tree[key]
    return tree


def table(source: str) -> str:
    """Write the tables."""
    tree, listed = YAML(typ="safe", pure=True).load(source), rows(source)
    commented = {row.path for row in listed}
    lines: list[str] = []
    section = None
    for row in listed:
        if row.section != section:
            section = row.section
            lines += [
                "",
                f"### {section}",
                "",
                "| value | what it does | default |",
                "|---|---|---|",
            ]
        inner = any(path[: len(row.path)] == row.path and path != row.path for path in commented)
        default = "" if inner else f"`{json.dumps(value(tree, row.path), ensure_ascii=False)}`"
        lines.append(
            f"| `{'.'.join(row.path)}` | {row.text.replace('|', chr(92) + '|')} | {default} |"
        )
    return "\n".join(lines[1:])


def main(arguments: list[str]) -> int:
    """Write or check README.md."""
    readme = CHART / "README.md"
    before = readme.read_text(encoding="utf-8")
    head, rest = before.split(BEGIN)
    made = table((CHART / "values.yaml").read_text(encoding="utf-8"))
    after = f"{head}{BEGIN}\n\n{made}\n\n{END}{rest.split(END)[1]}"
    if arguments == ["--check"]:
        if before != after:
            print(  # noqa: T201
                f"{readme} does not match values.yaml: run `python charts/readme.py`",
                file=sys.stderr,
            )
        return int(before != after)
    readme.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
