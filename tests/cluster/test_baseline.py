"""Without podgrace requests are lost: recorded, so that "none lost" in the mission is worth something."""

from collections.abc import Callable

import pytest

from tests.cluster import mission
from tests.cluster.mission import Place
from tests.cluster.workloads import SERVERS


@pytest.mark.timeout(600)
def test_a_rolling_update_without_podgrace_loses_requests(place: Place, tally: Callable[[str, str], None]) -> None:
    rows, _ = mission.run(place, list(SERVERS), "bare", ["rolling update"])
    tally("bare-rolling-update", mission.told(rows))
    lost = {row.server for row in rows if row.lost}
    assert lost == set(SERVERS), f"no request was lost by {sorted(set(SERVERS) - lost)}"
