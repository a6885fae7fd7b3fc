"""docs/annotations.md says what policy.py accepts: every key, its values, bounds and default."""

import re

import msgspec

from tests.core.docs import DOCS, rows
from tests.core.passes import once
from webhook.config import parse
from webhook.core.pod import Pod
from webhook.core.settings import Settings
from webhook.policy import KEYS, POD_KEYS, resolve

CONFIG = parse("")


def settings_of(annotations: dict[str, str]) -> tuple[Settings, tuple[tuple[str, str, str], ...]]:
    pod = msgspec.convert(
        {"metadata": {"annotations": annotations}, "spec": {"containers": [{"name": "web"}]}}, Pod
    )
    found = resolve(pod, CONFIG)
    return found.default, found.notes


def test_every_key_is_there_and_no_other() -> None:
    assert [row[0] for row in rows("annotations.md", "keys")] == [f"`{key}`" for key in KEYS]
    assert [row[0] for row in rows("annotations.md", "pod keys")] == [
        f"`{key}`" for key in POD_KEYS
    ]


def test_words_that_are_said_to_be_accepted_are() -> None:
    tried = 0
    for row in (*rows("annotations.md", "keys"), *rows("annotations.md", "pod keys")):
        key = row[0].strip("`")
        for word in re.findall(r"`([a-z]+)`(?= `|$)", row[1]):
            tried += 1
            assert settings_of({f"podgrace.io/{key}": word})[1] == (), (key, word)
    assert tried > 15


def test_bounds_are_those_of_the_configuration() -> None:
    for row in rows("annotations.md", "keys"):
        found = re.fullmatch(r"(\d+) to `bounds\.(\w+)`", row[1])
        if found is None:
            continue
        key, low = row[0].strip("`"), int(found[1])
        high = {
            "delayMax": CONFIG.file.bounds.delay_max,
            "drainTimeout": CONFIG.file.bounds.drain_timeout,
        }[found[2]]
        assert settings_of({f"podgrace.io/{key}": str(low)})[1] == ()
        assert settings_of({f"podgrace.io/{key}": str(high)})[1] == ()
        if low:
            assert (
                settings_of({f"podgrace.io/{key}": str(low - 1)})[1][0][0] == "annotation-invalid"
            )
        assert settings_of({f"podgrace.io/{key}": str(high + 1)})[1][0][0] == "annotation-bounded"


def test_defaults_are_the_real_ones() -> None:
    defaults = CONFIG.defaults
    for row in rows("annotations.md", "keys"):
        key, default = row[0].strip("`"), row[2].strip("`")
        if default.isdigit():
            field = {"drain-timeout": "default_drain"}.get(key, KEYS[key][0])
            assert getattr(defaults, field) == int(default), key
        elif default in ("auto", "/"):
            assert getattr(defaults, KEYS[key][0]) == default


def test_the_example_of_the_budget() -> None:
    pod = {
        "metadata": {},
        "spec": {"containers": [{"name": "web", "image": "x", "ports": [{"containerPort": 80}]}]},
    }
    assert once(pod, CONFIG)[0]["spec"]["terminationGracePeriodSeconds"] == 80
    assert "15 + 30 + 30 + 5 = 80 s" in (DOCS / "annotations.md").read_text(encoding="utf-8")
