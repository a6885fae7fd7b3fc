"""Clients of streams, which tell of every stream what became of it.

`clients.py KIND=ADDRESS[,COUNT,GAP]...`: for each kind the address of its server, and how long its
streams are. Out: a line of JSON for each stream (of sockets: for each message) with `kind`, `at`,
`took`, `outcome` and `detail`. TERM ends it: nothing new begins, what is under way ends, and the
last line says "done".

| outcome | means                                                                        |
| ------- | ---------------------------------------------------------------------------- |
| whole   | all of it came                                                               |
| cut     | it began and did not end as it should                                        |
| refused | it did not begin                                                             |
| told    | (sockets) a close frame came, and nothing was owed: the client connects anew |
"""

import asyncio
import contextlib
import http.client
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import h2.config
import h2.connection
import h2.events
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

Outcome = tuple[str, str]


class Clock:
    """Says whether new streams begin."""

    over = False


def say(kind: str, begin: float, outcome: Outcome) -> None:
    line = {"kind": kind, "at": round(begin, 3), "took": round(time.time() - begin, 3)}
    print(json.dumps(line | {"outcome": outcome[0], "detail": outcome[1]}), flush=True)


class Target:
    """A server, and how long its streams are."""

    def __init__(self, words: str) -> None:
        self.address, *rest = words.split(",")
        self.host, _, port = self.address.partition(":")
        self.port = int(port)
        self.count, self.gap = (int(rest[0]), float(rest[1])) if rest else (0, 0.0)


# -- HTTP/1.1, a connection for each stream: what blocks runs in threads


def _events(target: Target) -> Outcome:
    return _get(target, f"/events?count={target.count}&gap={target.gap}", "data:")


def _tokens(target: Target) -> Outcome:
    return _get(target, f"/tokens?think=4&count={target.count}&gap={target.gap}", "token")


def _get(target: Target, path: str, begins: str) -> Outcome:
    got = 0
    try:
        connection = http.client.HTTPConnection(target.host, target.port, timeout=30)
        connection.connect()
    except OSError as error:
        return "refused", type(error).__name__
    with contextlib.closing(connection):
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            if answer.status != 200:
                return "refused", str(answer.status)
            for line in answer:
                got += line.decode().startswith(begins)
        except (OSError, http.client.HTTPException) as error:
            return "cut", f"{type(error).__name__} after {got}"
    return ("whole" if got == target.count else "cut"), f"{got} of {target.count}"


def _upload(target: Target) -> Outcome:
    part = b"x" * 1024

    def body() -> Iterator[bytes]:
        for number in range(target.count):
            if number:
                time.sleep(target.gap)
            yield part

    try:
        connection = http.client.HTTPConnection(target.host, target.port, timeout=30)
        connection.connect()
    except OSError as error:
        return "refused", type(error).__name__
    with contextlib.closing(connection):
        try:
            connection.request("POST", "/upload", body(), encode_chunked=True)
            answer = connection.getresponse()
            got = answer.read().decode().strip()
        except (OSError, http.client.HTTPException) as error:
            return "cut", type(error).__name__
    right = answer.status == 200 and got == str(target.count * len(part))
    return ("whole" if right else "cut"), f"{answer.status} {got[:20]}"


async def blocking(kind: str, stream: Callable[[Target], Outcome], target: Target) -> None:
    begin = time.time()
    say(kind, begin, await asyncio.to_thread(stream, target))


# -- WebSocket: one connection for the whole time; each message wants its echo


async def chat(kind: str, target: Target) -> None:
    while not Clock.over:
        opened = begin = time.time()
        owed = False
        try:
            async with connect(f"ws://{target.address}/", ping_interval=None) as socket:
                while not Clock.over:
                    begin = time.time()
                    await socket.send("hello")  # refused at once where a close frame has come
                    owed = True
                    await asyncio.wait_for(socket.recv(), 20)
                    owed = False
                    say(kind, begin, ("whole", ""))
                    await asyncio.sleep(target.gap)
        except ConnectionClosed as error:
            code = error.rcvd.code if error.rcvd else 1006
            say(kind, begin, ("cut" if owed or not error.rcvd else "told", str(code)))
        except (OSError, TimeoutError, Exception) as error:  # noqa: BLE001
            say(kind, opened, ("cut" if owed else "refused", type(error).__name__))
            await asyncio.sleep(0.2)


# -- HTTP/2: many streams on one connection


_GOAWAY = 7
"""The type of the frame: RFC 9113, 6.8."""


class Http2:
    """One connection with prior knowledge. After GOAWAY only what is under way goes on."""

    def __init__(self, target: Target) -> None:
        self.target = target
        configuration = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self.state = h2.connection.H2Connection(configuration)
        self.usable = True
        self.streams: dict[int, asyncio.Future[Outcome]] = {}
        self.got: dict[int, int] = {}

    async def open(self) -> "Http2":
        self.reader, self.writer = await asyncio.open_connection(self.target.host, self.target.port)
        self.state.initiate_connection()
        self._flush()
        self.task = asyncio.create_task(self._read())
        return self

    def _flush(self) -> None:
        with contextlib.suppress(OSError):
            self.writer.write(self.state.data_to_send())

    def ask(self) -> "asyncio.Future[Outcome]":
        stream = self.state.get_next_available_stream_id()
        path = f"/events?count={self.target.count}&gap={self.target.gap}"
        fields = {"method": "GET", "scheme": "http", "authority": self.target.address}
        headers = [*((f":{name}", value) for name, value in fields.items()), (":path", path)]
        self.state.send_headers(stream, headers, end_stream=True)
        self._flush()
        self.streams[stream] = asyncio.get_running_loop().create_future()
        self.got[stream] = 0
        return self.streams[stream]

    def _end(self, stream: int, outcome: Outcome) -> None:
        if (future := self.streams.pop(stream, None)) and not future.done():
            future.set_result(outcome)

    async def _read(self) -> None:
        why = "closed"
        try:
            while True:
                head = await self.reader.readexactly(9)
                body = await self.reader.readexactly(int.from_bytes(head[:3]))
                if head[3] == _GOAWAY:
                    self._goaway(int.from_bytes(body[:4]))
                else:
                    self._handle(self.state.receive_data(head + body))
                self._flush()
                if not self.usable and not self.streams:
                    break
        except Exception as error:  # noqa: BLE001  # whatever ends it: its streams are cut
            why = type(error).__name__
        self.usable = False
        for stream in [*self.streams]:
            self._end(stream, ("cut", f"{why} after {self.got[stream]}"))
        self.writer.close()

    def _goaway(self, last: int) -> None:
        """Go on with what is under way: h2 itself takes the connection for closed from then on."""
        self.usable = False
        for stream in [stream for stream in self.streams if stream > last]:
            self._end(stream, ("refused", "goaway"))

    def _handle(self, events: "list[h2.events.Event]") -> None:
        for event in events:
            if isinstance(event, h2.events.DataReceived):
                self.got[event.stream_id] += event.data.count(b"data:")
                self.state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                got, count = self.got[event.stream_id], self.target.count
                outcome = "whole" if got == count else "cut"
                self._end(event.stream_id, (outcome, f"{got} of {count}"))
            elif isinstance(event, h2.events.StreamReset):
                self._end(event.stream_id, ("cut", f"reset {event.error_code}"))


async def multiplexed(kind: str, target: Target) -> None:
    """Keep streams under way on one connection, and go to the next when that takes no more."""
    connection: Http2 | None = None
    tasks: set[asyncio.Task[None]] = set()
    while not Clock.over:
        begin = time.time()
        if connection is None or not connection.usable:
            try:
                connection = await Http2(target).open()
            except OSError as error:
                say(kind, begin, ("refused", type(error).__name__))
                await asyncio.sleep(0.5)
                continue
        if len(connection.streams) < 5:
            tasks.add(task := asyncio.create_task(_told(kind, begin, connection.ask())))
            task.add_done_callback(tasks.discard)
        await asyncio.sleep(0.5)
    await asyncio.gather(*tasks)


async def _told(kind: str, begin: float, future: "asyncio.Future[Outcome]") -> None:
    say(kind, begin, await future)


# -- gRPC: one channel, which balances over what the name gives


def _channel(target: Target) -> "grpc.aio.Channel":
    balanced = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})
    options = [("grpc.service_config", balanced), ("grpc.enable_retries", 0)]
    return grpc.aio.insecure_channel(f"dns:///{target.address}", options=options)


async def unary(kind: str, target: Target) -> None:
    """Send `count` calls a second over one channel."""
    async with _channel(target) as channel:
        call = channel.unary_unary("/demo/Unary")
        await _paced(1 / target.count, lambda: _call(kind, call(b"", timeout=20)))


async def _call(kind: str, answer: Awaitable[bytes]) -> None:
    begin = time.time()
    try:
        say(kind, begin, ("whole", (await answer).decode()))
    except grpc.aio.AioRpcError as error:
        outcome = "refused" if error.code() is grpc.StatusCode.UNAVAILABLE else "cut"
        say(kind, begin, (outcome, f"{error.code().name} {error.details()}"))


async def streaming(kind: str, target: Target) -> None:
    """Begin a stream every two seconds over one channel."""
    async with _channel(target) as channel:
        call = channel.unary_stream("/demo/Stream")

        async def one() -> None:
            begin, got = time.time(), 0
            try:
                async for _ in call(f"{target.count} {target.gap}".encode()):
                    got += 1
            except grpc.aio.AioRpcError as error:
                outcome = "cut" if got else "refused"
                say(kind, begin, (outcome, f"{error.code().name} after {got}"))
                return
            outcome = "whole" if got == target.count else "cut"
            say(kind, begin, (outcome, f"{got} of {target.count}"))

        await _paced(2, one)


# -- all of them


async def _paced(gap: float, one: Callable[[], Awaitable[None]]) -> None:
    """Begin one after another at a fixed rate, until the end; then wait for those under way."""
    tasks: set[asyncio.Task[None]] = set()
    due = time.time()
    while not Clock.over:
        tasks.add(task := asyncio.ensure_future(one()))  # type: ignore[arg-type]
        task.add_done_callback(tasks.discard)
        due += gap
        await asyncio.sleep(max(0.0, due - time.time()))
    await asyncio.gather(*tasks)


async def _many(kind: str, stream: Callable[[Target], Outcome], target: Target) -> None:
    await _paced(2, lambda: blocking(kind, stream, target))


async def _chats(kind: str, target: Target) -> None:
    await asyncio.gather(*(chat(kind, target) for _ in range(3)))


CLIENTS: dict[str, Callable[[str, Target], Awaitable[None]]] = {
    "events": lambda kind, target: _many(kind, _events, target),
    "tokens": lambda kind, target: _many(kind, _tokens, target),
    "upload": lambda kind, target: _many(kind, _upload, target),
    "websocket": _chats,
    "http2": multiplexed,
    "unary": unary,
    "calls": streaming,
}
"""By the first word of a kind's name: `events-minute` are events."""


async def _main(wanted: "list[str]") -> None:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: setattr(Clock, "over", True))
    # A thread for each blocking stream under way.
    loop.set_default_executor(ThreadPoolExecutor(400))
    pairs = [word.partition("=") for word in wanted]
    await asyncio.gather(
        *(CLIENTS[kind.partition("-")[0]](kind, Target(words)) for kind, _, words in pairs)
    )
    print(json.dumps({"done": True}), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1:]))
