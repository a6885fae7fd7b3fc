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
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from webhook import __version__
from webhook.cli import arguments, terminal
from webhook.cli.cluster import kubectl_options
from webhook.cli.exits import DIFFERS, OK, UNUSABLE
from webhook.cli.prove import compare, report
from webhook.cli.prove.html import html, template
from webhook.cli.prove.job import NAME, Plan, job
from webhook.cli.prove.junit import junit
from webhook.cli.prove.markdown import markdown
from webhook.cli.prove.options import USAGE, options
from webhook.cli.prove.run import DURATION, SETTLE
from webhook.cli.prove.run import run as load
from webhook.cli.prove.runjob import Errand, send
from webhook.cli.prove.target import SCHEMES, LoadError
from webhook.cli.prove.text import text

COMPARE: Final = "compare"
"""Stands in for a URL: no URL looks like that."""
_LONGEST: Final = 3600.0
"""Seconds that a Job loads at most if nobody comes back to end it."""
_CARRIED: Final = (
    "pods",
    "namespace",
    "service",
    "title",
    "rate",
    "connections",
    "slow-url",
    "slow-rate",
    "slow-timeout",
    "slow-body",
    "last-event",
    "timeout",
    "method",
    "body",
    "after",
    "duration",
    "max-lost",
)
"""Options with a value that a Job is given as they are."""


def add_parser(commands: Any) -> None:
    """Add the command to the top parser's."""
    about = "Load a workload during a rollout, and count every request that it loses."
    made = arguments.command(commands, "prove", run, about, _EXAMPLES, parents=[options()])
    made.usage = USAGE
    # argparse hands over everything from the URL on: options may follow it, but the words after --
    # are not ours.
    made.add_argument(
        "words",
        nargs=argparse.REMAINDER,
        metavar="URL [-- COMMAND]",
        help="what to request, fast; and the command that disturbs it",
    )


_EXAMPLES: Final = """
podgrace prove http://shop.example/ --pods app=shop -- kubectl rollout restart deployment/shop
podgrace prove https://shop.example/ --duration 60 --html shop.html
podgrace prove compare before.json after.json --html both.html
"""


def run(args: argparse.Namespace) -> int:
    """Load, disturb, count. Returns the exit code."""
    args, command = _parse(args)
    if args.url == COMPARE:
        return _compare(args, command)
    return _print_job(args) if args.job else _prove(args, command)


def _parse(args: argparse.Namespace) -> tuple[argparse.Namespace, list[str]]:
    """Read the options around the URL. Exits with 2 where they don't fit together."""
    words: list[str] = args.words
    cut = words.index("--") if "--" in words else len(words)
    parser = options(args.parser.prog)
    if cut == 0:
        parser.error("a URL is needed: http://HOST[:PORT]/PATH or https://...")
    args.url, command = words[0], words[cut + 1 :]
    args, unknown = parser.parse_known_args(words[1:cut], args)
    if args.url == COMPARE:
        wrong = [word for word in unknown if word.startswith("-")]
        if wrong or command or not unknown:
            parser.error("compare: accepted: files that --json or -o json wrote, and where to")
        return args, unknown
    if unknown:
        parser.error(f"{unknown[0]!r} is not an option; a command comes after --")
    if command and args.until_eof:
        parser.error("--until-eof and a command: accepted: one of the two")
    if args.until_gone and not args.pods:
        parser.error("--until-gone needs --pods, which says whose end it waits for")
    if args.until_gone and args.until_eof:
        parser.error("--until-gone and --until-eof: accepted: one of the two")
    if args.job and args.run_job:
        parser.error("--job prints what --run-job runs: accepted: one of the two")
    if args.job and command:
        parser.error("--job takes no command: run it yourself while the Job loads")
    if (args.job or args.run_job) and args.until_eof:
        parser.error("--until-eof: a Job has no standard input")
    if (args.job or args.run_job) and args.pods and not args.namespace:
        parser.error("-n is needed: a Job watches --pods in its own namespace")
    if args.no_new and not args.connections:
        parser.error("--no-new and --connections 0 leave no client")
    return args, command


def _prove(args: argparse.Namespace, command: list[str]) -> int:
    if args.html:
        template()  # says that Jinja is missing before anything is rolled
    if args.run_job:
        return _finish(args, _send(args, command))
    about = report.About(
        args.title or args.url,
        args.url,
        args.method.upper(),
        args.slow_url,
        datetime.now(UTC).isoformat(timespec="seconds"),
        args.max_lost,
    )
    return _finish(args, report.make(about, asyncio.run(load(args, command))))


def _finish(args: argparse.Namespace, found: report.Report) -> int:
    """Write a report, and say how it went."""
    _write(args, [found])
    if found.failed:
        return DIFFERS
    return UNUSABLE if found.unproved else OK


def _compare(args: argparse.Namespace, files: list[str]) -> int:
    """Compare reports; a single one is only written in another form."""
    _write(args, [report.read(file) for file in files])
    return OK


def _print_job(args: argparse.Namespace) -> int:
    """Print the Job."""
    until = ["--until-gone"] if args.pods and not args.until_gone and not args.duration else []
    print(job(_plan(args, until)), end="")
    return OK


def _plan(args: argparse.Namespace, more: list[str], longest: float = 0.0) -> Plan:
    """Describe the Job. longest: seconds of load, if the options don't say."""
    for url in filter(None, (args.url, args.slow_url)):
        scheme = SCHEMES.get(url.partition(":")[0])
        if scheme and scheme.extra and not args.image:
            raise LoadError(
                f"{url}: a Job that asks it needs an image with podgrace[prove], which the "
                "webhook's is not: name one with --image (docs/proof.md says how to build it)"
            )
    return Plan(
        [*_again(args), *more],
        args.image or f"podgrace/podgrace:{__version__}",
        args.namespace,
        bool(args.pods),
        (longest or args.duration or (SETTLE if args.pods else DURATION)) + args.after,
        max(args.timeout, args.slow_timeout if args.slow_url else 0.0),
    )


def _send(args: argparse.Namespace, command: list[str]) -> report.Report:
    """Have the Job run. With a command it loads until it is deleted, and no longer than an hour."""
    settle = args.duration or SETTLE
    if command:
        words = _plan(args, [], _LONGEST)
        kept = [word for word in words.words if word != "--until-gone"]
        plan = words._replace(words=[*kept, "--duration", f"{_LONGEST:g}"])
    else:
        until = args.pods and not args.until_gone and not args.duration
        plan = _plan(args, ["--until-gone"] if until else [])
    plan = plan._replace(name=f"{NAME}-{secrets.token_hex(3)}")
    where = ("--namespace", args.namespace) if args.namespace else ()
    return send(
        Errand(
            plan.name,
            ("kubectl", *kubectl_options(args), *where),
            job(plan),
            tuple(command),
            args.pods,
            args.until_gone,
            args.before,
            args.after,
            settle,
        )
    )


def _again(args: argparse.Namespace) -> list[str]:
    """Write the options that the Job needs: those that differ from the default."""
    if args.ca:
        raise LoadError("--ca FILE: the Job has no such file; try --insecure")
    args.body, args.slow_body = _inline(args.body), _inline(args.slow_body)
    parser = options()
    words = [args.url]
    for name in ("no-new", "no-retry", "insecure", "until-gone"):
        words += [f"--{name}"] if getattr(args, name.replace("-", "_")) else []
    for name in _CARRIED:
        value = getattr(args, name.replace("-", "_"))
        if value != parser.get_default(name.replace("-", "_")):
            words += [f"--{name}", f"{value:g}" if isinstance(value, float) else str(value)]
    if args.expect != parser.get_default("expect"):
        words += ["--expect", ",".join(map(str, sorted(args.expect)))]
    for header in args.header:
        words += ["--header", header]
    return words


def _inline(body: str | None) -> str | None:
    """Read a body from its file: the Job has no such file."""
    if body is None or not body.startswith("@"):
        return body
    try:
        text = Path(body[1:]).read_bytes().decode()
    except UnicodeDecodeError as error:
        raise LoadError(
            f"{body}: only text can be given to a Job, and this is not UTF-8"
        ) from error
    if text.startswith("@") or "\0" in text:
        raise LoadError(f"{body}: a Job can't be given a body that begins with @ or holds a zero")
    return text


def _write(args: argparse.Namespace, found: list[report.Report]) -> None:
    """Write the reports: files first, then standard output."""
    if args.json:
        Path(args.json).write_text(report.write(found[0]), encoding="utf-8")
    if args.html:
        Path(args.html).write_text(html(found), encoding="utf-8")
    if args.junit:
        Path(args.junit).write_text(junit(found), encoding="utf-8")
    if args.markdown:
        with Path(args.markdown).open("a", encoding="utf-8") as summary:
            summary.write(markdown(found) + "\n")
    if args.output == "json":
        print(report.write(found[0]) if len(found) == 1 else report.write_all(found))
    elif len(found) == 1:
        print(text(found[0], colour=terminal.coloured()))
    else:
        print(compare.text(found))
