"""The record on the Pod: annotation `podgrace.io/status`, and the Pod as it was before us.

In: a Pod, patched or not. Out: `before(pod)`: the values that the user (or another webhook) gave, from which every pass
decides anew; so a second pass recomputes and adds nothing, and `uninject` restores exactly.

The annotation is text that a Pod's author may forge, copy from another Pod or edit. So it never decides alone: it only says
how something is spelled that the Pod itself shows to be ours. A hook of the user's is read from the command line that runs
it; the annotation's copy is taken where it means the same. A grace period is undone only down to a smaller one that is not
0. What is left to trust is `nativeSleep`, since a native sleep has no room for a mark: an author who forges it gives his own
sleep away, and gets ours.
"""

from typing import Any, Final

import msgspec

from webhook.core import helper
from webhook.core.names import IMAGE_HELPER, MOUNT_PATH, SIDECAR, STATUS_ANNOTATION, VOLUME
from webhook.core.pod import (
    ABSENT,
    EMPTY,
    Container,
    Handler,
    Pod,
    Raw,
    handler,
    port_number,
    pre_stop,
    present,
)


class GraceStatus(msgspec.Struct, omit_defaults=True):
    """Seconds; `was` is null where a manifest left it to the default."""

    now: int
    was: int | None = None
    sum: str = ""


class ContainerStatus(msgspec.Struct, omit_defaults=True, rename="camel"):
    """One container's part.

    `pre_stop` is the handler that it had, `readiness` names the probe that we added, `entrypoint` is the command that we wrote
    where it had none, `empty` names parents that were there without a member.
    """

    mode: str = ""
    profile: str = ""
    codes: list[str] = []
    pre_stop: Raw = ABSENT
    native_sleep: int | None = None
    readiness: str = ""
    entrypoint: list[str] | None = None
    empty: list[str] = []


class Status(msgspec.Struct, omit_defaults=True):
    """The annotation."""

    version: str = ""
    grace: GraceStatus | None = None
    containers: dict[str, ContainerStatus] = {}
    empty: list[str] = []


class Before(msgspec.Struct):
    """A container without what we put into it. `mounted`: our volume is there now."""

    command: list[str] | None
    args: list[str] | None
    pre_stop: Raw | None
    readiness: Raw | None
    mounted: bool = False
    helper_possible: bool = True
    empty: list[str] = []


class _Probe(Handler, rename="camel"):
    """A probe with its times."""

    initial_delay_seconds: int | None = None
    timeout_seconds: int | None = None
    success_threshold: int | None = None
    failure_threshold: int | None = None


PROBE_TIMES: Final = {
    "timeoutSeconds": 2,
    "periodSeconds": 2,
    "successThreshold": 1,
    "failureThreshold": 5,
}
"""Of the probes that we add. The kubelet probes for the first time before the container runs, since the sidecar starts first, and a whole
period later again: a short one keeps rollouts quick. 10 s of failures, 2 s each, until a Pod is taken out: as patient as with longer ones.
"""

_TIMES: Final = [
    (f.name, PROBE_TIMES[f.encode_name])
    for f in msgspec.structs.fields(_Probe)
    if f.encode_name in PROBE_TIMES
]
_probe: Final = msgspec.json.Decoder(_Probe)
_decoder: Final = msgspec.json.Decoder(Status)
_encoder: Final = msgspec.json.Encoder(order="deterministic")


def encode(status: Status) -> str:
    """Write the annotation: the same status gives the same text."""
    return _encoder.encode(status).decode()


def read(pod: Pod) -> Status | None:
    """Read the annotation; None where it is missing or not ours to read (then what our names show is all that is undone)."""
    text = ((pod.metadata or EMPTY).annotations or {}).get(STATUS_ANNOTATION)
    if text is None:
        return None
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def is_sidecar(container: Container) -> bool:
    """Whether an init container is our sidecar."""
    return (
        container.name == SIDECAR
        and bool(container.command)
        and (container.command or [""])[0] == IMAGE_HELPER
    )


def sidecar_index(pod: Pod) -> int | None:
    """Where our sidecar is, if it is there."""
    for i, container in enumerate(pod.spec.init_containers or ()):
        if is_sidecar(container):
            return i
    return None


def grace_before(pod: Pod, status: Status | None) -> int | None:
    """Give the grace period as the user set it: what stands there, unless it is exactly what we made of a smaller one."""
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
    """Name the parents in the Pod that are, or were, there without a member: they stay when we leave."""
    spec, annotations = pod.spec, (pod.metadata or EMPTY).annotations
    parents = (
        ("annotations", annotations),
        ("initContainers", spec.init_containers),
        ("volumes", spec.volumes),
    )
    known = status.empty if status is not None else ()
    return [
        name for name, parent in parents if parent is not None and (not parent or name in known)
    ]


def before(container: Container, status: Status | None) -> Before:
    """Strip our parts from a container."""
    view = Before(
        helper.unwrap(container.command),
        helper.unwrap(container.args),
        pre_stop(container),
        present(container.readiness_probe),
    )
    mounts = container.volume_mounts
    for mount in mounts or ():
        if mount.mount_path.rstrip("/") == MOUNT_PATH:
            view.mounted = mount.name == VOLUME
            view.helper_possible = view.mounted
    record = status.containers.get(container.name) if status is not None else None
    if mounts == [] or container.lifecycle == {} or (record is not None and record.empty):
        parents = (("lifecycle", container.lifecycle), ("volumeMounts", mounts))
        known = record.empty if record is not None else ()
        view.empty = [
            name for name, parent in parents if parent is not None and (not parent or name in known)
        ]
    if (
        record is not None
        and record.entrypoint
        and view.command is not container.command
        and view.command == record.entrypoint
    ):
        view.command = None
    if view.pre_stop is not None:
        view.pre_stop = _pre_stop(container, view.pre_stop, record)
    if (
        record is not None
        and record.readiness
        and view.readiness is not None
        and probe_name(view.readiness) == record.readiness
    ):
        view.readiness = None
    return view


def probe_name(raw: Raw) -> str:
    """Name a probe of ours by kind, port and times: `http:8080/healthz`, `tcp:5432`, `grpc:9000`; "" if it is not like one of ours."""
    probe = _probe.decode(raw)
    if probe.initial_delay_seconds or any(getattr(probe, name) != value for name, value in _TIMES):
        return ""
    if probe.http_get is not None:
        return f"http:{probe.http_get.port}{probe.http_get.path or '/'}"
    if probe.tcp_socket is not None:
        return f"tcp:{probe.tcp_socket.port}"
    return f"grpc:{probe.grpc.port}" if probe.grpc is not None else ""


def made_name(probe: dict[str, Any]) -> str:
    """Name a probe that we made, as `probe_name` will name it when it comes back."""
    if (get := probe.get("httpGet")) is not None:
        return f"http:{get['port']}{get['path']}"
    kind = "tcp" if "tcpSocket" in probe else "grpc"
    return f"{kind}:{(probe.get('tcpSocket') or probe['grpc'])['port']}"


def _pre_stop(container: Container, raw: Raw, record: ContainerStatus | None) -> Raw | None:
    """Give the user's own preStop: the one that stands there, the one inside ours, or none."""
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
        user.http_get.port = port_number(user.http_get.port, container) or 0
    return helper.hook(user) == words
