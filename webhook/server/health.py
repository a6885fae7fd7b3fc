"""The port of the kubelet and Prometheus: `/livez`, `/readyz`, `/metrics`, on a thread of its own.

In: what the server knows of itself. Out: plain HTTP. Nothing here waits for the event loop that
serves API servers, for a place on its port, or for its memory: a flood there is no reason to
restart the server, or to take it out of the Service while it still answers.

| path                 | 200 means                                                    |
|----------------------|--------------------------------------------------------------|
| `/livez`, `/healthz` | the event loop has turned within `STUCK` seconds             |
| `/readyz`            | that, within `SLOW` seconds; the port takes connections; the |
|                      | Service's name has a tested certificate; not draining        |
| `/metrics`           | the text format of Prometheus                                |

Metrics take 5 ms of CPU: another thread writes them, at most ten times a second, and everybody who
asks in between gets the same text.
"""

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Final

import uvloop
from fastapi import FastAPI
from fastapi import Response as HTTPResponse

from webhook.server.application import shape_errors
from webhook.server.connection import Request, Response, Route, Routes
from webhook.server.limits import Limits
from webhook.server.listener import Listener

STUCK: Final = 15.0
"""Seconds. A restart helps a loop that hangs, and no work of its own takes this long."""
SLOW: Final = 5.0
"""Seconds. Longer than the 3 s that API servers wait."""
LIMITS: Final = Limits(body=64 << 10, seconds=5, idle=60, connections=1024, memory=12 << 20)
_TEXT: Final = "text/plain; charset=utf-8"
_PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"
_PAUSE: Final = 0.1
"""Seconds between two texts of metrics."""


class Health:
    """The thread."""

    def __init__(
        self,
        turned: Callable[[], float],
        missing: Callable[[], list[str]],
        metrics: Callable[[], bytes],
        failed: Callable[..., None],
    ) -> None:
        """Take functions that are called on this thread.

        `turned`: when the serving loop last turned, by the monotonic clock; `missing`: what else
        keeps the server from being ready; `metrics`: their text.
        """
        self._turned, self._missing, self._metrics, self._failed = turned, missing, metrics, failed
        self._loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        self._stop = asyncio.Event()
        self._thread: threading.Thread | None = None
        self._writer = ThreadPoolExecutor(1, "metrics")
        self._written, self._next = 0.0, None  # type: float, asyncio.Task[bytes] | None

    def start(self, listening: socket.socket) -> None:
        """Serve on a socket until `stop`."""
        self._thread = threading.Thread(
            target=self._loop.run_until_complete, args=(self._serve(listening),), name="health"
        )
        self._thread.start()

    def stop(self) -> None:
        """End; returns when the port is closed."""
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
            self._writer.shutdown(wait=False)
            self._loop.close()

    async def _serve(self, listening: socket.socket) -> None:
        self._loop.set_exception_handler(
            lambda _, context: self._failed(
                context.get("exception"), str(context.get("message", ""))
            )
        )
        table: dict[str, Callable[[], Response]] = {
            "/livez": self.live,
            "/healthz": self.live,
            "/readyz": self.ready,
        }
        listener = Listener(self._application(table), _routes(table), LIMITS, report=self._failed)
        await listener.listen(listening)
        await self._stop.wait()
        await listener.close(0.2)

    def _application(self, table: dict[str, Callable[[], Response]]) -> FastAPI:
        app = FastAPI(title="podgrace", openapi_url=None, redirect_slashes=False)
        shape_errors(app, lambda _: None, self._failed)
        for path, answer in table.items():
            app.add_api_route(path, _endpoint(answer), methods=["GET"])

        @app.get("/metrics")
        async def metrics() -> HTTPResponse:
            if self._next is None:
                self._next = asyncio.ensure_future(self._write())
            return HTTPResponse(await asyncio.shield(self._next), media_type=_PROMETHEUS)

        return app

    def live(self) -> Response:
        """Say whether a restart would help."""
        stuck = self._still(STUCK)
        return _text(503 if stuck else 200, stuck)

    def ready(self) -> Response:
        """Say everything that keeps this server from being ready, one a line."""
        missing = [*self._missing(), *self._still(SLOW)]
        return _text(503 if missing else 200, missing)

    def _still(self, limit: float) -> list[str]:
        since = monotonic() - self._turned()
        return [f"event loop: has not turned for {since:.0f} s"] if since > limit else []

    async def _write(self) -> bytes:
        await asyncio.sleep(self._written + _PAUSE - monotonic())
        self._next = None  # whoever asks from now on gets the new state
        self._written = monotonic()
        return await self._loop.run_in_executor(self._writer, self._metrics)


def _routes(table: dict[str, Callable[[], Response]]) -> Routes:
    return {(b"GET", path.encode()): _route(answer) for path, answer in table.items()}


def _route(answer: Callable[[], Response]) -> Route:
    def route(_: Request) -> Response:
        return answer()

    return route


def _endpoint(answer: Callable[[], Response]) -> Callable[[], HTTPResponse]:
    def endpoint() -> HTTPResponse:
        found = answer()
        return HTTPResponse(found.body, found.status, media_type="text/plain")

    return endpoint


def _text(status: int, lines: list[str]) -> Response:
    body = "\n".join([*lines, ""]) or "ok\n"
    return Response(status, body.encode(), content_type=_TEXT.encode())
