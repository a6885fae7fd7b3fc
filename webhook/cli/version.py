"""`podgrace version`."""

import argparse
from typing import Any

from webhook import __version__
from webhook.cli.arguments import command
from webhook.cli.exits import OK


def add_parser(commands: Any) -> None:
    """Add the command to the top parser's."""
    command(commands, "version", run, "Print the version.")


def run(_: argparse.Namespace) -> int:
    """Print it."""
    print(f"podgrace {__version__}")
    return OK
