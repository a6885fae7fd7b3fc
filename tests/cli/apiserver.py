"""An API server over a socket, as real as HTTP: a function from calls to answers in, a URL out."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

Json = dict[str, Any]


class Call(NamedTuple):
    """One request; `body` is None without one."""

    method: str
    path: str
    query: dict[str, str]
    body: Json | None


Answer = Callable[[Call], tuple[int, Any]]
"""Gives a status, and an object to send as JSON."""


class ApiServer:
    """Serves until `close`. `warnings` go with every answer."""

    def __init__(self, answer: Answer) -> None:
        self.warnings: list[str] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            def serve(self) -> None:
                parts = urlsplit(self.path)
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                call = Call(self.command, parts.path, dict(parse_qsl(parts.query)), body)
                status, told = answer(call)
                content = json.dumps(told).encode()
                self.send_response_only(status)
                for warning in api.warnings:
                    self.send_header("Warning", f'299 - "{warning}"')
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = serve  # noqa: N815 - the library's names

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Close the port; a second time does nothing."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
