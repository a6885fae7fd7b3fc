"""How the helper gets into a Pod: sidecar, volume and mount; and how they are recognised.

In: what the operator configured, and a Pod. Out: the parts as JSON; where ours are in a Pod; the
code that says why a Pod can have none. Putting the parts into a Pod belongs to `patch`, the
helper's command lines to `helper`.

| delivery | sidecar                        | volume                  | needs                     |
|----------|--------------------------------|-------------------------|---------------------------|
| sidecar  | copies the helper, takes       | emptyDir in memory, no  | native sidecars (1.29)    |
|          | reports, answers httpGet hooks | obstacle to an eviction |                           |
| image    | none                           | the helper's image      | image volumes (1.35), and |
|          |                                |                         | a runtime that has them   |
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from webhook.core.names import (
    IMAGE_HELPER,
    MOUNT_PATH,
    SAFE_TO_EVICT,
    SIDECAR,
    TOKEN_PATH,
    VOLUME,
)
from webhook.core.pod import EMPTY, Container, Pod, Volume, every_container, present
from webhook.core.resources import fits, sidecar_resources
from webhook.core.settings import Operator

MOUNT: Final[dict[str, Any]] = {"name": VOLUME, "mountPath": MOUNT_PATH, "readOnly": True}
"""The mount of the helper's volume, in a user's container."""


_INSTALLS: Final[dict[str, Any]] = {
    "postStart": {"exec": {"command": [IMAGE_HELPER, "install", MOUNT_PATH]}}
}
"""The sidecar's hooks, if a container starts with the helper.

postStart installs the helper: the kubelet starts the next container only after it has returned.
Where only a preStop needs the file, much later, the sidecar installs it as it starts.
"""

SECURITY_CONTEXT: Final[Mapping[str, Any]] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""The sidecar's default securityContext. It passes Pod Security "restricted"."""


def container(
    name: str,
    image: str,
    policy: str,
    security_context: Mapping[str, Any] = SECURITY_CONTEXT,
) -> dict[str, Any]:
    """Build the part of the sidecar that is the same in every Pod.

    Our volume, mounted over the token's path, keeps an API token out.
    """
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": policy,
        "restartPolicy": "Always",
        "securityContext": dict(security_context),
        "volumeMounts": [
            {"name": VOLUME, "mountPath": MOUNT_PATH},
            {"name": VOLUME, "mountPath": TOKEN_PATH, "readOnly": True},
        ],
    }


def memory_volume(size: str) -> dict[str, Any]:
    """Build the volume that the sidecar copies the helper into."""
    return {"name": VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": size}}


def image_volume(image: str, policy: str) -> dict[str, Any]:
    """Build the volume that is the helper's image (KEP-4639)."""
    return {"name": VOLUME, "image": {"reference": image, "pullPolicy": policy}}


def command(operator: Operator, port: int, answers: Sequence[str]) -> list[str]:
    """Build the sidecar's command line; with port 0 it opens none.

    It listens on loopback, unless the kubelet asks it (`answers`: what it then waits for, one for
    each container) or the operator wants its metrics.
    """
    argv = [IMAGE_HELPER, "sidecar", f"--install={MOUNT_PATH}", f"--port={port}"]
    if port and (answers or operator.sidecar_metrics):
        argv.append("--listen=pod")
    if answers:
        argv += [f"--answer={answer}" for answer in answers]
    return argv


def for_pod(
    pod: Pod, operator: Operator, port: int, answers: Sequence[str], *, wraps: bool
) -> dict[str, Any]:
    """Complete the container for one Pod. `port`, `answers`: see `command`.

    `wraps`: a container of the Pod starts with the helper.
    """
    made = operator.sidecar | {
        "command": command(operator, port, answers),
        "resources": resources(pod, operator),
    }
    if wraps:
        made["lifecycle"] = _INSTALLS
    context = pod.spec.security_context
    if context is not None and context.run_as_user == 0:
        made["securityContext"] = _beside_root(operator.sidecar["securityContext"])
    return made


def _beside_root(context: Any) -> dict[str, Any]:
    """Change runAsNonRoot in a Pod with runAsUser 0: the kubelet would refuse to start it.

    Our own context names another user. If the operator's names none, the platform chooses the user,
    and it has chosen root.
    """
    if not context.get("runAsNonRoot") or "runAsUser" in context:
        return dict(context)
    if context == SECURITY_CONTEXT:
        return {**context, "runAsUser": 65532}
    return {key: value for key, value in context.items() if key != "runAsNonRoot"}


def resources(pod: Pod, operator: Operator) -> dict[str, dict[str, str]]:
    """Choose the sidecar's resources in this Pod."""
    granted = operator.sidecar_resources
    return sidecar_resources(pod, granted["requests"], granted["limits"])


def is_sidecar(found: Container) -> bool:
    """Whether an init container is our sidecar."""
    return (
        found.name == SIDECAR and bool(found.command) and (found.command or [""])[0] == IMAGE_HELPER
    )


def index(pod: Pod) -> int | None:
    """Find the index of our sidecar among the init containers, if it is there."""
    for i, found in enumerate(pod.spec.init_containers or ()):
        if is_sidecar(found):
            return i
    return None


def volume_index(pod: Pod) -> int | None:
    """Find the index of our volume, if any: beside our sidecar, or an image at our path."""
    for i, volume in enumerate(pod.spec.volumes or ()):
        if volume.name == VOLUME:
            return i if index(pod) is not None or _is_mounted_image(pod, volume) else None
    return None


def evictable(pod: Pod, *, added: bool, wanted: bool, empty: bool) -> tuple[str | None, bool]:
    """Give the annotation that lets the cluster autoscaler evict a Pod despite our volume.

    `added`: we are in its list already; `wanted`: we should be; `empty`: it was there before us,
    but empty. Returns its value, None for no annotation, and whether we are in it now. The list is
    the user's: we join at its end, and leave no trace.
    """
    value = ((pod.metadata or EMPTY).annotations or {}).get(SAFE_TO_EVICT)
    if value is not None and added:
        value = ",".join(name for name in value.split(",") if name != VOLUME)
        if not value and not empty:
            value = None
    if not wanted or (value is not None and VOLUME in value.split(",")):
        return value, False
    return (f"{value},{VOLUME}" if value else VOLUME), True


def why_no_helper(pod: Pod, operator: Operator, *, place: str, wanted: bool) -> str:
    """Return the code that says why no container of this Pod can have the helper, or "".

    `place`: the code of a node that the helper cannot run on, or "". `wanted`: what the author and
    the operator said.
    """
    if place:
        return place
    if not wanted:
        return "sidecar-off"
    spec = pod.spec
    if spec.volumes and VOLUME in [v.name for v in spec.volumes] and volume_index(pod) is None:
        return "name-collision"
    if operator.delivery == "image":
        return ""
    if not operator.native_sidecar:
        return "unsupported-version"
    if SIDECAR in [c.name for c in every_container(pod)] and index(pod) is None:
        return "name-collision"
    # Checked at each pass: a container that came later may have taken the room.
    if present(spec.resources) is None or fits(pod, resources(pod, operator)):
        return ""
    return "pod-resources"


def _is_mounted_image(pod: Pod, volume: Volume) -> bool:
    return present(volume.image) is not None and any(
        mount.name == VOLUME and mount.mount_path.rstrip("/") == MOUNT_PATH
        for found in pod.spec.containers
        for mount in found.volume_mounts or ()
    )
