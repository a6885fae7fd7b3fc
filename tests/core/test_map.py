"""The map at the head of `webhook.core` is the contract that import-linter checks."""

import re
import tomllib
from pathlib import Path

import webhook.core

ROOT = Path(__file__).parent.parent.parent


def test_the_map_is_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = next(
        contract["layers"]
        for contract in contracts["tool"]["importlinter"]["contracts"]
        if contract.get("containers") == ["webhook.core"]
    )
    rows = re.findall(r"^ {4}([a-z][a-z, ]*?) {2,}\S", webhook.core.__doc__ or "", re.MULTILINE)
    assert [row.split(", ") for row in rows] == [layer.split(" | ") for layer in reversed(layers)]


def test_the_map_names_every_module() -> None:
    modules = {path.stem for path in (ROOT / "webhook" / "core").glob("*.py")} - {"__init__"}
    said = set(re.findall(r"[a-z]+", re.sub(r" {2,}\S.*", "", _map())))
    assert said == modules


def _map() -> str:
    text = webhook.core.__doc__ or ""
    return "\n".join(line[4:] for line in text.splitlines() if line.startswith("    "))
