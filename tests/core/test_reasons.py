"""Reason codes: each is used, each that is used exists, and the manual lists them all."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import webhook
from tests.core.docs import DOCS, TABLES, filled
from webhook.core.reasons import REASONS

SOURCES = [
    path for path in Path(webhook.__file__).parent.rglob("*.py") if path.name != "reasons.py"
]
TEXT = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)

FAMILIES = {f"readiness-{kind}" for kind in ("liveness", "startup")}
"""Codes that are built from a word."""


@pytest.mark.parametrize("code", REASONS)
def test_each_code_is_said_somewhere(code: str) -> None:
    assert code in FAMILIES or f'"{code}"' in TEXT


@pytest.mark.parametrize("code", REASONS)
def test_each_is_a_sentence_that_fits_a_warning(code: str) -> None:
    reason = REASONS[code]
    assert re.fullmatch("[a-z0-9-]{3,30}", code)
    assert len(reason.sentence) <= 110
    assert not reason.sentence.endswith(".")


@pytest.mark.parametrize(("name", "marker", "table"), TABLES)
def test_the_manual_is_up_to_date(name: str, marker: str, table: Callable[[], str]) -> None:
    """`python -m tests.core.docs` rewrites it."""
    text = (DOCS / name).read_text(encoding="utf-8")
    assert f"<!-- {marker} -->" in text
    assert filled(text, marker, table()) == text
