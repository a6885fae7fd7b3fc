"""The watch beside the load: Pods and EndpointSlices on the load's clock.

In: streams of the API's events. Out: entries for the ledger, as they come; and two answers that the
end of a load waits for: is a Pod terminating, is a Pod from the beginning still there.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

import msgspec

from webhook.cli.prove import seen
from webhook.cli.prove.ledger import PodSeen, Seen, Trouble
from webhook.cli.watching import slices, streams

_FIRST: Final = 10.0
"""Seconds that the first event may take; a selector without a Pod has none."""
_QUIET: Final = 0.3
"""Seconds without an event after which the initial state counts as complete."""

Read = Callable[[str, Any, float], Seen]


class Watch:
    """Watches Pods and EndpointSlices. `seen` grows; `trouble` says what could not be watched."""

    def __init__(
        self, pods: streams.Stream, endpoint_slices: streams.Stream, now: Callable[[], float]
    ) -> None:
        self.seen: list[Seen] = []
        self._streams: tuple[tuple[streams.Stream, Read, str], ...] = (
            (pods, seen.pod, "Pods"),
            (endpoint_slices, slices.read, "EndpointSlices"),
        )
        self._now = now
        self._tasks: list[asyncio.Task[None]] = []
        self._pods: dict[str, PodSeen] = {}
        self._old: set[str] = set()
        self._changed = asyncio.Condition()
        self._heard = asyncio.Event()
        self._over = False
        self.stirred = 0
        """How many events belong to a rollout in progress."""

    async def start(self) -> None:
        """Begin, and learn what is there. Raises `WatchError` if the Pods can't be watched."""
        self._tasks = [asyncio.create_task(self._follow(*parts)) for parts in self._streams]
        pods = self._tasks[0]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST):
                while not self._pods and not pods.done():
                    await self._next_event(_FIRST)
        while not pods.done() and await self._next_event(_QUIET):
            pass
        if pods.done():
            pods.result()
            await self.stop()
            raise streams.WatchError(f"--pods: {self._streams[0][0].why or 'the watch has ended'}")
        self._old = set(self._pods)

    async def _next_event(self, limit: float) -> bool:
        """Wait for one more event; says whether one came in time."""
        self._heard.clear()
        waits = {asyncio.create_task(self._heard.wait()), self._tasks[0]}
        await asyncio.wait(waits, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits - {self._tasks[0]}:
            wait.cancel()
        return self._heard.is_set()

    @property
    def busy(self) -> bool:
        """Whether a Pod is terminating, or a new one is not ready yet: a rollout goes on."""
        return any(self._unsettled(pod) for pod in self._pods.values())

    def _unsettled(self, pod: PodSeen) -> bool:
        return pod.told or not (pod.ready or pod.ended or pod.uid in self._old)

    async def calm(self) -> None:
        """Wait until no Pod is terminating, and every new one is ready."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self.busy)

    async def renewed(self) -> None:
        """Wait until the Pods that were there when the load began are gone."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._old & self._pods.keys())

    def left(self) -> list[str]:
        """Name the Pods that come or go, or were there when the load began."""
        return sorted(
            p.name for uid, p in self._pods.items() if self._unsettled(p) or uid in self._old
        )

    async def stop(self) -> None:
        """Watch no longer."""
        self._over = True
        for stream, _, _ in self._streams:
            await stream.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _follow(self, stream: streams.Stream, read: Read, what: str) -> None:
        async with contextlib.aclosing(stream.events()) as events:
            async for kind, tree in events:
                if kind not in ("ADDED", "MODIFIED", "DELETED"):
                    continue
                try:
                    await self._note(read(kind, tree, self._now()))
                except msgspec.ValidationError as error:
                    self.seen.append(Trouble(self._now(), f"{what}: not as expected: {error}"))
        if self._over:
            return
        self.seen.append(Trouble(self._now(), f"{what} were no longer watched: {stream.why}"))
        async with self._changed:
            self._changed.notify_all()

    async def _note(self, entry: Seen) -> None:
        if not isinstance(entry, PodSeen):
            self.seen.append(entry)
        elif not self._repeats(entry):
            self.seen.append(entry)
            async with self._changed:
                self._pods[entry.uid] = entry
                if entry.gone:
                    del self._pods[entry.uid]
                self.stirred += self.busy or entry.gone
                self._changed.notify_all()
        self._heard.set()

    def _repeats(self, entry: PodSeen) -> bool:
        """Say whether an event changed nothing that we look at."""
        before = self._pods.get(entry.uid)
        return before is not None and before._replace(at=entry.at) == entry
