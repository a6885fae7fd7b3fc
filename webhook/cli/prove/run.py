"""One run: a first look, the load, the watch, the command; the ledger out.

| the load ends                                                        | with            |
|----------------------------------------------------------------------|-----------------|
| `--after` seconds after the command's end                            | -- COMMAND      |
| the same, but not before every Pod has gone or come for so long      | and --pods      |
| the same, but not before the Pods of the beginning are gone          | --until-gone    |
| after so many seconds                                                | --duration      |
| when standard input ends                                             | --until-eof     |
"""

import argparse
import asyncio
import contextlib
import signal
import ssl
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Final

from webhook.cli.cluster import kubectl_options
from webhook.cli.prove.clients import Load
from webhook.cli.prove.forward import REASON, forwarded, is_loopback, processes
from webhook.cli.prove.ledger import CommandSeen, Ledger, Seen, Trouble, of_these_pods
from webhook.cli.prove.progress import progress
from webhook.cli.prove.protocols import PROTOCOLS, kind, once
from webhook.cli.prove.report import SLOW
from webhook.cli.prove.target import LoadError, Target, target
from webhook.cli.prove.watch import Watch
from webhook.cli.watching import disturbance, streams

SETTLE: Final = 900.0
"""Seconds to wait for Pods that go: the operator's default bound of a grace period."""
DURATION: Final = 30.0


async def run(args: argparse.Namespace, command: list[str]) -> Ledger:
    """Load, disturb, watch. Raises `LoadError` where nothing can be proved."""
    fast, slow = _targets(args)
    for where in filter(None, (fast, slow)):
        kind(where)  # says what is missing
        if is_loopback(where.host) and forwarded(where.port, processes()):
            raise LoadError(f"{where.url} {REASON}")
    await once(fast, args.timeout)
    load = Load(retry=not args.no_retry)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(number, stop.set)
    watch = None
    if args.pods:
        found = streams.resources(args.pods, args.service, args.namespace)
        pods, slices = (streams.stream(each, kubectl_options(args)) for each in found)
        watch = Watch(pods, slices, load.now)
        await watch.start()
    seen: list[Seen] = watch.seen if watch else []
    load.start()
    if not (args.no_new and PROTOCOLS[fast.protocol].kept):
        load.clients("new", fast, args.rate)
    if args.connections and PROTOCOLS[fast.protocol].kept:
        load.clients("keep-alive", fast, args.rate, connections=args.connections)
    if slow:
        many = 1 if PROTOCOLS[slow.protocol].shared else 0
        load.clients(SLOW, slow, args.slow_rate, connections=many)
    print(f"loading {fast.url}", file=sys.stderr, flush=True)
    shown = asyncio.create_task(progress(load, seen))
    try:
        await _Course(args, load, watch, seen, stop).run(command)
    finally:
        length = load.now()
        await load.finish()
        shown.cancel()
        await asyncio.gather(shown, return_exceptions=True)
        if watch:
            await watch.stop()
    return Ledger(
        of_these_pods(seen),
        tuple(load.losses),
        load.seconds,
        load.tallies(),
        length,
        load.late,
        watched=watch is not None,
        notices=tuple(load.notices),
    )


def _targets(args: argparse.Namespace) -> tuple[Target, Target | None]:
    fast = target(
        args.url,
        args.header,
        _context(args),
        args.expect,
        method=args.method.upper(),
        body=_body(args.body),
        limit=args.timeout,
        last_event=args.last_event,
    )
    if not args.slow_url:
        return fast, None
    body = _body(args.slow_body)
    http = args.slow_url.split(":")[0] not in ("grpc", "grpcs", "ws", "wss")
    slow = target(
        args.slow_url,
        args.header,
        _context(args),
        args.expect,
        method="POST" if body and http else "GET",
        body=body,
        limit=args.slow_timeout,
        last_event=args.last_event,
    )
    return fast, slow


def _body(text: str | None) -> bytes:
    if text is None:
        return b""
    return Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()


def _context(args: argparse.Namespace) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=args.ca)
    except ssl.SSLError as error:
        raise LoadError(f"--ca {args.ca}: not PEM certificates: {error.reason or error}") from error
    except OSError as error:
        raise LoadError(f"--ca {args.ca}: {error.strerror or error}") from error
    if args.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class _Course:
    """What happens while the load goes on, and until when it does."""

    def __init__(
        self,
        args: argparse.Namespace,
        load: Load,
        watch: Watch | None,
        seen: list[Seen],
        stop: asyncio.Event,
    ) -> None:
        self._args, self._load, self._watch, self._seen, self._stop = args, load, watch, seen, stop

    async def run(self, command: list[str]) -> None:
        """Run it, and return when the load may end."""
        args = self._args
        if command:
            await self._sleep(args.before)
            if not self._stop.is_set():
                await self._disturb(command)
        elif args.until_eof:
            await self._either(_end_of_input())
            return
        elif not args.until_gone:
            await self._sleep(args.duration or DURATION)
            return
        until = self._load.now() + (args.duration or SETTLE)
        while not self._stop.is_set():
            if self._watch and not await self._settle(self._watch, until - self._load.now()):
                break
            stirred = self._watch.stirred if self._watch else 0
            await self._sleep(args.after)
            # `kubectl rollout restart` comes back before the first Pod comes.
            if self._watch is None or self._watch.stirred == stirred:
                break

    async def _disturb(self, command: list[str]) -> None:
        """Run the command."""
        self._seen.append(CommandSeen(self._load.now(), tuple(command)))
        code = await (await disturbance.start(command)).wait()
        self._seen.append(CommandSeen(self._load.now(), tuple(command), code))

    async def _settle(self, watch: Watch, limit: float) -> bool:
        """Wait for the Pods that come and go; says whether they did in time."""
        try:
            async with asyncio.timeout(limit):
                if self._args.until_gone:
                    await self._either(watch.renewed())
                await self._either(watch.calm())
        except TimeoutError:
            left = ", ".join(watch.left()) or "none"
            what = f"Pods that did not come or go in time: {left}"
            self._seen.append(Trouble(self._load.now(), what))
            return False
        return True

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _either(self, what: Awaitable[None]) -> None:
        """Wait for that, or for the signal to stop."""
        waits = {asyncio.ensure_future(what), asyncio.ensure_future(self._stopped())}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in done:
                wait.result()
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _stopped(self) -> None:
        await self._stop.wait()


async def _end_of_input() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    try:
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    except ValueError:
        return  # a file: its end is there already
    while await reader.read(4096):
        pass
