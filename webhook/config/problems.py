"""What is wrong with a configuration file whose values have the right types.

In: a `File`. Out: a sentence for each problem: the key, its value, and what is accepted. Each
function checks a section, against the others and against what Kubernetes accepts.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Final, get_args

import msgspec

from webhook.config.file import (
    BalancerConfig,
    Bounds,
    Defaults,
    File,
    HelperConfig,
    Kubernetes,
    ProfileConfig,
    WorkloadConfig,
    profile_of,
    version,
    versions,
)
from webhook.core.balancer import LONGEST_DELAY
from webhook.core.profile import MATCH, SIGNALS
from webhook.core.resources import quantity
from webhook.core.settings import Delivery, Existing, Mode

IMAGE_VOLUMES: Final = (1, 35)
"""The first Kubernetes with image volumes on by default (KEP-4639; stable in 1.36)."""


def check(file: File) -> list[str]:
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
    if helper.delivery == "image" and min(versions(file)) < IMAGE_VOLUMES:
        shown = " and ".join(f"{major}.{minor}" for major, minor in sorted(set(versions(file))))
        yield f"helper.delivery: 'image': needs Kubernetes 1.35, this is {shown}: set 'sidecar'"
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
        if value and version(value) is None:
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
            profile_of(name, profile)
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
