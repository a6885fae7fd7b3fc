"""Small real servers that lose on purpose: each answers as a table says, without podgrace's code.

`serve(behaviour)` listens on a free port of 127.0.0.1 in a thread of its own. A behaviour is called
with each connection and may do to it whatever a dying server does.
"""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Behaviour = Callable[["Server", socket.socket], None]


class Server:
    """One listening server. `count` is how many requests were read."""

    def __init__(self, behaviour: Behaviour, context: ssl.SSLContext | None = None) -> None:
        self.count = 0
        self.connections = 0
        self.stopping = threading.Event()
        self._behaviour = behaviour
        self._context = context
        self.lock = threading.Lock()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.port}/"

    def request(self, connection: socket.socket) -> int:
        """Read a request; returns its number, counted from 1, or 0 at the end of the connection."""
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            with contextlib.suppress(ConnectionError):
                if more := connection.recv(4096):
                    data += more
                    continue
            return 0
        with self.lock:
            self.count += 1
            return self.count

    def message(self, connection: socket.socket) -> bytes:
        """Read a request with a body of three bytes; empty at the end of the connection."""
        data = b""
        while not data.partition(b"\r\n\r\n")[2][2:]:
            with contextlib.suppress(ConnectionError):
                if more := connection.recv(4096):
                    data += more
                    continue
            return b""
        return data

    def close_listener(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            if self._context:
                connection = self._context.wrap_socket(connection, server_side=True)
            with connection:
                self._behaviour(self, connection)


@contextlib.contextmanager
def serve(behaviour: Behaviour, context: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server(behaviour, context)
    try:
        yield server
    finally:
        server.stopping.set()
        server.close_listener()


def reset(connection: socket.socket) -> None:
    """Close so that the client gets a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def answer(_: Server, connection: socket.socket) -> None:
    """Answer every request, and keep the connection."""
    while _.request(connection):
        connection.sendall(ANSWER)
