"""A WebSocket echo by `websockets`: on TERM it closes each connection with 1012, "restart"."""

import asyncio
import http
import signal

from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response


async def _echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


def _plain(connection: ServerConnection, request: Request) -> Response | None:
    """Answer a plain GET, which is no handshake."""
    if "Upgrade" not in request.headers:
        return connection.respond(http.HTTPStatus.OK, "ok\n")
    return None


async def _main() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    # The server's own pings would be traffic on a silent connection.
    async with serve(_echo, "", 8080, process_request=_plain, ping_interval=None) as server:
        await stop.wait()
        server.close(code=1012, reason="restart")
        await server.wait_closed()


asyncio.run(_main())
