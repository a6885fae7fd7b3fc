"""How much all connections of a port may take together, and which to close when that is too much.

In: connections, as they come, ask, rest and go, and the bytes that each one holds. Out: room for
the newcomer, by closing others, or "no". What a connection says on the wire belongs in
`connection`.

Memory is bounded, not the number of honest clients. Each connection is charged for what it costs to
keep, and for every byte of a request that is not complete. It is in one of these places:

| place     | what it is doing                                                    | may go |
|-----------|---------------------------------------------------------------------|--------|
| asking    | it owes us a handshake or a request, and we keep nothing of it yet  | yes    |
| sending   | it owes us the rest of a body, of which we keep the beginning       | yes    |
| idle      | it rests between two requests                                       | yes    |
| answering | we owe it an answer                                                 | no     |
| trusted   | whatever it is doing: its address or certificate is an API server's | no     |

When the sum passes the budget, the place that holds the most gives way, its oldest first. So an
attacker hurts only its own kind: a flood of silent connections takes nothing from those that rest,
stalled bodies take nothing from those in a handshake. And an API server in the same place is among
the youngest: it asks as soon as it has connected, sends a review within milliseconds, and asks
again. All of this takes constant time.
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
    """Bounds file descriptors; memory runs out sooner."""
    memory: int = 64 << 20
    """For all connections, with what they have sent."""


class Holder(Protocol):
    """A connection, as the budget sees it."""

    held: int
    """Bytes charged to it."""
    trusted: bool
    """Never closed for others."""
    place: "Place | None"
    """Its place; None: it has left."""

    def cut(self) -> None:
        """Close at once."""


class Place:
    """Some of the connections, the one that has been there longest first."""

    def __init__(self) -> None:
        self.held = 0
        self.members: dict[Holder, None] = {}

    def take(self, holder: Holder) -> None:
        """Move a connection here, as the youngest."""
        if holder.place is not None:
            holder.place.drop(holder)
        holder.place = self
        self.members[holder] = None
        self.held += holder.held

    def drop(self, holder: Holder) -> None:
        """Let a connection go from here."""
        del self.members[holder]
        self.held -= holder.held
        holder.place = None

    def oldest(self) -> Holder:
        """Give the one to close first."""
        return next(iter(self.members))


class Budget:
    """All connections of a port."""

    def __init__(self, limits: Limits) -> None:
        self.held = self.evicted = self.refused = 0
        self._limits = limits
        self._asking, self._sending, self._idle = Place(), Place(), Place()
        self._answering, self._trusted = Place(), Place()
        self._all = (self._asking, self._sending, self._idle, self._answering, self._trusted)

    def __len__(self) -> int:
        return sum(len(place.members) for place in self._all)

    def __iter__(self) -> Iterator[Holder]:
        """Give all of them, as they are now."""
        return iter([holder for place in self._all for holder in place.members])

    def enter(self, holder: Holder, cost: int) -> bool:
        """Take a new connection in. False: there is no room, and no other to close."""
        (self._trusted if holder.trusted else self._asking).take(holder)
        return self.charge(holder, cost)

    def leave(self, holder: Holder) -> None:
        """Forget a connection, and all that it held."""
        if holder.place is not None:
            holder.place.drop(holder)
            self.held -= holder.held
            holder.held = 0

    def trust(self, holder: Holder) -> None:
        """Never close this one for others."""
        if holder.place is not None:
            holder.trusted = True
            self._trusted.take(holder)

    def asks(self, holder: Holder) -> None:
        """Note that a request begins, which makes a new connection no younger."""
        if holder.place is self._idle:
            self._asking.take(holder)

    def answers(self, holder: Holder) -> None:
        """Note that a request is complete: it is our turn."""
        if holder.place is self._asking or holder.place is self._sending:
            self._answering.take(holder)

    def rests(self, holder: Holder) -> None:
        """Note that a request has been answered."""
        if holder.place is not None and holder.place is not self._trusted:
            self._idle.take(holder)

    def charge(self, holder: Holder, count: int, *, body: bool = False) -> bool:
        """Charge bytes, and make room for them. False: no room for this connection.

        Bodies may take three quarters: the rest is for those who have yet to connect.
        """
        if holder.place is None:
            return False
        if body and holder.place is self._asking:
            self._sending.take(holder)
        self._add(holder, holder.place, count)
        limits = self._limits
        most = limits.memory - (limits.memory >> 2 if body else 0)
        while self.held > most or len(self) > limits.connections:
            first = self._first(holder)
            if first is None or first is holder:
                self.refused += 1
                return False
            self.leave(first)
            self.evicted += 1
            first.cut()
        return True

    def release(self, holder: Holder, count: int) -> None:
        """Give bytes back."""
        if holder.place is not None:
            self._add(holder, holder.place, -count)

    def _add(self, holder: Holder, place: Place, count: int) -> None:
        holder.held += count
        place.held += count
        self.held += count

    def _first(self, newcomer: Holder) -> Holder | None:
        """Choose which to close: from the heaviest place, unless the newcomer is alone there."""
        places = [self._asking, self._sending, self._idle]
        for place in sorted(places, key=lambda place: place.held, reverse=True):
            if place.members and (len(place.members) > 1 or place.oldest() is not newcomer):
                return place.oldest()
        return None
