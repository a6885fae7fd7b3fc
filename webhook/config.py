"""The operator's configuration: one YAML file, validated with all problems at once.

In: the file's text (the chart renders it from `config` in its values). Out: `Config`, with the
`Operator` that the core reads; and one for each class of namespaces. Pod annotations belong to
`policy`; listeners, certificates and ports are flags of `podgrace serve`.

A class is a copy of the file with some keys replaced; the last one wins:

    1. the file itself
    2. the preset that the class names (presets.toml)
    3. what the class says
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, Final, get_args

import msgspec
import yaml
from yaml.composer import Composer, ComposerError

from webhook import __version__
from webhook.core import names, sidecar
from webhook.core.balancer import LONGEST_DELAY, Balancer
from webhook.core.profile import MATCH, SIGNALS, Profile, merged
from webhook.core.resources import quantity
from webhook.core.settings import Delivery, Existing, ImageEntry, Mode, Operator, Settings
from webhook.profiles import BALANCERS, BUILT_IN, LAUNCHERS, PRESETS

IMAGE_VOLUMES: Final = (1, 35)
"""The first Kubernetes with image volumes on by default (KEP-4639; stable in 1.36)."""

DEFAULT_IMAGE: Final = f"docker.io/podgrace/podgrace-helper:{__version__}"
"""With its registry: runtimes with several refuse a short name."""


class ConfigError(ValueError):
    """The file cannot be used; `problems` holds every reason, one sentence each."""

    def __init__(self, where: str, problems: list[str]) -> None:
        self.problems = problems
        super().__init__(f"{where}: " + "; ".join(problems))


_NODES: Final = 100_000
"""Nodes of the file, with aliases expanded: far more than any real ConfigMap of 1 MiB holds."""


class _Loader(Composer, yaml.CSafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """PyYAML's safe loader on libyaml's events, and stricter.

    A duplicate key is an error, since one of the two is a slip. So is an alias inside the node that
    it names, and a file that aliases make too large. Composing in Python turns deep nesting into a
    `RecursionError`. `off`, `no` and `yes` are text, as in YAML 1.2: `off` is a mode.
    """

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, form) for tag, form in forms if not tag.endswith(":bool") or first in "tTfF"]
        for first, forms in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        yaml.CSafeLoader.__init__(self, text)
        Composer.__init__(self)
        self._count = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: Any, index: Any) -> yaml.Node:
        """Compose a node, and count it with all that it contains."""
        event, before = self.peek_event(), self._count
        node = Composer.compose_node(self, parent, index)
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self._sizes:
                raise ComposerError(
                    None, None, f"the alias *{event.anchor} is in itself", event.start_mark
                )
            self._count += self._sizes[id(node)]
        else:
            self._count += 1
            self._sizes[id(node)] = self._count - before
        if self._count > _NODES:
            raise ComposerError(None, None, f"more than {_NODES} values", event.start_mark)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a map, and look for duplicate keys."""
        node = Composer.compose_mapping_node(self, anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise ComposerError(
                        None, None, f"the key {key.value!r:.40} stands twice", key.start_mark
                    )
                seen.add(key.value)
        return node


class _Part(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Base of the file's parts."""


class Resources(_Part, frozen=True):
    """The sidecar's requests, and its limits where every other container of the Pod has some."""

    requests: dict[str, str] = msgspec.field(default_factory=lambda: {"cpu": "1m", "memory": "4Mi"})
    limits: dict[str, str] = msgspec.field(
        default_factory=lambda: {"cpu": "100m", "memory": "16Mi"}
    )


class PullSecret(_Part, frozen=True):
    """A Secret for pulling the helper's image, in the Pod's own namespace."""

    name: str


class HelperConfig(_Part, frozen=True):
    """The helper: its image, how it gets into a Pod, and the sidecar's port and resources."""

    delivery: str = "sidecar"
    image: str = DEFAULT_IMAGE
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: list[PullSecret] = []
    port: int = 15990
    metrics: bool = False
    resources: Resources = Resources()
    security_context: dict[str, Any] = msgspec.field(
        default_factory=lambda: dict(sidecar.SECURITY_CONTEXT)
    )
    volume_size_limit: str = "1Mi"


class Patches(_Part, frozen=True):
    """What may be patched at all; an annotation can only switch off."""

    pre_stop: bool = True
    grace_period: bool = True
    readiness_probe: bool = True
    sidecar: bool = True


class Defaults(_Part, frozen=True):
    """What applies if a Pod says nothing. Times in whole seconds."""

    mode: str = "auto"
    delay_min: int = 5
    quiet: int = 2
    delay_max: int = 15
    drain_timeout: int = 30
    existing_pre_stop: str = "auto"


class Bounds(_Part, frozen=True):
    """What no annotation can exceed. Times in whole seconds.

    The Cluster Autoscaler waits for 600 by default.
    """

    modes: list[str] = msgspec.field(default_factory=lambda: ["sleep", "hook", "wrap"])
    delay_max: int = 120
    drain_timeout: int = 600
    grace_period: int = 900


class Kubernetes(_Part, frozen=True):
    """Versions of the API server and the oldest kubelet: they decide about native fields."""

    version: str = "1.36"
    oldest_kubelet: str = ""


class ProfileConfig(_Part, frozen=True):
    """One profile of the operator's own."""

    match: list[str] = []
    images: list[str] = []
    ports: list[int] = []
    front: bool = False
    standalone: bool = False
    worker: bool = False
    signal: str = "TERM"
    stop_command: str = ""
    offline: str = ""
    stop_on: list[str] = msgspec.field(default_factory=lambda: ["INT", "QUIT"])
    target: str = "server"
    observe: bool = True
    finishes: bool = False
    patience: int = 0
    drain_timeout: int = 0
    caveat: str = ""


class BalancerConfig(_Part, frozen=True):
    """One load balancer of the operator's own, or new numbers for a built-in one."""

    gates: list[str]
    delay: int


class ImageConfig(_Part, frozen=True):
    """One entry of the look-up of entrypoints."""

    match: str
    entrypoint: list[str] = []
    cmd: list[str] = []


class WorkloadConfig(_Part, frozen=True):
    """One kind that holds Pod templates, for manifests on the command line."""

    api_version: str
    kind: str
    paths: list[str] = msgspec.field(default_factory=lambda: ["spec.template"])
    owner: str = ""


class HelperOfClass(_Part, frozen=True):
    """What a class may say about the helper; the file itself says the rest."""

    delivery: str = ""


class ClassConfig(_Part, frozen=True):
    """A class of namespaces: a preset, and the keys that differ from the file's own sections."""

    preset: str = ""
    helper: HelperOfClass = HelperOfClass()
    patches: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    bounds: dict[str, Any] = {}


class File(_Part, frozen=True):
    """The whole file."""

    helper: HelperConfig = HelperConfig()
    patches: Patches = Patches()
    defaults: Defaults = Defaults()
    bounds: Bounds = Bounds()
    excluded_namespaces: list[str] = msgspec.field(
        default_factory=lambda: list(names.OPERATOR_NAMESPACES)
    )
    kubernetes: Kubernetes = Kubernetes()
    profiles: dict[str, ProfileConfig] = {}
    balancers: dict[str, BalancerConfig] = {}
    images: list[ImageConfig] = []
    workloads: list[WorkloadConfig] = []
    classes: dict[str, ClassConfig] = {}


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
        tree = yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe one
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        words = " ".join(str(error).split()).replace(' in "<unicode string>",', " at")
        raise ConfigError(where, [f"not YAML: {words}"]) from error
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
    file: File = _convert(tree, File, "", problems)
    if not problems:
        problems += _problems(file)
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


def _convert(value: Any, kind: Any, at: str, problems: list[str]) -> Any:
    """Convert field by field, so that one bad field does not hide the next."""
    if isinstance(kind, type) and issubclass(kind, _Part):
        if not isinstance(value, dict):
            problems.append(f"{at or 'the file'}: expected a mapping, got {_shown(value)}")
            return None
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        made = {}
        for key, item in value.items():
            place = f"{at}.{key}" if at else str(key)
            if key not in fields:
                near = difflib.get_close_matches(str(key), fields, n=1, cutoff=0)
                problems.append(
                    f"{place}: unknown key; nearest known: {near[0] if near else '-'};"
                    f" known: {', '.join(sorted(fields))}"
                )
            else:
                made[fields[key].name] = _convert(item, fields[key].type, place, problems)
        problems += [
            f"{at}: {name} is required"
            for name, field in fields.items()
            if field.required and field.name not in made
        ]
        return None if problems else kind(**made)
    args = get_args(kind)
    if args and isinstance(args[-1], type) and issubclass(args[-1], _Part):
        if isinstance(value, list) and len(args) == 1:
            return [_convert(item, args[0], f"{at}[{i}]", problems) for i, item in enumerate(value)]
        if isinstance(value, dict) and len(args) == 2:
            return {
                str(key): _convert(item, args[1], f"{at}.{key}", problems)
                for key, item in value.items()
            }
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        problems.append(f"{at}: {_shown(value)}: {str(error)[0].lower()}{str(error)[1:]}")
        return None


def _problems(file: File) -> list[str]:
    """Check values against each other and against what Kubernetes accepts."""
    found = [
        *_of_modes(file.defaults, file.bounds),
        *_of_helper(file),
        *_of_times(file.defaults, file.bounds),
        *_of_resources(file.helper),
        *_of_versions(file.kubernetes),
        *_of_balancers(file.balancers),
        *_of_profiles(file.profiles, file.bounds),
        *_of_workloads(file.workloads),
    ]
    return found or list(_of_whole_profiles(file.profiles))


def _one_of(at: str, value: str, accepted: Iterable[str]) -> Iterator[str]:
    if value not in accepted:
        yield f"{at}: {value!r}: accepted: {', '.join(sorted(accepted))}"


def _within(at: str, value: int, low: int, high: int) -> Iterator[str]:
    if not low <= value <= high:
        yield f"{at}: {value}: accepted: {low} to {high}"


def _of_modes(defaults: Defaults, bounds: Bounds) -> Iterator[str]:
    yield from _one_of("defaults.mode", defaults.mode, get_args(Mode))
    yield from _one_of("defaults.existingPreStop", defaults.existing_pre_stop, get_args(Existing))
    for mode in bounds.modes:
        yield from _one_of("bounds.modes", mode, ("sleep", "hook", "wrap"))
    if not bounds.modes:
        yield "bounds.modes: []: accepted: at least one of hook, sleep, wrap"
    elif defaults.mode in ("sleep", "hook", "wrap") and defaults.mode not in bounds.modes:
        yield f"defaults.mode: {defaults.mode!r}: bounds.modes does not allow it"


def _of_helper(file: File) -> Iterator[str]:
    helper = file.helper
    yield from _one_of("helper.delivery", helper.delivery, get_args(Delivery))
    if helper.delivery == "image" and min(_versions(file)) < IMAGE_VOLUMES:
        versions = " and ".join(f"{major}.{minor}" for major, minor in sorted(set(_versions(file))))
        yield f"helper.delivery: 'image': needs Kubernetes 1.35, this is {versions}: set 'sidecar'"
    policies = ("Always", "IfNotPresent", "Never")
    yield from _one_of("helper.imagePullPolicy", helper.image_pull_policy, policies)
    yield from _within("helper.port", helper.port, 1024, 65535)
    for key in helper.security_context:
        yield from _one_of("helper.securityContext", key, _CONTEXT)
    for secret in helper.image_pull_secrets:
        if not _NAME.fullmatch(secret.name):
            yield f"helper.imagePullSecrets: {secret.name!r}: accepted: the name of a Secret"
    if not helper.image or set(helper.image) & set(" \t\n"):
        yield f"helper.image: {helper.image!r}: accepted: the name of an image"


def _of_times(defaults: Defaults, bounds: Bounds) -> Iterator[str]:
    for at, value, low, high in (
        ("bounds.delayMax", bounds.delay_max, 1, 3600),
        ("bounds.drainTimeout", bounds.drain_timeout, 1, 86400),
        ("bounds.gracePeriod", bounds.grace_period, 1, 2**31 - 1),
        ("defaults.delayMax", defaults.delay_max, 1, bounds.delay_max),
        ("defaults.delayMin", defaults.delay_min, 1, defaults.delay_max),
        ("defaults.quiet", defaults.quiet, 0, defaults.delay_max),
        ("defaults.drainTimeout", defaults.drain_timeout, 1, bounds.drain_timeout),
    ):
        yield from _within(at, value, low, high)


def _of_versions(kubernetes: Kubernetes) -> Iterator[str]:
    for at, value in (
        ("version", kubernetes.version),
        ("oldestKubelet", kubernetes.oldest_kubelet),
    ):
        if value and _version(value) is None:
            yield f"kubernetes.{at}: {value!r}: accepted: like 1.36"


def _of_balancers(balancers: Mapping[str, BalancerConfig]) -> Iterator[str]:
    for name, balancer in balancers.items():
        yield from _within(f"balancers.{name}.delay", balancer.delay, 1, LONGEST_DELAY)
        if not balancer.gates or not all(balancer.gates):
            yield f"balancers.{name}.gates: accepted: beginnings of a conditionType"


def _of_profiles(profiles: Mapping[str, ProfileConfig], bounds: Bounds) -> Iterator[str]:
    for name, profile in profiles.items():
        at = f"profiles.{name}"
        for signal in (profile.signal, *profile.stop_on):
            yield from _one_of(at, signal, SIGNALS)
        yield from _one_of(f"{at}.target", profile.target, ("server", "child", "group"))
        yield from _within(f"{at}.patience", profile.patience, 0, 86400)
        yield from _within(f"{at}.drainTimeout", profile.drain_timeout, 0, bounds.drain_timeout)
        for entry in profile.match:
            if not MATCH.fullmatch(entry):
                yield f"{at}.match: {entry!r}: accepted: a name, or a name and an argument"


def _of_whole_profiles(profiles: Mapping[str, ProfileConfig]) -> Iterator[str]:
    """Check what only the core knows, once each field is right."""
    for name, profile in profiles.items():
        try:
            _profile(name, profile)
        except msgspec.ValidationError as error:
            yield f"profiles.{name}: {error}"


_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")

_CONTEXT: Final = frozenset(
    {
        "allowPrivilegeEscalation",
        "appArmorProfile",
        "capabilities",
        "privileged",
        "procMount",
        "readOnlyRootFilesystem",
        "runAsGroup",
        "runAsNonRoot",
        "runAsUser",
        "seLinuxOptions",
        "seccompProfile",
    }
)
"""Fields of a container's securityContext (core/v1) on Linux."""


_DNS: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_API_VERSION: Final = re.compile(rf"(?:{_DNS}(?:\.{_DNS})*(?:/{_DNS})?)")
_KIND: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,62}")
_PATH: Final = re.compile(r"[A-Za-z_][\w-]*(?:\.(?:\*|[A-Za-z_][\w-]*))*", re.ASCII)


def _of_workloads(workloads: list[WorkloadConfig]) -> Iterator[str]:
    """Check where Pod templates are: a typo would leave manifests unread."""
    places: dict[tuple[str, str], str] = {}
    for number, entry in enumerate(workloads):
        at = f"workloads[{number}]"
        if not _API_VERSION.fullmatch(entry.api_version):
            yield (
                f"{at}.apiVersion: {entry.api_version!r}: accepted: a group such as example.com,"
                " which means all its versions, or an apiVersion such as example.com/v1 or v1"
            )
        for name, value in (("kind", entry.kind), ("owner", entry.owner)):
            if not _KIND.fullmatch(value) and (value or name == "kind"):
                yield f"{at}.{name}: {value!r}: accepted: a kind such as Deployment"
        for path in entry.paths:
            if not _PATH.fullmatch(path):
                yield (
                    f"{at}.paths: {path!r}: accepted: keys joined by dots, such as spec.template,"
                    " with * for each item of a list"
                )
        if not entry.paths:
            yield f"{at}.paths: []: accepted: at least one path such as spec.template"
        first = places.setdefault((entry.api_version, entry.kind), at)
        if first != at:
            yield (
                f"{at}: {entry.api_version} {entry.kind}: {first} names it already:"
                " join their paths"
            )


def _of_resources(helper: HelperConfig) -> Iterator[str]:
    """Check the amounts: with a typo, every Pod would be refused."""
    requests, limits = helper.resources.requests, helper.resources.limits
    written = {
        "helper.volumeSizeLimit": helper.volume_size_limit,
        **{f"helper.resources.requests.{name}": value for name, value in requests.items()},
        **{f"helper.resources.limits.{name}": value for name, value in limits.items()},
    }
    amounts: dict[str, Fraction] = {}
    for at, value in written.items():
        try:
            amounts[at] = quantity(value)
        except ValueError as error:
            yield f"{at}: {error}"
    for name in (name for name in requests if name in limits):
        at = f"helper.resources.requests.{name}"
        request, limit = amounts.get(at), amounts.get(f"helper.resources.limits.{name}")
        if request is not None and limit is not None and request > limit:
            yield f"{at}: {requests[name]!r}: over its limit {limits[name]!r}"


def _config(file: File, classes: Mapping[str, Config]) -> Config:
    helper, defaults, patches = file.helper, file.defaults, file.patches
    oldest = min(_versions(file))
    own = {name: _profile(name, profile) for name, profile in file.profiles.items()}
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
        delivery=helper.delivery,  # type: ignore[arg-type]  # checked against Delivery in _problems
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
        mode=defaults.mode,  # type: ignore[arg-type]  # checked against Mode in _problems
        delay_min=defaults.delay_min,
        quiet=defaults.quiet,
        delay_max=defaults.delay_max,
        default_drain=defaults.drain_timeout,
        # Checked against Existing in _problems.
        existing=defaults.existing_pre_stop,  # type: ignore[arg-type]
        prestop=patches.pre_stop,
        readiness="auto" if patches.readiness_probe else "off",
    )
    return Config(file, operator, settings, classes)


def _profile(name: str, profile: ProfileConfig) -> Profile:
    """Spell the keys as in profiles.toml. Raises `msgspec.ValidationError`."""
    fields = msgspec.structs.asdict(profile).items()
    return msgspec.convert({"name": name, **{k.replace("_", "-"): v for k, v in fields}}, Profile)


def _versions(file: File) -> tuple[tuple[int, int], tuple[int, int]]:
    """Give the versions of the API server and of the oldest kubelet."""
    server = _version(file.kubernetes.version) or (1, 36)
    return server, _version(file.kubernetes.oldest_kubelet) or server


def _version(text: str) -> tuple[int, int] | None:
    """Read `v1.36.3-vendor.1` as (1, 36)."""
    found = re.match(r"v?(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
