# ruff: noqa: INP001 - a script of the Makefile, no package
"""Write the table of profiles as C: `profiles.py profiles.toml > profiles.gen.h`. The helper detects in the process tree with it."""

import json
import sys
import tomllib
from pathlib import Path

TARGETS = {"server": "TARGET_SERVER", "child": "TARGET_CHILD", "group": "TARGET_GROUP"}


def rows(table: dict[str, dict[str, object]]) -> list[str]:
    """Turn each profile into an initialiser; one that nothing matches is of no use to the helper."""
    out = []
    for name, profile in table.items():
        match = profile.get("match") or []
        if not isinstance(match, list) or not match:
            continue
        stop_on = profile.get("stop-on", ["INT", "QUIT"])
        fields = {
            "name": json.dumps(name),
            "match": json.dumps(",".join(match)),
            "signal": json.dumps(profile.get("signal", "TERM")),
            "stop_on": json.dumps(",".join(stop_on if isinstance(stop_on, list) else [])),
            "stop_command": json.dumps(profile["stop-command"])
            if profile.get("stop-command")
            else "NULL",
            "target": TARGETS[str(profile.get("target", "server"))],
            "observe": "true" if profile.get("observe", True) else "false",
        }
        out.append(
            "    {" + ", ".join(f".{field} = {value}" for field, value in fields.items()) + "},\n"
        )
    return out


if __name__ == "__main__":
    table = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.stdout.write(
        "/* Made from webhook/profiles.toml by tools/profiles.py. */\n" + "".join(rows(table))
    )
