"""The operator's configuration: one YAML file, validated with all problems at once.

In: the file's text (the chart renders it from `config` in its values). Out: `Config`, with the
`Operator` that the core reads; and one for each class of namespaces. Pod annotations belong to
`policy`; listeners, certificates and ports are flags of `podgrace serve`.

A class is a copy of the file with some keys replaced; the last one wins:

    1. the file itself
    2. the preset that the class names (presets.toml)
    3. what the class says

| module     | one line                                                        |
|------------|-----------------------------------------------------------------|
| `loader`   | YAML, read strictly                                             |
| `file`     | a struct for each section                                       |
| `problems` | what does not fit together, or into Kubernetes                  |
| here       | the classes, and what the core gets of each                     |
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from webhook import __version__
from webhook.config.file import ClassConfig, File, convert, profile_of, versions
from webhook.config.loader import values
from webhook.config.problems import check
from webhook.core import names, sidecar
from webhook.core.balancer import Balancer
from webhook.core.profile import merged
from webhook.core.settings import ImageEntry, Operator, Settings
from webhook.profiles import BALANCERS, BUILT_IN, LAUNCHERS, PRESETS


class ConfigError(ValueError):
    """The file cannot be used; `problems` holds every reason, one sentence each."""

    def __init__(self, where: str, problems: list[str]) -> None:
        self.problems = problems
        super().__init__(f"{where}: " + "; ".join(problems))


class Config(msgspec.Struct, frozen=True):
    """The file, and what follows from it; `classes` holds one for each class, by name."""

    file: File
    operator: Operator
    defaults: Settings
    classes: "Mapping[str, Config]" = {}

    def of(self, name: str) -> "Config":
        """Give the configuration of a class, or this one if there is no such class."""
        return self.classes.get(name, self)


def load(path: Path | str | None) -> Config:
    """Read a file; None gives the defaults.

    Raises `ConfigError` with every problem, `OSError` if the file cannot be read.
    """
    if path is None:
        return parse("", "defaults")
    try:
        return parse(Path(path).read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), [f"not UTF-8 at byte {error.start}"]) from error


def parse(text: str, where: str = "configuration") -> Config:
    """Validate the text of a file. Raises `ConfigError`."""
    try:
        tree = values(text)
    except ValueError as error:
        raise ConfigError(where, [str(error)]) from error
    problems: list[str] = []
    file = _file(tree if tree is not None else {}, problems)
    if file is None:
        raise ConfigError(where, problems)
    if len(file.classes) > CLASSES:
        problems.append(f"classes: {len(file.classes)}: accepted: up to {CLASSES}")
    classes = {}
    for name, kind in file.classes.items():
        wrong: list[str] = _misnamed(name, kind)
        own = None if wrong else _file(_overlaid(tree, kind), wrong)
        problems += [f"classes.{name}: {problem}" for problem in wrong]
        if own is not None:
            classes[name] = _config(own, {})
    if problems:
        raise ConfigError(where, problems)
    return _config(file, classes)


def _file(tree: Any, problems: list[str]) -> "File | None":
    """Read a tree, and check it; None if there are problems."""
    file: File = convert(tree, File, "", problems)
    if not problems:
        problems += check(file)
    return None if problems else file


CLASSES: Final = 16
"""Each keeps its own verdicts in memory (`webhook.server.replicas`)."""
CLASS: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")
"""A class's name: a label's value, a path of the webhook, and part of its name."""


def _misnamed(name: str, kind: ClassConfig) -> list[str]:
    problems = []
    if not CLASS.fullmatch(name):
        problems.append("accepted: up to 40 of a to z, 0 to 9 and -, such as edge")
    if kind.preset and kind.preset not in PRESETS:
        problems.append(f"preset: {kind.preset!r}: accepted: {', '.join(sorted(PRESETS))}")
    return problems


def _overlaid(tree: dict[str, Any], kind: ClassConfig) -> dict[str, Any]:
    """Lay a preset over the file's sections, and what the class says over both."""
    layers: list[Mapping[str, Mapping[str, Any]]] = []
    if kind.preset:
        preset = PRESETS[kind.preset]
        layers.append({"defaults": preset.defaults, "bounds": preset.bounds})
    layers.append({name: getattr(kind, name) for name in ("patches", "defaults", "bounds")})
    if kind.helper.delivery:
        layers.append({"helper": {"delivery": kind.helper.delivery}})
    made = {key: value for key, value in tree.items() if key != "classes"}
    for layer in layers:
        for section, keys in layer.items():
            made[section] = {**(made.get(section) or {}), **keys}
    return made


def _config(file: File, classes: Mapping[str, Config]) -> Config:
    helper, defaults, patches = file.helper, file.defaults, file.patches
    oldest = min(versions(file))
    own = {name: profile_of(name, profile) for name, profile in file.profiles.items()}
    resources = {"requests": helper.resources.requests, "limits": helper.resources.limits}
    operator = Operator(
        profiles=merged(BUILT_IN, own, LAUNCHERS),
        modes=frozenset(file.bounds.modes),
        native_sleep=oldest >= (1, 30),  # KEP-3960: beta and on by default since 1.30
        native_sidecar=oldest >= (1, 29),  # KEP-753: beta and on by default since 1.29
        grace_bound=file.bounds.grace_period,
        drain_bound=file.bounds.drain_timeout,
        delay_bound=file.bounds.delay_max,
        excluded_namespaces=frozenset(file.excluded_namespaces),
        images=tuple(
            ImageEntry(entry.match, tuple(entry.entrypoint), tuple(entry.cmd))
            for entry in file.images
        ),
        delivery=helper.delivery,  # type: ignore[arg-type]  # checked against Delivery in check
        sidecar=sidecar.container(
            names.SIDECAR, helper.image, helper.image_pull_policy, helper.security_context
        ),
        pull_secrets=tuple(dict.fromkeys(secret.name for secret in helper.image_pull_secrets)),
        sidecar_resources=resources,
        sidecar_metrics=helper.metrics,
        port=helper.port,
        volume=sidecar.memory_volume(helper.volume_size_limit)
        if helper.delivery == "sidecar"
        else sidecar.image_volume(helper.image, helper.image_pull_policy),
        version=__version__,
        balancers=tuple(
            {
                **BALANCERS,
                **{
                    name: Balancer(name, tuple(balancer.gates), balancer.delay)
                    for name, balancer in file.balancers.items()
                },
            }.values()
        ),
    )
    settings = Settings(
        mode=defaults.mode,  # type: ignore[arg-type]  # checked against Mode in check
        delay_min=defaults.delay_min,
        quiet=defaults.quiet,
        delay_max=defaults.delay_max,
        default_drain=defaults.drain_timeout,
        # Checked against Existing in check.
        existing=defaults.existing_pre_stop,  # type: ignore[arg-type]
        prestop=patches.pre_stop,
        readiness="auto" if patches.readiness_probe else "off",
    )
    return Config(file, operator, settings, classes)
