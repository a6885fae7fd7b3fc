"""YAML's words and values: what a scalar stands for, and how a value is spelled.

In: the text of a scalar, or a plain value (JSON's types). Out: the other of the two. Reading
follows kubectl (go-yaml v2, which is YAML 1.1): a manifest means here what it means there. Writing
is stricter: a word is left bare only where YAML 1.1 and 1.2 read the same text. Where a scalar is
in a file belongs in `documents`, where a value goes in `edits`.
"""

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final, NamedTuple

_WORDS: Final[dict[str, Any]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(
        ("true", "True", "TRUE", "y", "Y", "yes", "Yes", "YES", "on", "On", "ON"), True
    ),
    **dict.fromkeys(
        ("false", "False", "FALSE", "n", "N", "no", "No", "NO", "off", "Off", "OFF"), False
    ),
}
_NUMBER_START: Final = frozenset("+-.0123456789")
_INT: Final = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]*|[1-9][0-9]*)")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_TAG: Final = "tag:yaml.org,2002:"
_EXACT: Final = 10**21
"""From here on Go writes a float with an exponent, below it as a whole number where it is one."""

_BARE: Final = re.compile(
    r"(?:-{0,2}[A-Za-z_/]|[0-9]+(?:m|[KMG]i)\Z)"
    r"(?:[\w./@+=-]|:(?=[^\s,\[\]{}])|,(?=\S)| (?=[\w./@+=-]))*|--",
    re.ASCII,
)
_BARE_IN_FLOW: Final = re.compile(
    r"(?:-{0,2}[A-Za-z_/]|[0-9]+(?:m|[KMG]i)\Z)(?:[\w./@+=-]|:(?=[\w./]))*|--", re.ASCII
)
_LITERAL: Final = re.compile(
    r"[^\s\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]"
    r"[^\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]*\S\n?"
)


class ScalarError(ValueError):
    """A scalar that JSON has no value for; the message says which."""


class Layout(NamedTuple):
    """How a file is indented, in columns.

    `step`: a map below its key. `offset`: a dash below its key. `dash`: content after a dash.
    """

    step: int = 2
    offset: int = 0
    dash: int = 2


@lru_cache(4096)
def value(text: str, tag: str | None = None, plain: bool = True) -> Any:
    """Give the value of a scalar as kubectl reads it. Raises `ScalarError` for .inf and .nan."""
    if tag is not None and tag != "!":
        if tag not in (_TAG + "int", _TAG + "float", _TAG + "bool", _TAG + "null"):
            return text
    elif not plain:
        return text
    if text in _WORDS:
        return _WORDS[text]
    return _number(text) if text[0] in _NUMBER_START else text


def _number(text: str) -> Any:
    digits = text.replace("_", "")
    if _INT.fullmatch(digits):
        sign, bare = (-1 if digits[0] == "-" else 1), digits.lstrip("+-").lower()
        base = 0 if bare[:2] in ("0x", "0b", "0o") else 8 if bare[0] == "0" else 10
        whole = int(bare, base)
        if -(2**63) <= sign * whole < 2**64:
            return sign * whole
    if _FLOAT.fullmatch(digits):
        number = float(digits)
        if number in (float("inf"), float("-inf")):
            raise ScalarError(f"{text[:40]}: a number that is too large")
        return int(number) if number.is_integer() and abs(number) < _EXACT else number
    if _SPECIAL.fullmatch(text):
        raise ScalarError(f"{text}: JSON, and so Kubernetes, has no such number")
    return text


@lru_cache(4096)
def key(text: str, tag: str | None = None, plain: bool = True) -> str:
    """Give the key that a scalar stands for: always text, as in JSON."""
    found = value(text, tag, plain)
    return found if isinstance(found, str) else json.dumps(found)


def spelled(item: Any, *, flow: bool = False) -> str:
    """Spell a value in one line: scalars bare where that is safe, maps and lists in flow style."""
    if isinstance(item, dict):
        inner = ", ".join(
            f"{spelled(k, flow=True)}: {spelled(v, flow=True)}" for k, v in item.items()
        )
        return "{" + inner + "}"
    if isinstance(item, list):
        return "[" + ", ".join(spelled(v, flow=True) for v in item) + "]"
    return _word(item, flow) if isinstance(item, str) else json.dumps(item)


@lru_cache(4096)
def _word(item: str, flow: bool) -> str:
    if (_BARE_IN_FLOW if flow else _BARE).fullmatch(item) and item.lower() not in _LOWER:
        return item
    if item.isprintable():
        return "'" + item.replace("'", "''") + "'"
    # YAML knows all of JSON's escapes, but no pairs of surrogates.
    made = json.dumps(item, ensure_ascii=False)
    return "".join([c if c.isprintable() else f"\\U{ord(c):08x}" for c in made])


_LOWER: Final = frozenset(word.lower() for word in _WORDS)


def block(item: Any, column: int, layout: Layout) -> Iterator[str]:
    """Write a map's entries or a list's items as lines without their ends, each at `column`."""
    if isinstance(item, dict):
        for name, member in item.items():
            yield from entry(name, member, column, layout)
    else:
        for member in item:
            yield from listed(member, column, layout)


def entry(name: str, member: Any, column: int, layout: Layout) -> Iterator[str]:
    """Write one entry of a map."""
    rest = list(after_colon(member, column, layout))
    yield f"{' ' * column}{spelled(name)}:{rest[0]}"
    yield from rest[1:]


def after_colon(member: Any, column: int, layout: Layout) -> Iterator[str]:
    """Write what follows the colon of a key at `column`: the rest of its line and those below."""
    if isinstance(member, dict) and member:
        yield ""
        yield from block(member, column + layout.step, layout)
    elif isinstance(member, list) and member:
        yield ""
        yield from block(member, column + layout.offset, layout)
    else:
        yield from (
            " " + line if n == 0 else line
            for n, line in enumerate(_scalar(member, column + layout.step))
        )


def listed(member: Any, column: int, layout: Layout) -> Iterator[str]:
    """Write one item of a list, whose dash stands at `column`."""
    dash = " " * column + "-" + " " * (layout.dash - 1)
    if isinstance(member, dict | list) and member:
        lines = block(member, column + layout.dash, layout)
        yield dash + next(lines)[column + layout.dash :]
        yield from lines
    else:
        first, *rest = _scalar(member, column + layout.dash)
        yield dash + first
        yield from rest


def _scalar(item: Any, column: int) -> Iterator[str]:
    """Write a scalar: several lines as a literal block at `column`, where that is possible."""
    if not (isinstance(item, str) and "\n" in item.rstrip("\n") and _LITERAL.fullmatch(item)):
        yield spelled(item)
        return
    yield "|" if item.endswith("\n") else "|-"
    for line in item.removesuffix("\n").split("\n"):
        yield " " * column + line if line else ""
