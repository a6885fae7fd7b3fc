"""The documents show what the command really prints and knows: `make docs` writes it."""

import re
from pathlib import Path

import pytest

from tests.cli.readme import CONFIGURATION, README, WORKLOADS, between, kinds, printed

NAMES = sorted(path.stem for path in WORKLOADS.glob("*.yaml"))


def test_five_workloads() -> None:
    assert len(NAMES) >= 5


@pytest.mark.parametrize("name", NAMES)
def test_readme_shows_the_real_output(name: str) -> None:
    assert between(README.read_text(encoding="utf-8"), name) == printed(name)


def test_the_kinds_of_workload_are_listed() -> None:
    assert f"<!-- kinds -->\n{kinds()}<!-- /kinds -->" in CONFIGURATION.read_text(encoding="utf-8")


def test_no_other_markers() -> None:
    assert (
        sorted(re.findall(r"<!-- explain:([a-z-]+) -->", README.read_text(encoding="utf-8")))
        == NAMES
    )


def test_readme_is_the_projects() -> None:
    assert Path(README).name == "README.md"
