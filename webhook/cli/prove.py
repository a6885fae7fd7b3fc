r"""`podgrace prove`: does a rollout of your own workload lose requests? A load, your command, a table, a verdict.

In: a URL, rates, perhaps a command that disturbs the workload (`kubectl rollout restart ...`). Out: every request's outcome
counted by kind of client, and a timeline of losses beside what happened. Nothing is changed in the cluster but by the command
given. How requests are sent and what counts as lost stands in `traffic`.

    podgrace prove http://shop.example/ --slow-url http://shop.example/report --pods app=shop -- \
        sh -c 'kubectl rollout restart deployment/shop && kubectl rollout status deployment/shop'

| the load ends                                                    | with          |
|------------------------------------------------------------------|---------------|
| `--after` seconds after the command's end                        | -- COMMAND    |
| the same, but not before no Pod of the selector is terminating   | and --pods    |
| after so many seconds                                            | --duration    |
| when standard input ends                                         | --until-eof   |

| exit | meaning                                                         |
|------|-----------------------------------------------------------------|
| 0    | none was lost                                                   |
| 1    | nothing was proved: no answer before the load, a failed command |
| 2    | wrong arguments                                                 |
| 3    | requests were lost                                              |
"""

import argparse
import asyncio
import contextlib
import json
import shlex
import signal
import ssl
import sys
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from webhook.cli import show, traffic

NONE_LOST, UNPROVED, USAGE, LOST = range(4)

_SETTLE: Final = 900.0
"""Seconds that terminating Pods are waited for: the operator's default bound of a grace period."""
_SHOWN_LOSSES: Final = 1000


class Event(NamedTuple):
    """Something that happened beside the load. `at`: seconds since it began."""

    at: float
    what: str


class Ran(NamedTuple):
    """The command that disturbed the workload, how it ended and how many seconds it took."""

    command: list[str]
    code: int
    took: float


def add_parser(commands: Any) -> None:
    """Add the command to the top parser's."""
    text = "Load a workload while it is rolled, and count every request that it loses."
    made = commands.add_parser(
        "prove", help=text, description=text, parents=[_options()], allow_abbrev=False
    )
    made.usage = "podgrace prove URL [options] [-- COMMAND ...]"
    # argparse hands over everything from the URL on: options may follow it, and what follows -- is not ours to read.
    made.add_argument(
        "words",
        nargs=argparse.REMAINDER,
        metavar="URL [-- COMMAND]",
        help="what to ask for, fast; and what disturbs it meanwhile",
    )
    made.set_defaults(func=run)


def _options() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="podgrace prove", add_help=False, allow_abbrev=False)
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
    add("--slow-url", metavar="URL", help="what takes long to answer: keeps requests in flight")
    add("--slow-rate", type=_positive, default=1.0, metavar="N", help="slow requests a second (1)")
    add(
        "--slow-timeout",
        type=_positive,
        default=60.0,
        metavar="S",
        help="a slow answer that takes longer is lost (60)",
    )
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
    add(
        "--expect",
        type=_statuses,
        default=_statuses("200-399"),
        metavar="LIST",
        help="right statuses, such as 200,300-399 (200-399)",
    )
    add(
        "-H",
        "--header",
        action="append",
        default=[],
        metavar="NAME:VALUE",
        help="send this header as well",
    )
    add("--ca", metavar="FILE", help="trust these certificates instead of the system's")
    add("--insecure", action="store_true", help="do not verify the server's certificate")
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
        default=30.0,
        metavar="S",
        help="seconds of load without a command (30)",
    )
    add("--until-eof", action="store_true", help="load until standard input ends")
    add(
        "--pods",
        metavar="SELECTOR",
        help="write into the timeline when these Pods come, are ready, are told to stop, go (uses kubectl)",
    )
    add("-n", "--namespace", metavar="NAME", help="their namespace, if not kubectl's own")
    add("-o", "--output", choices=("table", "json"), default="table")
    return made


def _positive(text: str) -> float:
    value = _seconds(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"{text!r}: accepted: a number above 0")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r}: accepted: 0 to 86400")
    return value


def _count(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 5:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: accepted: 0 to 9999")


def _statuses(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        low, _, high = part.partition("-")
        if not all(
            number.isascii() and number.isdigit() and len(number) == 3
            for number in (low, high or low)
        ):
            raise argparse.ArgumentTypeError(
                f"{text!r}: accepted: statuses with commas, or ranges, such as 200,300-399"
            )
        found.update(range(int(low), int(high or low) + 1))
    return frozenset(found)


def run(args: argparse.Namespace) -> int:
    """Load, disturb, count. Returns the exit code."""
    words: list[str] = args.words
    cut = words.index("--") if "--" in words else len(words)
    options = _options()
    if cut == 0:
        options.error("a URL is needed: http://HOST[:PORT]/PATH or https://...")
    args.url, command = words[0], words[cut + 1 :]
    args, unknown = options.parse_known_args(words[1:cut], args)
    if unknown:
        options.error(f"{unknown[0]!r} is not an option; a command stands after --")
    if command and args.until_eof:
        options.error("--until-eof and a command: accepted: one of the two")
    if args.no_new and not args.connections:
        options.error("--no-new and --connections 0 leave no client")
    try:
        report = asyncio.run(_prove(args, command))
    except traffic.LoadError as error:
        print(f"podgrace: {error}", file=sys.stderr)
        return UNPROVED
    print(
        json.dumps(report, indent=1)
        if args.output == "json"
        else text(report, colour=sys.stdout.isatty())
    )
    if report["lost"]:
        return LOST
    return UNPROVED if report["commandExit"] else NONE_LOST


# -- the run -----------------------------------------------------------------------------------------------------------


async def _prove(args: argparse.Namespace, command: list[str]) -> dict[str, Any]:
    context = _context(args)
    fast = traffic.target(args.url, args.header, context, args.expect)
    await traffic.once(fast, args.timeout)
    slow = (
        traffic.target(args.slow_url, args.header, context, args.expect) if args.slow_url else None
    )
    clients = traffic.Load(timeout=args.timeout, retry=not args.no_retry)
    events: list[Event] = []

    def happened(what: str) -> None:
        events.append(Event(clients.now(), what))

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(number, stop.set)
    pods = Pods(args.pods, args.namespace, happened) if args.pods else None
    clients.start()
    if pods:
        await pods.start()
    if not args.no_new:
        clients.clients("new", fast, args.rate)
    if args.connections:
        clients.clients("keep-alive", fast, args.rate, connections=args.connections)
    if slow:
        clients.clients("slow", slow, args.slow_rate, timeout=args.slow_timeout)
    print(f"loading {fast.url}", file=sys.stderr, flush=True)
    ran = Ran(command, 0, 0.0)
    try:
        if command:
            ran = await _disturb(command, args, pods, stop, happened)
        elif args.until_eof:
            await _until_eof(stop)
        else:
            await _sleep(args.duration, stop)
    finally:
        length = clients.now()
        await clients.finish()
        if pods:
            await pods.stop()
    return _report(args, clients, events, length, ran)


def _context(args: argparse.Namespace) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=args.ca)
    except ssl.SSLError as error:
        raise traffic.LoadError(
            f"{args.ca}: not PEM certificates: {error.reason or error}"
        ) from error
    if args.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def _sleep(seconds: float, stop: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


async def _until_eof(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def read() -> None:
        while await reader.read(4096):
            pass

    waits = {asyncio.create_task(read()), asyncio.create_task(stop.wait())}
    _, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()


async def _disturb(
    command: list[str],
    args: argparse.Namespace,
    pods: "Pods | None",
    stop: asyncio.Event,
    happened: Callable[[str], None],
) -> Ran:
    """Run the command in the middle of the load."""
    await _sleep(args.before, stop)
    if stop.is_set():
        return Ran(command, 0, 0.0)
    happened("command began: " + shlex.join(command))
    begin = time.monotonic()
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=sys.stderr
        )
    except OSError as error:
        raise traffic.LoadError(f"{command[0]}: {error.strerror or error}") from error
    code = await process.wait()
    took = time.monotonic() - begin
    happened("command ended" + (f" with {code}" if code else ""))
    if pods:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(pods.calm(), _SETTLE)
    await _sleep(args.after, stop)
    return Ran(command, code, took)


class Pods:
    """What becomes of some Pods, as `kubectl get --watch` tells it."""

    def __init__(
        self, selector: str, namespace: str | None, happened: Callable[[str], None]
    ) -> None:
        self._command = [
            "kubectl",
            "get",
            "pods",
            "--selector",
            selector,
            "--watch",
            "--output-watch-events",
            "-o",
            "json",
        ]
        self._command += ["--namespace", namespace] if namespace else []
        self._happened = happened
        self._states: dict[str, str] = {}
        self._calm = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to watch. Raises `LoadError` where there is no kubectl."""
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
            )
        except OSError as error:
            raise traffic.LoadError(
                f"kubectl, which --pods needs: {error.strerror or error}"
            ) from error
        self._reader = asyncio.create_task(self._read())

    async def calm(self) -> None:
        """Wait until none of them is terminating."""
        await self._calm.wait()

    async def stop(self) -> None:
        """Watch no longer."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()
        if self._reader is not None:
            await self._reader

    async def _read(self) -> None:
        """Split kubectl's stream of JSON objects, which it writes one after another with line ends inside."""
        assert self._process is not None and self._process.stdout is not None  # noqa: S101, PT018
        decoder = json.JSONDecoder()
        buffer = ""
        while data := await self._process.stdout.read(1 << 16):
            buffer += data.decode()
            while buffer := buffer.lstrip():
                try:
                    event, end = decoder.raw_decode(buffer)
                except json.JSONDecodeError:
                    break
                buffer = buffer[end:]
                self._note(event)

    def _note(self, event: dict[str, Any]) -> None:
        pod = event["object"]
        name = pod["metadata"]["name"]
        ready = any(
            c["type"] == "Ready" and c["status"] == "True"
            for c in pod.get("status", {}).get("conditions", ())
        )
        if event["type"] == "DELETED":
            state = "gone"
        elif pod["metadata"].get("deletionTimestamp"):
            state = "told to stop"
        else:
            state = "ready" if ready else "not ready"
        before = self._states.get(name)
        if before != state and not (before is None and state == "not ready"):
            self._happened(f"Pod {name} {state}")
        elif before is None:
            self._happened(f"Pod {name} made")
        self._states[name] = state
        terminating = any(state == "told to stop" for state in self._states.values())
        self._calm.clear() if terminating else self._calm.set()


# -- the report --------------------------------------------------------------------------------------------------------


def _report(
    args: argparse.Namespace, clients: traffic.Load, events: list[Event], length: float, ran: Ran
) -> dict[str, Any]:
    """Put everything into one tree: what `-o json` prints, and what the table is made of."""
    tallies = clients.tallies
    return {
        "url": args.url,
        "slowUrl": args.slow_url,
        "seconds": round(length, 2),
        "command": ran.command or None,
        "commandExit": ran.code if ran.command else None,
        "commandSeconds": round(ran.took, 2) if ran.command else None,
        "sent": sum(tally.sent for tally in tallies.values()),
        "lost": sum(tally.lost for tally in tallies.values()),
        "retried": sum(tally.retried for tally in tallies.values()),
        "latestStartSeconds": round(clients.late, 3),
        "clients": {
            kind: {
                "sent": tally.sent,
                "ok": tally.outcomes[traffic.OK],
                "lost": tally.lost,
                "outcomes": {
                    name: tally.outcomes[name] for name in traffic.LOSSES if tally.outcomes[name]
                },
                "retried": tally.retried,
                "reconnected": tally.reconnected,
                "p50Seconds": round(tally.quantile(0.5), 4),
                "p99Seconds": round(tally.quantile(0.99), 4),
                "maxSeconds": round(tally.quantile(1), 4),
            }
            for kind, tally in tallies.items()
        },
        "timeline": [
            {"second": second, "sent": dict(sent), **marks}
            for second, sent, marks in traffic.per_second(clients.seconds)
        ],
        "events": [{"at": round(event.at, 2), "what": event.what} for event in events],
        "losses": [
            {**loss._asdict(), "at": round(loss.at, 3), "took": round(loss.took, 3)}
            for loss in sorted(clients.losses)[:_SHOWN_LOSSES]
        ],
    }


_HEAD: Final = (
    "CLIENT",
    "SENT",
    "OK",
    "LOST",
    "OF THEM",
    "RETRIED",
    "RECONNECTED",
    "P50",
    "P99",
    "MAX",
)


def text(report: dict[str, Any], *, colour: bool) -> str:
    """Write a report for people."""
    rows = [
        (
            kind,
            str(tally["sent"]),
            str(tally["ok"]),
            str(tally["lost"]),
            ", ".join(f"{name} {number}" for name, number in tally["outcomes"].items()) or "-",
            str(tally["retried"]),
            str(tally["reconnected"]),
            *(_short(tally[key]) for key in ("p50Seconds", "p99Seconds", "maxSeconds")),
        )
        for kind, tally in report["clients"].items()
    ]
    lines = [show.table(_HEAD, rows), ""]
    # A second's sum stands at its end, after what happened in it.
    timeline = [
        (row["second"] + 0.999, f"{row['second']:>4} s", _marks(row))
        for row in report["timeline"]
        if len(row) > 2
    ]
    timeline += [(event["at"], "", event["what"]) for event in report["events"]]
    if timeline:
        lines += [show.bold("  WHEN  WHAT", colour=colour)]
        lines += [f"{when or f'{at:6.1f}'}  {what}" for at, when, what in sorted(timeline)]
        lines += [""]
    seen = {name for tally in report["clients"].values() for name in tally["outcomes"]}
    lines += [f"{name}: {what}" for name, what in traffic.LOSSES.items() if name in seen]
    if report["retried"]:
        lines.append(
            "retried: sent again by the rule for requests that may be repeated (--no-retry counts them as lost)"
        )
    if report["latestStartSeconds"] > 0.5:
        lines.append(
            f"this machine was too busy: a request started {report['latestStartSeconds']:.1f} s late"
        )
    if report["commandExit"]:
        lines.append(f"the command ended with {report['commandExit']}: it proves nothing")
    lines.append(show.bold(_verdict(report), colour=colour))
    return "\n".join(lines)


def _marks(row: dict[str, Any]) -> str:
    return f"{sum(row['sent'].values())} sent; " + ", ".join(
        f"{name} {number}" for name, number in row.items() if name not in ("second", "sent")
    )


def _short(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def _verdict(report: dict[str, Any]) -> str:
    many = (
        f"{report['lost']} of {report['sent']} requests lost"
        if report["lost"]
        else f"none of {report['sent']} requests lost"
    )
    retried = f", {report['retried']} retried" if report["retried"] else ""
    took = f"; the command took {report['commandSeconds']:.1f} s" if report["command"] else ""
    return f"{many}{retried} in {report['seconds']:.1f} s{took}"
