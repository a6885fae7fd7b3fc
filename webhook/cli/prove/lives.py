"""The life of each Pod: the entries of a ledger in, one frozen life a Pod out. Pure.

| moment    | is the first time that                                      |
|-----------|-------------------------------------------------------------|
| created   | the API told of the Pod                                     |
| scheduled | its condition PodScheduled was true                         |
| started   | all of its containers ran                                   |
| ready     | its condition Ready was true                                |
| listed    | an EndpointSlice had it as ready                            |
| told      | it had a deletionTimestamp                                  |
| unlisted  | after that, no EndpointSlice had it as ready any more       |
| drained   | its record of the drain says so: counted from `told`        |
| signalled | its server got the stop signal, as far as that can be known |
| ended     | all of its containers had ended                             |
| gone      | the API had deleted it                                      |

The times are those when the watch told us, so each is late by the way from the node through the
API: usually well under a second, `ended` up to about one (the kubelet's interval).
"""

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from webhook.cli.prove.ledger import PodSeen, Seen
from webhook.cli.watching.slices import SliceSeen

MOMENTS: Final = (
    "created",
    "scheduled",
    "started",
    "ready",
    "listed",
    "told",
    "unlisted",
    "drained",
    "signalled",
    "ended",
    "gone",
)
NAMES: Final = {"listed": "in endpoints", "told": "told to stop", "unlisted": "out of endpoints"}
"""Moment -> its name for people, where that is not the same word."""


@dataclass(frozen=True, slots=True)
class Life:
    """One Pod. Moments are seconds since the load began, None where one was not seen.

    old: it was there when the load began; what had happened to it by then is 0.0.
    crashes: when a container was seen to have been restarted though nobody told the Pod to stop.
    record: what podgrace's helper wrote about its drain, empty if it wrote nothing.
    """

    name: str
    address: str = ""
    old: bool = False
    probed: bool = False
    hook: str = ""
    created: float | None = None
    scheduled: float | None = None
    started: float | None = None
    ready: float | None = None
    listed: float | None = None
    told: float | None = None
    unlisted: float | None = None
    drained: float | None = None
    signalled: float | None = None
    ended: float | None = None
    gone: float | None = None
    crashes: tuple[float, ...] = ()
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def end(self) -> float | None:
        """When the watch saw that nothing runs there any more."""
        return self.gone if self.ended is None else self.ended

    def moments(self) -> list[tuple[str, float]]:
        """Give the known moments as (name, seconds), in the order of time."""
        found = [(name, getattr(self, name)) for name in MOMENTS]
        return sorted(((n, at) for n, at in found if at is not None), key=lambda m: m[1])


def lives(seen: Iterable[Seen]) -> tuple[Life, ...]:
    """Give the life of every Pod, in the order in which they were first seen."""
    entries = tuple(seen)
    pods: dict[tuple[str, str], list[PodSeen]] = {}
    for entry in entries:
        if isinstance(entry, PodSeen):
            pods.setdefault((entry.name, entry.uid), []).append(entry)
    slices = [entry for entry in entries if isinstance(entry, SliceSeen)]
    return tuple(_life(stages, slices) for stages in pods.values())


def _life(stages: list[PodSeen], slices: list[SliceSeen]) -> Life:
    first, last = stages[0], stages[-1]
    told = _first(stages, "told")
    gone = _first(stages, "gone")
    listed, unlisted = _listing(first.name, slices, told, gone)
    record = _record(last.messages)
    drained = signalled = None
    if told is not None:
        waited = _waited(record)
        if waited is not None:
            drained = signalled = told + waited
        elif not last.hook:
            signalled = told
        elif last.hook == "sleep":
            signalled = told + last.hook_sleep
    return Life(
        first.name,
        address=last.address or first.address,
        old=first.at == 0.0,
        probed=last.probed,
        hook=last.hook,
        created=first.at,
        scheduled=_first(stages, "scheduled"),
        started=_first(stages, "started"),
        ready=_first(stages, "ready"),
        listed=listed,
        told=told,
        unlisted=unlisted,
        drained=drained,
        signalled=signalled,
        ended=_first(stages, "ended"),
        gone=gone,
        crashes=tuple(
            now.at
            for before, now in pairwise(stages)
            if now.restarts > before.restarts and not now.told
        ),
        record=record,
    )


def _first(stages: Iterable[PodSeen], flag: str) -> float | None:
    return next((stage.at for stage in stages if getattr(stage, flag)), None)


def _listing(
    name: str, slices: list[SliceSeen], told: float | None, gone: float | None
) -> tuple[float | None, float | None]:
    """Say when a Pod entered the endpoints, and when it left them after it was told to stop."""
    state: dict[str, bool] = {}
    listed = unlisted = None
    for entry in slices:
        if gone is not None and entry.at > gone:
            break  # a StatefulSet's Pod comes back under the same name
        state[entry.name] = any(e.pod == name and e.ready for e in entry.endpoints)
        if any(state.values()):
            listed = entry.at if listed is None else listed
            unlisted = None
        elif listed is not None and unlisted is None:
            unlisted = entry.at
    if told is None or unlisted is None:
        return listed, None
    return listed, max(told, unlisted)


def _record(messages: Iterable[str]) -> dict[str, Any]:
    """Find the helper's record in termination messages, a line of JSON: the longest drain.

    A Pod's author can write anything there. So it is read as data, and only ever shown.
    """
    found = [record for message in messages for record in _lines(message)]
    return max(found, key=lambda record: _waited(record) or 0.0, default={})


def _lines(message: str) -> Iterator[dict[str, Any]]:
    for line in message.splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            tree = json.loads(line)
            if isinstance(tree, dict) and tree.get("podgrace") == "drain":
                yield tree


def _waited(record: dict[str, Any]) -> float | None:
    """How many seconds a drain waited, if its record says so as it should."""
    value = record.get("waited_ms")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e8:
        return None
    return value / 1000
