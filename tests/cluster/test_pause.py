"""Clients that never pause: GET and POST on kept connections, each answered after 10 s.

A request is always in flight, so no moment is calm. A server that finishes by itself (nginx) gets
its signal as soon as no new connection comes, and says `Connection: close` in its last answers; for
others the wait reaches its limit. The long form (PODGRACE_FULL) has one that finishes and two that
do not.
"""

import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster import mission
from tests.cluster.mission import Place, Pressure, explained, lost
from tests.cluster.workloads import VARIANTS

FULL = bool(os.environ.get("PODGRACE_FULL"))
SERVERS = ["nginx", "gunicorn", "node"] if FULL else ["nginx"]

CONNECTIONS, ANSWER = 11, 10.0
BREATH = 0.06
"""Seconds between an answer and the next request; 0 is impossible on a busy machine."""


def ceaseless(method: str) -> Pressure:
    return Pressure(
        rate=CONNECTIONS / (ANSWER + BREATH),
        connections=CONNECTIONS,
        slow_rate=0,
        new=False,
        method=method,
        path="/sleep",
        lead=ANSWER + 2,  # until every connection has an answer under way
    )


@pytest.mark.timeout(600)
def test_clients_that_never_pause_lose_nothing_and_hold_no_pod_up(
    places: Callable[[], Place], tally: Any
) -> None:
    """nginx: the last old Pod goes soon after its longest answer, not after the drain's 51 s."""

    def one(variant: str, method: str) -> Callable[[], mission.Ran]:
        place, load = places(), ceaseless(method)
        return lambda: mission.run(place, SERVERS, variant, ["rolling update"], load)

    runs = {
        f"{variant} {method}": one(variant, method)
        for variant in VARIANTS
        for method in ("GET", "POST")
    }
    rows, reports = mission.at_once(runs)
    methods = [method for _ in VARIANTS for method in ("GET", "POST") for _ in SERVERS]
    rows = [row._replace(client=method) for row, method in zip(rows, methods, strict=True)]
    tally("pause", rows)
    missed = [row for row in lost(rows, "podgrace") if row.server == "nginx"]
    told = {row.variant: reports[f"{row.variant} {row.client}"] for row in missed}
    assert not missed, explained(told, missed)
    stay = max(row.stay for row in rows if row.variant == "podgrace" and row.server == "nginx")
    assert stay < 35, f"{stay} s: it waited for a pause that never comes"
