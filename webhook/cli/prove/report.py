"""The report: a ledger in, one tree out, the source of `-o json` and every other form.

Pure. A written report can be read again (`read`), so that pictures and comparisons of several runs
can be made later and elsewhere.
"""

import math
import shlex
from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from webhook.cli.prove.blame import KINDS, Verdict, blame
from webhook.cli.prove.ledger import (
    LOSSES,
    OK,
    CommandSeen,
    Ledger,
    Loss,
    PodSeen,
    Second,
    Seen,
    Tally,
    Trouble,
    quantile,
)
from webhook.cli.prove.lives import NAMES, Life, lives
from webhook.cli.prove.target import LoadError

T = TypeVar("T")

SHOWN: Final = 1000
"""Most losses and retried requests in the list, evenly chosen; all are counted."""
SLOW: Final = "slow"
"""The client whose answers take long on purpose: its latency says nothing about the others."""


class _Row(msgspec.Struct, frozen=True, rename="camel"):
    pass


class Client(_Row, frozen=True):
    """The outcomes of one kind of client."""

    sent: int
    ok: int
    lost: int
    outcomes: dict[str, int]
    retried: int
    reconnected: int
    p50_seconds: float
    p99_seconds: float
    max_seconds: float


class Moment(_Row, frozen=True):
    """Something that happened beside the load, in words."""

    at: float
    what: str


class Row(_Row, frozen=True):
    """One second. marks: ends of lost requests, and `retried`. p50, p99: without slow clients."""

    second: int
    sent: dict[str, int]
    marks: dict[str, int]
    p50_seconds: float | None = None
    p99_seconds: float | None = None


class Lost(_Row, frozen=True):
    """One lost or retried request, and whose loss it was."""

    at: float
    took: float
    client: str
    outcome: str
    detail: str
    address: str
    kind: str
    pod: str
    evidence: str
    others: tuple[str, ...] = ()


class Told(_Row, frozen=True):
    """What a server told a client before it went: GOAWAY, a close frame. name: of `NOTICES`."""

    at: float
    client: str
    name: str
    detail: str


class KindRow(_Row, frozen=True):
    """One class of losses.

    unsure: how many may be of another class. after_seconds: the longest time from the moment that
    explains a loss to the request.
    """

    count: int
    unsure: int
    after_seconds: float | None
    pods: list[str]


class Pod(_Row, frozen=True):
    """One Pod's life. moments: name -> seconds since the load began; 0 for what was so before."""

    name: str
    address: str
    old: bool
    readiness_probe: bool
    moments: dict[str, float]
    record: dict[str, Any]


class Report(_Row, frozen=True):
    """One whole run."""

    podgrace: str
    title: str
    url: str
    method: str
    slow_url: str | None
    began: str
    seconds: float
    command: list[str] | None
    command_exit: int | None
    command_seconds: float | None
    rollout_seconds: float | None
    last_old_pod_seconds: float | None
    sent: int
    lost: int
    max_lost: int
    retried: int
    latest_start_seconds: float
    clients: dict[str, Client]
    kinds: dict[str, KindRow]
    timeline: list[Row]
    events: list[Moment]
    losses: list[Lost]
    retries: list[Lost]
    pods: list[Pod]
    troubles: list[str]
    notices: list[Told] = []

    @property
    def failed(self) -> bool:
        """Whether too much was lost."""
        return self.lost > self.max_lost

    @property
    def unproved(self) -> str:
        """Why the run proves nothing, if so."""
        if self.command_exit:
            return f"the command ended with {self.command_exit}: it proves nothing"
        return ""


FORMAT: Final = "prove/1"
"""The version of the format; it changes when readers of this one can no longer read it."""


class About(_Row, frozen=True):
    """What a run was asked for."""

    title: str
    url: str
    method: str
    slow_url: str | None
    began: str
    max_lost: int = 0


def make(about: About, ledger: Ledger) -> Report:
    """Put everything into one tree."""
    pods = lives(ledger.seen)
    losses = sorted(loss for loss in ledger.losses if not loss.retried)
    retries = sorted(loss for loss in ledger.losses if loss.retried)

    def judged(some: list[Loss]) -> list[tuple[Loss, Verdict]]:
        return [(loss, blame(loss, pods, ledger.seen, watched=ledger.watched)) for loss in some]

    lost = judged(losses)
    command = [entry for entry in ledger.seen if isinstance(entry, CommandSeen)]
    first, last = (command[0], command[-1]) if command else (None, None)
    rollout, last_old = durations(pods, first.at if first else None)
    code = last.code if last else None
    return Report(
        FORMAT,
        about.title,
        about.url,
        about.method,
        about.slow_url,
        about.began,
        seconds=round(ledger.length, 2),
        command=list(first.command) if first else None,
        command_exit=code,
        command_seconds=round(last.at - first.at, 2) if first and last else None,
        rollout_seconds=rollout,
        last_old_pod_seconds=last_old,
        sent=sum(tally.sent for tally in ledger.tallies.values()),
        lost=len(losses),
        max_lost=about.max_lost,
        retried=len(retries),
        latest_start_seconds=round(ledger.late, 3),
        clients={kind: _client(tally) for kind, tally in ledger.tallies.items()},
        kinds=_kinds([verdict for _, verdict in lost]),
        timeline=_timeline(ledger.seconds),
        events=happenings(ledger.seen),
        losses=[_lost(*pair) for pair in _some(lost)],
        retries=[_lost(*pair) for pair in judged(_some(retries))],
        pods=[_pod(life) for life in pods],
        troubles=[entry.what for entry in ledger.seen if isinstance(entry, Trouble)],
        notices=[
            Told(round(notice.at, 3), *notice[1:]) for notice in _some(sorted(ledger.notices))
        ],
    )


def durations(pods: tuple[Life, ...], began: float | None) -> tuple[float | None, float | None]:
    """Say how long the rollout took and the last old Pod stayed; None if that wasn't seen.

    Both count from the start of the command; without one, from the first Pod that came or was told
    to stop. A rollout is over when the last new Pod is ready.
    """
    start = began
    if start is None:
        first = [at for life in pods for at in (life.told, None if life.old else life.created)]
        start = min((at for at in first if at is not None), default=None)
    if start is None:
        return None, None
    new = [life for life in pods if not life.old and (life.created or 0) >= start]
    ready = [life.ready for life in new if life.told is None or life.ready is not None]
    gone = [life.gone for life in pods if life.told is not None and life.told >= start]
    rollout = None if not ready or None in ready else max(at for at in ready if at is not None)
    last = None if not gone or None in gone else max(at for at in gone if at is not None)
    return (
        None if rollout is None else round(rollout - start, 1),
        None if last is None else round(last - start, 1),
    )


def _some(many: list[T]) -> list[T]:
    """Take at most `SHOWN`, spread over the run."""
    step = max(1, math.ceil(len(many) / SHOWN))
    return many[::step]


def _client(tally: Tally) -> Client:
    return Client(
        sent=tally.sent,
        ok=tally.outcomes.get(OK, 0),
        lost=tally.lost,
        outcomes={name: tally.outcomes[name] for name in LOSSES if tally.outcomes.get(name)},
        retried=tally.retried,
        reconnected=tally.reconnected,
        p50_seconds=round(quantile(tally.took, 0.5), 4),
        p99_seconds=round(quantile(tally.took, 0.99), 4),
        max_seconds=round(quantile(tally.took, 1), 4),
    )


def _timeline(seconds: Mapping[int, Second]) -> list[Row]:
    rows = []
    for second in sorted(seconds):
        sent, marks, took = seconds[second]
        ordered = array("d", sorted(v for kind in took if kind != SLOW for v in took[kind]))
        rows.append(
            Row(
                second,
                dict(sent),
                dict(marks),
                round(quantile(ordered, 0.5), 4) if ordered else None,
                round(quantile(ordered, 0.99), 4) if ordered else None,
            )
        )
    return rows


def _kinds(verdicts: list[Verdict]) -> dict[str, KindRow]:
    counts = Counter(verdict.kind for verdict in verdicts)
    of: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        of[verdict.kind].append(verdict)
    return {
        kind: KindRow(
            counts[kind],
            unsure=sum(bool(verdict.others) for verdict in of[kind]),
            after_seconds=max((v.after for v in of[kind] if v.after is not None), default=None),
            pods=sorted({verdict.pod for verdict in of[kind] if verdict.pod}),
        )
        for kind in KINDS
        if counts[kind]
    }


def _lost(loss: Loss, verdict: Verdict) -> Lost:
    return Lost(
        round(loss.at, 3),
        round(loss.took, 3),
        loss.client,
        loss.outcome,
        loss.detail,
        loss.address,
        verdict.kind,
        verdict.pod,
        verdict.evidence,
        verdict.others,
    )


def _pod(life: Life) -> Pod:
    moments = {name: round(at, 2) for name, at in life.moments()}
    return Pod(life.name, life.address, life.old, life.probed, moments, life.record)


def happenings(seen: tuple[Seen, ...]) -> list[Moment]:
    """Say in words what happened beside the load, in order."""
    found: list[Moment] = []
    states: dict[str, str] = {}
    for entry in seen:
        if isinstance(entry, CommandSeen):
            found.append(Moment(round(entry.at, 2), _command(entry)))
        elif isinstance(entry, PodSeen):
            state, before = _state(entry), states.get(entry.uid)
            if before is None and state == "not ready":
                state = "made"
            states[entry.uid] = state
            if before != state and not (before == "made" and state == "not ready"):
                found.append(Moment(round(entry.at, 2), f"Pod {entry.name} {state}"))
        elif isinstance(entry, Trouble):
            found.append(Moment(round(entry.at, 2), entry.what))
    found += [
        Moment(round(at, 2), f"Pod {life.name} {NAMES[name]}")
        for life in lives(seen)
        for name, at in life.moments()
        if name in ("listed", "unlisted") and at
    ]
    return sorted(found, key=lambda moment: moment.at)


def _state(pod: PodSeen) -> str:
    if pod.gone:
        return "gone"
    if pod.told:
        return "told to stop"
    return "ready" if pod.ready else "not ready"


def _command(entry: CommandSeen) -> str:
    if entry.code is None:
        return "command began: " + shlex.join(entry.command)
    return "command ended" + (f" with {entry.code}" if entry.code else "")


def disturbed(
    report: Report, command: Sequence[str], begin: float, end: float, code: int
) -> Report:
    """Add the command to a report without one; times are on the load's clock."""
    pods = tuple(
        Life(
            pod.name,
            old=pod.old,
            created=pod.moments.get("created"),
            ready=pod.moments.get("ready"),
            told=pod.moments.get("told"),
            gone=pod.moments.get("gone"),
        )
        for pod in report.pods
    )
    rollout, last_old = durations(pods, begin)
    entries = (CommandSeen(begin, tuple(command)), CommandSeen(end, tuple(command), code))
    events = [*report.events, *happenings(entries)]
    return msgspec.structs.replace(
        report,
        command=list(command),
        command_exit=code,
        command_seconds=round(end - begin, 2),
        rollout_seconds=rollout,
        last_old_pod_seconds=last_old,
        events=sorted(events, key=lambda moment: moment.at),
    )


def write(report: Report) -> str:
    """Write a report as JSON."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1).decode()


def write_all(reports: Sequence[Report]) -> str:
    """Write several reports as one JSON array."""
    return msgspec.json.format(msgspec.json.encode(reports), indent=1).decode()


def read(path: str) -> Report:
    """Read a report again. Raises `LoadError` if it is not one.

    It may come from the log of a Pod, which holds standard error, too: skip what comes before it.
    """
    return parse(Path(path).read_bytes(), path)


def parse(data: bytes, name: str) -> Report:
    """Read a report that was written. Raises `LoadError` that names where it is from."""
    begin = 0 if data.startswith(b"{") else data.find(b"\n{") + 1
    try:
        return msgspec.json.decode(data[begin:], type=Report)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LoadError(f"{name}: not a report of podgrace prove: {error}") from error
