"""What a cluster holds of podgrace, read once.

In: a `Cluster`. Out: `Facts`: the objects of every release, found by label and by what they call,
never by name; what each Pod serves; what a dry run gives. An error takes the place of what can't be
read, and does not hide the rest. Right or wrong belongs in `verdict`.
"""

import base64
import contextlib
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from webhook.cli.check import namespace, served
from webhook.cli.check.namespace import Found
from webhook.cli.check.selector import selects
from webhook.cli.cluster import Cluster, ClusterError
from webhook.core.names import DISABLED, ENABLED, INJECT_LABEL, PREFIX, VOLUME

OURS: Final = f".{PREFIX.rstrip('/')}"
"""How the names of our entries end, in a release of any name."""
LOOKED_AT: Final = 3
"""Pods of a release whose certificate is looked at; all of them have it from one Secret."""
TRIES: Final = 3
"""Dry runs of a kind; the fastest counts, because load only makes one slower."""

_PART_OF: Final = "app.kubernetes.io/part-of=podgrace"
_ADMISSION: Final = "admissionregistration.k8s.io/v1"

Served = served.Served
Unread = ClusterError
"""Takes the place of something that could not be read."""

T = TypeVar("T")


class Metadata(msgspec.Struct, rename="camel"):
    """Of any object."""

    name: str = ""
    namespace: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    deletion_timestamp: str | None = None


class Service(msgspec.Struct):
    """Whom an API server calls."""

    name: str = ""
    namespace: str = ""


class Client(msgspec.Struct, rename="camel"):
    """`clientConfig` of an entry."""

    service: Service | None = None
    url: str | None = None
    ca_bundle: str = ""

    @property
    def bundle(self) -> bytes:
        """The certificates that an API server trusts, PEM."""
        with contextlib.suppress(ValueError):
            return base64.b64decode(self.ca_bundle)
        return b""


class Rule(msgspec.Struct):
    """What an entry is called for."""

    operations: list[str] = []
    resources: list[str] = []


class Entry(msgspec.Struct, rename="camel"):
    """One of a configuration's webhooks."""

    name: str = ""
    client_config: Client = msgspec.field(default_factory=Client)
    namespace_selector: dict[str, Any] | None = None
    object_selector: dict[str, Any] | None = None
    failure_policy: str = "Fail"
    reinvocation_policy: str = "Never"
    timeout_seconds: int = 10
    rules: list[Rule] = []


class Configuration(msgspec.Struct):
    """A MutatingWebhookConfiguration."""

    metadata: Metadata = msgspec.field(default_factory=Metadata)
    webhooks: list[Entry] = []


class Port(msgspec.Struct, rename="camel"):
    """A container's."""

    name: str = ""
    container_port: int = 0


class Container(msgspec.Struct):
    """Of the webhook's Pod."""

    name: str = ""
    image: str = ""
    ports: list[Port] = []


class PodSpec(msgspec.Struct):
    """What runs."""

    containers: list[Container] = []


class Template(msgspec.Struct):
    """What will run."""

    spec: PodSpec = msgspec.field(default_factory=PodSpec)


class DeploymentSpec(msgspec.Struct):
    """What is wanted."""

    replicas: int = 1
    template: Template = msgspec.field(default_factory=Template)


class Deployment(msgspec.Struct):
    """The webhook's."""

    metadata: Metadata = msgspec.field(default_factory=Metadata)
    spec: DeploymentSpec = msgspec.field(default_factory=DeploymentSpec)


class Conditions(msgspec.Struct):
    """Of an endpoint."""

    ready: bool | None = None


class Target(msgspec.Struct):
    """What an endpoint is."""

    name: str = ""


class Endpoint(msgspec.Struct, rename="camel"):
    """An address of the Service."""

    addresses: list[str] = []
    conditions: Conditions = msgspec.field(default_factory=Conditions)
    target_ref: Target | None = None


class Slice(msgspec.Struct):
    """An EndpointSlice."""

    endpoints: list[Endpoint] | None = None


class Waiting(msgspec.Struct):
    """Why a container does not run."""

    reason: str = ""
    message: str = ""


class State(msgspec.Struct):
    """Of a container."""

    waiting: Waiting | None = None


class ContainerStatus(msgspec.Struct):
    """Of a container."""

    name: str = ""
    ready: bool = False
    state: State = msgspec.field(default_factory=State)


class PodStatus(msgspec.Struct, rename="camel"):
    """Of a Pod."""

    phase: str = ""
    container_statuses: list[ContainerStatus] = []


class Pod(msgspec.Struct):
    """One of the webhook's."""

    metadata: Metadata = msgspec.field(default_factory=Metadata)
    status: PodStatus = msgspec.field(default_factory=PodStatus)


class Policy(msgspec.Struct):
    """An admission policy of ours."""

    metadata: Metadata = msgspec.field(default_factory=Metadata)


class BindingSpec(msgspec.Struct, rename="camel"):
    """What is bound."""

    policy_name: str = ""


class Binding(msgspec.Struct):
    """A policy's binding."""

    metadata: Metadata = msgspec.field(default_factory=Metadata)
    spec: BindingSpec = msgspec.field(default_factory=BindingSpec)


class Space(msgspec.Struct):
    """A namespace."""

    metadata: Metadata = msgspec.field(default_factory=Metadata)


class Try(NamedTuple):
    """A dry run in a namespace. `added` is the webhook's share in seconds, None if unknown."""

    namespace: str
    found: Found
    helper: str = ""
    added: float | None = None


class Release(NamedTuple):
    """One installation, and what was read of it."""

    name: str
    namespace: str
    configuration: Configuration | None
    deployment: Deployment | None
    endpoints: tuple[Endpoint, ...] | Unread = ()
    unready: str = ""
    """Why one of its Pods is not ready, where there is one."""
    served: tuple[Served, ...] | Unread = ()
    opted_in: tuple[str, ...] | Unread = ()
    eligible: tuple[str, ...] = ()
    trial: Try | Unread | None = None


class Facts(NamedTuple):
    """Everything that was read."""

    releases: tuple[Release, ...]
    configurations: list[Configuration] | Unread
    deployments: list[Deployment] | Unread
    policies: list[Policy] | Unread
    bindings: list[Binding] | Unread
    in_tree: list[Policy] | Unread
    """Policies of a release in mode `policy`, which has no webhook."""


def read(reach: Cluster) -> Facts:
    """Read everything once. Raises `ClusterError` where no API server answers."""

    def listed(version: str, resource: str, kind: type[T], selector: str = "") -> list[T] | Unread:
        path = reach.listing(version, resource, namespaced=False)
        return _tried(lambda: list(reach.items(path, kind, selector=selector)))

    wanted: tuple[tuple[Any, ...], ...] = (
        (_ADMISSION, "mutatingwebhookconfigurations", Configuration),
        ("apps/v1", "deployments", Deployment, f"{_PART_OF},app.kubernetes.io/component=webhook"),
        (_ADMISSION, "validatingadmissionpolicies", Policy, _PART_OF),
        (_ADMISSION, "validatingadmissionpolicybindings", Binding, _PART_OF),
        (_ADMISSION, "mutatingadmissionpolicies", Policy, _PART_OF),
        ("v1", "namespaces", Space),
    )
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda parts: listed(*parts), wanted))
    for answer in answers:
        if isinstance(answer, ClusterError) and not answer.status:
            raise answer
    configurations, deployments, policies, bindings, in_tree, spaces = answers
    found = _releases(configurations, deployments)
    return Facts(
        tuple(_looked_at(reach, release, spaces) for release in found),
        configurations,
        deployments,
        policies,
        bindings,
        in_tree,
    )


def ours(configurations: Iterable[Configuration]) -> list[Configuration]:
    """Choose the configurations that have an entry of ours."""
    return [c for c in configurations if any(e.name.endswith(OURS) for e in c.webhooks)]


def _releases(
    configurations: list[Configuration] | Unread, deployments: list[Deployment] | Unread
) -> list[Release]:
    """Bring together who is called and who runs."""
    called = [] if isinstance(configurations, ClusterError) else ours(configurations)
    running = [] if isinstance(deployments, ClusterError) else list(deployments)
    found = []
    for configuration in called:
        deployment = next((d for d in running if _belongs(configuration, d)), None)
        if deployment is not None:
            running.remove(deployment)
        service = configuration.webhooks[0].client_config.service
        space = (
            service.namespace if service else deployment.metadata.namespace if deployment else ""
        )
        name = configuration.metadata.labels.get(_INSTANCE) or configuration.metadata.name
        found.append(Release(name, space, configuration, deployment))
    found += [
        Release(d.metadata.labels.get(_INSTANCE) or d.metadata.name, d.metadata.namespace, None, d)
        for d in running
    ]
    return sorted(found, key=lambda release: (release.namespace, release.name))


_INSTANCE: Final = "app.kubernetes.io/instance"


def _belongs(configuration: Configuration, deployment: Deployment) -> bool:
    """Whether the configuration calls the Deployment: by its Service, or, with a url, by label."""
    service = configuration.webhooks[0].client_config.service
    there = deployment.metadata
    if service is not None:
        return (service.namespace, service.name) == (there.namespace, there.name)
    same = configuration.metadata.labels.get(_INSTANCE) == there.labels.get(_INSTANCE)
    return same and configuration.metadata.name.endswith((there.name, f"-{there.namespace}"))


def _looked_at(reach: Cluster, release: Release, spaces: list[Space] | Unread) -> Release:
    """Read what belongs to one release."""
    service = _service(release)
    endpoints: tuple[Endpoint, ...] | Unread = ()
    if service is not None:
        path = f"/apis/discovery.k8s.io/v1/namespaces/{service.namespace}/endpointslices"
        chosen = f"kubernetes.io/service-name={service.name}"
        slices = _tried(lambda: list(reach.items(path, Slice, selector=chosen)))
        endpoints = (
            slices
            if isinstance(slices, ClusterError)
            else tuple(e for each in slices for e in each.endpoints or ())
        )
    release = release._replace(endpoints=endpoints, unready=_unready(reach, release))
    configuration = release.configuration
    if configuration is None:
        return release
    release = release._replace(served=_tried(lambda: _served(reach, release)))
    if isinstance(spaces, ClusterError):
        return release._replace(opted_in=spaces)
    opted_in, eligible = selected(configuration, spaces)
    release = release._replace(opted_in=opted_in, eligible=eligible)
    place = next(iter(opted_in), None) or _plainest(eligible)
    if place is None:
        return release
    return release._replace(trial=_tried(lambda: _trial(reach, place)))


def _unready(reach: Cluster, release: Release) -> str:
    """Name a container that does not run or is not ready, and the kubelet's reason."""
    deployment = release.deployment
    if deployment is None:
        return ""
    path = f"/api/v1/namespaces/{deployment.metadata.namespace}/pods"
    labels = deployment.metadata.labels
    chosen = ",".join(
        f"{key}={labels[key]}"
        for key in ("app.kubernetes.io/name", _INSTANCE, "app.kubernetes.io/component")
        if key in labels
    )
    pods = _tried(lambda: list(reach.items(path, Pod, selector=chosen)))
    for pod in () if isinstance(pods, ClusterError) else pods:
        for container in pod.status.container_statuses:
            if not container.ready and not pod.metadata.deletion_timestamp:
                waiting = container.state.waiting
                why = f"{waiting.reason} {waiting.message}".strip() if waiting else "not ready"
                return f"container {container.name} of Pod {pod.metadata.name}: {why}"
    return ""


def _service(release: Release) -> Service | None:
    if release.configuration is not None:
        return release.configuration.webhooks[0].client_config.service
    there = release.deployment.metadata if release.deployment else Metadata()
    return Service(there.name, there.namespace)


def _plainest(names: tuple[str, ...]) -> str | None:
    return "default" if "default" in names else next(iter(names), None)


def selected(
    configuration: Configuration, spaces: Iterable[Space]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Name the namespaces whose Pods are all selected, and those whose Pods may opt in."""
    opted_in, eligible = [], []
    for space in spaces:
        labels = space.metadata.labels
        if space.metadata.deletion_timestamp:
            continue
        for entry in configuration.webhooks:
            if not selects(entry.namespace_selector, labels):
                continue
            if labels.get(INJECT_LABEL) == ENABLED and selects(entry.object_selector, {}):
                opted_in.append(space.metadata.name)
            elif selects(entry.object_selector, {INJECT_LABEL: ENABLED}):
                eligible.append(space.metadata.name)
    return tuple(dict.fromkeys(opted_in)), tuple(dict.fromkeys(eligible))


def ready(endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """Choose the endpoints that are called; no readiness condition means ready (the API's rule)."""
    return [e for e in endpoints if e.conditions.ready is not False]


def _served(reach: Cluster, release: Release) -> tuple[Served, ...]:
    """Look at the certificate of a few Pods."""
    service = _service(release)
    if service is None or isinstance(release.endpoints, ClusterError):
        return ()
    name = f"{service.name}.{service.namespace}.svc"
    entry = release.configuration.webhooks[0] if release.configuration else Entry()
    found = []
    # An expired certificate makes its Pod unready: if none is ready, look for that.
    for endpoint in (ready(release.endpoints) or list(release.endpoints))[:LOOKED_AT]:
        pod = endpoint.target_ref.name if endpoint.target_ref else ""
        if not pod or not endpoint.addresses:
            continue
        with reach.tunnel(service.namespace, pod, endpoint.addresses[0], _port(release)) as address:
            found.append(served.look(pod, address, entry.client_config.bundle, name))
    return tuple(found)


def _port(release: Release) -> int:
    """Give the webhook's port in its Pod."""
    containers = release.deployment.spec.template.spec.containers if release.deployment else []
    ports = [p.container_port for c in containers for p in c.ports if p.name == "https"]
    return ports[0] if ports else 8443


def _trial(reach: Cluster, place: str) -> Try:
    """Have a Pod admitted: once for the outcome, then with and without the webhook for time."""
    try:
        body, _ = namespace.dry_run(reach, place, ENABLED)
    except ClusterError:
        found, _ = namespace.ask(reach, place)
        return Try(place, found)
    found = namespace.found(reach, place, body)
    if found.what != "injected":
        return Try(place, found, _helper(body))
    with_us = min(_timed(lambda: namespace.dry_run(reach, place, ENABLED)) for _ in range(TRIES))
    without = min(_timed(lambda: namespace.dry_run(reach, place, DISABLED)) for _ in range(TRIES))
    return Try(place, found, _helper(body), max(0.0, with_us - without))


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _helper(body: dict[str, Any]) -> str:
    """Give the helper's image, in a container of ours or a volume."""
    spec = body.get("spec") or {}
    for volume in spec.get("volumes") or ():
        if volume.get("name") == VOLUME and "image" in volume:
            return str(volume["image"].get("reference") or "")
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        if container.get("name") == VOLUME:
            return str(container.get("image") or "")
    return ""


def _tried(read: Callable[[], T]) -> T | Unread:
    try:
        return read()
    except ClusterError as error:
        return error
