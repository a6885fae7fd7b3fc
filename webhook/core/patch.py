"""A plan as JSON Patch (RFC 6902).

In: the Pod as received and its plan. Out: operations in a fixed order, at known paths, each
computed against the received object. Missing parents are created, only our own parts are named,
there is no `test`, and no list is rewritten as a whole. If a patch does not apply, the API server
refuses the Pod even under `failurePolicy: Ignore`, so this module is small. Members of objects are
always set with `add`: it also replaces, and cannot fail if the member is absent.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from webhook.core import sidecar
from webhook.core.decision import Desired, Plan
from webhook.core.names import MOUNT_PATH, SAFE_TO_EVICT, STATUS_ANNOTATION, VOLUME
from webhook.core.pod import EMPTY, Container, Pod, Raw, pre_stop, present
from webhook.core.restart import Graces, graces

Op = dict[str, Any]

_GRACE: Final = "terminationGracePeriodSeconds"
"""A field of a Pod, and of a probe."""


def escape(key: str) -> str:
    """Escape one reference token of a JSON Pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")


def render(pod: Pod, plan: Plan) -> list[Op]:
    """Write the operations that turn `pod` into `plan`; an empty list if nothing is to change."""
    ops: list[Op] = []
    if plan.skip:
        return ops
    for desired in plan.containers:
        _container(ops, desired)
    _pod(ops, pod, plan)
    return ops


def _container(ops: list[Op], desired: Desired) -> None:
    container, view = desired.container, desired.view
    at = f"/spec/containers/{desired.index}"
    if desired.command is not container.command:
        _member(ops, at, "command", container.command, desired.command)
    if desired.args is not container.args:
        _member(ops, at, "args", container.args, desired.args)
    lifecycle, now = container.lifecycle, pre_stop(container)
    if lifecycle is None:
        if desired.pre_stop is not None:
            ops.append(
                {"op": "add", "path": f"{at}/lifecycle", "value": {"preStop": desired.pre_stop}}
            )
    elif (
        desired.pre_stop is None
        and now is not None
        and len(lifecycle) == 1
        and "lifecycle" not in view.empty
    ):
        ops.append({"op": "remove", "path": f"{at}/lifecycle"})
    else:
        _member(ops, f"{at}/lifecycle", "preStop", now, desired.pre_stop)
    _member(ops, at, "readinessProbe", present(container.readiness_probe), desired.readiness)
    if desired.probe_graces:
        _probe_graces(ops, at, container, desired.probe_graces)
    mounts = container.volume_mounts or []
    if desired.mount and not view.mounted:
        _append(ops, f"{at}/volumeMounts", container.volume_mounts, sidecar.MOUNT)
    elif view.mounted and not desired.mount:
        ours = next(
            i
            for i, m in enumerate(mounts)
            if m.name == VOLUME and m.mount_path.rstrip("/") == MOUNT_PATH
        )
        _drop(ops, f"{at}/volumeMounts", mounts, ours, keep="volumeMounts" in view.empty)


def _probe_graces(ops: list[Op], at: str, container: Container, wanted: Graces) -> None:
    for name, seconds in graces(container).items():
        _member(ops, f"{at}/{name}", _GRACE, seconds, wanted.get(name))


def _pod(ops: list[Op], pod: Pod, plan: Plan) -> None:
    spec = pod.spec
    _member(ops, "/spec", _GRACE, spec.termination_grace_period_seconds, plan.grace)
    # Before our sidecar comes or goes, since that moves them.
    for index, wanted in plan.native_graces.items():
        container = (spec.init_containers or [])[index]
        _probe_graces(ops, f"/spec/initContainers/{index}", container, wanted)
    _sidecar(ops, pod, plan)
    _volume(ops, pod, plan)
    _pull_secrets(ops, pod, plan)
    _annotations(ops, pod, plan)


def _sidecar(ops: list[Op], pod: Pod, plan: Plan) -> None:
    inits, at, wanted = pod.spec.init_containers or [], sidecar.index(pod), plan.sidecar
    path = f"/spec/initContainers/{at}"
    if wanted is None:
        if at is not None:
            keep = "initContainers" in plan.empty
            _drop(ops, "/spec/initContainers", inits, at, keep=keep)
    elif at is None:
        _first(ops, "/spec/initContainers", pod.spec.init_containers, wanted)
    elif plan.renew:
        ops.append({"op": "replace", "path": path, "value": wanted})
    else:
        # The rest of it was ours at the first pass; another webhook may have changed it since.
        _member(ops, path, "command", inits[at].command, wanted["command"])
        hooks = inits[at].lifecycle
        now = None if hooks is None else {name: _plain(hook) for name, hook in hooks.items()}
        _member(ops, path, "lifecycle", now, wanted.get("lifecycle"))


def _volume(ops: list[Op], pod: Pod, plan: Plan) -> None:
    volumes, at, wanted = pod.spec.volumes or [], sidecar.volume_index(pod), plan.volume
    if wanted is None:
        if at is not None:
            _drop(ops, "/spec/volumes", volumes, at, keep="volumes" in plan.empty)
    elif at is None:
        _append(ops, "/spec/volumes", pod.spec.volumes, wanted)
    elif plan.renew or (present(volumes[at].image) is None) == ("image" in wanted):
        ops.append({"op": "replace", "path": f"/spec/volumes/{at}", "value": wanted})


def _pull_secrets(ops: list[Op], pod: Pod, plan: Plan) -> None:
    """Turn the list into the plan's. Ours stand at its end, unless another webhook added more."""
    path, found = "/spec/imagePullSecrets", pod.spec.image_pull_secrets
    if not found and not plan.pull_secrets:
        return
    there = [secret.name for secret in found or ()]
    wanted, known = set(plan.pull_secrets), set(there)
    gone = [i for i, name in enumerate(there) if name not in wanted]
    added = [{"name": name} for name in plan.pull_secrets if name not in known]
    if gone and len(gone) == len(there) and not added and "imagePullSecrets" not in plan.empty:
        ops.append({"op": "remove", "path": path})
        return
    ops += [{"op": "remove", "path": f"{path}/{i}"} for i in reversed(gone)]
    if found is None and added:
        ops.append({"op": "add", "path": path, "value": added})
    else:
        ops += [{"op": "add", "path": f"{path}/-", "value": secret} for secret in added]


def _annotations(ops: list[Op], pod: Pod, plan: Plan) -> None:
    now = (pod.metadata or EMPTY).annotations
    there, new, gone = now or {}, {}, []
    for key, text in ((SAFE_TO_EVICT, plan.evictable), (STATUS_ANNOTATION, plan.status)):
        if text is not None and there.get(key) != text:
            new[key] = text
        elif text is None and key in there:
            gone.append(key)
    if now is None:
        at = "/metadata" if pod.metadata is None else "/metadata/annotations"
        if new:
            value = {"annotations": new} if pod.metadata is None else new
            ops.append({"op": "add", "path": at, "value": value})
    elif not new and gone and len(gone) == len(there) and "annotations" not in plan.empty:
        ops.append({"op": "remove", "path": "/metadata/annotations"})
    else:
        for key, text in new.items():
            ops.append({"op": "add", "path": _annotation(key), "value": text})
        ops.extend({"op": "remove", "path": _annotation(key)} for key in gone)


def _annotation(key: str) -> str:
    return f"/metadata/annotations/{escape(key)}"


def _member(ops: list[Op], at: str, name: str, now: Any, wanted: Any) -> None:
    """Set, replace or remove one member of the object at path `at`."""
    if now is wanted:
        return
    if wanted is None:
        ops.append({"op": "remove", "path": f"{at}/{name}"})
    elif now is None or _plain(now) != _plain(wanted):
        ops.append({"op": "add", "path": f"{at}/{name}", "value": wanted})


def _plain(value: Any) -> Any:
    return msgspec.json.decode(value) if isinstance(value, Raw) else value


def _first(ops: list[Op], path: str, parent: Sequence[Any] | None, value: Any) -> None:
    if parent is None:
        ops.append({"op": "add", "path": path, "value": [value]})
    else:
        ops.append({"op": "add", "path": f"{path}/0", "value": value})


def _append(ops: list[Op], path: str, parent: Sequence[Any] | None, value: Any) -> None:
    if parent is None:
        ops.append({"op": "add", "path": path, "value": [value]})
    else:
        ops.append({"op": "add", "path": f"{path}/-", "value": value})


def _drop(ops: list[Op], path: str, parent: Sequence[Any], index: int, *, keep: bool) -> None:
    """Remove an item, and a list that was made for it."""
    ops.append(
        {"op": "remove", "path": path if len(parent) == 1 and not keep else f"{path}/{index}"}
    )
