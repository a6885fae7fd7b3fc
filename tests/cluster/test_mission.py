"""The mission: each server updated, evicted, scaled down under load, and no request lost.

The short run disturbs all servers in two steps; the long one (PODGRACE_FULL) measures each
disturbance by itself, without podgrace and with a plain sleep as well: it is where the tables of
docs/proof.md come from.
"""

import json
import os
from collections.abc import Callable

import pytest

from tests.cluster import mission
from tests.cluster.install import Release
from tests.cluster.mission import Place, Pressure, Prove, Row
from tests.cluster.workloads import SERVERS

FULL = bool(os.environ.get("PODGRACE_FULL"))
EACH = ["rolling update", "eviction", "scale-down"]

Tally = Callable[[str, list[Row]], None]


@pytest.fixture
def here(
    podgrace: Release, namespaces: Callable[..., str], servers_image: str, prove: Prove
) -> Place:
    return Place(podgrace.api, namespaces(podgrace.labels), servers_image, prove)


def lost(rows: list[Row]) -> set[str]:
    return {row.server for row in rows if row.lost}


@pytest.mark.timeout(900)
def test_with_podgrace_no_request_is_lost(here: Place, tally: Tally) -> None:
    """For clients that open a connection per request, for kept ones, and for ten-second answers."""
    rows, reports = mission.run(
        here,
        list(SERVERS),
        "podgrace",
        EACH if FULL else ["rolling update", "scale-down and eviction"],
    )
    tally("podgrace", rows)
    assert not lost(rows), json.dumps(
        {server: [reports[server]["losses"], reports[server]["events"]] for server in lost(rows)},
        indent=1,
    )


@pytest.mark.timeout(900)
def test_without_podgrace_every_server_loses_requests(place: Place, tally: Tally) -> None:
    """Recorded, so that "none lost" is worth something."""
    rows, _ = mission.run(place, list(SERVERS), "bare", EACH if FULL else ["rolling update"])
    tally("bare", rows)
    assert lost(rows) == set(SERVERS)


@pytest.mark.timeout(900)
@pytest.mark.skipif(not FULL, reason="part of the long measurement: PODGRACE_FULL=1")
def test_a_plain_sleep_loses_what_is_in_flight(place: Place, tally: Tally) -> None:
    """Five seconds of `preStop.sleep` cure new connections; the signal still cuts long answers."""
    rows, _ = mission.run(place, list(SERVERS), "sleep", EACH)
    tally("sleep", rows)
    # Which of them had an answer in its last five seconds when it was stopped is chance; that none
    # had is not.
    cut = {row.server for row in rows if row.client == "slow" and row.lost}
    assert len(cut & {"exits", "nginx", "uwsgi", "php-fpm", "django", "node", "demo"}) >= 3, cut


@pytest.mark.timeout(900)
@pytest.mark.skipif(not FULL, reason="part of the long measurement: PODGRACE_FULL=1")
@pytest.mark.parametrize("variant", ["sleep", "podgrace"])
def test_clients_that_never_pause_on_their_connections(
    here: Place, tally: Tally, variant: str
) -> None:
    """The hard case: a kept connection in constant use is never calm, and no client is told.

    What is cut when the wait is over goes back to the client without a byte of answer; it sends
    such a request again, if it may.
    """
    busy = Pressure(rate=50, connections=4, slow_rate=0, new=False)
    rows, _ = mission.run(here, ["nginx", "gunicorn", "node"], variant, ["rolling update"], busy)
    tally(f"busy-{variant}", rows)
    if variant == "podgrace":
        assert not lost(rows)
