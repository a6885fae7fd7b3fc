"""Everything that is seen, on one clock: the API's watches, the observers, their questions.

In: streams of the API and places to ask from. Out: growing lists of what was seen, and the lives
that they add up to. It changes nothing in the cluster.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from webhook.cli.timeline import sight
from webhook.cli.timeline.lives import Life, lives
from webhook.cli.timeline.observer import Observer
from webhook.cli.timeline.remote import Remote
from webhook.cli.timeline.sight import DIRECT, Heard, PodState, Question, Sample
from webhook.cli.watching import slices, streams
from webhook.cli.watching.slices import SliceSeen
from webhook.cli.watching.streams import WatchError

HERE: Final = "here"
_LOOK: Final = 0.5
"""Seconds between two looks at what was seen so far: each goes through all of it."""


class Target(NamedTuple):
    """How to ask a Pod directly: over HTTP, or (port 0: its own first) just by connecting."""

    ask: str
    port: int


class Hub:
    """Watches and asks. Lists grow until `stop`."""

    def __init__(self, every: float, target: Target) -> None:
        self.pods: list[PodState] = []
        self.slices: list[SliceSeen] = []
        self.heard: list[Heard] = []
        self.troubles: list[str] = []
        self._zero = time.monotonic()
        self._every, self._target = every, target
        self._now: dict[str, PodState] = {}
        self._gone: dict[str, float] = {}
        self.ready = False
        """Whether the initial state is complete: everything reported after that is new."""
        self._fixed: dict[str, list[Question]] = {}
        self._asked: tuple[tuple[str, ...], tuple[Question, ...]] | None = None
        self._observers: dict[str, Observer | Remote] = {}
        self._streams: list[streams.Stream] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._over = False

    def now(self) -> float:
        """Give the time on the clock of this watch."""
        return time.monotonic() - self._zero

    @property
    def present(self) -> list[PodState]:
        """The Pods that exist, in their last known state."""
        return list(self._now.values())

    @property
    def unsure(self) -> dict[str, float]:
        """By how many seconds the times of each place may be wrong."""
        return {
            place: round(it.unsure, 4) if isinstance(it, Remote) else 0.0
            for place, it in self._observers.items()
        }

    def watch(self, pods: streams.Stream, endpoints: streams.Stream) -> None:
        """Begin to watch the API."""
        for stream, note, what in (
            (pods, self._pod, "Pods"),
            (endpoints, self._slice, "EndpointSlices"),
        ):
            self._streams.append(stream)
            self._tasks.append(asyncio.create_task(self._follow(stream, note, what)))

    def observe_here(self) -> None:
        """Ask from this machine."""
        zero = self._zero

        def tell(sample: Sample) -> None:
            self.heard.append(Heard(HERE, msgspec.structs.replace(sample, at=sample.at - zero)))

        self._observers[HERE] = Observer(tell)

    async def observe_from(self, place: str, words: Sequence[str]) -> None:
        """Ask from a Pod, to which these words attach."""
        zero = self._zero

        def tell(at: str, sample: Sample) -> None:
            self.heard.append(Heard(at, msgspec.structs.replace(sample, at=sample.at - zero)))

        remote = Remote(place, words, tell)
        self._observers[place] = remote
        await remote.start()

    async def aligned(self, limit: float) -> None:
        """Wait until the clock of every place is known. Raises `WatchError`."""
        for place, it in self._observers.items():
            if isinstance(it, Remote):
                await self.until(
                    lambda it=it: it.aligned.is_set() or it.over.is_set(),  # type: ignore[misc]
                    limit,
                    f"the observer on {place} did not answer",
                )
                if it.over.is_set():
                    raise WatchError(f"the observer on {place}: {it.why}")

    def ask(self, fixed: dict[str, list[Question]]) -> None:
        """Ask these at each place, and every Pod that has an address directly."""
        self._fixed = fixed
        self._asked = None
        self._ask()

    def _ask(self) -> None:
        """Tell the places what is asked now, if that has changed."""
        names = tuple(sorted(state.name for state in self._now.values()))
        direct = [question for state in self._now.values() for question in self._directly(state)]
        wanted = (names, tuple(direct))
        if wanted == self._asked:
            return
        self._asked = wanted
        for place, it in self._observers.items():
            fixed = [
                msgspec.structs.replace(question, pods=names)
                if question.ask == "http"
                else question
                for question in self._fixed.get(place, ())
            ]
            it.ask([*fixed, *direct])

    def _directly(self, state: PodState) -> Sequence[Question]:
        port = self._target.port or state.port
        if not state.address or not port or state.phase in ("Succeeded", "Failed"):
            return ()
        key = f"{DIRECT}/{state.name}"
        return (Question(key, self._target.ask, state.address, port, self._every),)

    async def until(self, true: Callable[[], bool], limit: float, otherwise: str = "") -> bool:
        """Wait until it is so; says whether it was in time. Raises `WatchError` on a word."""
        end = self.now() + limit
        while not true():
            if self.now() > end:
                if otherwise:
                    raise WatchError(f"{otherwise} within {limit:g} s")
                return False
            dead = [task for task in self._tasks if task.done()]
            for task in dead:
                task.result()
            if dead and not self._over:
                why = "; ".join(filter(None, (stream.why for stream in self._streams)))
                raise WatchError(f"the watch has ended: {why}")
            await asyncio.sleep(_LOOK)
        return True

    def lives(self, since: float = 0.0) -> tuple[Life, ...]:
        """Say what happened to the Pods so far, without what clients met before a time."""
        return lives(self.pods, self.slices, [it for it in self.heard if it.sample.at >= since])

    async def stop(self) -> None:
        """Watch and ask no longer."""
        self._over = True
        for it in self._observers.values():
            await it.stop()
        for stream in self._streams:
            await stream.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _follow(
        self, stream: streams.Stream, note: Callable[[str, Any], None], what: str
    ) -> None:
        async with contextlib.aclosing(stream.events()) as events:
            async for kind, tree in events:
                if kind not in ("ADDED", "MODIFIED", "DELETED"):
                    continue
                try:
                    note(kind, tree)
                except msgspec.ValidationError as error:
                    self.troubles.append(f"{what}: not as expected: {error}")

    def _pod(self, kind: str, tree: Any) -> None:
        state = sight.pod(kind, tree, self.now())
        before = self._now.get(state.uid)
        if before is None and not self.ready:
            state = state._replace(at=0.0)
        if before is not None and before._replace(at=state.at) == state:
            return
        self.pods.append(state)
        self._now[state.uid] = state
        if state.gone:
            del self._now[state.uid]
        self._ask()

    def _slice(self, kind: str, tree: Any) -> None:
        self.slices.append(slices.read(kind, tree, self.now()))
