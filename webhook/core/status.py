"""The record on the Pod: annotation `podgrace.io/status`, and the Pod as it was before us.

In: a Pod, patched or not. Out: `before(pod)`: the values that the user (or another webhook) gave.
Every pass decides from these, so a second pass adds nothing, and `uninject` restores exactly.

A Pod's author may forge the annotation, edit it, or copy it from another Pod. So it never decides
alone: the Pod itself must show that something is ours, and the annotation only says how it was
spelled. A user's hook is read from the command line that runs it; the annotation's copy is used if
it means the same. A grace period is restored only to a smaller one that is not 0. Only
`nativeSleep` and `pullSecrets` are trusted, since neither has room for a mark: an author who forges
them loses a sleep or Secret, and gets ours.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from webhook.core import helper, probe, restart, size
from webhook.core.names import (
    MESH_PROXIES,
    MOUNT_PATH,
    SAFE_TO_EVICT,
    SIDECAR,
    STATUS_ANNOTATION,
    VOLUME,
)
from webhook.core.pod import (
    ABSENT,
    EMPTY,
    Container,
    Pod,
    Raw,
    handler,
    port_number,
    pre_stop,
    present,
)
from webhook.core.restart import Graces


class GraceStatus(msgspec.Struct, omit_defaults=True, frozen=True, gc=False):
    """Seconds; `was` is null if a manifest left it to the default."""

    now: int
    was: int | None = None
    sum: str = ""


class ContainerStatus(msgspec.Struct, omit_defaults=True, rename="camel", frozen=True, gc=False):
    """One container's part.

    `pre_stop` is the handler that it had, `readiness` and `readiness_times` name the probe that we
    added, `probe_graces` are the seconds that we gave to other probes, `entrypoint` is the command
    that we wrote if it had none, `empty` names parents that were there, but empty.
    """

    mode: str = ""
    profile: str = ""
    codes: list[str] = []
    pre_stop: Raw = ABSENT
    native_sleep: int | None = None
    readiness: str = ""
    readiness_times: dict[str, int] = {}
    probe_graces: Mapping[str, int] = {}
    entrypoint: list[str] | None = None
    empty: list[str] = []


class Status(msgspec.Struct, omit_defaults=True, frozen=True, gc=False):
    """The annotation.

    `evictable`: we added our volume to the cluster autoscaler's list. `manifest` is handed on
    unread: how a manifest on disk spelled what a patch took away; only `podgrace uninject` needs it
    (`webhook.cli.manifests`).
    """

    version: str = ""
    grace: GraceStatus | None = None
    containers: dict[str, ContainerStatus] = {}
    empty: list[str] = []
    evictable: bool = False
    pull_secrets: Sequence[str] = msgspec.field(default=(), name="pullSecrets")
    manifest: Raw = ABSENT


class Before(msgspec.Struct, frozen=True, gc=False):
    """A container without our parts. `mounted`: our volume is there now."""

    command: list[str] | None
    args: list[str] | None
    pre_stop: Raw | None
    readiness: Raw | None
    mounted: bool = False
    helper_possible: bool = True
    empty: list[str] = []
    probe_graces: Graces = {}


_OTHERS: Final = MESH_PROXIES | {SIDECAR}
_SMALL: Final = 16 << 10
_STRINGS: Final = 16 << 10
"""Bytes up to which strings are not counted, and the most strings: 256 containers have 40 each."""

_decoder: Final = msgspec.json.Decoder(Status)
_encoder: Final = msgspec.json.Encoder(order="deterministic")


def encode(status: Status) -> str:
    """Write the annotation: the same status gives the same text."""
    return _encoder.encode(status).decode()


def read(pod: Pod) -> Status | None:
    """Read the annotation; None if it is missing or unreadable.

    Then only what our names show is undone.
    """
    text = ((pod.metadata or EMPTY).annotations or {}).get(STATUS_ANNOTATION)
    if text is None or not _is_readable(text):
        return None
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def overfull(pod: Pod, text: str) -> bool:
    """Whether this annotation is too big: the API server, or a later pass, would refuse it."""
    annotations = {**((pod.metadata or EMPTY).annotations or {}), STATUS_ANNOTATION: text}
    return size.annotated(annotations) > size.ANNOTATIONS_LIMIT or not _is_readable(text)


def _is_readable(text: str) -> bool:
    """Whether a status is short enough to be read: a forged one may hold 30 000 containers."""
    return len(text) <= _SMALL or size.strings(text.encode("utf-8", "surrogatepass")) <= _STRINGS


def grace_before(pod: Pod, status: Status | None) -> int | None:
    """Give the grace period as the user set it.

    That is the Pod's own, unless it is exactly what we raised a smaller one to.
    """
    now = pod.spec.termination_grace_period_seconds
    grace = status.grace if status is not None else None
    if (
        grace is not None
        and now is not None
        and grace.now == now
        and (grace.was is None or grace.was < now)
        and grace.was != 0
    ):
        return grace.was
    return now


def empty_before(pod: Pod, status: Status | None) -> list[str]:
    """Name the parents in the Pod that are, or were, there but empty: they stay when we leave."""
    spec, annotations = pod.spec, (pod.metadata or EMPTY).annotations
    parents = (
        ("annotations", annotations),
        ("initContainers", spec.init_containers),
        ("imagePullSecrets", spec.image_pull_secrets),
        ("volumes", spec.volumes),
        ("safeToEvict", (annotations or {}).get(SAFE_TO_EVICT)),
    )
    known = status.empty if status is not None else ()
    return [
        name for name, parent in parents if parent is not None and (not parent or name in known)
    ]


def pull_secrets_before(pod: Pod, status: Status | None) -> list[str]:
    """Name the pull secrets that the user gave: all but those that we have added."""
    secrets = pod.spec.image_pull_secrets
    if not secrets:
        return []
    ours = set(status.pull_secrets if status is not None else ())
    return [secret.name for secret in secrets if secret.name not in ours]


def before(container: Container, status: Status | None) -> Before:
    """Strip our parts from a container."""
    record = status.containers.get(container.name) if status is not None else None
    mounted, possible = False, True
    for mount in container.volume_mounts or ():
        if mount.mount_path.rstrip("/") == MOUNT_PATH:
            mounted = possible = mount.name == VOLUME
    command = helper.unwrap(container.command)
    hook = pre_stop(container)
    readiness = present(container.readiness_probe)
    if hook is not None:
        hook = _pre_stop(container, hook, record)
    if record is not None:
        wrapped = command is not container.command
        if record.entrypoint and wrapped and command == record.entrypoint:
            command = None
        if record.readiness and readiness is not None and _is_ours(readiness, record):
            readiness = None
    return Before(
        command,
        helper.unwrap(container.args),
        hook,
        readiness,
        mounted,
        possible,
        _empty(container, record),
        restart.before(container, record.probe_graces if record is not None else {}),
    )


def native_graces_before(pod: Pod, status: Status | None) -> dict[int, Graces]:
    """Give the probes' grace periods of the user's native sidecars, by index, as the user set them.

    A mesh's proxy is left to the mesh.
    """
    found: dict[int, Graces] = {}
    for index, container in enumerate(pod.spec.init_containers or ()):
        if container.restart_policy == "Always" and container.name not in _OTHERS:
            record = status.containers.get(container.name) if status is not None else None
            was = restart.before(container, record.probe_graces if record is not None else {})
            if was:
                found[index] = was
    return found


def _is_ours(readiness: Raw, record: ContainerStatus) -> bool:
    return probe.is_made(readiness, record.readiness, record.readiness_times)


def _empty(container: Container, record: ContainerStatus | None) -> list[str]:
    """Name the parents in a container that are, or were, there but empty."""
    mounts = container.volume_mounts
    known = record.empty if record is not None else ()
    if mounts != [] and container.lifecycle != {} and not known:
        return []
    parents = (("lifecycle", container.lifecycle), ("volumeMounts", mounts))
    return [
        name for name, parent in parents if parent is not None and (not parent or name in known)
    ]


def _pre_stop(container: Container, raw: Raw, record: ContainerStatus | None) -> Raw | None:
    """Give the user's own preStop: the one that is there, the one inside ours, or none."""
    now = handler(raw)
    if now.sleep is not None:
        return None if record is not None and record.native_sleep == now.sleep.seconds else raw
    if not helper.is_drain(now, container.name):
        return raw
    words = helper.hook_of(now)
    if not words:
        return None
    spelled = present(record.pre_stop) if record is not None else None
    if spelled is not None and _means(spelled, words, container):
        return spelled
    told = helper.unhook(words)
    return None if told is None else Raw(msgspec.json.encode(told))


def _means(spelled: Raw, words: list[str], container: Container) -> bool:
    """Whether a handler from the annotation is the one that these words run."""
    try:
        user = handler(spelled)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    if user.http_get is not None:
        get = replace(user.http_get, port=port_number(user.http_get.port, container) or 0)
        user = replace(user, http_get=get)
    return helper.hook(user) == words
