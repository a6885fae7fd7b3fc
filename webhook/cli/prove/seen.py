"""What one event of a watch says: JSON of the API in, an entry of the ledger out. Pure.

It reads only these fields. Everything else of a Pod (environment, arguments, annotations) is
dropped at once and never reaches a report.
"""

from typing import Any

import msgspec

from webhook.cli.prove.ledger import PodSeen

_MESSAGE = 4096
"""Bytes of a termination message: the kubelet's own limit."""


class _Meta(msgspec.Struct, rename="camel"):
    name: str = ""
    uid: str = ""
    deletion_timestamp: str | None = None


class _Sleep(msgspec.Struct):
    seconds: float = 0.0


class _Handler(msgspec.Struct):
    sleep: _Sleep | None = None


class _Lifecycle(msgspec.Struct, rename="camel"):
    pre_stop: _Handler | None = None


class _Container(msgspec.Struct, rename="camel"):
    readiness_probe: dict[str, Any] | None = None
    lifecycle: _Lifecycle | None = None


class _Spec(msgspec.Struct):
    containers: list[_Container] = []


class _Condition(msgspec.Struct):
    type: str = ""
    status: str = ""


class _Terminated(msgspec.Struct):
    message: str = ""


class _State(msgspec.Struct):
    running: dict[str, Any] | None = None
    terminated: _Terminated | None = None

    @property
    def has_run(self) -> bool:
        """Whether it is no longer waiting. `running` may be an empty object."""
        return self.running is not None or self.terminated is not None


class _ContainerStatus(msgspec.Struct, rename="camel"):
    state: _State = msgspec.field(default_factory=_State)
    restart_count: int = 0


class _Status(msgspec.Struct, rename="camel"):
    pod_ip: str = msgspec.field(default="", name="podIP")
    conditions: list[_Condition] | None = None
    container_statuses: list[_ContainerStatus] | None = None


class _Pod(msgspec.Struct):
    metadata: _Meta
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


def pod(kind: str, tree: Any, at: float) -> PodSeen:
    """Read an event of a Pod. Raises msgspec.ValidationError if it isn't one."""
    found = msgspec.convert(tree, _Pod)
    status, statuses = found.status, found.status.container_statuses or []
    true = {c.type for c in status.conditions or () if c.status == "True"}
    hooks = [c.lifecycle.pre_stop for c in found.spec.containers if c.lifecycle]
    hooks = [hook for hook in hooks if hook]
    sleeps = [hook.sleep.seconds for hook in hooks if hook and hook.sleep]
    return PodSeen(
        at,
        found.metadata.name,
        found.metadata.uid,
        address=status.pod_ip,
        scheduled="PodScheduled" in true,
        started=bool(statuses) and all(s.state.has_run for s in statuses),
        ready="Ready" in true,
        told=found.metadata.deletion_timestamp is not None,
        ended=bool(statuses) and all(s.state.terminated for s in statuses),
        gone=kind == "DELETED",
        restarts=sum(s.restart_count for s in statuses),
        probed=any(c.readiness_probe for c in found.spec.containers),
        hook="" if not hooks else "sleep" if len(sleeps) == len(hooks) else "other",
        hook_sleep=max(sleeps, default=0.0),
        messages=tuple(
            s.state.terminated.message[:_MESSAGE]
            for s in statuses
            if s.state.terminated and s.state.terminated.message
        ),
    )
