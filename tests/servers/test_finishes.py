"""Servers that finish by themselves: what clients with busy kept connections see.

A profile says `finishes` only where this holds: with its own signal, and without podgrace, the
server answers every request that was sent, sends every client away, and exits by itself.
"""

from pathlib import Path

import pytest

from tests.servers import scenario
from tests.servers.catalog import FINISHING, Server
from tests.servers.conftest import require
from webhook.profiles import BUILT_IN

CLAIMED = [s for s in FINISHING.values() if BUILT_IN[s.profile].finishes]


@pytest.mark.parametrize("server", CLAIMED, ids=lambda s: s.name)
def test_requests_on_connections_that_never_pause_are_answered(server: Server, directory: Path):
    require(server, helper=False)
    result = scenario.finish(server, directory, server.slow)
    assert result.slow == "answered", result
    assert result.lost == {}, result
    assert result.told == result.clients, result
    assert not result.killed, result
    assert result.exit_at < result.last_at + 3, result


def test_every_profile_that_says_so_was_measured() -> None:
    assert {s.profile for s in CLAIMED} == {p.name for p in BUILT_IN.values() if p.finishes}
