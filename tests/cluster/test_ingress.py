"""Through an ingress controller and with a single replica: bare, sleep, podgrace, at once.

The controller keeps connections to Pods and learns of a change late (Traefik applies one at most
every 2 s). PODGRACE_INGRESS names it. The long form (PODGRACE_FULL) has more servers.
"""

import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.mission import Place, Reach, beside, explained, lost

FULL = bool(os.environ.get("PODGRACE_FULL"))
SERVERS = ["exits", "nginx", "gunicorn", "node"] if FULL else ["nginx"]
"""nginx is gone soonest: it does not wait for a pause of the kept connections."""

LATE = {"podgrace.io/delay-min": "10"}
"""The controller's delay and room for a busy machine: Traefik took 5 to 7 s there."""


@pytest.mark.timeout(600)
def test_behind_an_ingress_no_request_is_lost(
    places: Callable[[], Place], ingress: Reach, tally: Any
) -> None:
    """Two replicas. The controller learns late that a Pod goes, and reuses kept connections."""
    options: dict[str, Any] = {"replicas": 2, "reach": ingress, "annotations": LATE}
    rows, reports = beside(places, SERVERS, "rolling update", **options)
    tally("ingress", rows)
    missed = lost(rows, "podgrace")
    assert not missed, explained(reports, missed)
    assert lost(rows, "bare"), "that podgrace loses none is worth something"


@pytest.mark.timeout(600)
def test_a_single_replica_is_replaced_while_it_still_serves(
    places: Callable[[], Place], tally: Any
) -> None:
    """Evicted, it is the only one: kube-proxy sends to it while it terminates and still serves."""
    rows, reports = beside(places, SERVERS, "eviction", replicas=1)
    tally("single", rows)
    missed = lost(rows, "podgrace")
    assert not missed, explained(reports, missed)
    assert lost(rows, "bare")


@pytest.mark.timeout(600)
def test_a_single_replica_behind_an_ingress_has_a_gap(
    places: Callable[[], Place], ingress: Reach, tally: Any
) -> None:
    """Traefik answers 503 until the new Pod is ready; requests in flight get their answers.

    It does not send to an endpoint that terminates.
    """
    rows, reports = beside(places, SERVERS, "eviction", replicas=1, reach=ingress)
    tally("single-ingress", rows)
    missed = lost(rows, "podgrace")
    for row in missed:
        losses = reports["podgrace"][row.server]["losses"]
        assert {loss["detail"] for loss in losses} == {"status 503"}, losses
        assert all(loss["took"] < 5 for loss in losses), "none that was in flight"
