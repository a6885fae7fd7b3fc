"""The built helper accepts every command line that the webhook writes, and reads it as meant.

The helper's `--dry-run` prints what it understood, and does nothing.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests import needs
from tests.core.passes import once
from tests.core.pods import pods
from tests.core.test_golden import FILES, configured, load
from webhook.config import parse
from webhook.core.names import HELPER, IMAGE_HELPER

BINARY = Path(__file__).parent.parent.parent / "entrypoint" / "build" / "podgrace-helper"


@pytest.fixture(autouse=True)
def built() -> None:
    if not BINARY.exists():
        needs.absent("needs the helper: make helper")


def command_lines(patched: dict[str, Any]) -> Iterator[list[str]]:
    """Find ours in a Pod, including the user's words."""
    for part in ("containers", "initContainers"):
        for container in patched["spec"].get(part) or ():
            hooks = [
                (handler.get("exec") or {}).get("command")
                for handler in (container.get("lifecycle") or {}).values()
                if isinstance(handler, dict)
            ]
            for words in (container.get("command"), *hooks):
                if words and words[0] in (HELPER, IMAGE_HELPER) and words[1] != "install":
                    yield words


def understood(words: list[str]) -> dict[str, list[str]]:
    ran = subprocess.run(
        [str(BINARY), words[1], "--dry-run", *words[2:]],
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert ran.returncode == 0, (words, ran.stderr)
    found: dict[str, list[str]] = {}
    for line in ran.stdout.decode(errors="replace").splitlines():
        key, _, value = line.partition(" ")
        found.setdefault(key, []).append(value)
    return found


def agrees(words: list[str]) -> None:
    seen = understood(words)
    for word in words[2:]:
        if word == "--":
            break
        name, _, value = word.removeprefix("--").partition("=")
        if name in (
            "delay-min",
            "quiet",
            "delay-max",
            "drain-timeout",
            "patience",
            "probe-period",
            "hook-sleep",
            "hook-timeout",
        ):
            assert seen[f"{name}-ms"] == [str(int(value) * 1000)]
        elif name == "ports":
            assert seen["port"] == sorted(value.split(","), key=int)
        elif name == "answer":
            assert value in seen["answer"]
        elif name in ("container", "target", "match", "hook", "hook-url"):
            assert seen[name] == [value]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    case = load(path)
    patched = once(case["pod"], configured(case), case.get("namespace", "shop"))[0]
    for words in command_lines(patched):
        if words not in list(command_lines(case["pod"])):
            agrees(words)


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(pod=pods())
def test_any_pod(pod: dict[str, Any]) -> None:
    for words in command_lines(once(pod, parse(""))[0]):
        agrees(words)
