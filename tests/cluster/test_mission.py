"""The mission: a rolling update, an eviction and a scale-down of every server under load, and not one request lost."""

import json
from collections.abc import Callable

import pytest

from tests.cluster import mission
from tests.cluster.install import Release
from tests.cluster.mission import DISTURBANCES, Place, Prove
from tests.cluster.workloads import SERVERS


@pytest.mark.timeout(900)
def test_with_podgrace_no_request_is_lost(
    podgrace: Release, namespaces: Callable[..., str], servers_image: str, prove: Prove, tally: Callable[[str, str], None]
) -> None:
    place = Place(podgrace.api, namespaces(podgrace.labels), servers_image, prove)
    rows, reports = mission.run(place, list(SERVERS), "podgrace", list(DISTURBANCES))
    tally("podgrace", mission.told(rows))
    lost = {row.server for row in rows if row.lost}
    assert not lost, json.dumps({server: [reports[server]["losses"], reports[server]["events"]] for server in lost}, indent=1)
