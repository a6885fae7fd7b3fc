"""An open-loop HTTP load that misses nothing: every request is sent at its time and has one outcome.

In: targets and rates. Out: what a ledger holds of them: losses, seconds, a tally by kind of client.

| client     | what it is like                                                                  |
|------------|-----------------------------------------------------------------------------------|
| new        | a new connection for each request, as from curl or from a proxy without a pool    |
| keep-alive | some connections that are used in turn, as from an HTTP client with a pool        |
| slow       | a new connection for each request, whose answer takes long: in flight at a stop   |

A keep-alive client does what pools do. A connection that was closed while idle is replaced without a
word. If a request went out on a used connection and that one ends before a single byte of answer, it
is sent once more on a new connection: the rule of Go's http.Transport for requests that may be
repeated, and of browsers (RFC 9110, 9.2.2). Such a request is counted as retried; it is lost only if
the second try fails. A POST is not repeated; `retry=False` counts a GET so as well.
"""

import asyncio
import contextlib
import time
from array import array
from collections import Counter
from typing import Final

from webhook.cli.prove.connection import Connection, Ended, Way, ended, open_to
from webhook.cli.prove.ledger import OK, RETRIED, Loss, Second, Tally
from webhook.cli.prove.target import IDEMPOTENT, Target

_REPEATABLE: Final = frozenset({"reset", "eof-before"})


class _Count:
    """What becomes of one kind of client's requests, while it becomes."""

    def __init__(self) -> None:
        self.sent = self.retried = self.reconnected = 0
        self.outcomes: Counter[str] = Counter()


class Load:
    """The clients against one target, from `start` until `finish`."""

    def __init__(self, *, timeout: float, retry: bool) -> None:
        self.losses: list[Loss] = []
        self.seconds: dict[int, Second] = {}
        self.late = 0.0
        self._timeout = timeout
        self._retry = retry
        self._began: float | None = None
        self._counts: dict[str, _Count] = {}
        self._stopping = asyncio.Event()
        self._clients: list[asyncio.Task[None]] = []
        self._requests: set[asyncio.Task[None]] = set()
        self._bug: BaseException | None = None

    def start(self) -> None:
        """Begin the clock."""
        self._began = time.monotonic()

    def now(self) -> float:
        """Seconds since `start`; 0 before it."""
        return self._since(time.monotonic())

    def _since(self, moment: float) -> float:
        return 0.0 if self._began is None else moment - self._began

    def tallies(self) -> dict[str, Tally]:
        """Say what has become of the requests so far, by kind of client."""
        return {
            kind: Tally(
                count.sent, dict(count.outcomes), count.retried, count.reconnected, self._took(kind)
            )
            for kind, count in self._counts.items()
        }

    def counts(self) -> tuple[int, int, int]:
        """Say how many were sent, lost, and retried so far."""
        counts = self._counts.values()
        lost = sum(count.outcomes.total() - count.outcomes[OK] for count in counts)
        return sum(count.sent for count in counts), lost, sum(count.retried for count in counts)

    def _took(self, kind: str) -> "array[float]":
        every = [row.took[kind] for row in self.seconds.values() if kind in row.took]
        return array("d", sorted(value for part in every for value in part))

    def clients(
        self,
        kind: str,
        where: Target,
        rate: float,
        *,
        connections: int = 0,
        timeout: float | None = None,
    ) -> None:
        """Send `rate` requests a second; over `connections` kept ones, or over a new one each."""
        self._counts[kind] = _Count()
        pool: list[Connection | None] = [None] * connections
        self._clients.append(
            asyncio.create_task(self._tick(kind, where, rate, pool, timeout or self._timeout))
        )

    async def finish(self) -> None:
        """Send no more, and wait for the answers that are owed."""
        self._stopping.set()
        await asyncio.gather(*self._clients)
        while self._requests:
            await asyncio.wait(self._requests)
        for _ in range(3):
            await asyncio.sleep(0)  # what was closed last is closed a turn of the loop later
        if self._bug is not None:
            raise self._bug

    def _done(self, request: asyncio.Task[None]) -> None:
        self._requests.discard(request)
        if not request.cancelled():
            self._bug = self._bug or request.exception()

    async def _tick(
        self, kind: str, where: Target, rate: float, pool: list[Connection | None], limit: float
    ) -> None:
        """Start every request at its own time, however long the others take."""
        number = 0
        begin = time.monotonic()
        while not self._stopping.is_set():
            due = begin + number / rate
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), max(0.0, due - time.monotonic()))
            if self._stopping.is_set():
                break
            self.late = max(self.late, time.monotonic() - due)
            request = asyncio.create_task(
                self._send(kind, where, pool, number % len(pool) if pool else -1, limit)
            )
            self._requests.add(request)
            request.add_done_callback(self._done)
            number += 1
        while self._requests and pool:
            await asyncio.wait(self._requests)
        for connection in pool:
            if connection is not None:
                connection.close()

    async def _send(
        self, kind: str, where: Target, pool: list[Connection | None], slot: int, limit: float
    ) -> None:
        count = self._counts[kind]
        count.sent += 1
        begin = self.now()
        second = self._second(begin)
        second.sent[kind] += 1
        way = Way()
        try:
            async with asyncio.timeout(limit):
                if pool:
                    await self._kept(kind, where, pool, slot, way)
                else:
                    await self._new(where, way)
        except (Ended, OSError) as error:
            how = ended(error)
            count.outcomes[how.outcome] += 1
            self._note(kind, begin, way, how)
        else:
            count.outcomes[OK] += 1
            second.took.setdefault(kind, array("d")).append(self.now() - begin)

    def _note(
        self, kind: str, begin: float, way: Way, how: Ended, *, retried: bool = False
    ) -> None:
        at = self.now()
        self._second(at).marks[RETRIED if retried else how.outcome] += 1
        self.losses.append(
            Loss(
                at,
                at - begin,
                kind,
                how.outcome,
                how.detail,
                self._since(way.dialled),
                None if way.opened is None else self._since(way.opened),
                way.address,
                retried,
            )
        )

    async def _new(self, where: Target, way: Way) -> None:
        with await open_to(where, way) as connection:
            _judge(where, (await connection.ask(where, close=True))[0])

    async def _kept(
        self, kind: str, where: Target, pool: list[Connection | None], slot: int, way: Way
    ) -> None:
        """Ask on a slot's connection, and write down in `way` the one that was used last.

        One that is busy with a slow answer is not waited for: an open loop takes another.
        """
        connection, pool[slot] = pool[slot], None
        if connection is not None and connection.lost:
            self._counts[kind].reconnected += 1
            connection = None
        if connection is not None:
            begin = self.now()
            way.follow(connection.way)
            try:
                _judge(where, await _ask_kept(connection, where, pool, slot))
            except Ended as how:
                repeatable = where.method in IDEMPOTENT and how.outcome in _REPEATABLE
                if not self._retry or connection.any or not repeatable:
                    raise
                self._counts[kind].retried += 1
                self._note(kind, begin, way, how, retried=True)
                way.follow(Way())
            else:
                return
        opened = await open_to(where, way)
        _judge(where, await _ask_kept(opened.connection, where, pool, slot))

    def _second(self, at: float) -> Second:
        return self.seconds.setdefault(int(at), Second(Counter(), Counter(), {}))


def _judge(where: Target, status: int) -> None:
    if status not in where.expect:
        raise Ended("status", f"status {status}")


async def _ask_kept(
    connection: Connection, where: Target, pool: list[Connection | None], slot: int
) -> int:
    """Ask, and put the connection back for the next request if it can be used again."""
    try:
        status, again = await connection.ask(where, close=False)
    except BaseException:
        connection.close()
        raise
    if again and pool[slot] is None:
        pool[slot] = connection
    else:
        connection.close()
    return status
