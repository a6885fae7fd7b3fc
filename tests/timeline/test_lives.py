"""From what was seen: how Pods came and went, and what to set. No clock, no network."""

import re

import pytest

from tests.timeline import sights
from webhook.cli.timeline import spread
from webhook.cli.timeline.lives import Life, lives, moment
from webhook.cli.timeline.report import About, make, write
from webhook.cli.timeline.sight import DIRECT, HEADLESS, INGRESS, SERVICE, Heard, Sample
from webhook.cli.timeline.suggestion import MAX, MIN, suggestion
from webhook.cli.timeline.text import text

BEGIN, TOLD = 10.0, 20.0


@pytest.fixture(scope="module")
def life() -> Life:
    return seen()


def seen(**how: float) -> Life:
    linger = how.pop("linger", 3.0)
    heard = sights.heard(BEGIN, TOLD, linger, **how)  # type: ignore[arg-type]
    found = lives(sights.pods(BEGIN, TOLD, linger), sights.slices(BEGIN, TOLD, linger), heard)
    assert [it.name for it in found] == ["comes"]  # to the one that stays nothing happened
    return found[0]


def test_coming_is_one_list_in_the_order_of_time_counted_from_the_creation(life: Life) -> None:
    names = [event.moment for event in life.coming if event.moment and event.place != "node-2"]
    assert names == [
        "created",
        "scheduled",
        "sandbox",
        "init",
        "started",
        "accepts",
        "checked",
        "containers",
        "ready",
        "listed",
        "reached",
        "reached",
    ]
    assert life.coming[0].at == 0
    assert moment(life.coming, "ready") == pytest.approx(2.0)
    assert moment(life.coming, "listed") == pytest.approx(2.1)
    assert moment(life.coming, "reached", "Service", "node-2") == pytest.approx(2.65, abs=0.06)
    assert [e.what for e in life.coming if e.source == "EndpointSlice"] == [
        "not ready (shop)",
        "not ready (shop-headless)",
        "ready (shop)",
        "ready (shop-headless)",
    ]


def test_going_is_counted_from_the_order_and_tells_the_last_of_each_way(life: Life) -> None:
    names = {event.moment for event in life.going}
    assert {
        "told",
        "unlisted",
        "left",
        "signalled",
        "refuses",
        "ended",
        "unready",
        "dropped",
    } < names
    assert life.going[0].moment == "told"
    assert moment(life.going, "gone") == pytest.approx(3.9)
    for way in ("Service", "headless DNS"):
        assert moment(life.going, "left", way, "node-1") == pytest.approx(0.6, abs=0.06)
    assert moment(life.going, "signalled") == pytest.approx(0.35, abs=0.06)
    assert moment(life.going, "refuses") == pytest.approx(3.35, abs=0.06)
    assert "not ready, serving, terminating (shop)" in [event.what for event in life.going]


def test_what_clients_met_after_the_order_is_counted(life: Life) -> None:
    ways = {(way.key, way.place): way for way in life.ways}
    service = ways[SERVICE, "node-1"]
    assert 5 <= service.after <= 7  # every second one of 0.6 s, every 0.05 s
    assert service.failed == {}
    assert ways[HEADLESS, "node-2"].ttl == 5
    assert ways[DIRECT, "node-1"].failed["refused"] > 5


def test_where_no_answer_says_whose_it_is_none_is_counted() -> None:
    """A connection that somebody accepts: `--pods` without `--path`."""
    heard = [Heard("here", Sample(SERVICE, n / 10, 0.001, "accepted")) for n in range(300)]
    one = lives(sights.pods(BEGIN, TOLD), (), heard)[0]
    assert [(way.key, way.asked > 30, way.after) for way in one.ways] == [(SERVICE, True, -1)]
    made = make(About("m", "s", "x", 0.1), (one,), {}, ())
    row = next(line for line in text(made, colour=False).splitlines() if line[:8] == "Service ")
    assert row.split()[3] == "-"


def test_a_failure_on_a_way_that_worked_is_an_event_with_its_place() -> None:
    heard = sights.heard(BEGIN, TOLD)
    heard.append(Heard("node-2", Sample(SERVICE, TOLD + 0.2, 0.001, "refused")))
    found = lives(sights.pods(BEGIN, TOLD), sights.slices(BEGIN, TOLD), heard)[0]
    failures = [(e.place, e.what) for e in found.going if e.what.startswith("a new client")]
    assert failures == [("node-2", "a new client gets: refused")]
    ways = {(way.key, way.place): way.failed for way in found.ways}
    assert ways[SERVICE, "node-2"] == {"refused": 1}
    assert ways[SERVICE, "node-1"] == {}


def test_a_way_that_still_leads_to_a_pod_has_not_left_it() -> None:
    """The last answers of a run may all be its own: nothing says that it was the last one."""
    heard = [it for it in sights.heard(BEGIN, TOLD, late=30) if it.sample.at < TOLD + 4]
    found = lives(sights.pods(BEGIN, TOLD), sights.slices(BEGIN, TOLD), heard)[0]
    assert moment(found.going, "left", "Service") is None


def test_a_pod_that_was_there_before_only_goes() -> None:
    stages = [state._replace(at=max(state.at - 15, 0.0)) for state in sights.pods(BEGIN, TOLD)]
    found = [it for it in lives(stages, (), ()) if it.name == "comes"]
    assert found[0].began is None
    assert found[0].coming == ()
    assert moment(found[0].going, "gone") == pytest.approx(3.9)


def test_deleted_without_grace_it_is_told_and_gone_at_once() -> None:
    gone = sights.pod(TOLD, "comes", *sights.ALL, state="running", gone=True)
    found = lives([*sights.pods(BEGIN, TOLD)[:6], gone], (), ())[0]
    assert found.told == TOLD
    assert moment(found.going, "gone") == 0


def test_several_lives_are_summed_up_by_moment_and_place() -> None:
    several = [seen(late=late) for late in (0.2, 0.5, 1.4)]
    rows = {(r.moment, r.source, r.place): r for r in spread.coming(several)}
    row = rows["reached", "Service", "node-1"]
    assert row.seconds.least == pytest.approx(2.35, abs=0.06)
    assert row.seconds.median == pytest.approx(2.65, abs=0.06)
    assert row.seconds.most == pytest.approx(3.55, abs=0.06)
    assert row.seconds.count == 3
    assert row.after_ready
    assert row.after_ready.most == pytest.approx(1.55, abs=0.06)
    medians = [r.seconds.median for r in spread.going(several)]
    assert medians == sorted(medians)


@pytest.mark.parametrize(
    ("late", "low", "high", "ready"),
    [(0.2, MIN, MAX, 2), (5.0, 7, MAX, 7), (20.0, 22, 24, 22)],
)
def test_the_suggestion_follows_the_slowest_way(
    late: float, low: int, high: int, ready: int
) -> None:
    one = lives(
        sights.pods(BEGIN, BEGIN + 40, 40),
        sights.slices(BEGIN, BEGIN + 40, 40),
        sights.heard(BEGIN, BEGIN + 40, 40, late=late, ttl=30),
    )[0]
    advice = suggestion(spread.coming([one]), spread.going([one]), [one])
    found = {it.setting: it.value for it in advice}
    assert found["podgrace.io/delay-min"] == str(low)
    assert found["podgrace.io/delay-max"] == str(high)
    assert found["minReadySeconds"] == str(ready)
    cached = next(it for it in advice if "headless" in it.setting)
    assert int(cached.value) == pytest.approx(late + 0.1 + 30 + 1, abs=1)
    assert "30 s" in cached.because


def test_a_services_only_pod_needs_another_one_and_not_a_longer_delay() -> None:
    """kube-proxy sends to it until it stops: waiting would only move the end."""
    heard = [
        Heard(
            "node-1", Sample(SERVICE, n / 20, 0.01, *(("200", ("comes",)) if on else ("refused",)))
        )
        for n in range(600)
        if (on := 12.5 < n / 20 < 23.3) or n / 20 > 23.3
    ]
    direct = [it for it in sights.heard(BEGIN, TOLD) if it.sample.key == f"{DIRECT}/comes"]
    one = lives(sights.pods(BEGIN, TOLD), sights.slices(BEGIN, TOLD), heard + direct)[0]
    advice = suggestion(spread.coming([one]), spread.going([one]), [one])
    assert [it.setting for it in advice] == ["replicas", "minReadySeconds"]
    assert "until the server stopped, 3.2 s after the Pod was told" in advice[0].because


def test_what_happens_before_the_watch_has_told_of_the_order_belongs_to_the_going() -> None:
    """The server felt SIGTERM, and a client failed, before the API's watch had told us."""
    stages = [s._replace(at=s.at + 1.0) if s.told else s for s in sights.pods(BEGIN, TOLD)]
    heard = sights.heard(BEGIN, TOLD)
    heard.append(Heard("node-2", Sample(SERVICE, TOLD + 0.5, 0.001, "reset")))
    one = next(it for it in lives(stages, (), heard) if it.name == "comes")
    assert moment(one.going, "told") == 0
    assert (moment(one.going, "signalled") or 0) < -0.5
    assert "a new client gets: reset" in [event.what for event in one.going]
    assert {(way.key, way.place): way.failed for way in one.ways}[SERVICE, "node-2"] == {"reset": 1}


def test_nothing_is_suggested_where_nothing_was_measured() -> None:
    one = lives(sights.pods(BEGIN, TOLD), (), ())[0]
    assert suggestion(spread.coming([one]), spread.going([one]), [one]) == []


def test_an_ingress_counts_as_a_way() -> None:
    heard = [
        Heard("here", Sample(INGRESS, at / 10, 0.01, "200", ("comes" if 130 < at < 290 else "x",)))
        for at in range(400)
    ]
    one = lives(sights.pods(BEGIN, TOLD), sights.slices(BEGIN, TOLD), heard)[0]
    advice = suggestion(spread.coming([one]), spread.going([one]), [one])
    assert advice[0].value == "10"
    assert "Ingress, asked from here" in advice[0].because


def test_the_report_holds_all_of_it_in_text_and_json(life: Life) -> None:
    about = About("mine", "scratch", "2026-11-26T12:00:00+00:00", 0.05)
    made = make(about, (life, life), {"node-1": 0.0, "node-2": 0.004}, ("no Ingress",))
    told = text(made, colour=False)
    lines = told.splitlines()
    assert lines[0] == (
        "comes (node-1) comes: seconds since its creation, and since the line before"
    )
    assert re.search(r"^  2\.000   \+0\.000  container server +- +ready$", told, re.MULTILINE)
    assert "Coming, 2 Pods: seconds" in lines
    assert "not seen: no Ingress" in lines
    assert "other machines' clocks are known to 4 ms" in told
    assert f"* podgrace.io/delay-min: {MIN}: " in told
    assert '"afterReady"' in write(made)
    alone = text(make(about, (life,), {}, ()), colour=False)
    assert "Coming, " not in alone  # a table over one Pod would only repeat the list
