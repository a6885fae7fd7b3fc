"""An open-loop load: every request is sent on time and has exactly one outcome.

In: targets and rates. Out: what a ledger holds of them: losses, seconds, a tally by kind of client.

| client     | what it is like                                                                 |
|------------|---------------------------------------------------------------------------------|
| new        | a new connection for each request, as from curl or from a proxy without a pool  |
| keep-alive | some connections that are used in turn, as from an HTTP client with a pool      |
| slow       | a new connection for each request, whose answer takes long: in flight at a stop |

A keep-alive client does what pools do. It replaces a connection that was closed while idle. It
sends once more what a client may repeat by itself, and counts that as retried; the request is lost
only if that fails, too. Each protocol says with `Ended.again` what may be repeated: in HTTP/1.1 an
idempotent request on a used connection that ends before a single byte of answer (the rule of Go's
http.Transport and of browsers; RFC 9110, 9.2.2), in HTTP/2 and gRPC a stream that the server did
not look at (RFC 9113, 8.7). An event stream may be resumed as often as it is cut, as long as it
progresses. `retry=False` counts all of them as lost.
"""

import asyncio
import contextlib
import time
from array import array
from collections import Counter
from functools import partial

from webhook.cli.prove.connection import Connection, Ended, Way, ended
from webhook.cli.prove.ledger import LOSSES, OK, RETRIED, Loss, Notice, Second, Tally
from webhook.cli.prove.pool import Pool
from webhook.cli.prove.protocols import PROTOCOLS, open_to
from webhook.cli.prove.target import Target


class _Count:
    """The running totals of one kind of client."""

    def __init__(self) -> None:
        self.sent = self.retried = self.reconnected = 0
        self.outcomes: Counter[str] = Counter()


class Load:
    """The clients against one target, from `start` until `finish`."""

    def __init__(self, *, retry: bool) -> None:
        self.losses: list[Loss] = []
        self.notices: list[Notice] = []
        self.seconds: dict[int, Second] = {}
        self.late = 0.0
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
        """Give the outcomes so far, by kind of client."""
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

    def clients(self, kind: str, where: Target, rate: float, *, connections: int = 0) -> None:
        """Send `rate` requests a second; over `connections` kept ones, or over a new one each."""
        self._counts[kind] = _Count()
        pool = Pool(connections, shared=PROTOCOLS[where.protocol].shared)
        self._clients.append(asyncio.create_task(self._tick(kind, where, rate, pool)))

    async def finish(self) -> None:
        """Send no more, and wait for requests in flight."""
        self._stopping.set()
        await asyncio.gather(*self._clients)
        while self._requests:
            await asyncio.wait(self._requests)
        for _ in range(3):
            await asyncio.sleep(0)  # the last close needs one more turn of the loop
        if self._bug is not None:
            raise self._bug

    def _done(self, request: asyncio.Task[None]) -> None:
        self._requests.discard(request)
        if not request.cancelled():
            self._bug = self._bug or request.exception()

    async def _tick(self, kind: str, where: Target, rate: float, pool: Pool) -> None:
        """Start every request on time, however long the others take."""
        number = 0
        begin = time.monotonic()
        while not self._stopping.is_set():
            due = begin + number / rate
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), max(0.0, due - time.monotonic()))
            if self._stopping.is_set():
                break
            self.late = max(self.late, time.monotonic() - due)
            place = number % len(pool) if pool else -1
            request = asyncio.create_task(self._send(kind, where, pool, place))
            self._requests.add(request)
            request.add_done_callback(self._done)
            number += 1
        while self._requests and pool:
            await asyncio.wait(self._requests)
        pool.close()

    async def _send(self, kind: str, where: Target, pool: Pool, place: int) -> None:
        count = self._counts[kind]
        count.sent += 1
        begin = self.now()
        second = self._second(begin)
        second.sent[kind] += 1
        way = Way()
        try:
            async with asyncio.timeout(where.limit):
                await self._insist(kind, where, pool, place, way)
        except (Ended, OSError) as error:
            how = ended(error)
            if how.outcome != "timeout" or not way.streaming:
                count.outcomes[how.outcome] += 1
                self._note(kind, begin, way, how)
                return
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

    async def _insist(self, kind: str, where: Target, pool: Pool, place: int, way: Way) -> None:
        """Send a request, and repeat it if it may be repeated; `way` is that of the last try."""
        refused: Connection | None = None
        tries = 0
        while True:
            begin = self.now()
            tries += 1
            if pool:
                dial = partial(self._dial, kind, where, way)
                connection, replaces = await pool.take(place, dial, refused)
                self._counts[kind].reconnected += replaces
                way.follow(connection.way)
            else:
                connection = await open_to(where, way, partial(self._heard, kind, way))
            try:
                await _ask(connection, where, pool, place)
            except Ended as how:
                if how.again is None or not self._retry or (tries > 1 and not how.resumes):
                    raise
                self._counts[kind].retried += 1
                self._note(kind, begin, way, how, retried=True)
                where, refused = how.again, connection
                way.follow(Way())
            else:
                return

    async def _dial(self, kind: str, where: Target, way: Way) -> Connection:
        """Open a connection to keep; it has its own way, and the request copies it."""
        its = Way()
        try:
            return await open_to(where, its, partial(self._heard, kind, its))
        finally:
            way.follow(its)

    def _heard(self, kind: str, way: Way, name: str, detail: str) -> None:
        """Write down what happened to a connection without a request on it.

        A loss there is a separate one: of the connection's purpose.
        """
        at = self.now()
        if name in LOSSES:
            count = self._counts[kind]
            count.sent += 1
            count.outcomes[name] += 1
            self._second(at).sent[kind] += 1
            self._note(kind, at, way, Ended(name, detail))
        else:
            self._second(at).marks[name] += 1
            self.notices.append(Notice(at, kind, name, detail))

    def _second(self, at: float) -> Second:
        return self.seconds.setdefault(int(at), Second(Counter(), Counter(), {}))


async def _ask(connection: Connection, where: Target, pool: Pool, place: int) -> None:
    """Send a request, and put the connection back if it was kept and can be used again."""
    if not pool:
        try:
            await connection.ask(where, last=True)
        finally:
            connection.close()
        return
    try:
        await connection.ask(where, last=False)
    except Ended:
        pool.give(place, connection)
        raise
    except BaseException:  # out of time: the answer may still come, and confuse the next request
        if not PROTOCOLS[where.protocol].shared:
            connection.close()
        pool.give(place, connection)
        raise
    pool.give(place, connection)
