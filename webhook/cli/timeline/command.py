"""The command itself: argv in; a report on standard output and in files, and an exit code out.

    podgrace timeline -n scratch --repeat 5 --html timeline.html
    podgrace timeline --pods app=shop --service shop -- kubectl rollout restart deployment/shop

| exit | meaning                                                          |
|------|------------------------------------------------------------------|
| 0    | a Pod was seen to come or to go                                  |
| 1    | nothing was seen: no cluster, no image, no right, or no such Pod |
| 2    | wrong arguments                                                  |
| 130  | interrupted; what was made is removed                            |
"""

import argparse
import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from webhook.cli import arguments, cluster, terminal
from webhook.cli.exits import OK, STOPPED, UNUSABLE
from webhook.cli.timeline import options, remote, report, workload
from webhook.cli.timeline.html import html, template
from webhook.cli.timeline.manifests import PORT
from webhook.cli.timeline.run import run as observed
from webhook.cli.timeline.text import text


def add_parser(commands: Any) -> None:
    """Add the command to the top parser's."""
    about = (
        "Say what happens when, while a Pod comes and goes: in the API, EndpointSlices, DNS, and to"
        " clients of its Service on every node."
    )
    made = arguments.command(commands, "timeline", run, about, _EXAMPLES)
    made.usage = "%(prog)s [options] [-- COMMAND ...]"
    cluster.add_options(made, api=False)
    options.add(made)
    made.add_argument(
        "words", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="what rolls the Pods"
    )


_EXAMPLES: Final = """
podgrace timeline -n scratch --repeat 5 --html timeline.html
podgrace timeline --pods app=shop --service shop -- kubectl rollout restart deployment/shop
"""


def run(args: argparse.Namespace) -> int:
    """Watch, and say what was when. Returns the exit code."""
    if args.role:
        return _role(args)
    command = options.check(args.parser, args)
    if args.html:
        template()  # says that Jinja is missing before anything is made
    began = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        seen = asyncio.run(observed(args, cluster.kubectl_options(args), command))
    except asyncio.CancelledError:
        return STOPPED
    about = report.About(args.title or "timeline", seen.namespace, began, args.every)
    made = report.make(about, seen.lives, seen.unsure, seen.troubles)
    _write(args, made)
    return OK if made.coming or made.going else UNUSABLE


def _write(args: argparse.Namespace, made: report.Report) -> None:
    if args.json:
        Path(args.json).write_text(report.write(made), encoding="utf-8")
    if args.html:
        Path(args.html).write_text(html(made), encoding="utf-8")
    if args.output == "json":
        print(report.write(made))
    else:
        print(text(made, colour=terminal.coloured()))


def _role(args: argparse.Namespace) -> int:
    """Be one of the Pods that this command makes."""
    if args.role == "server":
        asyncio.run(workload.serve(PORT, args.start, args.linger))
    else:
        asyncio.run(remote.observe())
    return OK
