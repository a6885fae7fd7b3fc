"""The article's demonstration: nginx, gunicorn, a Django project, a request of ten seconds."""

from pathlib import Path

import pytest

from tests.servers import scenario
from tests.servers.catalog import DEMOS, KEPT, Server
from tests.servers.conftest import require
from tests.servers.scenario import BARE, HOOK, IMAGE, WRAP, Way

NAMED = pytest.mark.parametrize("server", DEMOS.values(), ids=DEMOS)


@pytest.mark.parametrize(
    ("server", "signal"),
    [pytest.param(s, signal, id=f"{s.name}-{signal}") for s in DEMOS.values() for signal in s.bare],
)
def test_a_bare_stop_goes_as_recorded(server: Server, signal: str, directory: Path):
    require(server, helper=False)
    result = scenario.stop(server, BARE if signal == "TERM" else IMAGE, directory)
    assert (result.slow == "answered") == (server.bare[signal] == KEPT), result


@NAMED
@pytest.mark.parametrize("way", [HOOK, WRAP], ids=lambda way: way.name)
def test_the_ten_second_request_gets_its_answer(server: Server, way: Way, directory: Path):
    require(server, helper=True)
    result = scenario.stop(server, way, directory)
    story = f"{result}\n{result.logs}"
    assert result.slow == "answered", story
    assert result.slow_at > 8, story
    assert set(result.tries.values()) == {"answered"}, story
    assert result.drained, story
    assert result.leftovers == 0, story
    if way is WRAP:
        # nginx is found and asked to finish; gunicorn beside it hears TERM and costs nothing. A
        # script that only stays (the daemons' one) may still be cleaning up: it has the patience,
        # 12 s.
        most = 20 if server.name == "demo-daemons" else 8
        assert result.exit_at < result.slow_at + most, story
        assert not result.killed, story
