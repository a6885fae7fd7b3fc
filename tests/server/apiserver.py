"""A client like the API server: Go's pool of keep-alive connections, no POST sent twice.

In: endpoints (a list that the test changes as a cluster would, late), a CA bundle. Out: a count of
calls and every failure. Like net/http, it reuses an idle connection before it opens a new one, the
last that was put back first; notices before use that the server has closed one; obeys `Connection:
close`; and does not repeat a call that fails on a connection (kubernetes/kubernetes issue 127335).
"""

import contextlib
import http.client
import random
import select
import ssl
import threading
import time
from collections.abc import Callable, Sequence

from tests.server.serving import ENDURANCE


class ApiServer:
    """Calls from several threads until told to stop."""

    def __init__(
        self,
        endpoints: Sequence[int],
        trust: Callable[[], ssl.SSLContext],
        body: bytes,
        workers: int = 6,
        pause: float = 0.002,
    ) -> None:
        self.endpoints, self.trust, self.body, self.pause = list(endpoints), trust, body, pause
        self.calls = 0
        self.dialled = 0
        self.failures: list[str] = []
        self.certificates: set[bytes] = set()
        self._idle: list[http.client.HTTPSConnection] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    def reach(self, more: int) -> None:
        """Wait until this many more calls are done."""
        goal, end = self.calls + more, time.monotonic() + ENDURANCE
        while self.calls < goal and time.monotonic() < end:
            time.sleep(0.01)
        assert self.calls >= goal, (self.calls, self.failures[:3])

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(ENDURANCE)
        for connection in self._idle:
            connection.close()

    def _work(self) -> None:
        while not self._stopping.is_set():
            connection = self._take()
            try:
                if connection is None:
                    connection = self._dial()
                connection.request(
                    "POST", "/mutate?timeout=10s", self.body, {"Content-Type": "application/json"}
                )
                response = connection.getresponse()
                body = response.read()
                if (
                    response.status != 200
                    or b'"allowed":true' not in body
                    or b'"patch"' not in body
                ):
                    self.failures.append(f"{response.status} {body[:200]!r}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                if connection is not None:
                    connection.close()
                continue
            finally:
                with self._lock:
                    self.calls += 1
            if connection.sock is not None:  # http.client drops it after `Connection: close`
                with self._lock:
                    self._idle.append(connection)
            time.sleep(self.pause)

    def _take(self) -> http.client.HTTPSConnection | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            readable, _, _ = select.select([connection.sock], [], [], 0)
            if not readable:
                return connection
            connection.close()  # the server has ended it: Go's read loop has seen that

    def _dial(self) -> http.client.HTTPSConnection:
        connection = http.client.HTTPSConnection(
            "localhost",
            random.choice(self.endpoints),  # noqa: S311 - kube-proxy's choice
            context=self.trust(),
            timeout=ENDURANCE,
        )
        connection.connect()
        with self._lock:
            self.dialled += 1
            with contextlib.suppress(AttributeError):
                self.certificates.add(connection.sock.getpeercert(binary_form=True))
        return connection
