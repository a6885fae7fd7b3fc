"""While some attack, honest callers lose no call, no probe waits, memory is bounded.

Short here; PODGRACE_FULL=1 for the long form, with as many connections as in the review that found
these attacks. The attackers run at the lowest priority (see `attacker`).
"""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

from tests.server.serving import REVIEW, Served, served, until

FULL = bool(os.environ.get("PODGRACE_FULL"))
SECONDS, SHARE = (14, 1.0) if FULL else (3, 0.4)
REVIEW_BYTES = REVIEW.read_bytes()
MOST = 192 << 20
"""Bytes: three quarters of the chart's memory limit."""
LAG = re.compile(rb"^podgrace_event_loop_lag_seconds ([0-9.e+-]+)$", re.MULTILINE)
"""Of the time since the look before."""

ATTACKS = {
    "halfopen": ("halfopen", 600, "port"),
    "halfopen-plain": ("halfopen", 300, "plain_port"),
    "asked": ("asked", 600, "port"),
    "asked-plain": ("asked", 600, "plain_port"),
    "burst": ("burst", 600, "port"),
    "pipeline": ("pipeline", 600, "port"),
    "pipeline-plain": ("pipeline", 300, "plain_port"),
}


class Watch:
    """Honest callers, each on its thread; what went wrong, and how long the slowest took."""

    def __init__(self, server: Served) -> None:
        self.lost: list[str] = []
        self.answered: dict[str, int] = {}
        self.lag = 0.0
        self._over, self._kept = threading.Event(), server.connect()
        kept = self._kept

        def on_a_kept_connection() -> bool:
            kept.request("POST", "/mutate", REVIEW_BYTES, {"Content-Type": "application/json"})
            return b'"patch":' in kept.getresponse().read()

        def of_metrics() -> bool:
            answer = server.plain("/metrics")
            found = LAG.search(answer.body)
            self.lag = max(self.lag, float(found[1]) if found else 0.0)
            return answer.status == 200 and found is not None

        callers: dict[str, tuple[Callable[[], bool], float, float]] = {
            "kept": (on_a_kept_connection, 0.1, 3),
            "new": (lambda: b'"patch":' in server.ask(REVIEW_BYTES).body, 0.2, 3),
            "livez": (lambda: server.plain("/livez").status == 200, 0.3, 1),
            "readyz": (lambda: server.plain("/readyz").status == 200, 0.3, 1),
            "metrics": (of_metrics, 0.5, 3),
        }
        self._threads = [
            threading.Thread(target=self._call, args=(name, *how)) for name, how in callers.items()
        ]

    def _call(self, name: str, call: Callable[[], bool], pause: float, limit: float) -> None:
        while not self._over.wait(pause):
            start = time.monotonic()
            try:
                good = call()
            except OSError as error:
                good = False
                self.lost.append(f"{name}: {type(error).__name__}")
            took = time.monotonic() - start
            if not good or took > limit * SLACK:
                self.lost.append(f"{name}: {good} after {took:.1f} s")
            self.answered[name] = self.answered.get(name, 0) + 1

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)
        self._kept.close()


SLACK = 5
"""This machine may be busy with other tests; a lost call is one that is not answered at all."""


@pytest.mark.parametrize("name", ATTACKS)
def test_honest_callers_lose_nothing_while(tmp_path: Path, name: str):
    attack, connections, port = ATTACKS[name]
    with served(tmp_path) as server:
        until(lambda: server.plain("/readyz").status == 200, "ready")
        command = [
            sys.executable,
            str(Path(__file__).with_name("attacker.py")),
            attack,
            str(getattr(server, port)),
            str(int(connections * SHARE)),
            str(SECONDS),
            *(["tls"] if port == "port" else []),
        ]
        with Watch(server) as watch, subprocess.Popen(command, stderr=subprocess.PIPE) as attacker:
            _, errors = attacker.communicate(timeout=SECONDS + 120)
        assert attacker.returncode == 0, errors.decode()
        assert watch.lost == []
        assert min(watch.answered.values()) > 1
        peak = server.memory("VmHWM")
        print(
            f"{name}: {peak >> 20} MiB, {sum(watch.answered.values())} answers, "
            f"event loop {watch.lag * 1e3:.0f} ms late"
        )
        assert peak < MOST
        until(lambda: server.metric("podgrace_requests_in_flight") == 0, "nothing is left of it")
        assert server.events("failed", "uvicorn") == []
