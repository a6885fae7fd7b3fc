"""From a `Target` to an open connection of its protocol, and the look before a load.

| URL                | protocol                                         | connections are kept   |
|--------------------|--------------------------------------------------|------------------------|
| http://, https://  | HTTP/1.1                                         | one request at a time  |
| h2c://, h2://      | HTTP/2, by prior knowledge; over TLS by ALPN     | many streams at a time |
| grpc://, grpcs://  | gRPC: a call is a stream of HTTP/2               | many streams at a time |
| ws://, wss://      | WebSocket                                        | one message at a time  |
| sse://, sses://    | server-sent events, over HTTP/1.1                | no: a stream each      |

Libraries that the webhook's image lacks are imported when they are needed.
"""

import asyncio
import importlib
import socket
import time
from typing import Final, NamedTuple

from webhook.cli.prove.connection import Connection, Ended, Listener, Way, ended
from webhook.cli.prove.target import SCHEMES, LoadError, Target


class Protocol(NamedTuple):
    """How a protocol is spoken. kept: clients keep connections; shared: for many at once."""

    module: str
    name: str
    kept: bool = True
    shared: bool = False


PROTOCOLS: Final = {
    "http1": Protocol("http1", "Http1"),
    "http2": Protocol("http2", "Http2", shared=True),
    "grpc": Protocol("http2", "Grpc", shared=True),
    "websocket": Protocol("websocket", "WebSocket"),
    "events": Protocol("events", "EventStream", kept=False),
}
_FIXABLE: Final = frozenset({"status", "grpc-status"})


def kind(where: Target) -> type[Connection]:
    """Give the class of its connections. Raises `LoadError` where a library is missing."""
    protocol = PROTOCOLS[where.protocol]
    try:
        module = importlib.import_module(f"webhook.cli.prove.{protocol.module}")
    except ImportError as error:
        if (error.name or "").startswith("webhook"):
            raise
        names = "://, ".join(n for n, s in SCHEMES.items() if s.extra)
        raise LoadError(
            f"{where.url}: {error.name} is missing: {names}:// need pip install 'podgrace[prove]'"
        ) from error
    made: type[Connection] = getattr(module, protocol.name)
    return made


def nobody(_name: str, _detail: str) -> None:
    """Hear nothing of what happens between requests."""


async def open_to(where: Target, way: Way, heard: Listener = nobody) -> Connection:
    """Connect to the host's first reachable address, and record the way.

    Raises `Ended` with what the last one said.
    """
    loop = asyncio.get_running_loop()
    factory = kind(where)
    last: Ended | None = None
    name = where.host if where.context else None
    try:
        addresses = [where.host] if where.literal else await _resolve(loop, where)
    except OSError as error:
        raise Ended("unreachable", f"{where.host}: {error.strerror or error}") from error
    for address in addresses:
        way.address = address
        try:
            _, connection = await loop.create_connection(
                lambda: factory(way, heard),
                address,
                where.port,
                ssl=where.context,
                server_hostname=name,
            )
        except ConnectionResetError:
            last = Ended("reset")
        except OSError as error:
            last = ended(error)
        else:
            way.opened = time.monotonic()
            try:
                await connection.begin(where)
            except BaseException:
                connection.close()
                raise
            return connection
    raise last or Ended("unreachable", f"{where.host}: has no address")


async def _resolve(loop: asyncio.AbstractEventLoop, where: Target) -> list[str]:
    found = await loop.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


async def once(where: Target, limit: float) -> None:
    """Send one request before the load. Raises `LoadError`, which says what came instead."""
    try:
        async with asyncio.timeout(limit):
            connection = await open_to(where, Way())
            try:
                await connection.look(where)
            finally:
                connection.close()
    except (Ended, OSError) as error:
        how = ended(error)
        if how.outcome in _FIXABLE:
            raise LoadError(
                f"{where.url}: {how.detail}; name it with --expect if that is right"
            ) from error
        raise LoadError(
            f"{where.url}: {how.detail}; nothing can be proved before it answers"
        ) from error
