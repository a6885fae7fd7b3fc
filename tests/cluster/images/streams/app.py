"""HTTP answers that take long, as an ASGI application: for uvicorn, hypercorn and their like.

| path                          | answer                                     |
| ----------------------------- | ------------------------------------------ |
| /events?count=N&gap=S         | N server-sent events, S seconds apart      |
| /tokens?think=S&count=N&gap=S | nothing for `think` seconds, then N tokens |
| POST /upload                  | how many bytes came, when all have         |
| /                             | ok                                         |
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def _parts(path: str, query: dict[str, float]) -> AsyncIterator[str]:
    await asyncio.sleep(query.get("think", 0))
    for number in range(int(query.get("count", 0))):
        if number:
            await asyncio.sleep(query["gap"])
        if path == "/events":
            yield f"id: {number}\ndata: {json.dumps({'number': number})}\n\n"
        else:
            yield f"token{number}\n"


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    path = scope["path"]
    kind = b"text/event-stream" if path == "/events" else b"text/plain"
    size, more = 0, path == "/upload"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    if path in ("/events", "/tokens"):
        query = {name: float(value) for name, value in parse_qsl(scope["query_string"].decode())}
        async for part in _parts(path, query):
            await send({"type": "http.response.body", "body": part.encode(), "more_body": True})
    body = f"{size}\n" if path == "/upload" else "" if path != "/" else "ok\n"
    await send({"type": "http.response.body", "body": body.encode()})
