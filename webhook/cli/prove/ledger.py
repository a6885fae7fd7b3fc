"""The ledger: everything that was seen during a run, written down once and never changed.

In: nothing. Out: frozen values. All times are seconds on one clock, the load's own (0: it began),
so that clients' losses can be compared with Pods' lives. What the values mean belongs in `lives`
(what happened to each Pod) and `blame` (whose loss it was).
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from webhook.cli.watching.slices import SliceSeen

OK: Final = "ok"
RETRIED: Final = "retried"
LOSSES: Final = {
    "refused": "the connection was refused",
    "reset": "the connection was reset",
    "eof-before": "the connection was closed before the answer",
    "eof-in": "the connection was closed in the middle of the answer",
    "timeout": "no complete answer in time",
    "status": "an answer with a status that is not expected",
    "unreachable": "no route, no such name, or another network error",
    "tls": "the TLS handshake or its verification failed",
    "garbled": "not the protocol that was asked for",
    "refused-stream": "the server refused the HTTP/2 stream, and the next one as well",
    "stream-reset": "the server cut the HTTP/2 stream (RST_STREAM)",
    "grpc-status": "a gRPC status that is not expected",
    "no-trailers": "a gRPC answer that ended without its status",
    "closed": "the WebSocket was closed with a message in flight, or for an error",
    "abnormal": "the WebSocket ended without a close frame (1006)",
    "cut-short": "the event stream ended before its last event",
    "gap": "events are missing where the event stream was resumed",
}
"""Outcome of a lost request -> what it means. Every other request is `OK`."""
NOTICES: Final = {
    "goaway": "GOAWAY: the server takes no new streams on this connection",
    "close": "a WebSocket was closed between messages, as a server may",
}
"""What a server may say to its clients before it goes, and its meaning. It loses nothing."""


class Loss(NamedTuple):
    """A request that was lost, or (`retried`) sent once more by a client that may.

    at: when it ended. took: seconds since it was sent. opened: when its connection was established;
    None: it never was. dialled: when the client began to open it. address: where the client
    connected to, without the port; empty if no name could be resolved.
    """

    at: float
    took: float
    client: str
    outcome: str
    detail: str
    dialled: float = 0.0
    opened: float | None = None
    address: str = ""
    retried: bool = False

    @property
    def sent(self) -> float:
        """When the client sent it, or first tried to."""
        return self.at - self.took


class Notice(NamedTuple):
    """A server told a client that it goes. name: of `NOTICES`."""

    at: float
    client: str
    name: str
    detail: str


class Second(NamedTuple):
    """One second of load: its requests by client, when they were sent; ends, when they ended.

    took: by client, how long right answers to requests of this second took.
    """

    sent: Counter[str]
    marks: Counter[str]
    took: dict[str, "array[float]"]


class Tally(NamedTuple):
    """The outcomes of one kind of client. took: seconds of right answers, in order."""

    sent: int
    outcomes: Mapping[str, int]
    retried: int
    reconnected: int
    took: "array[float]"

    @property
    def lost(self) -> int:
        """Requests without a right answer."""
        return sum(count for name, count in self.outcomes.items() if name != OK)


def quantile(ordered: "array[float]", share: float) -> float:
    """Give the value below which this share of them lies; 0 if there is none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class PodSeen(NamedTuple):
    """A Pod as the API showed it at one moment.

    hook: what its containers' preStop is: "" (none), "sleep", "other". hook_sleep: the seconds of a
    native sleep. ended: every container has ended. restarts: how often containers were
    restarted. messages: the termination messages of its containers.
    """

    at: float
    name: str
    uid: str
    address: str = ""
    scheduled: bool = False
    started: bool = False
    ready: bool = False
    told: bool = False
    ended: bool = False
    gone: bool = False
    restarts: int = 0
    probed: bool = False
    hook: str = ""
    hook_sleep: float = 0.0
    messages: tuple[str, ...] = ()


class CommandSeen(NamedTuple):
    """The command that disturbs the workload: it began, or (with its exit code) it ended."""

    at: float
    command: tuple[str, ...]
    code: int | None = None


class Trouble(NamedTuple):
    """Something could not be watched; the report says so."""

    at: float
    what: str


Seen = PodSeen | SliceSeen | CommandSeen | Trouble


class Ledger(NamedTuple):
    """One whole run. length: seconds of load. late: how late a request started, at worst."""

    seen: tuple[Seen, ...]
    losses: tuple[Loss, ...]
    seconds: Mapping[int, Second]
    tallies: Mapping[str, Tally]
    length: float
    late: float
    watched: bool
    notices: tuple[Notice, ...] = ()


def of_these_pods(seen: Iterable[Seen]) -> tuple[Seen, ...]:
    """Drop EndpointSlices that never held one of the Pods: a watch covers a whole namespace."""
    entries = tuple(seen)
    pods = {entry.name for entry in entries if isinstance(entry, PodSeen)}
    ours = {
        entry.name
        for entry in entries
        if isinstance(entry, SliceSeen) and any(e.pod in pods for e in entry.endpoints)
    }
    return tuple(e for e in entries if not isinstance(e, SliceSeen) or e.name in ours)
