"""A plan as JSON Patch (RFC 6902).

In: the Pod as received and its plan. Out: operations in a fixed order, at known paths, each computed against the received
object: parents are created where they are missing, nothing that is not ours is named, no `test` and no whole list is
written again. A patch that does not apply makes the API server refuse the Pod even under `failurePolicy: Ignore`, so this
module is small. `add` is used for members of objects throughout: it also replaces, and cannot fail on an absent one.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from webhook.core import sidecar
from webhook.core.decision import Desired, Plan
from webhook.core.names import MOUNT_PATH, STATUS_ANNOTATION, VOLUME
from webhook.core.pod import EMPTY, Pod, Raw, pre_stop, present
from webhook.core.settings import Operator

Op = dict[str, Any]


def escape(key: str) -> str:
    """Escape one reference token of a JSON Pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")


_STATUS_PATH = f"/metadata/annotations/{escape(STATUS_ANNOTATION)}"


def render(pod: Pod, plan: Plan, operator: Operator) -> list[Op]:
    """Write the operations that bring `pod` to `plan`; an empty list if it is there already."""
    ops: list[Op] = []
    if plan.skip:
        return ops
    for desired in plan.containers:
        _container(ops, desired)
    _pod(ops, pod, plan, operator)
    return ops


def _container(ops: list[Op], desired: Desired) -> None:
    container, view = desired.container, desired.view
    at = f"/spec/containers/{desired.index}"
    _member(ops, f"{at}/command", container.command, desired.command)
    _member(ops, f"{at}/args", container.args, desired.args)
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
        _member(ops, f"{at}/lifecycle/preStop", now, desired.pre_stop)
    _member(ops, f"{at}/readinessProbe", present(container.readiness_probe), desired.readiness)
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


def _pod(ops: list[Op], pod: Pod, plan: Plan, operator: Operator) -> None:
    spec = pod.spec
    _member(
        ops,
        "/spec/terminationGracePeriodSeconds",
        spec.termination_grace_period_seconds,
        plan.grace,
    )
    at = sidecar.index(pod)
    inits, volumes = spec.init_containers, spec.volumes
    ours = next((i for i, v in enumerate(volumes or []) if v.name == VOLUME), None)
    if plan.sidecar:
        if inits is None or at is None:
            made = sidecar.for_pod(operator, plan.sidecar_port, root=plan.sidecar_root)
            _first(ops, "/spec/initContainers", inits, made)
        elif plan.renew:
            made = sidecar.for_pod(operator, plan.sidecar_port, root=plan.sidecar_root)
            ops.append({"op": "replace", "path": f"/spec/initContainers/{at}", "value": made})
        else:
            wanted = sidecar.command(plan.sidecar_port)
            _member(ops, f"/spec/initContainers/{at}/command", inits[at].command, wanted)
        if ours is None:
            _append(ops, "/spec/volumes", volumes, operator.volume)
    elif at is not None:
        _drop(ops, "/spec/initContainers", inits or [], at, keep="initContainers" in plan.empty)
        if ours is not None:
            _drop(ops, "/spec/volumes", volumes or [], ours, keep="volumes" in plan.empty)
    _annotation(ops, pod, plan)


def _annotation(ops: list[Op], pod: Pod, plan: Plan) -> None:
    annotations = (pod.metadata or EMPTY).annotations
    if plan.status is not None:
        if pod.metadata is None:
            ops.append(
                {
                    "op": "add",
                    "path": "/metadata",
                    "value": {"annotations": {STATUS_ANNOTATION: plan.status}},
                }
            )
        elif annotations is None:
            ops.append(
                {
                    "op": "add",
                    "path": "/metadata/annotations",
                    "value": {STATUS_ANNOTATION: plan.status},
                }
            )
        elif annotations.get(STATUS_ANNOTATION) != plan.status:
            ops.append({"op": "add", "path": _STATUS_PATH, "value": plan.status})
    elif annotations is not None and STATUS_ANNOTATION in annotations:
        alone = len(annotations) == 1 and "annotations" not in plan.empty
        ops.append({"op": "remove", "path": "/metadata/annotations" if alone else _STATUS_PATH})


def _member(ops: list[Op], path: str, now: Any, wanted: Any) -> None:
    """Set, replace or remove one member of an object that exists."""
    if now is wanted:
        return
    if wanted is None:
        ops.append({"op": "remove", "path": path})
    elif now is None or _plain(now) != _plain(wanted):
        ops.append({"op": "add", "path": path, "value": wanted})


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
