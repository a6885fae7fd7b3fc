"""`/` answers after 20 ms, `/slow` after four seconds: any ASGI server."""

import asyncio
from typing import Any


async def application(scope: Any, _: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    body = b"fast\n"
    slow = scope["path"] == "/slow"
    await asyncio.sleep(4 if slow else 0.02)
    if slow:
        body = b"slow\n"
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
