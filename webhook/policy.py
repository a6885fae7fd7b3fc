"""What a Pod's author asked for, as far as the operator allows it.

In: the annotations `podgrace.io/<key>[.<container>]` and the operator's configuration. Out:
`PodSettings`, with a note for each annotation that could not be used as written. A bad annotation
never blocks a Pod: it gets the default and a warning. The grammar is closed: bounded whole seconds,
fixed words, ports, a path, and for `entrypoint` the argv of the author's own container. Nothing
here chooses an image or a privilege.

Precedence, highest first:

| source                              | example                               |
|-------------------------------------|---------------------------------------|
| annotation for the container        | podgrace.io/drain-timeout.web: "60"   |
| annotation for the Pod              | podgrace.io/drain-timeout: "45"       |
| the server's profile                | postgres: 60                          |
| the operator's default              | config defaults.drainTimeout: 30      |

The operator's `patches` and `bounds` stand above all of them.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, get_args

import msgspec

from webhook.config import Config
from webhook.core import names
from webhook.core.pod import EMPTY, Pod
from webhook.core.settings import Existing, Mode, PodSettings, Settings

_SECONDS = re.compile(r"([0-9]{1,6})(s|m|)")
_PATH = re.compile(r"/[!-~]{0,1023}")
_PORT_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?")
_SHOWN = 32

ENTRYPOINT_BYTES: Final = 4096
SHARED_BYTES: Final = 64 << 10
"""The most for a Pod-wide entrypoint, times the containers: it is read and written for each."""
_LONGEST: Final = 4096
"""Characters of any value: a longer one is not even parsed."""
_MOST_NOTES: Final = 32
"""Notes on annotations that could not be used as written; a Pod may hold thousands. The rest is
only counted."""
_MOST_HINTS: Final = 8
_LONGEST_KEY: Final = 63
"""Characters after the prefix, in a Pod that an API server accepts."""


class _Bad(ValueError):
    """A value that cannot be used; the message says what is accepted."""


class _Refused(ValueError):
    """A wish that the operator switched off."""


class _Over(Exception):
    """A value over the operator's bound."""

    def __init__(self, bound: int) -> None:
        self.bound = bound
        super().__init__(bound)


def _seconds(low: int, bound: Callable[[Config], int]) -> Callable[[str, Config], int]:
    def parse(text: str, config: Config) -> int:
        found = _SECONDS.fullmatch(text)
        highest = bound(config)
        if found is None:
            raise _Bad(f"accepted: whole seconds, {low} to {highest}")
        value = int(found[1]) * (60 if found[2] == "m" else 1)
        if value < low:
            raise _Bad(f"accepted: {low} to {highest}")
        if value > highest:
            raise _Over(highest)
        return value

    return parse


def _word(*accepted: str) -> Callable[[str, Config], str]:
    def parse(text: str, _: Config) -> str:
        if text not in accepted:
            raise _Bad("accepted: " + ", ".join(accepted))
        return text

    return parse


def _mode(text: str, config: Config) -> str:
    mode = _word(*get_args(Mode))(text, config)
    if mode in ("sleep", "hook", "wrap") and mode not in config.operator.modes:
        raise _Refused("the operator allows: " + ", ".join(sorted(config.operator.modes)))
    return mode


def _profile(text: str, config: Config) -> str:
    if text not in config.operator.profiles.by_name:
        raise _Bad("accepted: a name that `podgrace profiles` lists")
    return text


def _switch(patch: Callable[[Config], bool]) -> Callable[[str, Config], bool]:
    def parse(text: str, config: Config) -> bool:
        wanted = _word(names.ENABLED, names.DISABLED)(text, config) == names.ENABLED
        if wanted and not patch(config):
            raise _Refused("the operator switched it off")
        return wanted

    return parse


_PROBES: Final[Mapping[str, str]] = {
    names.ENABLED: "auto",
    names.DISABLED: "off",
    "http": "http",
    "tcp": "tcp",
    "grpc": "grpc",
}


def _readiness(text: str, config: Config) -> str:
    kind = _PROBES[_word(*_PROBES)(text, config)]
    if kind != "off" and not config.file.patches.readiness_probe:
        raise _Refused("the operator switched it off")
    return kind


def _port(text: str, _: Config) -> int | str:
    if text.isascii() and text.isdigit():
        if 1 <= int(text[:6]) <= 65535 and len(text) < 6:
            return int(text)
    elif _PORT_NAME.fullmatch(text) and re.search("[a-z]", text):
        return text
    raise _Bad("accepted: 1 to 65535, or a port's name")


def _ports(text: str, config: Config) -> tuple[int, ...]:
    found = tuple(dict.fromkeys(_port(part.strip(), config) for part in text.split(",")))
    if not 1 <= len(found) <= 16 or any(isinstance(port, str) for port in found):
        raise _Bad("accepted: up to 16 port numbers, separated by commas")
    return tuple(int(port) for port in found)


def _path(text: str, _: Config) -> str:
    if not _PATH.fullmatch(text):
        raise _Bad("accepted: a path that begins with /")
    return text


def _entrypoint(text: str, _: Config) -> tuple[str, ...]:
    # It is written once for each container that it applies to, and again into the status.
    if len(text.encode("utf-8", "surrogatepass")) > ENTRYPOINT_BYTES:
        raise _Bad(f"accepted: up to {ENTRYPOINT_BYTES} bytes")
    try:
        argv = msgspec.json.decode(text, type=list[str])
    except (msgspec.DecodeError, UnicodeError) as error:
        raise _Bad('accepted: a JSON list of strings, like ["/app/server", "--flag"]') from error
    if not argv or not argv[0] or len(argv) > 256:
        raise _Bad("accepted: 1 to 256 words, the first not empty")
    return tuple(argv)


def _delay_bound(config: Config) -> int:
    return config.file.bounds.delay_max


def _drain_bound(config: Config) -> int:
    return config.file.bounds.drain_timeout


KEYS: Final[Mapping[str, tuple[str, Callable[[str, Config], Any]]]] = {
    "mode": ("mode", _mode),
    "profile": ("profile", _profile),
    "delay": ("delay", _seconds(1, _delay_bound)),
    "delay-min": ("delay_min", _seconds(1, _delay_bound)),
    "quiet": ("quiet", _seconds(0, _delay_bound)),
    "delay-max": ("delay_max", _seconds(1, _delay_bound)),
    "drain-timeout": ("drain_timeout", _seconds(1, _drain_bound)),
    "patience": ("patience", _seconds(2, _drain_bound)),
    "existing-prestop": ("existing", _word(*get_args(Existing))),
    "prestop": ("prestop", _switch(lambda config: config.file.patches.pre_stop)),
    "readiness-probe": ("readiness", _readiness),
    "readiness-port": ("readiness_port", _port),
    "readiness-path": ("readiness_path", _path),
    "entrypoint": ("entrypoint", _entrypoint),
    "ports": ("ports", _ports),
}
"""Annotation key -> field of `Settings`, and its grammar. Each may end in `.<container>`. `delay`
sets both ends of the delay."""

POD_KEYS: Final[Mapping[str, tuple[str, Callable[[str, Config], Any]]]] = {
    "grace-period": ("grace", _switch(lambda config: config.file.patches.grace_period)),
    "sidecar": ("sidecar", _switch(lambda config: config.file.patches.sidecar)),
}
"""The same for keys that only make sense for the whole Pod."""

_OWN = frozenset({"status", "inject"})


class _Wishes(NamedTuple):
    """Annotations, parsed: fields for every container, for single ones, and for the whole Pod."""

    general: dict[str, Any]
    special: dict[str, dict[str, Any]]
    whole: dict[str, Any]
    notes: list[tuple[str, str, str]]


def resolve(pod: Pod, config: Config) -> PodSettings:
    """Settle what applies to a Pod and to each of its containers."""
    patches = config.file.patches
    metadata = pod.metadata or EMPTY
    notes: list[tuple[str, str, str]] = []
    if metadata.labels and metadata.labels.get(names.INJECT_LABEL, names.ENABLED) not in (
        names.ENABLED,
        names.DISABLED,
    ):
        notes.append(("label-unknown", "", "accepted: enabled, disabled"))
    ours = {
        key[len(names.PREFIX) :]: value
        for key, value in (metadata.annotations or {}).items()
        if key.startswith(names.PREFIX)
    }
    if not ours.keys() - _OWN:
        return PodSettings(config.defaults, {}, patches.grace_period, patches.sidecar, tuple(notes))
    wishes = _read(ours, frozenset(container.name for container in pod.spec.containers), config)
    general = _both_ends(wishes.general)
    return PodSettings(
        _settle(config.defaults, general),
        {
            name: _settle(config.defaults, general | _both_ends(fields))
            for name, fields in wishes.special.items()
        },
        wishes.whole.get("grace", patches.grace_period),
        wishes.whole.get("sidecar", patches.sidecar),
        (*notes, *wishes.notes),
    )


def _read(ours: Mapping[str, str], containers: frozenset[str], config: Config) -> _Wishes:
    """Parse our annotations, whose names come without the prefix."""
    wishes = _Wishes({}, {}, {}, [])
    unused = 0
    for name, text in ours.items():
        if name in _OWN:
            continue
        key, _, container = name.partition(".")
        table, into = (POD_KEYS, wishes.whole) if key in POD_KEYS else (KEYS, wishes.general)
        if key not in table or (container and table is POD_KEYS):
            code, why = "annotation-unknown", None
        elif container and container not in containers:
            code, why = "annotation-no-container", None
        else:
            field, parse = table[key]
            code, value, why = _parsed(parse, text, config)
            if code in ("", "annotation-bounded"):
                (wishes.special.setdefault(container, {}) if container else into)[field] = value
            if not code:
                continue
        unused += 1
        if unused <= _MOST_NOTES:
            wishes.notes.append(_note(code, why, name, text, hint=unused <= _MOST_HINTS))
    if unused > _MOST_NOTES:
        wishes.notes.append(("annotations-more", "", str(unused - _MOST_NOTES)))
    shared = len(ours.get("entrypoint", "")) * len(containers)
    if "entrypoint" in wishes.general and shared > SHARED_BYTES:
        del wishes.general["entrypoint"]
        most = SHARED_BYTES // len(containers)
        why = f"accepted for {len(containers)} containers: {most} bytes"
        wishes.notes.append(("annotation-invalid", "", f"{names.PREFIX}entrypoint: {why}"))
    return wishes


def _both_ends(fields: dict[str, Any]) -> dict[str, Any]:
    """Turn `delay` into both ends of the delay; the keys of a single end override it."""
    if (fixed := fields.pop("delay", None)) is None:
        return fields
    return {"delay_min": fixed, "delay_max": fixed} | fields


def _settle(defaults: Settings, fields: dict[str, Any]) -> Settings:
    """Apply fields.

    If the ends of the delay contradict each other, the annotated one wins, or else the maximum.
    """
    if not fields:
        return defaults
    settings = msgspec.structs.replace(defaults, **fields)
    low, high = settings.delay_min, settings.delay_max
    if low > high:
        low, high = (
            (low, low) if "delay_min" in fields and "delay_max" not in fields else (high, high)
        )
    return msgspec.structs.replace(
        settings,
        delay_min=low,
        delay_max=high,
        quiet=min(settings.quiet, high),
        delay_set=not fields.keys().isdisjoint({"delay_min", "delay_max"}),
    )


def _parsed(
    parse: Callable[[str, Config], Any], text: str, config: Config
) -> tuple[str, Any, str | None]:
    """Give "" and the value, or the code that says why it is not used, and what is accepted."""
    try:
        return "", parse(_bounded(text), config), ""
    except _Over as over:
        return "annotation-bounded", over.bound, f"{over.bound} s"
    except _Refused as why:
        return "annotation-refused", None, str(why)
    except _Bad as why:
        return "annotation-invalid", None, str(why)


def _bounded(text: str) -> str:
    if len(text) > _LONGEST:
        raise _Bad(f"accepted: up to {_LONGEST} characters")
    return text


def _note(code: str, why: str | None, name: str, text: str, *, hint: bool) -> tuple[str, str, str]:
    """Say what became of an annotation; `why` is None if no key or container matches it."""
    if why is not None:
        container = name.partition(".")[2]
        return code, container, f"{names.PREFIX}{name}={_short(text)!r}: {why}"
    near = _near(name) if hint and code == "annotation-unknown" else ""
    return code, "", names.PREFIX + _short(name) + near


def _near(name: str) -> str:
    """Name the nearest key that is known."""
    if len(name) > _LONGEST_KEY:
        return ""
    near = difflib.get_close_matches(name.partition(".")[0], (*KEYS, *POD_KEYS), n=1)
    return f"; nearest: {near[0]}" if near else ""


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
