"""Connections that a client keeps and uses in turn, as a pool or a channel does.

An HTTP/1.1 connection carries one request at a time: nobody waits for a busy one, an open loop
opens another. Many streams share an HTTP/2 connection: the next request goes out on it too, unless
the server has said GOAWAY or allows no more streams.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from webhook.cli.prove.connection import Connection

Dial = Callable[[], Awaitable[Connection]]


class Taken(NamedTuple):
    """A connection for one request. replaces: the one that was kept before had ended."""

    connection: Connection
    replaces: bool


class Pool:
    """A fixed number of places for kept connections."""

    def __init__(self, size: int, *, shared: bool) -> None:
        self._places: list[Connection | None] = [None] * size
        self._shared = shared
        self._locks = [asyncio.Lock() for _ in range(size)]

    def __len__(self) -> int:
        return len(self._places)

    async def take(self, place: int, dial: Dial, but: Connection | None = None) -> Taken:
        """Take a usable connection: a kept one if there is one, except `but`."""
        if self._shared:
            return await self._share(place, dial, but)
        kept, self._places[place] = self._places[place], None
        if kept is not None and not kept.gone:
            return Taken(kept, replaces=False)
        if kept is not None:
            kept.close()
        return Taken(await dial(), replaces=kept is not None)

    async def _share(self, place: int, dial: Dial, but: Connection | None) -> Taken:
        async with self._locks[place]:  # several requests wait for one connection
            kept = self._places[place]
            if kept is None or kept.gone:
                self._places[place] = None
                self._places[place] = made = await dial()
                return Taken(made, replaces=kept is not None)
        other = kept.full or kept is but
        return Taken(await dial() if other else kept, replaces=False)

    def give(self, place: int, connection: Connection) -> None:
        """Give back what was taken."""
        if self._places[place] is connection:
            return
        if self._shared:
            connection.leave()
        elif self._places[place] is None and connection.kept:
            self._places[place] = connection  # the next user sees if it has ended meanwhile
        else:
            connection.close()

    def close(self) -> None:
        """Close all."""
        for connection in self._places:
            if connection is not None:
                connection.close()
