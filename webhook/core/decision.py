"""The values that the steps of a decision hand to each other.

In: nothing. Out: frozen values, in the order of the steps: `Facts` (the Pod), `Look` (a container
as it is), `Rung`, `Hook` and `Need` (what was settled), `Choice` (all of it for one container),
`Desired` and `Plan` (the result). Each step takes values and returns new ones. Reasons travel with
them, as `Note`s; only `write` and `plan` turn them into `Decision`s. No rule belongs here.
"""

from collections.abc import Mapping, Sequence
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
"""A code of `reasons.REASONS`, and a detail of this container or Pod (or "")."""


class Decision(msgspec.Struct, frozen=True, gc=False):
    """One reason: a code of `reasons.REASONS`, the container it is about (or ""), and a detail."""

    code: str
    container: str = ""
    detail: str = ""


class Facts(msgspec.Struct, frozen=True, gc=False):
    """What is true of the whole Pod, before anything is decided.

    `grace`: seconds in effect now. `grace_was`: as the user wrote it, None if left to the API
    server's default. `gateway`: all its containers are mesh proxies, so they are its servers.
    `ours`: the helper is there already. `no_helper`: the code that says why no container can have
    it, or "". `owner`: the kind of the Pod's owner, "" for none. `ordered`: its Pods may start one
    after another. `notice`: seconds from the notice of its nodes to their end, 0 if they stay.
    `claims`: names of volumes that outlive the Pod, and that it may write to. `balancer`: a cloud
    load balancer that sends straight to the Pod. `opted_in`: by the Pod's own author.
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
    notice: int
    claims: frozenset[str]
    balancer: Balancer | None
    opted_in: bool


class Look(msgspec.Struct, frozen=True, gc=False):
    """A container as it is: what it has, and what its author asked for.

    `role`: "off" (left alone by annotation), "proxy" (carries the others' traffic), "idle" (serves
    nothing), "side" (serves nobody's users), "worker" (takes tasks from a queue), "signalled" (a
    worker that needs nothing of ours), "server". `ports`: those whose requests we wait for; () for
    a server means whatever listens. `serving`: those that visibly serve users. `command`: what it
    runs before its args, () if not known. `programs`: what both start. `detect`: the helper itself
    finds the server in the process tree.
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
    `sends_signal`: the helper sends the stop signal; otherwise the kubelet does. `falls`: why the
    rungs above were not possible.
    """

    name: str
    delivery: str = "exec"
    sends_signal: bool = True
    falls: Sequence[Note] = ()


NONE = Rung("")


class Hook(msgspec.Struct, frozen=True, gc=False):
    """What becomes of the user's own preStop: run by the helper, "before" or "after" the drain.

    `timeout`: seconds until the helper ends it, 0 for none. `seconds`: how long it takes, None if
    unknown, 0 if there is none. `sleeps`: seconds that it sleeps before it stops anything.
    `offline`: instead of a hook, the URL that the profile calls before the drain; then `seconds` is
    the most it takes.
    """

    user: Handler | None = None
    order: str = ""
    timeout: int = 0
    seconds: int | None = 0
    sleeps: int = 0
    offline: str = ""


NO_HOOK = Hook()


class Need(msgspec.Struct, frozen=True, gc=False):
    """What one container needs. `hook`: seconds of its own preStop, None if unknown, 0 if none.

    `shared`: that hook and the patience share their time, as they shared the grace period.
    """

    waits: Waits
    hook: int | None
    shared: bool = False


class Choice(msgspec.Struct, frozen=True, gc=False):
    """What was settled for one container, step by step; a later step returns a new one.

    `need` is there whenever `rung` is. `ports`: those whose requests we wait for. `observe`: the
    helper waits for requests. `capped`: the waits were shortened to fit into the bound.
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
    """Ports whose requests we wait for; () for whatever listens, None for none."""
    answer: str = ""
    """What the sidecar waits for when the kubelet asks about this container; "" if it does not."""
    waits: Waits | None = None
    """Seconds, fitted into the budget; None if nothing of ours waits."""


class Plan(msgspec.Struct, frozen=True, gc=False):
    """The whole result.

    `skip`: the Pod is left alone. `idle`: it is only marked. `decisions` say why. `pull_secrets`:
    names, the user's first. `sidecar`, `volume`: how the helper gets into the Pod, None if it does
    not. `renew`: those in the Pod are another version's. `evictable`, `status`: the values of our
    annotations, None if absent.
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
    native_graces: Mapping[int, Graces] = {}
    """Of the user's native sidecars, by index: the grace periods of their probes."""
