"""The command itself: argv in; a report on standard output and in files, and an exit code out.

    podgrace prove http://shop.example/ --slow-url http://shop.example/report --pods app=shop -- \
        sh -c 'kubectl rollout restart deployment/shop && kubectl rollout status deployment/shop'

| exit | meaning                                                         |
|------|-----------------------------------------------------------------|
| 0    | none was lost, or no more than --max-lost                       |
| 1    | nothing was proved: no answer before the load, a failed command |
| 2    | wrong arguments                                                 |
| 3    | requests were lost                                              |
"""

import argparse
import asyncio
import sys
from datetime import UTC, datetime
from typing import Any

from webhook.cli import show
from webhook.cli.prove import report
from webhook.cli.prove.options import options
from webhook.cli.prove.run import run as load
from webhook.cli.prove.target import LoadError
from webhook.cli.prove.text import text

NONE_LOST, UNPROVED, USAGE, LOST = range(4)


def add_parser(commands: Any) -> None:
    """Add the command to the top parser's."""
    about = "Load a workload while it is rolled, and count every request that it loses."
    made = commands.add_parser(
        "prove", help=about, description=about, parents=[options()], allow_abbrev=False
    )
    made.usage = "podgrace prove URL [options] [-- COMMAND ...]"
    # argparse hands over everything from the URL on: options may follow it, what follows -- is not
    # ours to read.
    made.add_argument(
        "words",
        nargs=argparse.REMAINDER,
        metavar="URL [-- COMMAND]",
        help="what to ask for, fast; and what disturbs it meanwhile",
    )
    made.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Load, disturb, count. Returns the exit code."""
    args, command = _parse(args)
    try:
        return _prove(args, command)
    except LoadError as error:
        print(f"podgrace: {error}", file=sys.stderr)
        return UNPROVED


def _parse(args: argparse.Namespace) -> tuple[argparse.Namespace, list[str]]:
    """Read what stands around the URL. Exits with 2 where words don't fit together."""
    words: list[str] = args.words
    cut = words.index("--") if "--" in words else len(words)
    parser = options()
    if cut == 0:
        parser.error("a URL is needed: http://HOST[:PORT]/PATH or https://...")
    args.url, command = words[0], words[cut + 1 :]
    args, unknown = parser.parse_known_args(words[1:cut], args)
    if unknown:
        parser.error(f"{unknown[0]!r} is not an option; a command stands after --")
    if command and args.until_eof:
        parser.error("--until-eof and a command: accepted: one of the two")
    if args.until_gone and (args.until_eof or not args.pods):
        parser.error("--until-gone needs --pods, and goes without --until-eof")
    if args.no_new and not args.connections:
        parser.error("--no-new and --connections 0 leave no client")
    return args, command


def _prove(args: argparse.Namespace, command: list[str]) -> int:
    about = report.About(
        args.title or args.url,
        args.url,
        args.method.upper(),
        args.slow_url,
        datetime.now(UTC).isoformat(timespec="seconds"),
        args.max_lost,
    )
    found = report.make(about, asyncio.run(load(args, command)))
    if args.output == "json":
        print(report.write(found))
    else:
        print(text(found, colour=show.coloured()))
    if found.failed:
        return LOST
    return UNPROVED if found.unproved else NONE_LOST
