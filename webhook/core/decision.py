"""What a decision is made of, on its way and when it is done.

In: nothing. Out: the values that the rules fill in (`Choice`) and that `patch` and the command line read (`Decision`, `Desired`,
`Plan`). No rule belongs here.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from webhook.core.budget import Need
from webhook.core.pod import Container, Handler
from webhook.core.profile import GENERIC, Profile
from webhook.core.settings import Settings
from webhook.core.status import Before, ContainerStatus


class Decision(msgspec.Struct, frozen=True):
    """One reason: a code of `reasons.REASONS`, the container it is about (or ""), and what is particular to it."""

    code: str
    container: str = ""
    detail: str = ""


class Desired(msgspec.Struct):
    """What a container should have: every field holds the final value, ours or the user's."""

    index: int
    container: Container
    view: Before
    command: list[str] | None
    args: list[str] | None
    pre_stop: Any
    readiness: Any
    mount: bool = False


class Plan(msgspec.Struct):
    """All of it.

    `skip`: the Pod is left alone; `idle`: it is only marked; `decisions` then say why. `renew`: the sidecar there is of another version.
    """

    decisions: list[Decision]
    skip: bool = False
    idle: bool = False
    containers: list[Desired] = []
    sidecar: bool = False
    sidecar_port: int = 0
    sidecar_root: bool = False
    renew: bool = False
    grace: int | None = None
    status: str | None = None
    empty: list[str] = []


class Choice(msgspec.Struct):
    """A container on its way: which rung, with which settings.

    `delivery`: how our preStop reaches the helper: exec, http (the sidecar is asked), none. `stop`: whether the helper sends the
    stop signal, or leaves that to the kubelet. `generic`: the helper looks at the process tree itself.
    """

    desired: Desired
    settings: Settings
    record: ContainerStatus
    decisions: list[Decision]
    rung: str = ""
    delivery: str = "exec"
    profile: Profile = GENERIC
    generic: bool = True
    observe: bool = True
    ports: Sequence[int] = ()
    command: Sequence[str] = ()
    user: Handler | None = None
    order: str = ""
    hook_timeout: int = 0
    probe_period: int = 0
    stop: bool = True
    mesh: bool = False
    need: Need | None = None
    capped: bool = False

    def note(self, code: str, detail: str = "") -> None:
        """Give a reason for this container."""
        self.record.codes.append(code)
        self.decisions.append(Decision(code, self.desired.container.name, detail))
