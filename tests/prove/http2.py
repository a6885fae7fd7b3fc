"""Servers of HTTP/2 and gRPC that lose on purpose, frame by frame, and two real ones.

`streams(play)` is a behaviour for `servers.serve`: it speaks h2 on a connection and calls `play`
with every whole request. The library sends what it is told; GOAWAY goes out beside it, because h2
treats one as the end of everything.
"""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import h2.config
import h2.connection
import h2.events
from hyperframe.frame import GoAwayFrame

from tests.prove.servers import Behaviour, Server


class Peer:
    """The server's side of one connection."""

    def __init__(self, server: Server, connection: socket.socket) -> None:
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self.server, self.socket = server, connection
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.fields: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytes] = {}
        self.flush()

    def flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def headers(self, stream: int, *more: tuple[str, str], status: str = "200") -> None:
        self.h2.send_headers(stream, [(":status", status), *more])
        self.flush()

    def data(self, stream: int, data: bytes, *, end: bool = False) -> None:
        self.h2.send_data(stream, data, end_stream=end)
        self.flush()

    def trailers(self, stream: int, *fields: tuple[str, str]) -> None:
        self.h2.send_headers(stream, list(fields), end_stream=True)
        self.flush()

    def answer(self, stream: int, status: str = "200") -> None:
        self.headers(stream, status=status)
        self.data(stream, b"ok", end=True)

    def call(self, stream: int, status: str = "0") -> None:
        """Answer a gRPC call with one empty message."""
        self.headers(stream, ("content-type", "application/grpc"))
        self.data(stream, bytes(5))
        self.trailers(stream, ("grpc-status", status))

    def reset(self, stream: int, code: int) -> None:
        self.h2.reset_stream(stream, code)
        self.flush()

    def goaway(self, last: int) -> None:
        self.socket.sendall(GoAwayFrame(0, last, 0).serialize())


Play = Callable[[Peer, int, int], None]
"""Is called with the peer, the stream, and how many requests the server has had with this one."""


def streams(play: Play) -> Behaviour:
    def behave(server: Server, connection: socket.socket) -> None:
        peer = Peer(server, connection)
        while True:
            try:
                data = connection.recv(65536)
            except OSError:
                return
            if not data:
                return
            for event in peer.h2.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    peer.fields[event.stream_id] = dict(event.headers)
                    peer.bodies[event.stream_id] = b""
                elif isinstance(event, h2.events.DataReceived):
                    peer.bodies[event.stream_id] += event.data
                    peer.h2.acknowledge_received_data(len(event.data), event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    with server.lock:
                        server.count += 1
                        number = server.count
                    play(peer, event.stream_id, number)
            peer.flush()

    return behave


# -- real servers


@contextlib.contextmanager
def hypercorn(
    app: Any, tls: Path | None = None, patience: float = 5.0
) -> Iterator[tuple[int, Callable[[], None]]]:
    """Serve with hypercorn; gives the port, and what makes it stop as at SIGTERM."""
    from hypercorn.asyncio import serve as run  # noqa: PLC0415
    from hypercorn.config import Config  # noqa: PLC0415

    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.graceful_timeout = patience
    config.errorlog = None  # type: ignore[assignment]
    if tls:
        config.certfile, config.keyfile = str(tls / "server.crt"), str(tls / "server.key")
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    def main() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(run(app, config, shutdown_trigger=stop.wait))
        loop.close()

    def end() -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)

    thread = threading.Thread(target=main, daemon=True)
    thread.start()
    try:
        yield port, end
    finally:
        end()
        thread.join(30)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer at once; /slow after half a second."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    while (await receive()).get("more_body"):
        pass
    if scope["path"] == "/slow":
        await asyncio.sleep(0.5)
    version = [(b"x-version", scope["http_version"].encode())]
    await send({"type": "http.response.start", "status": 200, "headers": version})
    await send({"type": "http.response.body", "body": b"ok"})


class Shop(grpc.GenericRpcHandler):
    """Answers health checks, and a stream of three messages in half a second."""

    def __init__(self) -> None:
        self.checks = 0

    def check(self, request: bytes, _: grpc.ServicerContext) -> bytes:
        self.checks += 1
        return request + b"\x08\x01"

    def service(self, details: Any) -> Any:
        match details.method:
            case "/grpc.health.v1.Health/Check":
                return grpc.unary_unary_rpc_method_handler(self.check)
            case "/shop.Feed/List":
                return grpc.unary_stream_rpc_method_handler(self.feed)
        return None

    def feed(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        for _ in range(3):
            if not context.is_active():
                return
            yield request
            time.sleep(0.2)


@contextlib.contextmanager
def grpc_server() -> Iterator[tuple[int, grpc.Server, Shop]]:
    with futures.ThreadPoolExecutor(20) as threads:
        shop = Shop()
        server = grpc.server(threads, handlers=(shop,))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield port, server, shop
        finally:
            server.stop(None).wait()
