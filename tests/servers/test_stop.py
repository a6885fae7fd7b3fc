"""Every server of the catalogue is stopped: bare, and as the webhook has changed its Pod."""

from pathlib import Path

import pytest

from tests.servers import scenario
from tests.servers.catalog import EITHER, KEPT, SERVERS, Server
from tests.servers.conftest import require
from tests.servers.scenario import BARE, HOOK, HOOK_INIT, IMAGE, RUN, TIMES, TINI, WRAP, Result, Way

SLACK = 5.0
"""Seconds for a loaded machine.

Less than what is left of the drain's limit then: a helper that waits for an idle connection is
late.
"""

NAMED = pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)


def _went(result: Result) -> str:
    return KEPT if result.slow == "answered" else "lost"


@NAMED
def test_a_bare_stop_goes_as_recorded(server: Server, directory: Path):
    """A new version that stops differently fails here: then check the catalogue and the profile."""
    require(server, helper=False)
    result = scenario.stop(server, BARE, directory)
    assert server.bare["TERM"] in (EITHER, _went(result)), result
    assert result.killed != server.term_ends, result


@pytest.mark.parametrize(
    "server", [s for s in SERVERS.values() if len(s.bare) > 1], ids=lambda s: s.name
)
def test_a_bare_stop_by_the_official_images_signal_goes_as_recorded(
    server: Server, directory: Path
):
    require(server, helper=False)
    result = scenario.stop(server, IMAGE, directory)
    assert server.bare[server.image_signal] in (EITHER, _went(result)), result
    assert set(result.tries.values()) & {"refused", "reset"}, (
        "a graceful stop alone turns new connections away"
    )


@pytest.mark.parametrize("server", [s for s in SERVERS.values() if s.tini], ids=lambda s: s.name)
def test_an_init_that_forwards_signals_makes_it_worse(server: Server, directory: Path):
    """As PID 1 these ignore TERM; as a child they die of it."""
    require(server, helper=False, also=TINI.init[:1])
    result = scenario.stop(server, TINI, directory)
    assert server.tini == _went(result), result


@pytest.mark.parametrize(
    ("server", "way"),
    [
        pytest.param(s, way, id=f"{s.name}-{way.name}")
        for s in SERVERS.values()
        for way in (HOOK, WRAP, RUN)
        if way is not RUN or not s.variant
    ],
)
def test_nothing_is_lost(server: Server, way: Way, directory: Path):
    """In-flight finishes, new connections are served until then, an idle one delays nothing.

    The server ends by itself.
    """
    require(server, helper=True)
    result = scenario.stop(server, way, directory)
    story = f"{result}\n{result.logs}"
    assert result.slow == "answered", story
    assert set(result.tries.values()) == {"answered"}, story
    assert result.drained, story
    if way is HOOK and not server.profile_ends:
        # Nothing inside a container can end a PID 1 that ignores the signal (pid_namespaces(7)):
        # the kubelet does, and nothing is lost.
        assert result.killed, story
    else:
        assert not result.killed, story
        assert result.exit_at < result.slow_at + server.after + SLACK, story
        assert set(result.codes) <= server.codes, story
    assert set(result.hook_codes) <= {0}, story  # else the kubelet reports a failed hook
    assert result.leftovers == 0, story
    assert result.sidecar_code == 0, story
    # The webhook knows the profile where the Pod names its command; else the helper finds it.
    assert server.profile in result.profile.split(",") or way is HOOK, story


@pytest.mark.parametrize(
    "server", [SERVERS[name] for name in ("nginx", "gunicorn-gthread")], ids=lambda s: s.name
)
def test_a_connection_that_stays_open_after_its_answer_is_idle_a_moment_later(
    server: Server, directory: Path
):
    """As in a balancer's pool.

    It may be a stream between two parts, so it has to be quiet for two seconds; not until the
    drain's limit.
    """
    require(server, helper=True)
    result = scenario.stop(server, WRAP, directory, pooled=True)
    story = f"{result}\n{result.logs}"
    assert result.slow == "answered", story
    assert result.drained, story
    assert result.exit_at < result.slow_at + 2 + SLACK, story


@pytest.mark.parametrize("server", [s for s in SERVERS.values() if s.tini], ids=lambda s: s.name)
def test_the_server_below_an_init_is_found_and_ended(server: Server, directory: Path):
    require(server, helper=True, also=TINI.init[:1])
    result = scenario.stop(server, HOOK_INIT, directory)
    story = f"{result}\n{result.logs}"
    assert result.slow == "answered", story
    assert set(result.tries.values()) == {"answered"}, story
    assert not result.killed, story
    assert result.exit_at < result.slow_at + server.after + SLACK, story


@pytest.mark.parametrize(
    "server",
    [SERVERS[name] for name in ("nginx", "haproxy", "gunicorn-sync")],
    ids=lambda s: s.name,
)
def test_a_silent_connection_costs_the_patience_and_no_more(server: Server, directory: Path):
    """Left alone, nginx and haproxy wait 60 s for it, a sync worker of gunicorn 30 s."""
    require(server, helper=True)
    result = scenario.stop_with_silence(server, WRAP, directory)
    story = f"{result}\n{result.logs}"
    assert not result.killed, story
    assert result.exit_at < int(TIMES["delay-max"]) + int(TIMES["patience"]) + SLACK, story
