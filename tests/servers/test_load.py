"""The same stops under a small steady load.

The front deregisters the Pod two seconds after its deletion.
"""

from pathlib import Path

import pytest

from tests.servers import scenario
from tests.servers.catalog import LOST, SERVERS, Server
from tests.servers.conftest import require
from tests.servers.scenario import BARE, SLEEP, WRAP

NAMED = pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)


@pytest.mark.parametrize(
    "server", [s for s in SERVERS.values() if not s.variant], ids=lambda s: s.name
)
def test_a_bare_stop_loses_requests_until_the_front_has_let_go(server: Server, directory: Path):
    require(server, helper=False)
    result = scenario.stop_loaded(server, BARE, directory)
    assert result.load is not None
    # Those that ignore their signal as PID 1 serve on until they are killed.
    assert (result.load.lost > 0) != bool(server.tini), result


@pytest.mark.parametrize(
    "server",
    [s for s in SERVERS.values() if s.bare["TERM"] == LOST and not s.variant],
    ids=lambda s: s.name,
)
def test_a_sleep_alone_cuts_what_is_still_in_flight_then(server: Server, directory: Path):
    """A long enough sleep keeps what arrives early; the signal after it is still the wrong one.

    Early: before the front has deregistered the Pod.
    """
    require(server, helper=False)
    result = scenario.stop_loaded(server, SLEEP, directory)
    assert result.load is not None
    assert result.load.fresh.keys() == {"answered"}, result
    assert result.slow != "answered", result


@NAMED
def test_no_request_is_lost_with_the_helper(server: Server, directory: Path):
    require(server, helper=True)
    result = scenario.stop_loaded(server, WRAP, directory)
    story = f"{result}\n{result.logs}"
    assert result.load is not None
    assert result.load.fresh.keys() == {"answered"}, story
    assert result.load.reused.keys() == {"answered"}, story
    assert result.slow == "answered", story
    assert result.drained, story
    assert not result.killed, story


@pytest.mark.parametrize(
    "server", [s for s in SERVERS.values() if s.for_ever is not None], ids=lambda s: s.name
)
def test_clients_that_never_let_go_cost_at_most_their_last_request(server: Server, directory: Path):
    """Removal from the endpoints closes no connection: the server does, at the drain's limit.

    Such clients go on until then.
    """
    require(server, helper=True)
    result = scenario.stop_loaded(server, WRAP, directory, for_ever=True, **{"drain-timeout": "3"})
    story = f"{result}\n{result.logs}"
    assert result.load is not None
    assert result.load.fresh.keys() == {"answered"}, story
    assert result.slow == "answered", story
    assert sum(n for outcome, n in result.load.reused.items() if outcome != "answered") <= (
        server.for_ever or 0
    ), story
    assert not result.killed, story
