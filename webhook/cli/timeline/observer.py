"""A client that asks the same questions again and again and tells what it got: no rights needed.

In: questions, which may be replaced at any time. Out: samples, handed over as they come, in the
time of this machine's monotonic clock. Each question uses a new connection, as a new client does.
Runs in the command itself, or in a Pod on a node (`remote`).
"""

import asyncio
import contextlib
import secrets
import ssl
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from webhook.cli.timeline import dns
from webhook.cli.timeline.sight import GREETING, Question, Sample

CONNECT: Final = 1.0
"""Seconds for a connection to open; inside a cluster it takes a millisecond."""
_WHOLE: Final = 2.0
_READ: Final = 65536
_AT_ONCE: Final = 40
"""Most questions of one kind that wait for answers at a time."""
_WRONG: Final = (
    (ConnectionRefusedError, "refused"),
    (ConnectionResetError, "reset"),
    (TimeoutError, "timeout"),
    (ssl.SSLError, "tls"),
    (OSError, "unreachable"),
)

Tell = Callable[[Sample], None]


class Observer:
    """Asks what it is told to ask. `tell` gets each sample."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._loops: dict[str, tuple[Question, asyncio.Task[None]]] = {}

    def ask(self, questions: Iterable[Question]) -> None:
        """Ask these from now on, and no others."""
        wanted = {question.key: question for question in questions}
        for key, (question, task) in list(self._loops.items()):
            if wanted.get(key) != question:
                task.cancel()
                del self._loops[key]
        for key, question in wanted.items():
            if key not in self._loops:
                self._loops[key] = question, asyncio.create_task(self._again(question))

    async def stop(self) -> None:
        """Ask nothing any more."""
        tasks = [task for _, task in self._loops.values()]
        self.ask(())
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _again(self, question: Question) -> None:
        asked: set[asyncio.Task[None]] = set()
        loop = asyncio.get_running_loop()
        due = loop.time()
        try:
            while True:
                if len(asked) < _AT_ONCE:
                    one = asyncio.create_task(self._once(question))
                    asked.add(one)
                    one.add_done_callback(asked.discard)
                # A question that is late is skipped, not made up for in a burst.
                due = max(due + question.every, loop.time())
                await asyncio.sleep(due - loop.time())
        finally:
            for one in asked:
                one.cancel()

    async def _once(self, question: Question) -> None:
        begin = time.monotonic()
        try:
            async with asyncio.timeout(_WHOLE):
                sample = await _ASK[question.ask](question, begin)
        except (OSError, ValueError) as error:
            why = next((word for kind, word in _WRONG if isinstance(error, kind)), "garbled")
            sample = Sample(question.key, begin, time.monotonic() - begin, why)
        self._tell(sample)


async def _tcp(question: Question, begin: float) -> Sample:
    async with asyncio.timeout(CONNECT):
        _, writer = await asyncio.open_connection(question.address, question.port)
    writer.transport.abort()
    return Sample(question.key, begin, time.monotonic() - begin, "accepted")


async def _http(question: Question, begin: float) -> Sample:
    context = None
    if question.tls:
        # This asks which Pod answers, not whether the certificate is right.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    async with asyncio.timeout(CONNECT):
        reader, writer = await asyncio.open_connection(
            question.address,
            question.port,
            ssl=context,
            server_hostname=question.host or question.address if context else None,
        )
    try:
        head = f"GET {question.path} HTTP/1.1\r\nHost: {question.host or question.address}\r\n"
        writer.write(f"{head}User-Agent: podgrace-timeline\r\nConnection: close\r\n\r\n".encode())
        data = await reader.read(_READ)
        while not reader.at_eof() and len(data) < _READ:
            data += await reader.read(_READ)
    finally:
        writer.transport.abort()
    status = data[9:12].decode("latin-1")
    if not data.startswith(b"HTTP/1.") or not status.isdigit():
        raise ConnectionResetError if not data else ValueError(status)
    who, said = _told(data.decode("utf-8", "replace"), question.pods)
    return Sample(question.key, begin, time.monotonic() - begin, status, who, said)


def _told(text: str, pods: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Find out who answered: our own server says so; others may answer their Pod's name."""
    _, mark, rest = text.partition(GREETING)
    if mark:
        name, *said = rest.split()
        return (name,), tuple(said)
    return tuple(name for name in pods if name in text), ()


async def _dns(question: Question, begin: float) -> Sample:
    number = secrets.randbelow(65536)
    loop = asyncio.get_running_loop()
    got: asyncio.Future[dns.Answer] = loop.create_future()
    server = question.address or nameserver()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Datagrams(number, got), remote_addr=(server, question.port)
    )
    try:
        transport.sendto(dns.question(number, question.host, six=question.six))
        async with asyncio.timeout(CONNECT):
            answer = await got
    finally:
        transport.close()
    took = time.monotonic() - begin
    return Sample(question.key, begin, took, answer.code, answer.addresses, ttl=answer.ttl)


def nameserver(text: str | None = None) -> str:
    """Find the DNS server of this place, as its resolver does (resolv.conf(5))."""
    text = Path("/etc/resolv.conf").read_text(encoding="utf-8") if text is None else text
    words = [line.split() for line in text.splitlines()]
    return next(
        (line[1] for line in words if len(line) > 1 and line[0] == "nameserver"), "127.0.0.1"
    )


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, number: int, got: "asyncio.Future[dns.Answer]") -> None:
        self._number, self._got = number, got

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Take the answer to our question."""
        del addr
        found = dns.answer(data, self._number)
        if found and not self._got.done():
            self._got.set_result(found)

    def error_received(self, exc: Exception) -> None:
        """Hear that nobody listens there."""
        with contextlib.suppress(asyncio.InvalidStateError):
            self._got.set_exception(exc)


_ASK: Final = {"tcp": _tcp, "http": _http, "dns": _dns}
