"""What a Pod and its containers are, before anything is decided.

In: the Pod as received, settings, and the operator's decisions. Out: `Facts` for the Pod and a
`Look` for each container: the container as it was before us, its role, its ports, what it runs, and
its profile. Nothing is settled here but the delay that a load balancer needs (`floored`).
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

from msgspec.structs import replace

from webhook.core import arguments, balancer, ports, sidecar, spot
from webhook.core.decision import Facts, Look
from webhook.core.launchers import Program
from webhook.core.names import ENABLED, INJECT_LABEL, MESH_PROXIES
from webhook.core.pod import EMPTY, Container, Pod, every_container, owner_kind, variables
from webhook.core.profile import GENERIC, Profile, image_name
from webhook.core.settings import Operator, PodSettings, Settings
from webhook.core.status import Before, before, grace_before, read
from webhook.core.virtual import is_virtual
from webhook.core.wasm import is_wasm
from webhook.core.windows import is_windows

DEFAULT_GRACE: Final = 30
"""Seconds that the API server fills in before webhooks run (core/v1 defaulting); a manifest on disk
may lack them."""


_AGENTS: Final = frozenset(
    {"fluent-bit", "promtail", "filebeat", "telegraf", "cadvisor", "falco", "kured"}
    | {"node-exporter", "node-problem-detector"}
)
"""Images that watch or feed from a node, where nobody asks them anything but their metrics."""

_NO_CLAIMS: Final = frozenset[str]()
_UNORDERED: Final = frozenset(
    {"", "Pod", "PodTemplate", "ReplicaSet", "Deployment", "ReplicationController", "DaemonSet"}
    | {"Rollout", "CloneSet", "DeploymentConfig", "Service", "Configuration", "Revision"}
)
"""Kinds whose Pods do not wait for each other. Any other controller may start the second Pod only
when the first is ready (StatefulSet, and the operators of many databases)."""


def pod_facts(pod: Pod, settings: PodSettings, operator: Operator, owner: str) -> Facts:
    """Gather what is true of the whole Pod. `owner`: its kind, if the Pod cannot tell yet."""
    spec = pod.spec
    labels = (pod.metadata or EMPTY).labels or {}
    kind = owner or owner_kind(pod.metadata)
    status = read(pod)
    was = grace_before(pod, status)
    return Facts(
        status=status,
        # A negative one counts as 1 (core/v1, strategy of deletion).
        grace=DEFAULT_GRACE if was is None else was if was >= 0 else 1,
        grace_was=was,
        ours=sidecar.index(pod) is not None or sidecar.volume_index(pod) is not None,
        mesh=not MESH_PROXIES.isdisjoint([c.name for c in every_container(pod)]),
        gateway=MESH_PROXIES.issuperset([c.name for c in spec.containers]),
        shared_pid=bool(spec.share_process_namespace or spec.host_pid),
        host_network=bool(spec.host_network),
        no_helper=sidecar.why_no_helper(pod, operator, place=_place(pod), wanted=settings.sidecar),
        owner=kind,
        ordered=kind not in _UNORDERED,
        notice=spot.notice(spec.node_selector) if spec.node_selector else 0,
        claims=_claims(pod) if spec.volumes else _NO_CLAIMS,
        balancer=balancer.slowest(
            [g.condition_type for g in spec.readiness_gates], operator.balancers
        )
        if spec.readiness_gates
        else None,
        opted_in=bool(owner) or labels.get(INJECT_LABEL) == ENABLED,
    )


def _claims(pod: Pod) -> frozenset[str]:
    """Name the volumes of claims that containers may write to."""
    claims = [(v.name, v.persistent_volume_claim) for v in pod.spec.volumes or ()]
    return frozenset([name for name, claim in claims if claim is not None and not claim.read_only])


def _place(pod: Pod) -> str:
    """Give the code of a place where the helper cannot run, or ""."""
    if is_windows(pod):
        return "windows"
    return "virtual-node" if is_virtual(pod) else "wasm" if is_wasm(pod) else ""


def container_looks(
    pod: Pod, facts: Facts, settings: PodSettings, operator: Operator
) -> list[Look]:
    """Look at each container, in the order of the Pod's."""
    return [
        _look(i, c, facts, settings.containers.get(c.name, settings.default), operator)
        for i, c in enumerate(pod.spec.containers)
    ]


def _look(
    index: int, container: Container, facts: Facts, settings: Settings, operator: Operator
) -> Look:
    view = before(container, facts.status)
    if settings.mode == "off":
        return Look(index, container, view, settings, "off")
    if container.name in MESH_PROXIES and not facts.gateway:
        return Look(index, container, view, settings, "proxy")
    probes = ports.network_probes(container, view)
    found = ports.find(container, probes, settings.ports)
    command = _command(container, view, settings, operator)
    words = [*command, *view.args] if view.args else command
    programs = list(operator.profiles.launchers.programs(words)) if words else ()
    known = programs if command else None
    profile, source = _profile(container, view, known, settings, operator)
    if found.doubtful and found.source == "declared":
        found = ports.named(found, arguments.read(words, variables(container)))
    if found.source in ("", "side"):
        told = arguments.read(words, variables(container))
        by_port = any([kind == "readiness" for kind, _ in probes])  # noqa: C419 - a list is quicker
        by_exec = view.readiness is not None and not by_port
        found = ports.of_unnamed(found, told, profile, ready=by_exec)
    # An image's name is only a hint: the process tree, which the helper sees, is better evidence.
    detect = profile is GENERIC or source == "profile-image"
    return Look(
        index,
        container,
        view,
        settings,
        _workers_role(programs, settings, profile, source, operator)
        if profile.worker and not settings.ports
        else _role(container, view, settings, facts, found),
        probes,
        found.watched,
        found.serving,
        command,
        programs,
        profile,
        source,
        detect,
    )


def _role(
    container: Container, view: Before, settings: Settings, facts: Facts, found: ports.Ports
) -> str:
    """Tell whether it has users. An author who names a mode or ports has said so.

    A DaemonSet's agent serves if its ports say so (by name or number, a host port, or a readiness
    probe on a declared port), or if it runs a known server. A known agent serves by a host port
    only: its port http is for its metrics and health.
    """
    if settings.mode != "auto" or found.source == "annotated":
        return "server"
    if found.source in ("", "side"):
        return "side" if found.source else "idle"
    if facts.owner != "DaemonSet":
        return "server"
    if image_name(container.image or "") not in _AGENTS:
        if found.serving or found.source == "profile":
            return "server"
        if view.readiness is not None and found.source == "declared":
            return "server"
    # On the host network every port of the container is a port of the node: that says nothing.
    exposed = not facts.host_network and any(port.host_port for port in container.ports or ())
    return "server" if exposed else "side"


def _workers_role(
    programs: Sequence[Program],
    settings: Settings,
    profile: Profile,
    source: str,
    operator: Operator,
) -> str:
    """Tell whether a worker needs us. Its author may say so, with a profile or a mode.

    Otherwise it does only if TERM would not work: a shell in front of it keeps TERM to itself, or
    another signal makes it finish its task.
    """
    if source == "profile-annotated" or settings.mode != "auto" or profile.signal != "TERM":
        return "worker"
    return "worker" if operator.profiles.keeper(programs) else "signalled"


def floored(look: Look, facts: Facts, bound: int) -> tuple[Look, str]:
    """Raise the delay to what the Pod's load balancer needs, within the operator's bound.

    A delay that the author set stays: it may be measured. Needs `facts.balancer`. Returns the
    detail, too.
    """
    settings, found = look.settings, facts.balancer
    if found is None:
        return look, ""
    if settings.delay_set:
        return look, f"{found.name}: the delay is as annotated"
    floor = min(found.delay, bound)
    low, high = max(settings.delay_min, floor), max(settings.delay_max, floor)
    late = f", its {found.delay} s exceed the bound" if floor < found.delay else ""
    settings = replace(settings, delay_min=low, delay_max=high)
    return replace(look, settings=settings), f"{found.name}: at least {low} s{late}"


def _command(
    container: Container, view: Before, settings: Settings, operator: Operator
) -> Sequence[str]:
    """Return what it runs before its args: by its command, annotation, or the image look-up."""
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
    programs: Sequence[Program] | None,
    settings: Settings,
    operator: Operator,
) -> tuple[Profile, str]:
    """Find the profile, and the code of its source: annotation, command, or the image's name.

    `programs`: those that its command starts, None if that is not known.
    """
    index = operator.profiles
    if settings.profile is not None:
        return index.by_name[settings.profile], "profile-annotated"
    if programs is not None:
        found = index.by_programs(programs)
        return (GENERIC, "profile-generic") if found is None else (found, "profile-command")
    found = index.by_image(container.image or "", view.args or ())
    return (GENERIC, "profile-generic") if found is None else (found, "profile-image")
