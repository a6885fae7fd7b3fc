"""The documents show what the command really prints and knows: `make docs` writes it."""

from pathlib import Path

import pytest

from tests.cli.readme import (
    CONFIGURATION,
    README,
    ROOT,
    WORKLOADS,
    documents,
    kinds,
    printed,
    shown,
)

NAMES = sorted(path.stem for path in WORKLOADS.glob("*.yaml"))


def texts() -> dict[str, str]:
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in documents()}


@pytest.mark.parametrize("name", NAMES)
def test_a_document_shows_the_real_output(name: str) -> None:
    real = printed(name)
    found = [
        (at, output) for at, text in texts().items() for it, output in shown(text) if it == name
    ]
    assert found, f"no document shows workloads/{name}.yaml"
    for at, output in found:
        assert output == real, f"{at}: explain:{name} is not what explain prints: run `make docs`"


def test_every_marker_has_its_workload_and_its_end() -> None:
    for at, text in texts().items():
        names = [name for name, _ in shown(text)]
        assert set(names) <= set(NAMES), at
        assert text.count("<!-- explain:") == text.count("<!-- /explain -->") == len(names), at


def test_the_front_page_shows_one_workload() -> None:
    assert len(list(shown(README.read_text(encoding="utf-8")))) == 1


def test_the_kinds_of_workload_are_listed() -> None:
    assert f"<!-- kinds -->\n{kinds()}<!-- /kinds -->" in CONFIGURATION.read_text(encoding="utf-8")


def test_readme_is_the_projects() -> None:
    assert Path(README).name == "README.md"
