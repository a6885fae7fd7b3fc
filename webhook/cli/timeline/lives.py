"""What was seen of a Pod -> how it came and how it went: two ordered lists of events. Pure.

Coming is counted from its creation, going from the moment when it was told to stop
(deletionTimestamp). Every event that can be compared over several Pods has a `moment`:

| moment     | is                                                                     |
|------------|------------------------------------------------------------------------|
| created    | the API told of the Pod                                                |
| scheduled  | its condition PodScheduled became true                                 |
| sandbox    | PodReadyToStartContainers: it has its network and address              |
| init       | Initialized: its init containers are done                              |
| started    | its last container ran                                                 |
| accepts    | the first connection to its address that was answered                  |
| checked    | the first answer that says that the readiness probe came before        |
| containers | ContainersReady                                                        |
| ready      | Ready                                                                  |
| listed     | an EndpointSlice had it as ready                                       |
| reached    | by a way (Service, Ingress, DNS): the first answer from it, or with it |
| told       | it had a deletionTimestamp                                             |
| unlisted   | no EndpointSlice had it as ready any more                              |
| left       | by a way: the last answer from it, or the last with it                 |
| signalled  | the first answer that says that its server has SIGTERM                 |
| refuses    | the first failed connection after its last good answer                 |
| ended      | its last container had ended                                           |
| unready    | its condition Ready was no longer true                                 |
| dropped    | no EndpointSlice named it any more                                     |
| gone       | the API had deleted it                                                 |

The API's times are those when its watch told us, so a client may see a change a little earlier,
below zero. A client's times are those when it began to ask.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from webhook.cli.timeline.sight import (
    CHECKED,
    DIRECT,
    HEADLESS,
    NAME,
    PATHS,
    STOPPING,
    Heard,
    PodState,
)
from webhook.cli.watching.slices import SliceSeen

_TRUE: Final = {
    "PodScheduled": ("scheduled", "scheduled", "no longer scheduled"),
    "PodReadyToStartContainers": ("sandbox", "has its network", "its network is gone"),
    "Initialized": ("init", "initialized", "no longer initialized"),
    "ContainersReady": ("containers", "its containers are ready", "its containers are not ready"),
    "Ready": ("ready", "Ready", "no longer Ready"),
}
"""Condition of a Pod -> the moment at which it becomes true, how that is said, and the opposite."""
_STATES: Final = {"running": "started", "terminated": "ended", "waiting": "is waiting"}


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a Pod. at: seconds since it was created, or told to stop.

    source: who told: Pod, a container, EndpointSlice, or a way. place: where a client asked.
    """

    at: float
    source: str
    what: str
    moment: str = ""
    place: str = ""


@dataclass(frozen=True, slots=True)
class Way:
    """What clients met on one way from one place, from the moment the Pod was told to the end.

    after: how many answers still came from it, or named it; -1: no answer says whose it is. failed:
    failed answers, by kind. ttl: the longest time for which a client may keep an answer, -1: not
    known.
    """

    key: str
    place: str
    asked: int
    after: int
    failed: dict[str, int]
    ttl: int


@dataclass(frozen=True, slots=True)
class Life:
    """A Pod that came or went while it was watched. began, told: on the watch's clock."""

    name: str
    node: str
    began: float | None
    told: float | None
    coming: tuple[Event, ...]
    going: tuple[Event, ...]
    ways: tuple[Way, ...]


def lives(
    pods: Sequence[PodState], slices: Sequence[SliceSeen], heard: Sequence[Heard]
) -> tuple[Life, ...]:
    """Give the life of every Pod to which something happened, in the order in which they came."""
    stages: dict[str, list[PodState]] = {}
    for state in pods:
        stages.setdefault(state.uid, []).append(state)
    found = [_life(states, slices, heard) for states in stages.values()]
    return tuple(life for life in found if life.coming or life.going)


def moment(events: Iterable[Event], name: str, source: str = "", place: str = "") -> float | None:
    """Say when a moment was, counted as the events are; None if it was not seen."""
    return next(
        (
            event.at
            for event in events
            if event.moment == name
            and (not source or event.source == source)
            and (not place or event.place == place)
        ),
        None,
    )


def _life(states: list[PodState], slices: Sequence[SliceSeen], heard: Sequence[Heard]) -> Life:
    first = states[0]
    # The API may report an ended Pod without its address.
    address = next((state.address for state in states if state.address), "")
    last = states[-1]._replace(address=address)
    # At 0.0 the watch reported what was there before it began.
    began = first.at if first.at > 0 and not first.told else None
    told = next((state.at for state in states if state.told), None)
    told = None if told == 0 else told
    gone = next((state.at for state in states if state.gone), None)
    if told is None and gone is not None:
        told = gone  # deleted without grace
    mine = [it for it in heard if gone is None or it.sample.at <= gone + _ECHO]
    events = [
        *_of_pod(states),
        *_of_slices(first.name, slices, told),
        *_of_clients(last, mine, began or 0.0, told),
    ]
    events.sort(key=lambda event: event.at)
    # The watch may report the deletion after the server has its signal.
    felt = [event.at for event in events if event.moment == "signalled"]
    cut = float("inf") if told is None else min([told, *felt])
    coming = [e for e in events if e.moment not in _LATE and 0 < e.at < cut]
    going = [e for e in events if told is not None and (e.moment in _LATE or e.at >= cut)]
    return Life(
        first.name,
        last.node,
        began,
        told,
        _since(coming, began) if began is not None else (),
        _since(going, told) if told is not None else (),
        _ways(last, mine, cut, gone) if told is not None else (),
    )


_LATE: Final = frozenset({"told", "unlisted", "left", "signalled", "refuses", "ended", "gone"})
_ECHO: Final = 60.0
"""Seconds to watch after a Pod is gone: a DNS cache holds its address for this long."""


def _since(events: Iterable[Event], origin: float) -> tuple[Event, ...]:
    return tuple(
        Event(round(e.at - origin, 3), e.source, e.what, e.moment, e.place) for e in events
    )


# -- what the API told


def _of_pod(states: list[PodState]) -> Iterable[Event]:
    first = states[0]
    yield Event(first.at, "Pod", f"created, {first.phase or 'Pending'}", "created")
    before = PodState(first.at, first.name, first.uid, phase=first.phase)
    for now in states:
        yield from _changes(before, now)
        before = now


def _changes(before: PodState, now: PodState) -> Iterable[Event]:
    at = now.at
    if now.gone:
        yield Event(at, "Pod", "deleted from the API", "gone")
        return
    if now.told and not before.told:
        yield Event(at, "Pod", "told to stop: it has a deletionTimestamp", "told")
    for condition, (name, what, opposite) in _TRUE.items():
        if condition in now.true and condition not in before.true:
            node = f" to {now.node}" if name == "scheduled" and now.node else ""
            yield Event(at, "Pod", what + node, name)
        elif condition in before.true and condition not in now.true:
            yield Event(at, "Pod", opposite, "unready" if name == "ready" else "")
    if now.phase != before.phase:
        yield Event(at, "Pod", f"phase {now.phase}")
    known = {container.name: container for container in before.containers}
    for index, container in enumerate(now.containers):
        was = known.get(container.name)
        source = f"container {container.name}"
        final = index == len(now.containers) - 1
        if container.state != (was.state if was else "waiting"):
            what = _STATES.get(container.state, container.state)
            mark = what if final and what in ("started", "ended") else ""
            yield Event(at, source, what, mark)
        if container.ready != (was.ready if was else False):
            yield Event(at, source, "ready" if container.ready else "not ready")


def _of_slices(name: str, slices: Sequence[SliceSeen], told: float | None) -> Iterable[Event]:
    """Give the changes of what each Service's slices say of a Pod."""
    by_service: dict[str, list[SliceSeen]] = {}
    for entry in slices:
        by_service.setdefault(entry.service, []).append(entry)
    # The slices of several Services change together; the first one by name speaks for them.
    for number, service in enumerate(sorted(by_service)):
        held: dict[str, str] = {}
        before = _ABSENT
        for entry in by_service[service]:
            held[entry.name] = _said(name, entry)
            now = max(held.values(), key=_ORDER.index)
            if now != before:
                yield _listing(entry.at, service, before, now, told, spoken=number == 0)
            before = now


_ABSENT: Final = "not there"
_READY: Final = "ready"
_ORDER: Final = (
    _ABSENT,
    "not ready",
    "not ready, not serving, terminating",
    "not ready, serving, terminating",
    "ready, terminating",
    _READY,
)


def _said(name: str, entry: SliceSeen) -> str:
    for endpoint in entry.endpoints:
        if endpoint.pod != name:
            continue
        if endpoint.terminating:
            if endpoint.ready:
                return "ready, terminating"
            serving = "serving" if endpoint.serving else "not serving"
            return f"not ready, {serving}, terminating"
        return _READY if endpoint.ready else "not ready"
    return _ABSENT


def _listing(
    at: float, service: str, before: str, now: str, told: float | None, *, spoken: bool
) -> Event:
    name = ""
    if spoken and now == _READY:
        name = "listed"
    elif spoken and now == _ABSENT:
        name = "dropped"
    elif spoken and before == _READY and told is not None:
        name = "unlisted"
    return Event(at, "EndpointSlice", f"{now} ({service})" if service else now, name)


# -- what clients met


def _of_clients(
    pod: PodState, heard: Sequence[Heard], began: float, told: float | None
) -> Iterable[Event]:
    for (key, place), samples in _by_way(heard).items():
        kind, _, about = key.partition("/")
        if kind == NAME:
            continue
        if kind == DIRECT:
            if about == pod.name:
                yield from _direct(place, samples, pod)
            continue
        hits = [it for it in samples if it.sample.at >= began and _is(pod, it)]
        if not hits:
            continue
        dns = kind == HEADLESS
        first, last = hits[0].sample, hits[-1].sample
        what = "the first answer with its address" if dns else "the first answer from it"
        yield Event(first.at, PATHS[kind], what, "reached", place)
        if told is not None and len(samples) > samples.index(hits[-1]) + _SURE:
            what = "the last answer with its address" if dns else "the last connection to it"
            yield Event(last.at, PATHS[kind], what, "left", place)
        yield from _kept(place, kind, samples, first.at)


_SURE: Final = 20
"""Answers of others after which a Pod counts as left."""


def _kept(place: str, kind: str, samples: Sequence[Heard], since: float) -> Iterable[Event]:
    """Give the first failure of each kind on a way that had worked."""
    seen: set[str] = set()
    for it in samples:
        sample = it.sample
        if sample.at >= since and not sample.good and sample.answer not in seen:
            seen.add(sample.answer)
            yield Event(sample.at, PATHS[kind], f"a new client gets: {sample.answer}", "", place)


def _direct(place: str, samples: Sequence[Heard], pod: PodState) -> Iterable[Event]:
    source = PATHS[DIRECT]
    good = [it.sample for it in samples if it.sample.good]
    before = next((it.sample.answer for it in samples), "")
    if not good:
        return
    if samples[0].sample.at < good[0].at:
        yield Event(samples[0].sample.at, source, f"does not answer yet: {before}", "", place)
    yield Event(good[0].at, source, "answers", "accepts", place)
    for word, what, name in (
        (CHECKED, "says that its readiness probe has asked", "checked"),
        (STOPPING, "says that it has got SIGTERM", "signalled"),
    ):
        said = next((sample for sample in good if word in sample.said), None)
        if said:
            yield Event(said.at, source, what, name, place)
    after = next((it.sample for it in samples if it.sample.at > good[-1].at), None)
    if after and (pod.told or pod.gone):
        yield Event(good[-1].at, source, "the last connection to it", "left", place)
        yield Event(after.at, source, f"no longer answers: {after.answer}", "refuses", place)


def _is(pod: PodState, it: Heard) -> bool:
    return bool({pod.name, pod.address} & set(it.sample.who))


def _by_way(heard: Iterable[Heard]) -> dict[tuple[str, str], list[Heard]]:
    found: dict[tuple[str, str], list[Heard]] = {}
    for it in heard:
        found.setdefault((it.sample.key, it.place), []).append(it)
    for samples in found.values():
        samples.sort(key=lambda it: it.sample.at)
    return dict(sorted(found.items()))


def _ways(
    pod: PodState, heard: Sequence[Heard], told: float, gone: float | None
) -> tuple[Way, ...]:
    end = gone if gone is not None else float("inf")
    found = []
    for (key, place), samples in _by_way(heard).items():
        kind, _, about = key.partition("/")
        if kind == DIRECT and about != pod.name:
            continue
        late = [it for it in samples if told < it.sample.at]
        inside = [it for it in late if it.sample.at <= end]
        failed = Counter(it.sample.answer for it in inside if not it.sample.good)
        hits = [it for it in late if (it.sample.good if kind == DIRECT else _is(pod, it))]
        ttls = [it.sample.ttl for it in samples]
        told_apart = kind == DIRECT or any(it.sample.who for it in samples)
        found.append(
            Way(
                kind,
                place,
                len(inside),
                len(hits) if told_apart else -1,
                dict(failed),
                max(ttls, default=-1),
            )
        )
    return tuple(found)


def gaps(events: Sequence[Event]) -> list[float]:
    """Say for each event how long after the one before it came."""
    return [0.0, *(round(now.at - before.at, 3) for before, now in pairwise(events))][: len(events)]
