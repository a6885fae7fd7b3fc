"""The picture in a real browser: drawn, told, reached by keyboard; and still one small file."""

import re
from pathlib import Path

import pytest

from tests.prove import browser
from tests.prove.runs import run
from tests.prove.servers import answer, serve
from webhook.cli import main
from webhook.cli.prove.html import html
from webhook.cli.prove.picture import picture
from webhook.cli.prove.report import Report, Told, read, write


@pytest.fixture(scope="module")
def report() -> Report:
    return run()


@pytest.fixture(scope="module")
def page(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "run.html"
    path.write_text(html([report]), encoding="utf-8")
    return path


def test_a_browser_shows_all_of_it_without_a_complaint(report: Report, page: Path) -> None:
    script = """
        const all = (query) => [...document.querySelectorAll(query)];
        const count = (query) => all(query).length;
        return {
          title: document.querySelector("h1").textContent,
          lanes: count(".lane"), marks: count(".marks .tip"), charts: count(".chart path"),
          unnamed: all("[role=img]").filter((e) => !e.getAttribute("aria-label")).length,
          classes: all(".classes th[scope=row]").map((e) => e.textContent),
          tables: count("details table"), todo: count(".todo li"),
          drawn: all(".marks use").every((e) => e.getBoundingClientRect().width > 5),
          outside: count("[src],link,image"),
        };"""
    found, console = browser.look(page, script)
    assert console == []
    assert found["title"] == f"✗ {report.lost} of {report.sent} requests lost"
    assert found["lanes"] == len(report.pods) == 6
    assert found["charts"] == 4
    assert found["tables"] == 4
    assert found["unnamed"] == found["outside"] == 0
    assert found["drawn"]
    assert len(found["classes"]) == found["todo"] == len(report.kinds) >= 4
    assert 10 < found["marks"] <= report.lost + report.retried


def test_mouse_and_keyboard_tell_what_a_mark_is(page: Path) -> None:
    script = """
        const tip = document.getElementById("tip");
        const items = [...document.querySelectorAll(".plot .tip")];
        const key = (name) => document.activeElement.dispatchEvent(
          new KeyboardEvent("keydown", {key: name, bubbles: true}));
        const said = [];
        items[2].dispatchEvent(new MouseEvent("mouseover", {bubbles: true}));
        said.push([tip.hidden, tip.textContent]);
        items[0].focus(); key("ArrowRight"); said.push([tip.hidden, tip.textContent]);
        key("End"); said.push([tip.hidden, tip.textContent]);
        const stops = items.filter((e) => e.getAttribute("tabindex") === "0").length;
        const box = tip.getBoundingClientRect();
        key("Escape"); said.push([tip.hidden, ""]);
        const labels = [items[2], items[1], items.at(-1)].map((e) => e.getAttribute("aria-label"));
        return {said, stops, labels,
                inside: box.left >= 0 && box.right <= innerWidth};"""
    for width in (1280, 390):
        found, console = browser.look(page, script, width=width)
        assert console == []
        labels = [label.replace("; ", "") for label in found["labels"]]
        assert found["said"] == [*([False, label] for label in labels), [True, ""]]
        assert "Pod shop-new-2" in labels[-1]
        assert found["stops"] == 1  # one stop of the Tab key; arrows do the rest
        assert found["inside"]


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_screen_in_light_and_dark(page: Path, width: int, scheme: str) -> None:
    browser.fits(page, width, scheme)


def test_it_prints_on_one_page(tmp_path: Path) -> None:
    for pods in (3, 40):
        page, pdf = tmp_path / "run.html", tmp_path / f"{pods}.pdf"
        page.write_text(html([run(pods=pods, seconds=100)]), encoding="utf-8")
        words = (f"--print-to-pdf={pdf}", "--no-pdf-header-footer", page.as_uri())
        browser.chromium(tmp_path / "profile", *words)
        assert len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes())) == 1


def test_it_stays_small_whatever_happened() -> None:
    many = run(requests=100_000, seconds=600, losses=5000, pods=80)
    made = html([many])
    assert many.sent == 100_000
    assert len(made.encode()) < 400_000
    assert picture(many, 600.0).hidden == 100


def test_a_lane_ends_with_its_own_run_and_a_timeout_stands_where_it_was_sent(
    report: Report,
) -> None:
    drawn = picture(report, 2 * report.seconds)
    assert max(part.x + part.width for lane in drawn.lanes for part in lane.phases) <= 50.01
    loss = report.losses[0]
    fields = {name: getattr(loss, name) for name in loss.__struct_fields__}
    late = type(loss)(**fields | {"at": 20.0, "took": 10.0, "outcome": "timeout"})
    whole = {name: getattr(report, name) for name in report.__struct_fields__}
    rows = picture(Report(**whole | {"losses": [late]}), 100.0).rows
    assert [mark.x for row in rows for mark in row.marks if row.kind == loss.kind] == [10.0]


def test_a_report_is_the_same_after_it_was_written(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(write(report), encoding="utf-8")
    assert html([read(str(path))]) == html([report])


def test_what_a_pod_says_is_text_in_the_picture(report: Report) -> None:
    """Its record is its author's: markup in it must not become markup of ours."""
    evil = "<script>alert(1)</script>"
    pod = report.pods[1]
    record = {"drain_end": evil, "stop": "x" * 5000}
    lane = type(pod)(pod.name, pod.address, pod.old, pod.readiness_probe, pod.moments, record)
    fields = {name: getattr(report, name) for name in report.__struct_fields__}
    made = html([Report(**fields | {"pods": [lane], "title": evil})])
    assert evil not in made
    assert "&lt;script&gt;alert(1)" in made
    assert len(made) < len(html([report])) + 5000


def test_the_command_draws_and_without_jinja_says_so_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ["--html", str(tmp_path / "a.html"), "--json", str(tmp_path / "a.json")]
    with serve(answer) as server:
        assert main(["prove", server.url, "--duration", "1", *files]) == 0
        assert "None of" in (tmp_path / "a.html").read_text(encoding="utf-8")
        assert read(files[3]).sent > 0
        count = server.count
        monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
        assert main(["prove", server.url, *files]) == 1
        assert "pip install 'podgrace[prove]'" in capsys.readouterr().err
        assert server.count == count


def test_what_servers_told_their_clients_is_a_row_of_its_own() -> None:
    told = Told(4.0, "keep-alive", "goaway", "GOAWAY (NO_ERROR): 2 streams go on, 0 refused")
    base = run()
    fields = {name: getattr(base, name) for name in base.__struct_fields__}
    drawn = html([Report(**fields | {"notices": [told]})])
    assert "Told by the server: 1" in drawn
    assert "4.00 s: keep-alive: GOAWAY (NO_ERROR): 2 streams go on, 0 refused" in drawn
    assert "Told by the server" not in html([base])
