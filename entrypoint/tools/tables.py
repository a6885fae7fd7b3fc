# ruff: noqa: INP001 - a script of the Makefile, no package
"""Write the tables of the webhook as C: `tables.py profiles|launchers FILE.toml > FILE.gen.h`.

The helper uses them to find the server in the process tree. `profiles`: rows, and the texts that
they point into. `launchers`: lists of names with commas, as `in_list` and `is_listed` read them:

  LAUNCHERS         argv[0] of what starts another program and is never the server
  SCRIPT_LAUNCHERS  the same, and as a script that an interpreter runs (npm-cli.js)
  INTERPRETERS      what runs a script; a name may end in "*"
  FORWARDING_INITS  inits that hand their signals on, though no mask in /proc shows it
  INITS             these, and inits that stop programs in their own way
  SHELLS            what may have a trap
"""

import json
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Table = dict[str, dict[str, Any]]

TARGETS = {"server": "TARGET_SERVER", "child": "TARGET_CHILD", "group": "TARGET_GROUP"}


def profiles(table: Table) -> Iterator[str]:
    """Write all texts as one, and a row of places in it for each profile that something matches.

    Places, not pointers: the program runs at any address, so each pointer in a table would have to
    be relocated at the start, and would cost 24 bytes more.
    """
    texts = {"": 0}
    size, rows = 1, []

    def place(text: str) -> str:
        nonlocal size
        if text not in texts:
            texts[text] = size
            size += len(text) + 1
        return str(texts[text])

    for name, profile in table.items():
        if not profile.get("match"):
            continue
        fields = {
            "name": place(name),
            "match": place(",".join(profile["match"])),
            "signal": place(profile.get("signal", "TERM")),
            "stop_on": place(",".join(profile.get("stop-on", ["INT", "QUIT"]))),
            "stop_command": place(profile.get("stop-command") or ""),
            "target": TARGETS[profile.get("target", "server")],
            "observe": json.dumps(profile.get("observe", True)),
            "finishes": json.dumps(profile.get("finishes", False)),
        }
        row = ", ".join(f".{field} = {value}" for field, value in fields.items())
        rows.append(f"    {{{row}}}, /* {name} */")
    yield "static const char texts[] ="
    yield from (f'    {json.dumps(text)} "\\0"' for text in texts)
    yield "    ;"
    yield "static const struct known rows[] = {"
    yield from rows
    yield "};"


LISTS: dict[str, Callable[[str, dict[str, Any]], bool]] = {
    "LAUNCHERS": lambda _, kind: not {"script", "interpreter", "builtin"} & kind.keys(),
    "SCRIPT_LAUNCHERS": lambda _, kind: kind.get("script", False),
    "INTERPRETERS": lambda _, kind: kind.get("interpreter", False),
    "FORWARDING_INITS": lambda _, kind: kind.get("forwards", False),
    "INITS": lambda _, kind: "init" in kind,
    "SHELLS": lambda title, _: title == "shells",
}


def launchers(table: Table) -> Iterator[str]:
    """Write one list per line."""
    yield "#pragma once"
    for name, belongs in LISTS.items():
        kinds = [kind for title, kind in table.items() if belongs(title, kind)]
        words = ",".join(word for kind in kinds for word in kind["names"])
        yield f"#define {name} {json.dumps(words)}"


if __name__ == "__main__":
    _, write, file = sys.argv
    lines = {"profiles": profiles, "launchers": launchers}[write]
    sys.stdout.write(f"/* Made from webhook/{Path(file).name} by tools/tables.py. */\n")
    for line in lines(tomllib.loads(Path(file).read_text(encoding="utf-8"))):
        sys.stdout.write(line + "\n")
