"""What the server reports about itself: one JSON line for each call, and metrics.

In: answers, durations, events. Out: lines on a file descriptor, and the text of `/metrics`. Neither
contains anything of a Pod's content: lines hold what `Answer.log` holds, and every label has a
fixed vocabulary. docs/metrics.md lists the names and their meaning; alerts are written from it.

Counters are plain integers behind one collector: the event loop is their only writer, and a call
passes a dozen of them.
"""

import os
import platform
import queue
import threading
import time
from asyncio import AbstractEventLoop
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from webhook import __version__
from webhook.admission import Answer
from webhook.core.reasons import REASONS

RESULTS: Final = ("patched", "unchanged", "skipped", "invalid", "bug")
STATUSES: Final = (200, 400, 403, 404, 405, 408, 413, 415, 431, 500, 503)
BOUNDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 3.0)
"""Seconds. Fine where a call should be, coarse up to the 3 s that the API server waits."""

_LINE: Final = 2048
"""Bytes. A longer line holds something that no API server sends (names end at 253); it is cut."""
_PAUSE: Final = 0.05
"""Seconds between two writes of the log: at full speed some 500 lines a write."""

_encode = msgspec.json.Encoder(enc_hook=str).encode


class Log:
    """Lines in batches, written by a thread: a slow reader delays no call and fills no memory."""

    def __init__(self, descriptor: int = 1, limit: int = 1 << 20) -> None:
        self.dropped = 0
        self._descriptor, self._limit = descriptor, limit
        self._lines: list[bytes] = []
        self._held = 0
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._loop: AbstractEventLoop | None = None
        self._second, self._stamp = 0, ""
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def attach(self, loop: AbstractEventLoop) -> None:
        """Use the timers of this loop; without one, each line is written at once."""
        self._loop = loop

    def event(self, event: str, **fields: object) -> None:
        """Write one line about the server itself, at once."""
        line = self._head(event) + _encode(fields)[1:]
        self._put(line if fields else line.replace(b",}", b"}"))
        self.flush()

    def call(self, fields: dict[str, Any], seconds: float) -> None:
        """Write the line of one call, within `_PAUSE`."""
        fields["ms"] = round(seconds * 1000, 3)
        line = _encode(fields)
        if len(line) > _LINE:
            line = _encode(
                {
                    key: value[:100] if isinstance(value, str) else value
                    for key, value in fields.items()
                }
            )[:_LINE]
        self._put(self._head("admission") + line[1:])

    def flush(self) -> None:
        """Hand all lines over to the thread."""
        if self._lines:
            self._queue.put(b"\n".join([*self._lines, b""]))
            self._lines = []

    def close(self, timeout: float = 2.0) -> None:
        """Write what is left, waiting for a slow reader at most `timeout` seconds."""
        self._loop = None
        self.flush()
        self._queue.put(None)
        self._thread.join(timeout)

    def _head(self, event: str) -> bytes:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second, self._stamp = (
                second,
                time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)),
            )
        return (
            f'{{"time":"{self._stamp}.{int((now - second) * 1000):03}Z","event":"{event}",'.encode()
        )

    def _put(self, line: bytes) -> None:
        if self._held > self._limit:
            self.dropped += 1
            return
        self._held += len(line) + 1
        if not self._lines and self._loop is not None:
            self._loop.call_later(_PAUSE, self.flush)
        self._lines.append(line)
        if self._loop is None:
            self.flush()

    def _write(self) -> None:
        while (chunk := self._queue.get()) is not None:
            left = memoryview(chunk)
            try:
                while left:
                    left = left[os.write(self._descriptor, left) :]
            except OSError:
                self.dropped += chunk.count(b"\n")
            self._held -= len(chunk)


class Metrics:
    """Counters of the calls, and gauges that are read when somebody asks."""

    def __init__(self, log: Log) -> None:
        self.failed = 0
        self._log = log
        self._results = dict.fromkeys(RESULTS, 0)
        self._codes = dict.fromkeys(REASONS, 0)
        self._statuses = dict.fromkeys(STATUSES, 0)
        self._buckets = [0] * (len(BOUNDS) + 1)
        self._seconds = 0.0
        self._warnings = self._operations = self._bytes = 0
        self._counters: list[tuple[str, str, str, Callable[[], Mapping[str, int]]]] = []
        self._gauges: list[tuple[str, str, str, Callable[[], Mapping[str, float]]]] = []
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._registry.register(self)

    def call(self, answer: Answer, size: int, seconds: float) -> None:
        """Count one call that reached a decision, and write its line."""
        self._results[answer.result] += 1
        codes = self._codes
        for code in answer.codes:
            codes[code] += 1
        self._buckets[bisect_left(BOUNDS, seconds)] += 1
        self._seconds += seconds
        self._warnings += answer.warnings
        self._bytes += size
        ops = answer.log.get("ops")
        if ops.__class__ is int:
            self._operations += ops
        self._log.call(answer.log, seconds)

    def responded(self, status: int) -> None:
        """Count one answer of the webhook port."""
        self._statuses[status] = self._statuses.get(status, 0) + 1

    def counter(self, name: str, text: str, label: str, values: Iterable[str]) -> dict[str, int]:
        """Declare a counter with one label; whoever counts increments the dictionary."""
        counts = dict.fromkeys(values, 0)
        self.counters(name, text, label, lambda: counts)
        return counts

    def counters(
        self, name: str, text: str, label: str, read: Callable[[], Mapping[str, int]]
    ) -> None:
        """Declare a counter that others keep, read on demand."""
        self._counters.append((name, text, label, read))

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Declare a gauge that is read on demand."""
        self._gauges.append((name, text, "", lambda: {"": read()}))

    def gauges(
        self, name: str, text: str, label: str, read: Callable[[], Mapping[str, float]]
    ) -> None:
        """Declare a gauge with one label, read on demand."""
        self._gauges.append((name, text, label, read))

    def text(self) -> bytes:
        """Write the Prometheus text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Give all metrics to the registry."""
        yield _counter("podgrace_requests", "Admission reviews by result.", "result", self._results)
        yield _counter(
            "podgrace_reasons",
            "Decisions by reason code; a review has several.",
            "code",
            self._codes,
        )
        yield _counter(
            "podgrace_http_responses",
            "Responses of the webhook port by HTTP status.",
            "status",
            self._statuses,
        )
        for name, text, value in (
            ("podgrace_warnings", "Admission warnings given.", self._warnings),
            ("podgrace_patch_operations", "JSON Patch operations written.", self._operations),
            ("podgrace_request_bytes", "Bytes of admission reviews read.", self._bytes),
            ("podgrace_failures", "Bugs of podgrace's own outside a decision.", self.failed),
            (
                "podgrace_log_lines_dropped",
                "Log lines lost because their reader is too slow.",
                self._log.dropped,
            ),
        ):
            yield CounterMetricFamily(name, text, value=value)
        for name, text, label, counts in self._counters:
            yield _counter(name, text, label, counts())
        total = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), self._buckets, strict=True):
            total += count
            buckets.append((bound, float(total)))
        yield HistogramMetricFamily(
            "podgrace_request_duration_seconds",
            "From the head of a request to its answer.",
            buckets=buckets,
            sum_value=self._seconds,
        )
        for name, text, label, read in self._gauges:
            family = GaugeMetricFamily(name, text, labels=[label] if label else [])
            for labelled, number in read().items():
                family.add_metric([labelled] if label else [], number)
            yield family
        info = GaugeMetricFamily(
            "podgrace_build_info", "1, with the version.", labels=["version", "python"]
        )
        info.add_metric([__version__, platform.python_version()], 1)
        yield info


def _counter(name: str, text: str, label: str, counts: Mapping[Any, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in dict(counts).items():  # a copy: the loop's thread may add to it
        family.add_metric([str(value)], count)
    return family
