"""An observer in a Pod on a node, spoken to over `kubectl attach`: lines of JSON both ways.

| to the Pod       | from the Pod        |
|------------------|---------------------|
| {"ask": [...]}   | {"samples": [...]}  |
| {"ping": n}      | {"pong": n, "now"}  |

The Pod needs no rights and no network of ours. The quickest of the last pings aligns its clock with
ours: its times are wrong by at most half of that round trip. It ends when the line is cut, so that
it can't be left behind.
"""

import asyncio
import contextlib
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

import msgspec

from webhook.cli.timeline.observer import Observer
from webhook.cli.timeline.sight import Question, Sample
from webhook.cli.watching.streams import WatchError

_FLUSH: Final = 0.2
_PING: Final = 1.0
_PINGS: Final = 30
_FIRST: Final = 5
"""Pings before the Pod's times count."""
_LINE: Final = 4 << 20


class Order(msgspec.Struct, omit_defaults=True):
    """A line to the Pod."""

    ask: list[Question] | None = None
    ping: int | None = None


class Told(msgspec.Struct, omit_defaults=True):
    """A line from the Pod. now: its clock."""

    samples: list[Sample] | None = None
    pong: int | None = None
    now: float = 0.0


# -- in the Pod


async def observe() -> None:
    """Be the observer in the Pod, until standard input ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_LINE)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    kept: list[Sample] = []
    observer = Observer(kept.append)
    flusher = asyncio.create_task(_flush(kept))
    try:
        while line := await reader.readline():
            order = msgspec.json.decode(line, type=Order)
            if order.ask is not None:
                observer.ask(order.ask)
            if order.ping is not None:
                _say(Told(pong=order.ping, now=time.monotonic()))
    finally:
        flusher.cancel()
        await observer.stop()


async def _flush(kept: list[Sample]) -> None:
    while True:
        await asyncio.sleep(_FLUSH)
        if kept:
            _say(Told(samples=kept[:]))
            kept.clear()


def _say(told: Told) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
    sys.stdout.buffer.flush()


# -- at our end


class Remote:
    """Our end of the line. `words`: the command that attaches to the Pod."""

    def __init__(
        self, place: str, words: Sequence[str], tell: Callable[[str, Sample], None]
    ) -> None:
        self.place = place
        self.why = ""
        self.aligned = asyncio.Event()
        """Set once the Pod's clock is known."""
        self._words, self._tell = words, tell
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._sent: dict[int, float] = {}
        self._pings: deque[tuple[float, float]] = deque(maxlen=_PINGS)
        self.over = asyncio.Event()

    @property
    def unsure(self) -> float:
        """By how many seconds what the Pod measured may be wrong."""
        return min((took for took, _ in self._pings), default=0.0) / 2

    async def start(self) -> None:
        """Attach. Raises `WatchError` where there is no kubectl."""
        pipe = asyncio.subprocess.PIPE
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._words, stdin=pipe, stdout=pipe, stderr=pipe, limit=_LINE,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise WatchError(f"{self._words[0]}: {error.strerror or error}") from error
        self._tasks = [asyncio.create_task(it) for it in (self._listen(), self._ping())]

    def ask(self, questions: Sequence[Question]) -> None:
        """Have these asked from now on."""
        self._send(Order(ask=list(questions)))

    async def stop(self) -> None:
        """Cut the line."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()

    def _send(self, order: Order) -> None:
        if self._process is not None and self._process.stdin is not None and not self.over.is_set():
            self._process.stdin.write(msgspec.json.encode(order) + b"\n")

    async def _ping(self) -> None:
        number = 0
        while True:
            number += 1
            self._sent[number] = time.monotonic()
            self._send(Order(ping=number))
            await asyncio.sleep(_PING if self.aligned.is_set() else _FLUSH)

    async def _listen(self) -> None:
        try:
            async for told in self._lines():
                if told.pong is not None:
                    self._pong(told.pong, told.now)
                # Until the clock is known, the Pod's times mean nothing.
                if self.aligned.is_set():
                    ahead = min(self._pings)[1]
                    for sample in told.samples or ():
                        self._tell(
                            self.place, msgspec.structs.replace(sample, at=sample.at - ahead)
                        )
        finally:
            self.over.set()

    def _pong(self, number: int, now: float) -> None:
        sent, here = self._sent.pop(number, None), time.monotonic()
        if sent is not None:
            self._pings.append((here - sent, now - (sent + here) / 2))
        if len(self._pings) >= _FIRST:
            self.aligned.set()

    async def _lines(self) -> AsyncIterator[Told]:
        process = self._process
        if process is None or process.stdout is None or process.stderr is None:
            raise AssertionError
        while line := await process.stdout.readline():
            # kubectl may print its own messages in between.
            with contextlib.suppress(msgspec.DecodeError):
                yield msgspec.json.decode(line, type=Told)
        said = (await process.stderr.read()).decode(errors="replace").strip().splitlines()
        self.why = said[-1] if said else "the line to it was cut"
