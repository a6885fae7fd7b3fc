"""The built-in profiles, read once from profiles.toml beside this file.

In: nothing. Out: `BUILT_IN`. What a profile is and how one is found belongs to `webhook.core.profile`.
"""

import tomllib
from importlib.resources import files
from typing import Final

import msgspec

from webhook.core.profile import Profile


def _read() -> dict[str, Profile]:
    table = tomllib.loads(files("webhook").joinpath("profiles.toml").read_text(encoding="utf-8"))
    return {
        name: msgspec.convert({"name": name, **fields}, Profile) for name, fields in table.items()
    }


BUILT_IN: Final[dict[str, Profile]] = _read()
