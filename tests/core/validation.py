"""What the API server checks in a patched Pod, as far as our patch could break it.

In: a Pod as JSON. Out: every violation, one sentence each. Rewritten from the validation rules of
core/v1 (pkg/apis/core/validation, Pod Security "restricted" for the sidecar); the cluster tests ask
a real API server the same.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
PORT_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?")
HANDLERS = {"exec", "httpGet", "tcpSocket", "grpc", "sleep"}
WINDOWS_FORBIDS = {
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "allowPrivilegeEscalation",
    "privileged",
    "runAsUser",
    "runAsGroup",
}


def problems(pod: dict[str, Any]) -> list[str]:
    """Find all of them."""
    spec = pod["spec"]
    return [*_names(spec), *_containers(spec), *_annotations(pod)]


def _names(spec: dict[str, Any]) -> Iterator[str]:
    containers = [*spec["containers"], *(spec.get("initContainers") or ())]
    for what, names in (
        ("container", [c["name"] for c in containers]),
        ("volume", [v["name"] for v in spec.get("volumes") or ()]),
    ):
        for name, count in Counter(names).items():
            if count > 1:
                yield f"{what} {name!r} is there {count} times"
            if not LABEL.fullmatch(name):
                yield f"{what} name {name!r} is not a DNS label"


def _containers(spec: dict[str, Any]) -> Iterator[str]:
    volumes = {v["name"] for v in spec.get("volumes") or ()}
    grace = spec.get("terminationGracePeriodSeconds", 30)
    windows = (spec.get("os") or {}).get("name") == "windows"
    if grace < 0:
        yield f"grace period {grace}"
    for init, container in [(False, c) for c in spec["containers"]] + [
        (True, c) for c in spec.get("initContainers") or ()
    ]:
        at = f"container {container['name']!r}"
        sidecar = init and container.get("restartPolicy") == "Always"
        if init and container.get("restartPolicy") not in (None, "Always"):
            yield f"{at}: restartPolicy {container['restartPolicy']!r} on an init container"
        if (
            init
            and not sidecar
            and any(
                container.get(key)
                for key in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")
            )
        ):
            yield f"{at}: an init container with a lifecycle or a probe"
        paths = [mount["mountPath"] for mount in container.get("volumeMounts") or ()]
        for path, count in Counter(paths).items():
            if count > 1 or ":" in path or not path:
                yield f"{at}: mount path {path!r}"
        for mount in container.get("volumeMounts") or ():
            if mount["name"] not in volumes:
                yield f"{at}: no volume {mount['name']!r}"
        for hook in ("preStop", "postStart"):
            handler = (container.get("lifecycle") or {}).get(hook)
            if handler is not None:
                yield from _handler(
                    f"{at}: {hook}", handler, {"exec", "httpGet", "tcpSocket", "sleep"}
                )
                if "sleep" in handler and not 0 <= handler["sleep"]["seconds"] <= grace:
                    slept = handler["sleep"]["seconds"]
                    yield f"{at}: {hook} sleeps {slept} s of a grace period of {grace} s"
        for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
            if container.get(probe) is not None:
                yield from _probe(f"{at}: {probe}", probe, container[probe])
        for key in ("command", "args"):
            if not all(isinstance(word, str) for word in container.get(key) or ()):
                yield f"{at}: {key} holds something other than strings"
        if windows and WINDOWS_FORBIDS & set(container.get("securityContext") or ()):
            yield f"{at}: a securityContext that Windows forbids"
        resources = container.get("resources") or {}
        if set(resources) - {"requests", "limits", "claims"}:
            yield f"{at}: resources {sorted(resources)}"


def _handler(at: str, handler: dict[str, Any], accepted: set[str]) -> Iterator[str]:
    kinds = HANDLERS & set(handler)
    if len(kinds) != 1 or not kinds <= accepted:
        yield f"{at}: handlers {sorted(kinds)}"
    if "exec" in handler and not handler["exec"].get("command"):
        yield f"{at}: exec without a command"
    for kind in ("httpGet", "tcpSocket", "grpc"):
        if kind in handler:
            port = handler[kind].get("port")
            if not (isinstance(port, int) and 1 <= port <= 65535) and not (
                kind != "grpc"
                and isinstance(port, str)
                and PORT_NAME.fullmatch(port)
                and re.search("[a-z]", port)
            ):
                yield f"{at}: {kind} port {port!r}"
    get = handler.get("httpGet")
    if get is not None and (
        get.get("scheme", "HTTP") not in ("HTTP", "HTTPS") or not get.get("path", "/")
    ):
        yield f"{at}: httpGet {sorted(get)}"


def _probe(at: str, kind: str, probe: dict[str, Any]) -> Iterator[str]:
    yield from _handler(at, probe, {"exec", "httpGet", "tcpSocket", "grpc"})
    for key in (
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ):
        if not 0 <= probe.get(key, 1) < 2**31:
            yield f"{at}: {key} {probe[key]}"
    if kind != "readinessProbe" and probe.get("successThreshold", 1) != 1:
        yield f"{at}: successThreshold {probe['successThreshold']}"
    if kind == "readinessProbe" and "terminationGracePeriodSeconds" in probe:
        yield f"{at}: a readiness probe with a grace period"


def _annotations(pod: dict[str, Any]) -> Iterator[str]:
    annotations = pod["metadata"].get("annotations") or {}
    if not all(isinstance(value, str) for value in annotations.values()):
        yield "an annotation that is no string"
    elif (
        size := sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
    ) > 256 * 1024:
        yield f"annotations of {size} bytes"


def restricted(container: dict[str, Any]) -> list[str]:
    """Tell what Pod Security "restricted" would say about an injected container."""
    context = container.get("securityContext") or {}
    found = []
    if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
        found.append("runs as root")
    if context.get("allowPrivilegeEscalation") is not False:
        found.append("allowPrivilegeEscalation")
    if (context.get("capabilities") or {}).get("drop") != ["ALL"] or (
        context.get("capabilities") or {}
    ).get("add"):
        found.append("capabilities")
    if (context.get("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
        found.append("seccompProfile")
    if context.get("privileged") or any(
        port.get("hostPort") for port in container.get("ports") or ()
    ):
        found.append("privileged, or a host port")
    hooks = (container.get("lifecycle") or {}).values()
    if any("host" in (handler.get("httpGet") or {}) for handler in hooks):
        found.append("a handler with a host")
    return found


def guaranteed(pod: dict[str, Any]) -> bool:
    """Whether the Pod is Guaranteed (core/v1, GetPodQOSClass), without a total of its own."""
    spec = pod["spec"]
    return all(
        (limits := (container.get("resources") or {}).get("limits") or {}).keys()
        >= {"cpu", "memory"}
        and {**limits, **(container["resources"].get("requests") or {})} == limits
        for container in (*spec["containers"], *(spec.get("initContainers") or ()))
    )
