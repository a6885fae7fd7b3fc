"""The timeline in a real browser: every lane drawn and told, on any screen, in one file."""

from pathlib import Path

import pytest

from tests.prove import browser
from tests.timeline import sights
from webhook.cli.timeline.html import html
from webhook.cli.timeline.lives import lives
from webhook.cli.timeline.picture import figures
from webhook.cli.timeline.report import About, Report, make


@pytest.fixture(scope="module")
def report() -> Report:
    seen = lives(sights.pods(10, 20), sights.slices(10, 20), sights.heard(10, 20))
    return make(About("mine", "scratch", "2026-11-26T12:00:00+00:00", 0.05), seen, {}, ())


def test_a_browser_shows_every_lane_and_tells_it_by_keyboard(
    report: Report, tmp_path: Path
) -> None:
    page = tmp_path / "timeline.html"
    page.write_text(html(report), encoding="utf-8")
    script = """
        const all = (query) => [...document.querySelectorAll(query)];
        const count = (query) => all(query).length;
        const tip = document.getElementById("tip"), items = all(".plot .tip");
        items[0].focus();
        document.activeElement.dispatchEvent(
          new KeyboardEvent("keydown", {key: "ArrowDown", bubbles: true}));
        return {
          lanes: count(".lane"), figures: count("figure"), tables: count("table"),
          drawn: all(".lane rect").every((e) => e.getBoundingClientRect().width > 0),
          unnamed: all("[role=img]").filter((e) => !e.getAttribute("aria-label")).length,
          told: [tip.hidden, tip.textContent], label: items[1].getAttribute("aria-label"),
          outside: count("[src],link,image"),
          over: document.documentElement.scrollWidth - innerWidth,
        };"""
    drawn = figures(report)
    for width in (1280, 500):
        found, console = browser.look(page, script, width=width)
        assert console == []
        assert found["figures"] == 2
        assert found["lanes"] == sum(len(figure.lanes) for figure in drawn) >= 14
        assert found["tables"] == 5
        assert found["drawn"]
        assert found["unnamed"] == found["outside"] == 0
        assert found["told"] == [False, found["label"].replace("; ", "")]
        assert found["over"] <= 0


def test_a_lane_changes_its_colour_at_the_moments_of_its_own(report: Report) -> None:
    going = figures(report)[1]
    lanes = {lane.name: lane for lane in going.lanes}
    assert [part.name for part in lanes["Service, from node-1"].phases] == ["leaving", "draining"]
    assert [part.name for part in lanes["Pod directly, from node-1"].phases][-1] == "stopping"
    assert sum(part.width for part in lanes["Pod"].phases) == pytest.approx(100, abs=0.1)
    assert "told to stop" in lanes["Pod"].text


def test_a_long_run_stays_one_small_file(report: Report) -> None:
    many = Report(
        **{name: getattr(report, name) for name in report.__struct_fields__}
        | {"pods": report.pods * 50}
    )
    assert len(figures(many)) == 6
    assert len(html(many).encode()) < 400_000
