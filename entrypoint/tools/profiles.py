# ruff: noqa: INP001 - scripts of the Makefile, no package
"""Write the table of profiles as C: `profiles.py profiles.toml > profiles.gen.h`. The helper detects in the process tree with it."""

import json

TARGETS = {"server": "TARGET_SERVER", "child": "TARGET_CHILD", "group": "TARGET_GROUP"}


def rows(table: dict[str, dict[str, object]]) -> list[str]:
    """Turn each profile into an initialiser; one that nothing matches is of no use to the helper."""
    out = []
    for name, profile in table.items():
        match = profile.get("match") or []
        if not match:
            continue
        fields = {
            "name": json.dumps(name),
            "match": json.dumps(",".join(match)),
            "signal": json.dumps(profile.get("signal", "TERM")),
            "stop_on": json.dumps(",".join(profile.get("stop-on", ["INT", "QUIT"]))),
            "stop_command": json.dumps(profile["stop-command"]) if profile.get("stop-command") else "NULL",
            "target": TARGETS[profile.get("target", "server")],
            "observe": "true" if profile.get("observe", True) else "false",
        }
        out.append("    {" + ", ".join(f".{field} = {value}" for field, value in fields.items()) + "},")
    return out


if __name__ == "__main__":
    pass
