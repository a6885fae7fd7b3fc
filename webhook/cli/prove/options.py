"""The arguments of `podgrace prove`: argv in, values out; errors name what is accepted."""

import argparse
import math
from typing import Final

from webhook.cli import terminal

_MOST: Final = 86400
USAGE: Final = "%(prog)s URL [options] [-- COMMAND ...]"


def options(prog: str = "podgrace prove") -> argparse.ArgumentParser:
    """Build the options that may come before or after the URL."""
    made = argparse.ArgumentParser(prog=prog, usage=USAGE, add_help=False, allow_abbrev=False)
    _load(made.add_argument_group("the load"))
    _requests(made.add_argument_group("the requests, and which answers are right"))
    _length(made.add_argument_group("how long"))
    _pods(made.add_argument_group("whose loss it was"))
    _reports(made.add_argument_group("the report, and the exit code"))
    _in_cluster(made.add_argument_group("in the cluster"))
    return made


def _load(made: argparse._ArgumentGroup) -> None:
    add = made.add_argument
    add(
        "--rate",
        type=_positive,
        default=20.0,
        metavar="N",
        help="requests a second of each kind of client (20)",
    )
    add(
        "--connections",
        type=_count,
        default=8,
        metavar="N",
        help="connections that the keep-alive client uses in turn (8; 0: none)",
    )
    add("--no-new", action="store_true", help="no client that opens a connection for each request")
    add("--slow-url", metavar="URL", help="a URL that answers slowly: keeps requests in flight")
    add("--slow-rate", type=_positive, default=1.0, metavar="N", help="slow requests a second (1)")
    add(
        "--slow-timeout",
        type=_positive,
        default=60.0,
        metavar="S",
        help="a slow answer that takes longer is lost (60)",
    )
    add("--slow-body", metavar="TEXT", help="body of the slow requests, sent by POST; or @FILE")
    add(
        "--timeout",
        type=_positive,
        default=10.0,
        metavar="S",
        help="an answer that takes longer is lost (10)",
    )
    add(
        "--no-retry",
        action="store_true",
        help="count as lost what a client may repeat (as for POST)",
    )


def _requests(made: argparse._ArgumentGroup) -> None:
    add = made.add_argument
    add("-X", "--method", default="GET", metavar="NAME", help="method of the fast requests (GET)")
    add(
        "-H",
        "--header",
        action="append",
        default=[],
        metavar="NAME:VALUE",
        help="send this header as well",
    )
    add(
        "--body",
        metavar="TEXT",
        help="body of the fast requests; a WebSocket's message; a gRPC request's bytes; or @FILE",
    )
    add(
        "--expect",
        type=_statuses,
        default=_statuses("200-399"),
        metavar="LIST",
        help="good statuses, such as 200,300-399 (200-399); for gRPC, such as 0,5 (0)",
    )
    add(
        "--last-event",
        metavar="TEXT",
        help="the last event of an sse:// stream holds this, such as [DONE]; -: it never ends",
    )
    add("--ca", metavar="FILE", help="trust these certificates instead of the system's")
    add("--insecure", action="store_true", help="do not verify the server's certificate")


def _length(made: argparse._ArgumentGroup) -> None:
    add = made.add_argument
    add(
        "--before",
        type=_seconds,
        default=3.0,
        metavar="S",
        help="seconds of load before the command (3)",
    )
    add("--after", type=_seconds, default=5.0, metavar="S", help="seconds of load after it (5)")
    add(
        "--duration",
        type=_positive,
        metavar="S",
        help="seconds of load without a command (30); with --until-gone the longest wait (900)",
    )
    add("--until-eof", action="store_true", help="load until standard input ends")
    add(
        "--until-gone",
        action="store_true",
        help="load until the Pods that were there at the beginning are gone (needs --pods)",
    )


def _pods(made: argparse._ArgumentGroup) -> None:
    add = made.add_argument
    add(
        "--pods",
        default="",
        metavar="SELECTOR",
        help="watch these Pods and their EndpointSlices, and say whose loss it was (uses kubectl)",
    )
    add(
        "--service",
        default="",
        metavar="NAME",
        help="watch the EndpointSlices of this Service only",
    )
    add(
        "-n",
        "--namespace",
        default="",
        metavar="NAME",
        help="their namespace, if not the context's",
    )
    add("--kubeconfig", default="", metavar="FILE", help="kubectl's configuration (KUBECONFIG)")
    add("--context", default="", metavar="NAME", help="context in it, if not the current one")


def _reports(made: argparse._ArgumentGroup) -> None:
    add = made.add_argument
    add("--title", default="", metavar="TEXT", help="name of this run in reports and comparisons")
    add(
        "--max-lost",
        type=_allowed,
        default=0,
        metavar="N",
        help="up to N lost requests are no failure (0)",
    )
    add("--json", metavar="FILE", help="write the report there as well, for `prove compare`")
    add("--html", metavar="FILE", help="draw the picture there (needs the extra podgrace[prove])")
    add("--junit", metavar="FILE", help="write it there as JUnit XML, for a CI")
    add("--markdown", metavar="FILE", help="add it there as Markdown, for a job summary")
    terminal.add_output(made, "table", "json")


def _in_cluster(made: argparse._ArgumentGroup) -> None:
    add = made.add_argument
    add(
        "--job",
        action="store_true",
        help="send nothing; print a Job that does it in the cluster, with the least rights",
    )
    add(
        "--run-job",
        action="store_true",
        help="create that Job, run the command here while it loads, report, delete it again",
    )
    add("--image", default="", metavar="NAME", help="the Job's image (podgrace/podgrace:VERSION)")


def _positive(text: str) -> float:
    value = _number(text)
    if not 0 < value <= _MOST:
        raise argparse.ArgumentTypeError(f"{text!r}: accepted: a number above 0, up to {_MOST}")
    return value


def _seconds(text: str) -> float:
    value = _number(text)
    if not 0 <= value <= _MOST:
        raise argparse.ArgumentTypeError(f"{text!r}: accepted: 0 to {_MOST}")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _allowed(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: accepted: 0 and above")


def _count(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 5:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: accepted: 0 to 9999")


def _statuses(text: str) -> frozenset[int]:
    """Read HTTP's statuses, and gRPC's, which are below 100."""
    found: set[int] = set()
    for part in text.split(","):
        low, _, high = part.partition("-")
        if not all(
            number.isascii() and number.isdigit() and len(number) <= 3
            for number in (low, high or low)
        ):
            raise argparse.ArgumentTypeError(
                f"{text!r}: accepted: statuses with commas, or ranges, such as 200,300-399"
            )
        found.update(range(int(low), int(high or low) + 1))
    return frozenset(found)
