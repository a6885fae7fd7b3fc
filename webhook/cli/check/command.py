"""The command itself: argv in, lines and an exit code out. Asked again with --wait.

Without -n it checks the installation (`facts`, `verdict`), with -n one namespace.
"""

import argparse
import sys
import time
from typing import Any, Final

from webhook.cli import cluster, terminal
from webhook.cli.arguments import command, duration
from webhook.cli.cluster import ClusterError
from webhook.cli.exits import DIFFERS, OK, UNUSABLE

_EXAMPLES: Final = """
podgrace check                      # is podgrace installed soundly? exit 3 if not
podgrace check -n shop              # would a labelled Pod in shop be injected now?
podgrace check --wait 2m -o json    # in a pipeline, after helm upgrade
"""


def add_parser(commands: Any) -> None:
    """Add the command to the top parser's."""
    text = (
        "Say whether every installation of podgrace in the cluster is sound; with -n, whether a"
        " labelled Pod would be injected in that namespace now. Nothing is created: Pods are asked"
        " for by dry run."
    )
    made = command(commands, "check", run, text, _EXAMPLES)
    made.add_argument(
        "--wait",
        type=duration,
        default=duration("0s"),
        metavar="TIME",
        help="look again until nothing is wrong, for at most this time (0s)",
    )
    cluster.add_options(made)
    terminal.add_output(made, "table", "json", "yaml")


def run(args: argparse.Namespace) -> int:
    """Look, perhaps again, and tell."""
    return _namespace(args) if args.namespace else _installation(args)


def _installation(args: argparse.Namespace) -> int:
    from webhook.cli.check import facts, verdict  # noqa: PLC0415 - cryptography, 10 MB

    end = time.monotonic() + args.wait.total_seconds()
    while True:
        lines = verdict.judge(facts.read(cluster.of(args)))
        failed = any(line.level == "fail" for line in lines)
        if not failed or time.monotonic() >= end:
            break
        time.sleep(2)
    if args.output == "table":
        print(verdict.text(lines, colour=terminal.coloured()))
    else:
        print(terminal.structured({"sound": not failed, "lines": lines}, args.output))
    return DIFFERS if failed else OK


def _namespace(args: argparse.Namespace) -> int:
    from webhook.cli.check.namespace import FINAL, Found, ask  # noqa: PLC0415 - not for help

    end = time.monotonic() + args.wait.total_seconds()
    while True:
        try:
            found, warnings = ask(cluster.of(args), args.namespace)
        except ClusterError as error:
            found, warnings = Found("unreachable", UNUSABLE, str(error)), ()
        if found.what in FINAL or time.monotonic() >= end:
            break
        time.sleep(1)
    if args.output != "table":
        whole = {"found": found.what, "text": found.text, "warnings": warnings}
        print(terminal.structured(whole, args.output))
        return found.exit
    out = sys.stdout if found.exit == OK else sys.stderr
    print(f"podgrace: {found.what}: {found.text}", file=out)
    for warning in warnings:
        print(f"warning: {warning}", file=out)
    return found.exit
