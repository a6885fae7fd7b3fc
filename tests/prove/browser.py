"""A real browser, without a window: Debian's Chromium.

`look` opens a page, does what a script says, and gives what the script found, with every message of
the console. The script is added to a copy of the page; the page under test has none of it.
"""

import json
import re
import shutil
import subprocess
from html import escape as quote
from pathlib import Path
from typing import Any

from tests import needs

PROGRAM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run")


def chromium(profile: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [PROGRAM or needs.program("chromium"), *OPTIONS, f"--user-data-dir={profile}", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def look(page: Path, script: str, *words: str, width: int = 1280) -> tuple[Any, list[str]]:
    """Run a script in a page; returns the value of its last expression, and the console's lines."""
    found = page.with_name("looked.html")
    probe = (
        "<pre id=found></pre><script>addEventListener('load', () => {"
        "document.getElementById('found').textContent = JSON.stringify((() => {%s})());});</script>"
    )
    html = page.read_text(encoding="utf-8")
    found.write_text(html.replace("</body>", probe % script + "</body>"), encoding="utf-8")
    log = ("--enable-logging=stderr", f"--window-size={width},1200", "--dump-dom")
    done = chromium(page.parent / "profile", *log, *words, found.as_uri())
    match = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert match, done.stderr
    text = match[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return json.loads(text), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def fits(page: Path, width: int, scheme: str) -> None:
    """Assert that a page fits a screen in light or dark.

    A window has 500 px at least: a frame stands for the smaller screen.
    """
    inside = quote(page.read_text(encoding="utf-8"))
    frame = page.with_name("frame.html")
    style = f"width:{width}px;height:900px;border:0"
    frame.write_text(f'<body><iframe srcdoc="{inside}" style="{style}"></iframe></body>')
    script = """
        const inner = document.querySelector("iframe").contentWindow;
        const root = inner.document.documentElement;
        return {width: inner.innerWidth, over: root.scrollWidth - inner.innerWidth,
                paper: inner.getComputedStyle(inner.document.body).backgroundColor};"""
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    found, console = look(frame, script, *dark)
    assert console == []
    assert found["width"] == width
    assert found["over"] <= 0
    assert found["paper"] == ("rgb(20, 23, 27)" if scheme == "dark" else "rgb(255, 255, 255)")
