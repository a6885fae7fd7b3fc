"""`podgrace prove` for a moment, and its report, whose sums are checked in every run."""

import json
from typing import Any

import pytest

from webhook.cli import main

FIRST = 1
"""The request that `prove` sends before the load, as a look."""


def prove(
    url: str,
    *options: str,
    expected: int,
    capsys: pytest.CaptureFixture[str],
    rate: int = 20,
    seconds: int = 2,
) -> dict[str, Any]:
    """Load at this rate. `expected`: the exit code."""
    load = ("--rate", str(rate), "--duration", str(seconds), "-o", "json")
    code = main(["prove", url, *load, *options])
    out = capsys.readouterr()
    assert code == expected, out
    report: dict[str, Any] = json.loads(out.out)
    for client in report["clients"].values():
        assert client["sent"] == client["ok"] + client["lost"]
        assert client["lost"] == sum(client["outcomes"].values())
    return report
