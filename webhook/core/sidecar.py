"""The sidecar: its container, volume and mount, how it is known again, and where it cannot be.

In: what the operator configured, and a Pod. Out: the parts as JSON; the place of a sidecar that is there; the code of why
a Pod can have none. Putting the parts into a Pod belongs to `patch`, the helper's command lines to `helper`.
"""

from typing import Any, Final

from webhook.core.names import IMAGE_HELPER, MOUNT_PATH, SIDECAR, TOKEN_PATH, VOLUME
from webhook.core.pod import Container, Pod
from webhook.core.resources import fits
from webhook.core.settings import Operator

MOUNT: Final[dict[str, Any]] = {"name": VOLUME, "mountPath": MOUNT_PATH, "readOnly": True}
"""Of the helper's volume, in a container of the user's."""


def container(
    name: str, image: str, policy: str, resources: dict[str, dict[str, str]]
) -> dict[str, Any]:
    """Build the part of the sidecar that is the same in every Pod.

    postStart installs: the kubelet starts the next container only when it has returned. It passes
    Pod Security "restricted"; requests equal limits, so a Guaranteed Pod stays one. Our volume over
    the token's path keeps an API token out.
    """
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": policy,
        "restartPolicy": "Always",
        "lifecycle": {"postStart": {"exec": {"command": [IMAGE_HELPER, "install", MOUNT_PATH]}}},
        "resources": resources,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": VOLUME, "mountPath": MOUNT_PATH},
            {"name": VOLUME, "mountPath": TOKEN_PATH, "readOnly": True},
        ],
    }


def volume(size: str) -> dict[str, Any]:
    """Build the volume that the helper is installed into."""
    return {"name": VOLUME, "emptyDir": {"sizeLimit": size}}


def command(port: int) -> list[str]:
    """Build the sidecar's command line; it opens no port for 0."""
    return [IMAGE_HELPER, "sidecar", f"--install={MOUNT_PATH}", f"--port={port}"]


def for_pod(operator: Operator, port: int, *, root: bool) -> dict[str, Any]:
    """Complete the container for one Pod. `root`: the Pod's own securityContext says runAsUser 0."""
    made = operator.sidecar | {"command": command(port)}
    if root:
        # Ours says runAsNonRoot, and the kubelet would refuse to start it as root.
        context = made["securityContext"]
        made["securityContext"] = {
            **(context if isinstance(context, dict) else {}),
            "runAsUser": 65532,
        }
    return made


def is_sidecar(found: Container) -> bool:
    """Whether an init container is our sidecar."""
    return (
        found.name == SIDECAR and bool(found.command) and (found.command or [""])[0] == IMAGE_HELPER
    )


def index(pod: Pod) -> int | None:
    """Where our sidecar is among the init containers, if it is there."""
    for i, found in enumerate(pod.spec.init_containers or ()):
        if is_sidecar(found):
            return i
    return None


def why_no_helper(
    pod: Pod, operator: Operator, at: int | None, *, windows: bool, wanted: bool
) -> str:
    """Return the code of why no container of this Pod can have the helper, or "".

    `at`: where the sidecar is already; `wanted`: what the author and the operator said.
    """
    if windows:
        return "windows"
    if not wanted:
        return "sidecar-off"
    if not operator.native_sidecar:
        return "unsupported-version"
    if at is not None:
        return ""
    spec = pod.spec
    taken = SIDECAR in [c.name for c in spec.containers] or SIDECAR in [
        c.name for c in spec.init_containers or ()
    ]
    if taken or VOLUME in [v.name for v in spec.volumes or ()]:
        return "name-collision"
    return "" if fits(pod, operator.sidecar_resources) else "pod-resources"
