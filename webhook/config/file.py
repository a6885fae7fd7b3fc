"""What the configuration file may hold: a struct for each section.

In: plain values (`loader`). Out: a `File`, with every key known and every value of its type, or a
sentence for each that is not. Whether the values fit together belongs to `problems`.
"""

import difflib
import re
from typing import Any, Final, get_args

import msgspec

from webhook import __version__
from webhook.core import names, sidecar
from webhook.core.profile import Profile

DEFAULT_IMAGE: Final = f"docker.io/podgrace/podgrace-helper:{__version__}"
"""With its registry: runtimes with several refuse a short name."""


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


def convert(value: Any, kind: Any, at: str, problems: list[str]) -> Any:
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
                made[fields[key].name] = convert(item, fields[key].type, place, problems)
        problems += [
            f"{at}: {name} is required"
            for name, field in fields.items()
            if field.required and field.name not in made
        ]
        return None if problems else kind(**made)
    args = get_args(kind)
    if args and isinstance(args[-1], type) and issubclass(args[-1], _Part):
        if isinstance(value, list) and len(args) == 1:
            return [convert(item, args[0], f"{at}[{i}]", problems) for i, item in enumerate(value)]
        if isinstance(value, dict) and len(args) == 2:
            return {
                str(key): convert(item, args[1], f"{at}.{key}", problems)
                for key, item in value.items()
            }
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        problems.append(f"{at}: {_shown(value)}: {str(error)[0].lower()}{str(error)[1:]}")
        return None


def profile_of(name: str, profile: ProfileConfig) -> Profile:
    """Spell the keys as in profiles.toml. Raises `msgspec.ValidationError`."""
    fields = msgspec.structs.asdict(profile).items()
    return msgspec.convert({"name": name, **{k.replace("_", "-"): v for k, v in fields}}, Profile)


def versions(file: File) -> tuple[tuple[int, int], tuple[int, int]]:
    """Give the versions of the API server and of the oldest kubelet."""
    server = version(file.kubernetes.version) or (1, 36)
    return server, version(file.kubernetes.oldest_kubelet) or server


def version(text: str) -> tuple[int, int] | None:
    """Read `v1.36.3-vendor.1` as (1, 36)."""
    found = re.match(r"v?(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
