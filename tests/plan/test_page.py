"""The report in a real browser: its contents, the filter, and that it fits the screen."""

import json
from pathlib import Path

import pytest

from tests.cli.command import podgrace
from tests.plan.clusters import as_list, budget, container, large, service, workload
from tests.prove import browser

HOSTILE = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    mean = container(
        "bad", HOSTILE, lifecycle={"preStop": {"exec": {"command": [HOSTILE, "stop"]}}}
    )
    items = [
        *large(24),
        workload("Deployment", "shop", mean),
        service("shop"),
        budget("shop", app="shop", maxUnavailable=0),
    ]
    ran = podgrace("plan", "-f", "-", "-o", "html", stdin=json.dumps(as_list(items)))
    assert ran.code == 0
    path = tmp_path_factory.mktemp("page") / "plan.html"
    path.write_text(ran.out, encoding="utf-8")
    return path


def test_a_browser_shows_all_of_it_without_a_complaint(page: Path) -> None:
    script = """
        const all = (query) => [...document.querySelectorAll(query)];
        return {
          title: document.querySelector("h1").textContent,
          rows: all("#rows tr").length, outside: all("[src],link,image").length,
          unnamed: all("input,select,button").filter(
            (e) => !e.labels?.length && !e.textContent).length,
          headed: all("table").every(
            (e) => e.querySelector("th[scope=col]") && e.querySelector("th[scope=row]")),
          dead: all("a[href^='#']").filter(
            (e) => !document.querySelector(e.getAttribute("href"))).length,
          mean: document.body.textContent.includes("<img src=x onerror"),
        };"""
    found, console = browser.look(page, script)
    assert console == []
    assert found["title"].startswith("8 of 25 workloads would lose requests in a rollout, ")
    assert found["rows"] == 25
    assert found["headed"]
    assert found["mean"]
    assert found["outside"] == found["unnamed"] == found["dead"] == 0


def test_the_filter_works_by_keyboard_and_says_what_it_did(page: Path) -> None:
    script = """
        const form = document.getElementById("filter"), said = [];
        const rows = () => [...document.querySelectorAll("#rows tr")].filter(
          (row) => row.getClientRects().length);
        const note = () => said.push([rows().length, document.getElementById("shown").textContent]);
        const code = document.getElementById("code"), words = document.getElementById("words");
        const box = form.querySelector("[name=verdict][value=loses]");
        box.focus();
        const focus = document.activeElement === box;
        box.click(); note();
        code.value = "all-unavailable";
        code.dispatchEvent(new Event("change", {bubbles: true})); note();
        words.value = "nowhere"; form.requestSubmit(); note();
        const none = !document.getElementById("none").hidden;
        box.checked = false; code.value = "";
        words.value = "TEAM-0 gunicorn"; form.requestSubmit(); note();
        const right = rows().every((row) => row.textContent.includes("gunicorn"));
        return {said, focus, none, right};"""
    for width in (1280, 500):
        found, console = browser.look(page, script, width=width)
        assert console == []
        numbers = [number for number, _ in found["said"]]
        assert [said for _, said in found["said"]] == [f"{n} of 25 workloads" for n in numbers]
        assert 25 > numbers[0] > numbers[1] > numbers[2] == 0 < numbers[3] < 25
        assert found["focus"] and found["none"] and found["right"]


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_screen_in_light_and_dark(page: Path, width: int, scheme: str) -> None:
    browser.fits(page, width, scheme)
