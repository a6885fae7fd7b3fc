"""A port: lets connections in, keeps the time, and closes without losing what has connected.

In: an address, limits, an application. Out: channels with a connection on each. One sweep twice a
second compares all deadlines: there is no timer per request. What to close when there is no room
belongs in `limits`.
"""

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable
from email.utils import formatdate
from ipaddress import IPv4Network, IPv6Network, ip_address
from time import time
from typing import Any, Final

import uvicorn
from uvicorn.server import ServerState

from webhook.server.channel import PIECE, PLAIN_COST, Channel, SecureChannel
from webhook.server.connection import Connection, Response, Routes, error
from webhook.server.limits import Budget, Limits

SWEEP: Final = 0.5
"""Seconds."""
TURN, LONGEST = 0.005, 0.05
"""Seconds of handshakes in a turn of the event loop, at least and at most; one takes about 1 ms."""
Networks = tuple[IPv4Network | IPv6Network, ...]


class Listener:
    """A listening port and its connections."""

    def __init__(
        self,
        app: Any,
        routes: Routes,
        limits: Limits,
        *,
        context: Callable[[], ssl.SSLContext | None] | None = None,
        trusted: Networks = (),
        stranger: Callable[[Any], str] | None = None,
        counted: Callable[[int], None] = lambda _: None,
        report: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        self.config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
        )
        self.config.load()
        self.state = ServerState()
        self.loop = asyncio.get_running_loop()
        self.routes, self.limits, self.counted, self.report = routes, limits, counted, report
        self.context = context or (lambda: None)
        self.budget = Budget(limits)
        self.buffer = memoryview(bytearray(PIECE))
        self.now = self.loop.time()
        self.date = b""
        self.draining = False
        self.in_flight = 0
        self.counts = {"accepted": 0, "handshake-failed": 0, "expired": 0}
        self._channel = Channel if context is None else SecureChannel
        self._trusted, self._stranger = trusted, stranger
        self._lag = 0.0
        self._shaken = 0.0
        self._shaking: deque[SecureChannel] = deque()
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._sweeping: asyncio.Task[None] | None = None

    @property
    def open(self) -> int:
        """Count connections, those in handshake included."""
        return len(self.budget)

    def events(self) -> dict[str, int]:
        """Count how connections ended."""
        return self.counts | {"evicted": self.budget.evicted, "refused": self.budget.refused}

    async def listen(self, listening: socket.socket) -> int:
        """Serve on a socket; returns its port."""
        self._socket = listening
        self._tick()
        self._sweeping = self.loop.create_task(self._sweep())
        self._server = await self.loop.create_server(
            lambda: self._channel(self), sock=listening.dup(), backlog=BACKLOG
        )
        return int(listening.getsockname()[1])

    def listening(self) -> bool:
        """Ask the kernel whether the port takes connections."""
        if self._socket is None:
            return False
        try:
            return bool(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        except OSError:  # if the kernel does not say, the event loop does
            return self._server is not None and self._server.is_serving()

    def drain(self) -> None:
        """Say `Connection: close` with every answer from now on; go on accepting."""
        self.draining = True
        for channel in self.budget:
            connection = getattr(channel, "upper", None)
            if connection is not None and connection.cycle is not None:
                connection.cycle.keep_alive = False

    async def close(self, patience: float) -> int:
        """Accept what has connected, close the port, let requests finish, cut the rest.

        Returns how many were cut.
        """
        self.draining = True
        if self._server is not None:
            self._server.close()
        if self._socket is not None:
            await self._last(self._socket)
            self._socket.close()
            self._socket = None
        end = self.loop.time() + patience
        while self.open and self.loop.time() < end:
            for channel, connection in self._connections():
                if connection.asked and not connection.busy():
                    channel.close()
            await asyncio.sleep(0.02)
        cut = sum(connection.busy() for _, connection in self._connections())
        for holder in self.budget:
            holder.cut()
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
        return cut

    async def _last(self, listening: socket.socket) -> None:
        """Accept all that have connected."""
        listening.setblocking(False)
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = listening.accept()
                await self.loop.connect_accepted_socket(lambda: self._channel(self), accepted)

    def worst(self) -> float:
        """Give the largest lag of the event loop since the last call, in seconds.

        CPU that a cgroup's quota took away shows here too.
        """
        lag, self._lag = self._lag, 0.0
        return lag

    def _connections(self) -> list[tuple[Channel, Connection]]:
        return [
            (channel, channel.upper)
            for channel in self.budget
            if isinstance(channel, Channel) and isinstance(channel.upper, Connection)
        ]

    # -- what channels and connections call --------------------------------------------------------

    def enter(self, channel: Channel) -> bool:
        """Let a channel in, if there is room."""
        self.counts["accepted"] += 1
        if self._trusted:
            channel.trusted = self._ours(channel)
        return self.budget.enter(channel, PLAIN_COST)

    def queue(self, channel: SecureChannel) -> None:
        """Let a handshake wait for its turn: first come, first served."""
        self._shaking.append(channel)
        if len(self._shaking) == 1:
            self.loop.call_soon(self._shake)

    def _shake(self) -> None:
        """Shake hands for as long as everything else took since the last time, then yield."""
        now = self.loop.time()
        end = now + min(max(TURN, now - self._shaken), LONGEST)
        while self._shaking and self.loop.time() < end:
            self._shaking.popleft().shake()
        self._shaken = self.loop.time()
        if self._shaking:
            self.loop.call_soon(self._shake)

    def connect(self, channel: Channel) -> Connection:
        """Begin HTTP on a channel."""
        return Connection(self, channel)

    def inspect(self, channel: Channel) -> str:
        """Say why this client is not served, or "". An accepted client certificate is trusted."""
        if self._stranger is None:
            return ""
        problem = self._stranger(channel.get_extra_info("peercert"))
        if not problem:
            self.budget.trust(channel)
        return problem

    def left(self, channel: Channel) -> None:
        """Note that a channel is gone."""
        self.budget.leave(channel)

    def failed(self, bug: BaseException) -> Response:
        """Answer for a bug of ours."""
        self.report(bug)
        return error(500, "podgrace failed: see its log")

    def _ours(self, channel: Channel) -> bool:
        peer = channel.get_extra_info("peername")
        address = ip_address(peer[0].split("%")[0]) if peer else None
        if address is None:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._trusted)

    # -- time ------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        while True:
            expected = self.loop.time() + SWEEP
            await asyncio.sleep(SWEEP)
            self._tick()
            self._lag = max(self._lag, self.now - expected)
            for channel in self.budget:
                try:
                    self._look(channel)
                except Exception as bug:  # noqa: BLE001 - one must not end the watch over all others
                    self.report(bug)
                    channel.cut()

    def _look(self, channel: Any) -> None:
        """Charge the answer that the client has not read, and act on its deadline."""
        unread = channel.get_write_buffer_size()
        if unread != channel.unread:
            due, channel.unread = unread - channel.unread, unread
            if not self.budget.charge(channel, due):
                channel.cut()
        if channel.deadline <= self.now:
            channel.expire()

    def _tick(self) -> None:
        self.now = self.loop.time()
        self.date = b"date: %b\r\n" % formatdate(time(), usegmt=True).encode()


BACKLOG: Final = 4096
"""Connections that wait to be accepted. The kernel takes no more than net.core.somaxconn."""


def bind(host: str, port: int) -> socket.socket:
    """Bind a listening socket. Host "" is every address, of IPv4 and IPv6, as a Pod has them."""
    both = not host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both or ":" in host else socket.AF_INET
    try:
        return socket.create_server(
            (host, port), family=family, backlog=BACKLOG, dualstack_ipv6=both
        )
    except OSError as failure:
        raise OSError(
            failure.errno, os.strerror(failure.errno or errno.EINVAL), f"{host or '*'}:{port}"
        ) from failure
