"""What a Pod and its containers are, before anything is decided about them.

In: the Pod as received, settings, and what the operator decided. Out: `Facts` for the Pod and a `Look` for each container:
the container as it was before us, its role, its ports, what it runs, and its profile. Nothing is settled here.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

from webhook.core import ports, sidecar
from webhook.core.decision import Facts, Look
from webhook.core.names import MESH_PROXIES
from webhook.core.pod import Container, Pod, present
from webhook.core.profile import GENERIC, Profile
from webhook.core.settings import Operator, PodSettings, Settings
from webhook.core.status import Before, before, grace_before, read

DEFAULT_GRACE: Final = 30
"""Seconds: what the API server fills in before webhooks run (core/v1 defaulting); a manifest on
disk may lack it."""


def pod_facts(pod: Pod, settings: PodSettings, operator: Operator) -> Facts:
    """Gather what holds for the whole Pod."""
    spec = pod.spec
    status = read(pod)
    was = grace_before(pod, status)
    at = sidecar.index(pod)
    proxies = [c.name in MESH_PROXIES for c in spec.containers]
    native = [c.name in MESH_PROXIES for c in spec.init_containers or ()]
    return Facts(
        status=status,
        # A negative one acts as 1 (core/v1, strategy of deletion).
        grace=DEFAULT_GRACE if was is None else was if was >= 0 else 1,
        grace_was=was,
        sidecar_at=at,
        mesh=any(proxies) or any(native),
        gateway=all(proxies),
        shared_pid=bool(spec.share_process_namespace or spec.host_pid),
        host_network=bool(spec.host_network),
        no_helper=sidecar.why_no_helper(
            pod, operator, at, windows=is_windows(pod), wanted=settings.sidecar
        ),
    )


def container_look(
    index: int, container: Container, facts: Facts, settings: Settings, operator: Operator
) -> Look:
    """Look at one container."""
    view = before(container, facts.status)
    if settings.mode == "off":
        return Look(index, container, view, settings, "off")
    if container.name in MESH_PROXIES and not facts.gateway:
        return Look(index, container, view, settings, "proxy")
    probes = ports.network_probes(container, view)
    found = settings.ports or ports.serving(container, probes)
    if not found and settings.mode == "auto":
        return Look(index, container, view, settings, "idle", probes)
    command = _command(container, view, settings, operator)
    profile, source = _profile(container, view, command, settings, operator)
    # An image's name is a hint only: the process tree, which the helper sees, is better evidence.
    detect = profile is GENERIC or source == "profile-image"
    return Look(
        index,
        container,
        view,
        settings,
        "server",
        probes,
        found,
        command,
        profile,
        source,
        detect,
    )


def is_windows(pod: Pod) -> bool:
    """Whether the Pod is made for Windows nodes."""
    spec = pod.spec
    if spec.os is not None and spec.os.name:
        return spec.os.name == "windows"
    context = spec.security_context
    return (spec.node_selector or {}).get("kubernetes.io/os") == "windows" or (
        context is not None and present(context.windows_options) is not None
    )


def _command(
    container: Container, view: Before, settings: Settings, operator: Operator
) -> Sequence[str]:
    """Return what it runs before its args: its command, its annotation, the operator's look-up."""
    if view.command:
        return view.command
    if settings.entrypoint:
        return settings.entrypoint
    image = container.image or ""
    for entry in operator.images:
        if fnmatchcase(image, entry.match):
            return entry.entrypoint + (() if view.args else entry.cmd)
    return ()


def _profile(
    container: Container,
    view: Before,
    command: Sequence[str],
    settings: Settings,
    operator: Operator,
) -> tuple[Profile, str]:
    """Find the profile, and the code of where: the annotation, the command, else the image's name."""
    index = operator.profiles
    if settings.profile is not None:
        return index.by_name[settings.profile], "profile-annotated"
    if command:
        found = index.by_command([*command, *(view.args or ())])
        return (GENERIC, "profile-generic") if found is None else (found, "profile-command")
    found = index.by_image(container.image or "", view.args or ())
    return (GENERIC, "profile-generic") if found is None else (found, "profile-image")
