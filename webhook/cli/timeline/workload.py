"""The server of the Pod that comes and goes: it says who it is, and what has happened to it so far.

In: a port, seconds to start, seconds to linger. Out: `podgrace-timeline NAME WORDS` on each
connection. It starts to listen late, as servers do, and goes on serving after SIGTERM, to show for
how long clients still come.
"""

import asyncio
import contextlib
import os
import signal
from typing import Final

from webhook.cli.timeline.sight import CHECKED, GREETING, STOPPING

READY: Final = "/ready"
_REQUEST: Final = 5.0


async def serve(port: int, start: float, linger: float, name: str = "") -> None:
    """Serve until SIGTERM, and then for `linger` seconds more."""
    name = name or os.environ.get("HOSTNAME", "pod")
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    checks = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal checks
        with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError):
            async with asyncio.timeout(_REQUEST):
                head = await reader.readuntil(b"\r\n\r\n")
            checks += head.startswith(f"GET {READY} ".encode())
            words = [name, *([CHECKED] if checks else ()), *([STOPPING] if told.is_set() else ())]
            body = (GREETING + " ".join(words) + "\n").encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            await writer.drain()
        writer.close()

    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(told.wait(), start)
    server = await asyncio.start_server(answer, None, port)
    async with server:
        await told.wait()
        await asyncio.sleep(linger)
