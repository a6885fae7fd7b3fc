"""The arguments of `podgrace timeline`: argv in, values out; errors say what is accepted."""

import argparse
from urllib.parse import urlsplit

from webhook.cli import terminal
from webhook.cli.timeline.hub import HERE
from webhook.cli.timeline.run import NODES


def add(made: argparse.ArgumentParser) -> None:
    """Add the options to a parser."""
    what = made.add_argument_group("what comes and goes")
    word = what.add_argument
    word(
        "--pods",
        default="",
        metavar="SELECTOR",
        help="only watch these Pods, which others or the command after -- roll; without it, Pods"
        " of podgrace's own image are made and removed",
    )
    word(
        "--repeat",
        type=_count,
        default=1,
        metavar="N",
        help="how often a Pod comes and goes (1)",
    )
    word("--image", default="", metavar="NAME", help="podgrace's image (podgrace/podgrace:VERSION)")
    word("--alone", action="store_true", help="no second Pod stays: the Service has this one only")
    word("--no-probe", action="store_true", help="our Pod has no readiness probe")
    word(
        "--start",
        type=_seconds,
        default=1.0,
        metavar="S",
        help="seconds until our server listens (1)",
    )
    word(
        "--linger",
        type=_seconds,
        default=10.0,
        metavar="S",
        help="seconds that it serves after SIGTERM (10); 0: it exits at once",
    )
    group = made.add_argument_group("which ways are watched, and from where")
    word = group.add_argument
    word(
        "--from",
        dest="places",
        type=_places,
        default=None,
        metavar="PLACES",
        help="where clients ask: `here`, names of nodes, or `nodes` for all of them, with commas;"
        " on a node a small Pod without rights asks (nodes; with --pods: here)",
    )
    word(
        "--service",
        action="append",
        default=[],
        metavar="NAME",
        help="with --pods: a Service of theirs, headless or not; may be repeated",
    )
    word(
        "--port",
        type=_port,
        metavar="N",
        help="with --pods: the port to ask (the first that they declare)",
    )
    word(
        "--path",
        default="",
        metavar="PATH",
        help="with --pods: ask for this path over HTTP; without it, clients only connect",
    )
    word("--ingress", type=_url, metavar="URL", help="ask through this Ingress as well")
    word(
        "--ingress-class",
        default="",
        metavar="NAME",
        help="without --pods: make an Ingress of this class; --ingress is its controller's URL",
    )
    word("--dns", default="", metavar="ADDRESS", help="DNS server to ask (each place's own)")
    word(
        "--cluster-domain",
        default="cluster.local",
        metavar="NAME",
        help="domain of Services (cluster.local)",
    )
    word(
        "--every",
        type=_pause,
        default=0.05,
        metavar="S",
        help="seconds between two questions (0.05)",
    )
    word(
        "--timeout",
        type=_seconds,
        default=120.0,
        metavar="S",
        help="seconds to wait for a Pod to come, and again for it to go (120)",
    )
    group = made.add_argument_group("what is written")
    word = group.add_argument
    word("--title", default="", metavar="TEXT", help="name of this run in reports")
    word("--json", metavar="FILE", help="write the report there as well")
    word("--html", metavar="FILE", help="draw the picture there (needs the extra podgrace[prove])")
    terminal.add_output(made, "table", "json")
    made.add_argument("--as", dest="role", choices=("server", "observer"), help=argparse.SUPPRESS)


def check(made: argparse.ArgumentParser, args: argparse.Namespace) -> list[str]:
    """Give the command after --. Ends with 2 where words do not fit together."""
    first, command = args.words[:1], args.words[1:]
    if first and (first != ["--"] or not command):
        made.error(f"{first[0]!r} is not an option; a command comes after --")
    if args.places is None:
        args.places = [HERE if args.pods else NODES]
    if command and not args.pods:
        made.error("a command after -- needs --pods, which says what it rolls")
    if not args.pods and (args.service or args.port or args.path):
        made.error("--service, --port and --path need --pods")
    if args.pods and (args.alone or args.no_probe or args.ingress_class):
        made.error("--alone, --no-probe and --ingress-class: accepted only without --pods")
    if not args.pods and bool(args.ingress) != bool(args.ingress_class):
        made.error("without --pods, --ingress URL and --ingress-class NAME need each other")
    return list(command)


def _places(text: str) -> list[str]:
    found = [word.strip() for word in text.split(",") if word.strip()]
    if found:
        return found
    raise argparse.ArgumentTypeError(
        f"{text!r}: accepted: nodes, here, names of nodes, with commas"
    )


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if good and not any(ord(letter) < 33 for letter in text):
        return text
    raise argparse.ArgumentTypeError(f"{text!r}: accepted: http://HOST[:PORT]/PATH or https://...")


def _number(text: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if low <= value <= high:
        return value
    raise argparse.ArgumentTypeError(f"{text!r}: accepted: {low:g} to {high:g}")


def _seconds(text: str) -> float:
    return _number(text, 0, 3600)


def _pause(text: str) -> float:
    return _number(text, 0.01, 60)


def _count(text: str) -> int:
    value = _number(text, 1, 1000)
    if value == int(value):
        return int(value)
    raise argparse.ArgumentTypeError(f"{text!r}: accepted: 1 to 1000")


def _port(text: str) -> int:
    return int(_number(text, 1, 65535))
