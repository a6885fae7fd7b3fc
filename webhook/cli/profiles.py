"""`podgrace profiles`: the servers that podgrace knows how to stop, as a table or for machines."""

import argparse
from typing import Any

from webhook.cli.arguments import add_config, command, config
from webhook.cli.exits import OK
from webhook.cli.terminal import add_output, structured, table


def add_parser(commands: Any) -> None:
    """Add the command to the top parser's."""
    text = "List the servers that podgrace knows how to stop."
    made = command(commands, "profiles", run, text)
    add_config(made)
    add_output(made, "table", "json", "yaml")


def run(args: argparse.Namespace) -> int:
    """Print them."""
    profiles = config(args).operator.profiles.by_name.values()
    if args.output != "table":
        print(structured(list(profiles), args.output))
        return OK
    rows = [
        (
            p.name,
            p.signal,
            "nothing" if not p.observe else "connections" if p.finishes else "requests",
            f"{p.patience} s" if p.patience else "as before",
            ", ".join(p.match) or "-",
            p.caveat,
        )
        for p in profiles
    ]
    print(table(("NAME", "SIGNAL", "WAITS FOR", "PATIENCE", "SEEN AS", "CAVEAT"), rows))
    return OK
