"""The built-in tables, read once from the files beside this one.

In: profiles.toml, launchers.toml, balancers.toml, presets.toml. Out: `BUILT_IN`, `LAUNCHERS`,
`BALANCERS`, `PRESETS`, all valid. What the first three mean, and how one is chosen, belongs to
`webhook.core`; a preset is part of a class in `webhook.config`.
"""

import tomllib
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, Final, TypeVar

import msgspec

from webhook.core.balancer import Balancer
from webhook.core.launchers import Launcher, Launchers
from webhook.core.profile import Profile

T = TypeVar("T")


class Preset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a class of namespaces may start from. The head of presets.toml explains each field."""

    name: str
    source: str
    defaults: dict[str, int] = {}
    bounds: dict[str, int] = {}


def _tables(file: str, kind: type[T]) -> Iterator[tuple[str, T]]:
    """Read a file of tables. Raises a `ValueError` that names the file and the table."""
    text = files("webhook").joinpath(file).read_text(encoding="utf-8")
    tables: dict[str, dict[str, Any]] = tomllib.loads(text)
    for name, fields in tables.items():
        named = fields if kind is Launcher else {"name": name, **fields}
        try:
            yield name, msgspec.convert(named, kind)
        except msgspec.ValidationError as error:
            raise ValueError(f"{file}: [{name}]: {error}") from error


BUILT_IN: Final[dict[str, Profile]] = dict(_tables("profiles.toml", Profile))
"""By name, in the order in which they are tried."""

LAUNCHERS: Final = Launchers(dict(_tables("launchers.toml", Launcher)))

BALANCERS: Final[dict[str, Balancer]] = dict(_tables("balancers.toml", Balancer))

PRESETS: Final[dict[str, Preset]] = dict(_tables("presets.toml", Preset))
