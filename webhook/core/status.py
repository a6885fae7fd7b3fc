"""The record on the Pod: annotation `podgrace.io/status`, and the Pod as it was before us.

In: a Pod, patched or not. Out: `before(pod)`: the values that the user (or another webhook) gave, from which every pass
decides anew; so a second pass recomputes and adds nothing, and `uninject` restores exactly. The annotation is text that a
Pod's author may forge: nothing in it can raise a privilege, it can only describe the author's own Pod.
"""

from typing import Final

import msgspec

from webhook.core import helper
from webhook.core.names import IMAGE_HELPER, MOUNT_PATH, SIDECAR, STATUS_ANNOTATION, VOLUME
from webhook.core.pod import ABSENT, EMPTY, Container, Handler, Pod, Raw, handler, present


class GraceStatus(msgspec.Struct, omit_defaults=True):
    """Seconds; `was` is null where a manifest left it to the default."""

    now: int
    was: int | None = None
    sum: str = ""


class ContainerStatus(msgspec.Struct, omit_defaults=True, rename="camel"):
    """One container's part.

    `pre_stop` is the handler that it had, `readiness` names the probe that we added, `added` the fields (command, args) that it
    did not have.
    """

    mode: str = ""
    profile: str = ""
    codes: list[str] = []
    pre_stop: Raw = ABSENT
    native_sleep: int | None = None
    readiness: str = ""
    added: list[str] = []


class Status(msgspec.Struct, omit_defaults=True):
    """The annotation."""

    version: str = ""
    grace: GraceStatus | None = None
    containers: dict[str, ContainerStatus] = {}


class Before(msgspec.Struct):
    """A container without what we put into it. `mounted`: our volume is there now."""

    command: list[str] | None
    args: list[str] | None
    pre_stop: Raw | None
    readiness: Raw | None
    mounted: bool = False
    helper_possible: bool = True


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
    except (msgspec.DecodeError, UnicodeError):
        return None


def is_sidecar(container: Container) -> bool:
    """Whether an init container is our sidecar."""
    return container.name == SIDECAR and bool(container.command) and (container.command or [""])[0] == IMAGE_HELPER


def sidecar_index(pod: Pod) -> int | None:
    """Where our sidecar is, if it is there."""
    for i, container in enumerate(pod.spec.init_containers or ()):
        if is_sidecar(container):
            return i
    return None


def grace_before(pod: Pod, status: Status | None) -> int | None:
    """Give the grace period as the user set it: what stands there, unless it is exactly what we wrote."""
    now = pod.spec.termination_grace_period_seconds
    if status is not None and status.grace is not None and status.grace.now == now:
        return status.grace.was
    return now


def before(container: Container, status: Status | None) -> Before:
    """Strip our parts from a container."""
    lifecycle = container.lifecycle
    view = Before(container.command, container.args, present(lifecycle.pre_stop) if lifecycle else None, present(container.readiness_probe))
    if container.volume_mounts:
        for mount in container.volume_mounts:
            if mount.mount_path.rstrip("/") == MOUNT_PATH:
                view.mounted = mount.name == VOLUME
                view.helper_possible = view.mounted
    record = status.containers.get(container.name) if status is not None else None
    if container.command and (command := helper.unwrap(container.command)) is not None:
        view.command = command
        if record is not None and "command" in record.added:
            view.command = None
        if record is not None and "args" in record.added:
            view.args = None
    if view.pre_stop is not None and _is_ours(handler(view.pre_stop), record):
        view.pre_stop = present(record.pre_stop) if record is not None else None
    if record is not None and record.readiness and view.readiness is not None and probe_name(handler(view.readiness)) == record.readiness:
        view.readiness = None
    return view


def probe_name(probe: Handler) -> str:
    """Name a probe by kind and port: `http:8080/healthz`, `tcp:5432`, `grpc:9000`."""
    if probe.http_get is not None:
        return f"http:{probe.http_get.port}{probe.http_get.path or '/'}"
    if probe.tcp_socket is not None:
        return f"tcp:{probe.tcp_socket.port}"
    if probe.grpc is not None:
        return f"grpc:{probe.grpc.port}"
    return "exec"


def _is_ours(pre_stop: Handler, record: ContainerStatus | None) -> bool:
    if helper.is_drain(pre_stop):
        return True
    return pre_stop.sleep is not None and record is not None and record.native_sleep == pre_stop.sleep.seconds
