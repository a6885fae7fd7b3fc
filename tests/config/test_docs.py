"""docs/configuration.md and the file that is read: the same keys, the same defaults."""

import json
from collections.abc import Iterator
from typing import Any, get_args

import msgspec
from ruamel.yaml import YAML

from tests.core.docs import rows
from webhook import __version__
from webhook.config.file import File


def keys(kind: type, at: str = "") -> Iterator[tuple[str, Any]]:
    """Walk the structs of the file: path and default."""
    for field in msgspec.structs.fields(kind):
        place, args = at + field.encode_name, get_args(field.type)
        inner = args[-1] if args else field.type
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            yield from keys(inner, place + (".NAME." if len(args) == 2 else "[]." if args else "."))
        elif field.required:
            yield place, None
        else:
            yield (
                place,
                field.default
                if field.default is not msgspec.NODEFAULT
                else field.default_factory(),
            )


def test_every_key_with_its_default() -> None:
    shown = {row[0].strip("`"): row[1] for row in rows("configuration.md", "keys")}
    real = dict(keys(File))
    assert list(shown) == list(real)
    for key, text in shown.items():
        if real[key] is None:
            assert text == "(required)"
        else:
            told = YAML(typ="safe").load(text.strip("`").replace("VERSION", __version__))
            assert json.dumps(told) == json.dumps(real[key]), key
