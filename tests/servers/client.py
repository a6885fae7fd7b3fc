"""What a client sees of a stop: an HTTP/1.1 client that tells apart all ways to lose a request.

In: an address, a path, the body that a complete answer has. Out: `Answer`s. `Traffic` is a front
with many clients that drops the Pod after a while, as kube-proxy does. All of it is
coroutines, to be run inside the Pod's network.

| outcome  | what happened                                           | the request is   |
|----------|---------------------------------------------------------|------------------|
| answered | status 200 and the whole body                           | kept             |
| refused  | refused: nothing was sent, any client may try elsewhere | lost, harmlessly |
| reset    | RST after the connection was made                       | lost             |
| cut      | the connection ended before the answer was whole        | lost             |
| status N | an error instead of the answer                          | lost             |
| timeout  | nothing for `PATIENCE` seconds                          | lost             |
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

PATIENCE = 30.0
"""Seconds that a client waits."""


@dataclass(frozen=True)
class Answer:
    """One request. Times by the monotonic clock."""

    outcome: str
    sent: float
    ended: float
    close: bool = True

    @property
    def kept(self) -> bool:
        return self.outcome == "answered"


class Connection:
    """One connection, kept alive for as long as the server lets it."""

    def __init__(self, port: int, address: str = "127.0.0.1") -> None:
        self.port, self.address = port, address
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection(self.address, self.port)

    @property
    def gone(self) -> bool:
        """The server has closed it, as far as is known here."""
        return self._reader is None or self._reader.at_eof() or self._reader.exception() is not None

    async def get(self, path: str, body: bytes, content: bytes | None = None) -> Answer:
        """Send one request and wait for its answer: a POST where there is content, else a GET."""
        sent = time.monotonic()
        close = True
        try:
            async with asyncio.timeout(PATIENCE):
                if self._reader is None:
                    await self.open()
                status, got, close = await self._exchange(path, content)
            outcome = f"status {status}" if status != 200 else "answered" if got == body else "cut"
        except ConnectionRefusedError:
            outcome = "refused"
        except (ConnectionResetError, BrokenPipeError):
            outcome = "reset"
        except asyncio.IncompleteReadError:
            outcome = "cut"
        except TimeoutError:
            outcome = "timeout"
        if close or outcome != "answered":
            await self.end()
        return Answer(outcome, sent, time.monotonic(), close)

    async def _exchange(self, path: str, content: bytes | None) -> tuple[int, bytes, bool]:
        assert self._reader is not None and self._writer is not None
        method = "GET" if content is None else "POST"
        length = "" if content is None else f"Content-Length: {len(content)}\r\n"
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.address}:{self.port}\r\n{length}\r\n"
        self._writer.write(head.encode() + (content or b""))
        await self._writer.drain()
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = {
            name.strip().lower(): value.strip().lower()
            for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }
        close = fields.get("connection") == "close" or (
            lines[0].startswith("HTTP/1.0") and fields.get("connection") != "keep-alive"
        )
        if fields.get("transfer-encoding") == "chunked":
            body = b""
            while size := int((await self._reader.readline()).split(b";")[0] or b"-1", 16):
                body += (await self._reader.readexactly(size + 2))[:-2]
            await self._reader.readline()
        elif "content-length" in fields:
            body = await self._reader.readexactly(int(fields["content-length"]))
        else:
            body, close = await self._reader.read(), True
        return int(lines[0].split()[1]), body, close

    async def closed(self) -> float:
        """Wait until the server closes it; returns when that was."""
        assert self._reader is not None
        with contextlib.suppress(ConnectionError):
            await self._reader.read()
        return time.monotonic()

    async def end(self) -> None:
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
        self._reader = self._writer = None


async def get(port: int, path: str, body: bytes) -> Answer:
    """Send one request on a connection of its own."""
    connection = Connection(port)
    try:
        return await connection.get(path, body)
    finally:
        await connection.end()


async def serving(
    port: int, path: str, body: bytes, alive: Callable[[], bool], deadline: float
) -> None:
    """Wait until the first request is answered."""
    outcome = "nothing tried"
    while time.monotonic() < deadline and alive():
        outcome = (await get(port, path, body)).outcome
        if outcome == "answered":
            return
        await asyncio.sleep(0.05)
    raise TimeoutError(f"port {port}, GET {path}: not answered before the deadline: {outcome}")


@dataclass
class Traffic:
    """Clients behind a front. Counts requests by outcome, and apart before and after the stop."""

    port: int
    path: str
    body: bytes
    fresh: Counter[str] = field(default_factory=Counter)
    """Requests on connections of their own."""
    reused: Counter[str] = field(default_factory=Counter)
    """Requests on kept-alive connections."""
    last: float = 0.0
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set: the front has deregistered this Pod; nobody opens a connection any more."""

    async def let_go(self) -> None:
        self.gone.set()

    async def fresh_client(self, interval: float) -> None:
        """Open a connection for each request, at a fixed pace, answered or not."""
        flying = set()
        due = time.monotonic()
        while not self.gone.is_set():
            task = asyncio.create_task(self._once())
            flying.add(task)
            task.add_done_callback(flying.discard)
            due += interval
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        await asyncio.gather(*flying)

    async def _once(self) -> None:
        answer = await get(self.port, self.path, self.body)
        self.fresh[answer.outcome] += 1
        self.last = max(self.last, answer.ended)

    async def reusing_client(self, interval: float, *, for_ever: bool) -> None:
        """Send on one connection at a time. `for_ever`: until the server ends the connection.

        Not only until the front has deregistered the Pod.
        """
        connection = Connection(self.port)
        try:
            while for_ever or not self.gone.is_set():
                if connection.gone:
                    await connection.end()
                    if self.gone.is_set():
                        return
                answer = await connection.get(self.path, self.body)
                self.reused[answer.outcome] += 1
                self.last = max(self.last, answer.ended)
                if not answer.kept and self.gone.is_set():
                    return
                await asyncio.sleep(interval)
        finally:
            await connection.end()


async def restless(
    port: int, path: str, body: bytes, content: bytes | None, outcomes: list[Answer]
) -> None:
    """Send request after request on one connection, without a pause, until the server ends it.

    As a pool does, it looks whether the connection has been closed before it sends.
    """
    connection = Connection(port)
    try:
        await connection.open()
        while not connection.gone:
            answer = await connection.get(path, body, content)
            outcomes.append(answer)
            if answer.close or not answer.kept:
                return
            await asyncio.sleep(0)
    finally:
        await connection.end()
