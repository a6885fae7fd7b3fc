"""The part of a Pod that we read, typed.

In: the JSON of a Pod, decoded by msgspec. Out: structs. Fields that no rule reads are not here:
they stay untouched, because a patch names only our own paths. Parts that are handed on unread, or
seldom read, stay raw JSON (`msgspec.Raw`). Fields mean what they mean in the Kubernetes API,
core/v1. `gc=False`: a tree has no cycles, and a hostile one has a million leaves.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

Raw = msgspec.Raw
ABSENT: Final = Raw()

MESSAGE_PATH: Final = "/dev/termination-log"
"""What the API server fills in for `terminationMessagePath` (core/v1 defaulting)."""

_NULL: Final = Raw(b"null")


def present(raw: Raw) -> Raw | None:
    """Give a raw field, or None if it is absent or null (msgspec has no optional raw field)."""
    return raw if raw and raw != _NULL else None


class Port(msgspec.Struct, rename="camel", gc=False, frozen=True):
    """`containers[].ports[]`."""

    container_port: int = 0
    name: str | None = None
    protocol: str | None = None
    host_port: int | None = None


class Exec(msgspec.Struct, gc=False, frozen=True):
    """An exec handler."""

    command: list[str] | None = None


class HttpHeader(msgspec.Struct, gc=False, frozen=True):
    """One header of an httpGet handler."""

    name: str = ""
    value: str = ""


class HttpGet(msgspec.Struct, rename="camel", gc=False, frozen=True):
    """An httpGet handler; `port` is a number or a port's name."""

    port: int | str = 0
    path: str | None = None
    scheme: str | None = None
    host: str | None = None
    http_headers: list[HttpHeader] | None = None


class PortHandler(msgspec.Struct, gc=False, frozen=True):
    """A tcpSocket or grpc handler."""

    port: int | str = 0
    service: str | None = None
    host: str | None = None


class Sleep(msgspec.Struct, gc=False, frozen=True):
    """The native sleep handler."""

    seconds: int = 0


class Handler(msgspec.Struct, rename="camel", gc=False, frozen=True):
    """A lifecycle handler, or a probe: a handler with its times."""

    exec: Exec | None = None
    http_get: HttpGet | None = None
    tcp_socket: PortHandler | None = None
    grpc: PortHandler | None = None
    sleep: Sleep | None = None
    initial_delay_seconds: int | None = None
    timeout_seconds: int | None = None
    period_seconds: int | None = None
    success_threshold: int | None = None
    failure_threshold: int | None = None


class Mount(msgspec.Struct, rename="camel", gc=False, frozen=True):
    """`containers[].volumeMounts[]`."""

    name: str = ""
    mount_path: str = ""
    read_only: bool | None = None


class Container(msgspec.Struct, rename="camel", gc=False, frozen=True):
    """`containers[]` and `initContainers[]`."""

    name: str
    image: str | None = None
    command: list[str] | None = None
    args: list[str] | None = None
    ports: list[Port] | None = None
    lifecycle: dict[str, Raw] | None = None
    """Raw, by member: a preStop is restored exactly, and members newer than this code are seen."""
    readiness_probe: Raw = ABSENT
    liveness_probe: Raw = ABSENT
    startup_probe: Raw = ABSENT
    volume_mounts: list[Mount] | None = None
    resources: Raw = ABSENT
    restart_policy: str | None = None
    termination_message_path: str | None = None
    termination_message_policy: str | None = None
    env: Raw = ABSENT
    security_context: Raw = ABSENT


class Variable(msgspec.Struct, gc=False, frozen=True):
    """`containers[].env[]`; one from another source has no value here."""

    name: str = ""
    value: str | None = None


class Gate(msgspec.Struct, rename="camel", gc=False, frozen=True):
    """`spec.readinessGates[]`."""

    condition_type: str = ""


class Toleration(msgspec.Struct, gc=False, frozen=True):
    """`spec.tolerations[]`; without a key it tolerates everything, and says nothing."""

    key: str = ""
    value: str | None = None


class Owner(msgspec.Struct, gc=False, frozen=True):
    """`metadata.ownerReferences[]`."""

    kind: str = ""
    controller: bool | None = None


class Named(msgspec.Struct, gc=False, frozen=True):
    """Anything of which we read only the name."""

    name: str = ""


class Claim(msgspec.Struct, rename="camel", gc=False, frozen=True):
    """`volumes[].persistentVolumeClaim`."""

    read_only: bool | None = None


class Volume(msgspec.Struct, rename="camel", gc=False, frozen=True):
    """`volumes[]`: its name, whether it is an image (KEP-4639), and its claim."""

    name: str = ""
    image: Raw = ABSENT
    persistent_volume_claim: Claim | None = None


class Os(msgspec.Struct, gc=False, frozen=True):
    """`spec.os`."""

    name: str = ""


class PodSecurityContext(msgspec.Struct, rename="camel", gc=False, frozen=True):
    """The part of `spec.securityContext` that affects the sidecar."""

    run_as_user: int | None = None
    windows_options: dict[str, Raw] | None = None


class Spec(msgspec.Struct, rename="camel", gc=False, frozen=True):
    """`spec`."""

    containers: list[Container]
    init_containers: list[Container] | None = None
    volumes: list[Volume] | None = None
    image_pull_secrets: list[Named] | None = None
    service_account: str | None = None
    """Deprecated: the API server fills it in, from serviceAccountName."""
    restart_policy: str | None = None
    termination_grace_period_seconds: int | None = None
    host_network: bool | None = None
    share_process_namespace: bool | None = None
    host_pid: bool | None = msgspec.field(default=None, name="hostPID")
    os: Os | None = None
    node_selector: dict[str, str] | None = None
    affinity: Raw = ABSENT
    security_context: PodSecurityContext | None = None
    resources: Raw = ABSENT
    readiness_gates: list[Gate] | None = None
    tolerations: list[Toleration] | None = None
    runtime_class_name: str | None = None


class Metadata(msgspec.Struct, rename="camel", gc=False, frozen=True):
    """`metadata`; the name is empty on a create with generateName."""

    name: str | None = None
    generate_name: str | None = None
    namespace: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[Owner] | None = None


class Pod(msgspec.Struct, rename="camel", gc=False, frozen=True):
    """The part of a Pod that the decision reads."""

    spec: Spec
    metadata: Metadata | None = None


EMPTY: Final = Metadata()
_variables = msgspec.json.Decoder(list[Variable])
_handler = msgspec.json.Decoder(Handler)
_string = msgspec.json.Decoder(str)


def every_container(pod: Pod) -> Sequence[Container]:
    """Give the containers, then the init containers."""
    spec = pod.spec
    return [*spec.containers, *spec.init_containers] if spec.init_containers else spec.containers


def handler(raw: Raw) -> Handler:
    """Decode a lifecycle handler or a probe.

    Raises `msgspec.ValidationError` for one that the API server would have refused.
    """
    return _handler.decode(raw)


def pre_stop(container: Container) -> Raw | None:
    """Give the preStop handler of a container."""
    return present(container.lifecycle.get("preStop", ABSENT)) if container.lifecycle else None


def stop_signal(container: Container) -> str:
    """Give the stop signal that the Pod names (KEP-4960), without SIG, or ""."""
    raw = present(container.lifecycle.get("stopSignal", ABSENT)) if container.lifecycle else None
    return "" if raw is None else _string.decode(raw).removeprefix("SIG")


def port_number(port: int | str, container: Container) -> int | None:
    """Resolve a handler's port: a number, or the name of one that its container declares."""
    if isinstance(port, int):
        return port
    for declared in container.ports or ():
        if declared.name == port:
            return declared.container_port
    return int(port) if port.isascii() and port.isdigit() else None


def owner_kind(metadata: Metadata | None) -> str:
    """Give the kind of the Pod's controller, "" without one."""
    for owner in (metadata.owner_references if metadata is not None else None) or ():
        if owner.controller:
            return owner.kind
    return ""


def variables(container: Container) -> dict[str, str]:
    """Give those environment variables whose values are in the Pod itself."""
    raw = present(container.env)
    if raw is None:
        return {}
    return {v.name: v.value for v in _variables.decode(raw) if v.value is not None}
