"""The command itself: argv in; a report on standard output and an exit code out.

    podgrace plan -A                            # all namespaces of the kubeconfig's cluster
    podgrace plan -n shop -l tier=front
    kubectl get deploy,sts,ds,svc,pdb,hpa,quota,limits,ns,no,po -A -o json | podgrace plan -f -

| exit | meaning                                                             |
|------|---------------------------------------------------------------------|
| 0    | told                                                                |
| 1    | the cluster, the dump or the configuration cannot be used           |
| 2    | wrong arguments                                                     |
| 3    | with `--diff`: something is worse than it was                       |
"""

import argparse
import gc
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from webhook.cli import cluster, terminal
from webhook.cli.arguments import add_config, command
from webhook.cli.documents import ManifestError
from webhook.cli.exits import DIFFERS, OK, USAGE
from webhook.cli.plan.ask import ask
from webhook.cli.plan.changes import changes
from webhook.cli.plan.objects import Cluster
from webhook.cli.plan.read import Item, gather, objects
from webhook.cli.plan.report import Report, report
from webhook.cli.plan.text import changes_text, notes, text
from webhook.config import Config, load

_ABOUT: Final = (
    "Say which workloads lose requests in a rollout today, what podgrace would do to each, and what"
    " stands in the way."
)

_EXAMPLES: Final = """
podgrace plan -A
podgrace plan -n shop -l tier=front -o html > plan.html
kubectl get deploy,sts,ds,svc,pdb,hpa,quota,limits,ns,no,po -A -o json | podgrace plan -f -
"""


def add_parser(commands: Any) -> None:
    """Add the command to the top parser's."""
    made = command(commands, "plan", run, _ABOUT, _EXAMPLES)
    made.add_argument(
        "-f",
        "--filename",
        action="append",
        default=[],
        metavar="FILE",
        help="dump instead of a cluster: what `kubectl get ... -o json` printed, - for standard"
        " input; may be given several times",
    )
    add_config(made)
    terminal.add_output(made, "table", "json", "yaml", "html")
    made.add_argument(
        "--details", action="store_true", help="with the table: each finding on a line of its own"
    )
    made.add_argument(
        "--diff", metavar="OLD.json", help="show what changed since this report of -o json"
    )
    cluster.add_options(made, everywhere=True, selector=True)


def run(args: argparse.Namespace) -> int:
    """Read, judge, print. Returns the exit code."""
    if args.diff and args.output == "html":
        print("podgrace: --diff goes with -o table or json", file=sys.stderr)
        return USAGE
    config = load(args.config)
    old = _report(args.diff) if args.diff else None
    # Many values and no cycle: collecting would take a third of the time.
    gc.disable()
    try:
        seen, source, missing = _read(args, config)
        found = report(seen, config, source)
    finally:
        gc.enable()
    for note in (*missing, *notes(found)):
        print(f"podgrace: {note}", file=sys.stderr)
    if old is not None:
        return _compare(old, found, args.output)
    if args.output in ("json", "yaml"):
        _put(terminal.structured(found, args.output).encode())
    elif args.output == "html":
        from webhook.cli.plan.html import html  # noqa: PLC0415 - an extra

        _put(html(found).encode())
    else:
        print(text(found, details=args.details, colour=terminal.coloured()))
    return OK


def _compare(old: Report, new: Report, output: str) -> int:
    found = changes(old, new)
    if output in ("json", "yaml"):
        _put(terminal.structured(found, output).encode())
    else:
        print(changes_text(found))
    return DIFFERS if found.worse else OK


def _read(args: argparse.Namespace, config: Config) -> tuple[Cluster, str, list[str]]:
    """Give what was read, its source, and a sentence for each list that could not be read."""
    if args.filename:
        where = ", ".join("standard input" if name == "-" else name for name in args.filename)
        return gather(_items(args.filename), config, where), where, []
    reach = cluster.of(args)
    where = "all namespaces" if reach.everywhere else f"namespace {reach.namespace}"
    if args.selector:
        where += f", {args.selector}"
    seen, missing = ask(reach, config, args.selector)
    return seen, where, missing


def _items(names: Iterable[str]) -> Iterator[Item]:
    for name in names:
        if name == "-":
            yield from objects(sys.stdin.buffer.read(), "standard input")
        else:
            yield from objects(Path(name).read_bytes(), name)


def _report(name: str) -> Report:
    try:
        return msgspec.json.decode(Path(name).read_bytes(), type=Report)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ManifestError(
            f"{name}: accepted: what `podgrace plan -o json` printed: {error}"
        ) from error


def _put(data: bytes) -> None:
    """Print bytes as they are, whatever the terminal's encoding."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data.rstrip(b"\n") + b"\n")
    sys.stdout.buffer.flush()
