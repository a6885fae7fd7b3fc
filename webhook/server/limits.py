"""How much all connections of a port may take together, and which goes first when that is too much.

In: connections, as they come, ask, rest and go, and the bytes that each one holds. Out: room for the
newcomer, by closing others, or "no". What a connection says on the wire belongs to `connection`.

Memory is bounded, not the number of honest clients. Each connection is charged for what it costs to
keep, and for every byte of a request that is not complete. When the sum passes the budget, the first
of these goes, oldest first:

1. those that owe us something: they have not finished a handshake or a request;
2. those that rest between two requests;
3. none whose answer we owe, and none that is trusted.

An API server asks as soon as it has connected, and sends a review within milliseconds. So in 1 it is
always among the youngest, however many others there are, and in 2 an attacker has to keep asking on
each of its connections to outlast it. All of it takes constant time.
"""

from collections.abc import Iterator
from typing import Protocol

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """Bounds of one port. Bytes and seconds."""

    head: int = 16 << 10
    """Request line and headers."""
    body: int = 3 << 20
    """One Pod is at most half of it: etcd stores 1.5 MiB."""
    seconds: float = 10.0
    """For a handshake, for a request, and for a client to take its answer."""
    idle: float = 120.0
    """Between two requests. API servers close after 90 s, and should be the first."""
    connections: int = 4096
    """For the sake of file descriptors; memory is used up sooner."""
    memory: int = 64 << 20
    """For all connections, with what they have sent."""


class Holder(Protocol):
    """A connection, as the budget sees it."""

    held: int
    """Bytes charged to it."""
    trusted: bool
    """Never closed for others."""
    inside: bool
    """Whether it is one of the budget's."""

    def cut(self) -> None:
        """Close at once."""


class Budget:
    """All connections of a port, in the order in which they would go."""

    def __init__(self, limits: Limits) -> None:
        self.held = self.evicted = self.refused = 0
        self._limits = limits
        self._asking: dict[Holder, None] = {}
        self._answering: dict[Holder, None] = {}
        self._idle: dict[Holder, None] = {}
        self._trusted: dict[Holder, None] = {}

    def __len__(self) -> int:
        return len(self._asking) + len(self._answering) + len(self._idle) + len(self._trusted)

    def __iter__(self) -> Iterator[Holder]:
        """Give all of them, as they are now."""
        return iter([*self._asking, *self._answering, *self._idle, *self._trusted])

    def enter(self, holder: Holder, cost: int) -> bool:
        """Take a new connection in. False: there is no room, and nobody to go."""
        holder.inside = True
        (self._trusted if holder.trusted else self._asking)[holder] = None
        return self.charge(holder, cost)

    def leave(self, holder: Holder) -> None:
        """Forget a connection, and all that it held."""
        for place in (self._asking, self._answering, self._idle, self._trusted):
            place.pop(holder, None)
        self.held -= holder.held
        holder.held, holder.inside = 0, False

    def trust(self, holder: Holder) -> None:
        """Never close this one for others."""
        if holder in self._asking:
            del self._asking[holder]
            self._trusted[holder] = None
            holder.trusted = True

    def asks(self, holder: Holder) -> None:
        """Note that a request begins, which makes a new connection no younger."""
        if holder in self._idle:
            del self._idle[holder]
            self._asking[holder] = None

    def answers(self, holder: Holder) -> None:
        """Note that a request is complete: it is our turn."""
        if holder in self._asking:
            del self._asking[holder]
            self._answering[holder] = None

    def rests(self, holder: Holder) -> None:
        """Note that a request has been answered."""
        for place in (self._asking, self._answering):
            if holder in place:
                del place[holder]
                self._idle[holder] = None

    def charge(self, holder: Holder, count: int, *, body: bool = False) -> bool:
        """Charge bytes, and make room for them. False: there is none for this connection.

        Bodies may take three quarters: the rest is for those who have yet to connect.
        """
        if not holder.inside:
            return False
        holder.held += count
        self.held += count
        limits = self._limits
        most = limits.memory - (limits.memory >> 2 if body else 0)
        while self.held > most or len(self) > limits.connections:
            first = self._first()
            if first is holder and len(self._asking) == 1:
                first = next(iter(self._idle), None)  # it alone owes us something: it is new
            if first is None or first is holder:
                self.refused += 1
                return False
            self.leave(first)
            self.evicted += 1
            first.cut()
        return True

    def _first(self) -> Holder | None:
        return next(iter(self._asking), None) or next(iter(self._idle), None)

    def release(self, holder: Holder, count: int) -> None:
        """Give bytes back."""
        if holder.inside:
            holder.held -= count
            self.held -= count
