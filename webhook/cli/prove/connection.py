"""What a connection of any protocol is, and the one way each request on it ends.

In: a `Target`. Out: nothing if the answer was right and complete, or `Ended`, which says how it
ended instead. When to send belongs in `clients`; how a protocol works, in its own module.
"""

import asyncio
import errno
import ssl
import time
from collections.abc import Callable
from typing import Final

from webhook.cli.prove.ledger import LOSSES
from webhook.cli.prove.target import Target

_ERRNO: Final = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.ECONNABORTED: "reset",
    errno.EPIPE: "reset",
    errno.ETIMEDOUT: "timeout",
}

Listener = Callable[[str, str], None]
"""Learns what happens to an idle connection: a name of `NOTICES`, or of `LOSSES`."""


class Ended(Exception):
    """A request ended without a right answer; says how.

    again: the request that a client may repeat by itself; None if it may not. resumes: the answer
    goes on from where it was cut, so this may happen more than once.
    """

    def __init__(
        self, outcome: str, detail: str = "", again: Target | None = None, *, resumes: bool = False
    ) -> None:
        self.outcome = outcome
        self.detail = detail or LOSSES[outcome]
        self.again = again
        self.resumes = resumes
        super().__init__(self.detail)


class Way:
    """How far a request got: when its connection began, when it was open, and to which address.

    dialled, opened: seconds of `time.monotonic`. streaming: an answer without an end has begun.
    """

    __slots__ = ("address", "dialled", "opened", "streaming")

    def __init__(self) -> None:
        self.dialled = time.monotonic()
        self.opened: float | None = None
        self.address = ""
        self.streaming = False

    def follow(self, other: "Way") -> None:
        """Copy the way of another."""
        self.dialled, self.opened, self.address = other.dialled, other.opened, other.address
        self.streaming = False


class Connection(asyncio.Protocol):
    """One connection. lost: how it ended, once it has."""

    def __init__(self, way: Way, heard: Listener) -> None:
        self.way = way
        self.lost: Ended | None = None
        self._heard = heard
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - the loop's own promise
        self._transport = transport

    @property
    def gone(self) -> bool:
        """Whether no further request may be sent on it."""
        return self.lost is not None

    @property
    def kept(self) -> bool:
        """Whether it was meant to be used again when its answer came."""
        return True

    @property
    def full(self) -> bool:
        """Whether it has no room for one more request now."""
        return False

    async def begin(self, where: Target) -> None:
        """Do the handshake. Raises `Ended`."""

    async def ask(self, where: Target, *, last: bool) -> None:
        """Send a request and wait for its answer. last: none follows it here. Raises `Ended`."""
        raise NotImplementedError

    async def look(self, where: Target) -> None:
        """Send one request as a first look, before the load. Raises `Ended`."""
        await self.ask(where, last=True)

    def leave(self) -> None:
        """Close the connection once nothing is on it."""
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.lost = self.lost or Ended("eof-before")
        if self._transport is not None:
            # Nothing is left to send, and a TLS close would outlast the load.
            self._transport.abort()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and data and not self._transport.is_closing():
            self._transport.write(data)


def judge(where: Target, status: int, which: str = "") -> None:
    """Raise `Ended` if a status is not expected."""
    if status not in where.expect:
        raise Ended("status", f"{which}status {status}")


def ended(error: BaseException) -> Ended:
    """Say which outcome an error is."""
    if isinstance(error, Ended):
        return error
    if isinstance(error, ssl.SSLError):
        return Ended("tls", f"TLS: {getattr(error, 'verify_message', '') or error.reason or error}")
    if isinstance(error, TimeoutError):
        return Ended("timeout")
    if isinstance(error, OSError):
        outcome = _ERRNO.get(error.errno or 0, "unreachable")
        return Ended(
            outcome,
            "" if outcome in ("refused", "reset", "timeout") else str(error.strerror or error),
        )
    raise error
