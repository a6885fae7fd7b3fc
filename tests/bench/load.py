"""A load client: keep-alive TLS connections, each sends the next call on the last answer.

In: a port, a CA, a body, a number of connections, seconds; whether Pods differ. Out: calls a second
and latencies, as JSON on standard output. A separate process, to be pinned to a different core than
the server's; it checks the status and the length of every answer, and reads no more of it.
"""

import argparse
import asyncio
import itertools
import json
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import uvloop


class Caller(asyncio.Protocol):
    """One connection: one call at a time."""

    def __init__(
        self, request: Callable[[], bytes], latencies: list[float], done: asyncio.Future
    ) -> None:
        self.request, self.latencies, self.done = request, latencies, done
        self.running = True
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.call()

    def call(self) -> None:
        self.start = time.perf_counter()
        self.transport.write(self.request())

    def data_received(self, data: bytes) -> None:
        self.buffer = data if not self.buffer else self.buffer + data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        if not whole(self.buffer, head):
            return
        if not self.buffer.startswith(b"HTTP/1.1 200 "):
            self.done.set_exception(RuntimeError(self.buffer[:200].decode("latin-1")))
            return
        self.latencies.append(time.perf_counter() - self.start)
        self.buffer = b""
        if self.running:
            self.call()
        elif not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or RuntimeError("closed by the server"))


def whole(buffer: bytes, head: int) -> bool:
    """Tell whether an answer is complete, as servers of any make write it."""
    at = buffer.find(b"ontent-", 0, head)
    while at > 0 and buffer[at : at + 15].lower() != b"ontent-length: ":
        at = buffer.find(b"ontent-", at + 1, head)
    if at < 0:
        return buffer.endswith(b"\r\n0\r\n\r\n")  # chunked
    return len(buffer) >= head + 4 + int(buffer[at + 15 : buffer.find(b"\r\n", at)])


def requests(port: int, body: bytes, *, different: bool) -> Callable[[], bytes]:
    """Write requests as the API server does; `different`: each spec has a hostname of its own."""
    mark = b'"hostname":"h0000000",'
    if different:
        body = body.replace(b'"spec":{', b'"spec":{' + mark, 1)
    whole = (
        f"POST /mutate?timeout=10s HTTP/1.1\r\nHost: localhost:{port}\r\n"
        f"User-Agent: kube-apiserver-admission\r\nContent-Length: {len(body)}\r\n"
        "Accept: application/json, */*\r\nContent-Type: application/json\r\n"
        "Accept-Encoding: gzip\r\n\r\n"
    ).encode() + body
    if not different:
        return lambda: whole
    at = whole.index(mark) + mark.index(b"0")
    before, after, numbers = whole[:at], whole[at + 7 :], itertools.count()
    return lambda: b"%b%07d%b" % (before, next(numbers), after)


async def load(
    port: int, ca: str, request: Callable[[], bytes], connections: int, seconds: float
) -> dict[str, float]:
    """Warm up for a tenth, then measure."""
    loop = asyncio.get_running_loop()
    context = ssl.create_default_context(cafile=ca)
    latencies: list[float] = []
    callers = [Caller(request, latencies, loop.create_future()) for _ in range(connections)]
    for caller in callers:
        await loop.create_connection(lambda caller=caller: caller, "localhost", port, ssl=context)
    await asyncio.sleep(seconds / 10)
    latencies.clear()
    start = time.perf_counter()
    await asyncio.sleep(seconds)
    took, found = time.perf_counter() - start, sorted(latencies)
    for caller in callers:
        caller.running = False
    await asyncio.gather(*(caller.done for caller in callers))
    return {
        "calls": len(found),
        "perSecond": round(len(found) / took),
        "p50ms": round(found[len(found) // 2] * 1000, 3),
        "p99ms": round(found[len(found) * 99 // 100] * 1000, 3),
        "maxms": round(found[-1] * 1000, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("ca")
    parser.add_argument("body", type=Path)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--different", action="store_true")
    args = parser.parse_args()
    request = requests(args.port, args.body.read_bytes(), different=args.different)
    print(json.dumps(uvloop.run(load(args.port, args.ca, request, args.connections, args.seconds))))


if __name__ == "__main__":
    main()
