"""What a decision is made of: the values that its steps hand to each other.

In: nothing. Out: frozen values, in the order in which they come to be: `Facts` (the Pod), `Look` (a container as it is),
`Rung`, `Hook` and `Need` (what was settled), `Choice` (all of it for one container), `Desired` and `Plan` (what is to be).
Each step takes values and returns new ones. Reasons travel with them, as `Note`s; `plan` alone makes `Decision`s of them.
No rule belongs here.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from webhook.core.balancer import Balancer
from webhook.core.helper import Waits
from webhook.core.launchers import Program
from webhook.core.pod import Container, Handler
from webhook.core.probe import Probe
from webhook.core.profile import GENERIC, Profile
from webhook.core.restart import Graces
from webhook.core.settings import Settings
from webhook.core.status import Before, Status

Note = tuple[str, str]
"""A code of `reasons.REASONS`, and what is particular to this container or Pod (or "")."""


class Decision(msgspec.Struct, frozen=True, gc=False):
    """One reason: a code of `reasons.REASONS`, the container it is about (or ""), and a detail."""

    code: str
    container: str = ""
    detail: str = ""


class Facts(msgspec.Struct, frozen=True, gc=False):
    """What holds for the whole Pod, before anything is decided.

    `grace`: seconds that act now; `grace_was`: as the user wrote it, None where the default is
    left to the API server. `gateway`: it is nothing but mesh proxies, so they are its servers.
    `ours`: the helper is there already. `no_helper`: the code of why no container can have it,
    or "". `owner`: the kind of what the Pod belongs to, "" for none. `ordered`: its Pods may start
    one after another. `balancer`: a cloud load balancer sends straight to the Pod. `asked`: by this
    Pod's own author.
    """

    status: Status | None
    grace: int
    grace_was: int | None
    ours: bool
    mesh: bool
    gateway: bool
    shared_pid: bool
    host_network: bool
    no_helper: str
    owner: str
    ordered: bool
    balancer: Balancer | None
    asked: bool


class Look(msgspec.Struct, frozen=True, gc=False):
    """A container as it is: what was found in it, and what its author asked for.

    `role`: "off" (left alone by annotation), "proxy" (carries the others' traffic), "idle" (serves
    nothing), "side" (serves nobody's users), "worker" (takes tasks from a queue), "signalled" (a
    worker that needs nothing of ours), "server". `ports`: those whose requests are waited for,
    () for a server means whatever listens. `serving`: those of which something says that they serve
    users. `command`: what it runs before its args, () if that is not known; `programs`: what both
    start. `detect`: the helper finds the server in the process tree itself.
    """

    index: int
    container: Container
    view: Before
    settings: Settings
    role: str
    probes: Sequence[tuple[str, Handler]] = ()
    ports: Sequence[int] = ()
    serving: Sequence[int] = ()
    command: Sequence[str] = ()
    programs: Sequence[Program] = ()
    profile: Profile = GENERIC
    profile_from: str = ""
    detect: bool = True


class Rung(msgspec.Struct, frozen=True, gc=False):
    """Where on the ladder a container stands: "wrap", "hook", "sleep", or "" for none.

    `delivery`: how our preStop reaches the helper: "exec", "http" (the sidecar is asked), "none".
    `sends_signal`: the helper sends the stop signal; else that is the kubelet's. `falls`: the rungs
    above that could not be had.
    """

    name: str
    delivery: str = "exec"
    sends_signal: bool = True
    falls: Sequence[Note] = ()


NONE = Rung("")


class Hook(msgspec.Struct, frozen=True, gc=False):
    """What becomes of the user's own preStop: run by the helper, "before" or "after" the drain.

    `timeout`: seconds until the helper ends it, 0 for none. `seconds`: how long it lasts, None if
    that cannot be told, 0 if there is none. `sleeps`: seconds that it sleeps before it stops anything.
    `offline`: in place of one, what the profile asks before the drain; `seconds` is the most it takes.
    """

    user: Handler | None = None
    order: str = ""
    timeout: int = 0
    seconds: int | None = 0
    sleeps: int = 0
    offline: str = ""


NO_HOOK = Hook()


class Need(msgspec.Struct, frozen=True, gc=False):
    """What one container needs. `hook`: seconds of its own preStop, None if unknown, 0 without one.

    `shared`: that hook and the patience share one time, as they shared the grace period.
    """

    waits: Waits
    hook: int | None
    shared: bool = False


class Choice(msgspec.Struct, frozen=True, gc=False):
    """What was settled for one container, step by step; a later step returns a new one.

    `need` is there whenever `rung` is. `ports`: those whose requests are waited for. `observe`:
    the helper waits for requests. `capped`: the waits were shortened to fit into the bound.
    """

    look: Look
    rung: Rung = NONE
    hook: Hook = NO_HOOK
    need: Need | None = None
    readiness: Probe | None = None
    ports: Sequence[int] = ()
    observe: bool = True
    probe_period: int = 0
    capped: bool = False
    notes: Sequence[Note] = ()


class Desired(msgspec.Struct, frozen=True, gc=False):
    """What a container should have: every field holds the final value, ours or the user's."""

    index: int
    container: Container
    view: Before
    command: list[str] | None
    args: list[str] | None
    pre_stop: Any
    readiness: Any
    mount: bool = False
    probe_graces: Graces = {}
    watched: Sequence[int] | None = None
    """Ports whose requests are waited for; () for whatever listens, None for none."""
    answer: str = ""
    """What the sidecar waits for when the kubelet asks it about this container; "": it does not."""
    waits: Waits | None = None
    """Seconds, as they fit into the budget; None where nothing of ours waits."""


class Plan(msgspec.Struct, frozen=True, gc=False):
    """All of it.

    `skip`: the Pod is left alone; `idle`: it is only marked; `decisions` then say why. `pull_secrets`:
    names, the user's first. `sidecar`, `volume`: how the helper comes into the Pod, None for not at all. `renew`: what is there of it
    is of another version. `evictable`, `status`: the values of our annotations, None for absent.
    """

    decisions: Sequence[Decision]
    skip: bool = False
    idle: bool = False
    containers: Sequence[Desired] = ()
    sidecar: dict[str, Any] | None = None
    volume: dict[str, Any] | None = None
    renew: bool = False
    grace: int | None = None
    evictable: str | None = None
    status: str | None = None
    pull_secrets: Sequence[str] = ()
    empty: Sequence[str] = ()
