"""What every command prints with: tables, emphasis, and the forms that machines read.

In: values and rows. Out: text. It imports nothing from the webhook, so that a command that decides
nothing starts at once.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

_BOLD: Final = "\033[1m"
_DIM: Final = "\033[2m"
_RED: Final = "\033[31m"
_GREEN: Final = "\033[32m"
_YELLOW: Final = "\033[33m"
_END: Final = "\033[0m"
_LEVELS: Final = {"ok": _GREEN, "warn": _YELLOW, "fail": _RED}
_FORMER: Final = {"text": "table"}
"""Words of older versions, and what they are called now."""


def coloured() -> bool:
    """Whether standard output is a person's terminal (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def bold(text: str, *, colour: bool) -> str:
    """Mark a heading."""
    return f"{_BOLD}{text}{_END}" if colour else text


def dim(text: str, *, colour: bool) -> str:
    """Mark an aside."""
    return f"{_DIM}{text}{_END}" if colour else text


def level(word: str, *, colour: bool) -> str:
    """Write ok, warn or fail in four columns."""
    return f"{_LEVELS[word]}{word:4}{_END}" if colour else f"{word:4}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Set columns in line; the last one runs on."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    )


def add_output(made: argparse._ActionsContainer, *words: str) -> None:
    """Add -o; the first of the words is the default."""

    def parse(text: str) -> str:
        if (word := _FORMER.get(text, text)) in words:
            return word
        raise argparse.ArgumentTypeError(f"{text!r}: accepted: {', '.join(words)}")

    made.add_argument(
        "-o",
        "--output",
        type=parse,
        default=words[0],
        metavar=f"{{{','.join(words)}}}",
        help=f"what to print (default: {words[0]})",
    )


def structured(value: Any, output: str) -> str:
    """Write a value as `json` or `yaml`."""
    import msgspec  # noqa: PLC0415 - not for help

    if output == "json":
        return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    from webhook.cli import scalars  # noqa: PLC0415

    tree = msgspec.to_builtins(value)
    if not isinstance(tree, dict | list) or not tree:
        return scalars.spelled(tree)
    return "\n".join(scalars.block(tree, 0, scalars.Layout()))
