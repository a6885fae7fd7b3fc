"""The decision: a Pod and settings in, a plan with every reason out.

In: `Pod`, `PodSettings`, `Operator`; nothing else (no clock, no environment, no call). Out: `Plan`: for each container the
values that it should have, for the Pod the sidecar and the grace period, and one `Decision` for everything that was done or
left. How a plan becomes JSON Patch belongs to `patch`; what a user wrote in an annotation belongs to `policy`.

The ladder, per container: sleep (native fields only) -> hook (helper as preStop exec) -> wrap (and as PID 1). A rung that
cannot be had falls to the one below, with the reason; never to nothing without one, and never to an error.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

import msgspec

from webhook.core import budget, helper, ports, prestop, readiness
from webhook.core.budget import Need
from webhook.core.decision import Choice, Decision, Desired, Plan
from webhook.core.helper import Waits
from webhook.core.names import (
    DISABLED,
    INITS,
    INJECT_LABEL,
    MESH_PROXIES,
    MIRROR_ANNOTATION,
    SIDECAR,
    STATUS_ANNOTATION,
    VOLUME,
)
from webhook.core.pod import ABSENT, EMPTY, Container, Pod, Raw, handler, present, stop_signal
from webhook.core.profile import GENERIC, SIGNALS, basename
from webhook.core.resources import fits
from webhook.core.settings import BEHIND, KILL_MARGIN, Operator, PodSettings
from webhook.core.status import (
    ContainerStatus,
    GraceStatus,
    Status,
    before,
    empty_before,
    encode,
    grace_before,
    made_name,
    read,
    sidecar_index,
)

DEFAULT_GRACE: Final = 30
"""Seconds: what the API server fills in before webhooks run (core/v1 defaulting); a manifest on disk may lack it."""

ANNOTATIONS_LIMIT: Final = 256 * 1024
"""Bytes of all keys and values (apimachinery, TotalAnnotationSizeLimitB): the API server refuses a Pod with more."""

MOST_CONTAINERS: Final = 1000
MOST_PORTS: Final = 1000
"""Kubernetes has no such bounds. A kubelet runs some 110 Pods a node, and a container has a handful of ports."""

_LADDER: Final = ("wrap", "hook", "sleep")


def decide(pod: Pod, settings: PodSettings, operator: Operator, namespace: str = "") -> Plan:
    """Decide about a Pod. Raises `msgspec.ValidationError` for handlers that the API server would have refused."""
    if reasons := left_alone(pod, operator.excluded_namespaces, namespace):
        return Plan([Decision(code) for code in reasons], skip=True)
    return _Decider(pod, settings, operator).plan()


def restore(pod: Pod) -> Plan:
    """Plan the way back: the Pod as it was before us."""
    status = read(pod)
    plan = Plan([], empty=empty_before(pod, status))
    for i, container in enumerate(pod.spec.containers):
        view = before(container, status)
        plan.containers.append(
            Desired(i, container, view, view.command, view.args, view.pre_stop, view.readiness)
        )
    plan.grace = grace_before(pod, status)
    return plan


def left_alone(pod: Pod, excluded_namespaces: frozenset[str], namespace: str = "") -> list[str]:
    """Why a Pod gets no patch at all. All reasons, not the first: see the table in `reasons`."""
    metadata = pod.metadata or EMPTY
    reasons = []
    if metadata.labels and metadata.labels.get(INJECT_LABEL) == DISABLED:
        reasons.append("opted-out")
    if (namespace or metadata.namespace or "") in excluded_namespaces:
        reasons.append("excluded-namespace")
    if metadata.annotations and MIRROR_ANNOTATION in metadata.annotations:
        reasons.append("mirror-pod")
    if pod.spec.restart_policy not in (None, "Always"):
        reasons.append("not-restarting")
    if _is_oversized(pod):
        reasons.append("oversized")
    return reasons


class _Decider:
    """The state of one decision."""

    def __init__(self, pod: Pod, settings: PodSettings, operator: Operator) -> None:
        spec = pod.spec
        self.pod, self.settings, self.operator = pod, settings, operator
        self.decisions = [
            Decision(code, container, detail) for code, container, detail in settings.notes
        ]
        self.status = read(pod)
        self.grace_was = grace_before(pod, self.status)
        # A negative one acts as 1 (core/v1, strategy of deletion).
        self.grace = (
            DEFAULT_GRACE
            if self.grace_was is None
            else self.grace_was
            if self.grace_was >= 0
            else 1
        )
        self.sidecar_at = sidecar_index(pod)
        self.windows = _is_windows(pod)
        self.shared_pid = bool(spec.share_process_namespace or spec.host_pid)
        proxies = [c.name in MESH_PROXIES for c in spec.containers]
        # A Pod of nothing but proxies is a gateway: the proxy is its server.
        self.gateway = all(proxies)
        self.mesh = any(proxies) or any(
            [c.name in MESH_PROXIES for c in spec.init_containers or ()]  # noqa: C419
        )
        self.helper_fall = self._why_no_helper()

    def say(self, code: str, container: str = "", detail: str = "") -> None:
        self.decisions.append(Decision(code, container, detail))

    def _why_no_helper(self) -> str:
        """Return the code of why no container of this Pod can have the helper, or ""."""
        if self.windows:
            return "windows"
        if not self.settings.sidecar:
            return "sidecar-off"
        if not self.operator.native_sidecar:
            return "unsupported-version"
        if self.sidecar_at is None:
            spec = self.pod.spec
            taken = SIDECAR in [c.name for c in spec.containers] or SIDECAR in [
                c.name for c in spec.init_containers or ()
            ]
            if taken or VOLUME in [v.name for v in spec.volumes or ()]:
                return "name-collision"
            if not fits(self.pod, self.operator.sidecar_resources):
                return "pod-resources"
        return ""

    # -- the order of things -------------------------------------------------------------------------------------------

    def plan(self) -> Plan:
        choices = [
            self._choose(i, container) for i, container in enumerate(self.pod.spec.containers)
        ]
        for container in self.pod.spec.init_containers or ():
            if container.restart_policy == "Always" and container.name != SIDECAR:
                self.say(
                    "mesh-native" if container.name in MESH_PROXIES else "native-sidecar",
                    container.name,
                )
        ours = [c for c in choices if c.rung]
        self._align(ours)
        limit = self._limit()
        wanted = [self._fit(choice, limit) for choice in ours]
        grace = self._grace(ours, wanted)
        plan = Plan(
            self.decisions,
            containers=[c.desired for c in choices],
            empty=empty_before(self.pod, self.status),
        )
        ours = [c for c in ours if c.rung]
        self._sidecar(plan, ours)
        for choice in ours:
            self._equip(choice, plan.sidecar_port)
        plan.idle = not ours and not any(c.record.readiness for c in choices)
        if plan.idle:
            self.say("nothing-to-do")
        plan.grace = self.grace_was if grace is None else grace.now
        return self._sign(plan, choices, grace)

    def _sidecar(self, plan: Plan, ours: list[Choice]) -> None:
        """Settle the Pod's part of the helper."""
        plan.sidecar = any(c.rung != "sleep" for c in ours)
        if not plan.sidecar:
            return
        spec = self.pod.spec
        plan.sidecar_port = 0 if spec.host_network else self.operator.port
        plan.sidecar_root = (
            spec.security_context is not None and spec.security_context.run_as_user == 0
        )
        plan.renew = self.sidecar_at is not None and (
            self.status is None or self.status.version != self.operator.version
        )
        self.say("sidecar-added")
        if spec.host_network:
            self.say("host-network")

    def _sign(self, plan: Plan, choices: list[Choice], grace: GraceStatus | None) -> Plan:
        """Write the status annotation, if the Pod can bear it."""
        containers = {c.desired.container.name: c.record for c in choices if c.record.codes}
        plan.status = encode(Status(self.operator.version, grace, containers, plan.empty))
        annotations = (self.pod.metadata or EMPTY).annotations or {}
        others = "".join(
            [key + value for key, value in annotations.items() if key != STATUS_ANNOTATION]
        )
        if (
            len(others.encode()) + len(STATUS_ANNOTATION) + len(plan.status.encode())
            > ANNOTATIONS_LIMIT
        ):
            return Plan([Decision("annotations-full")], skip=True)
        return plan

    # -- one container -------------------------------------------------------------------------------------------------

    def _choose(self, index: int, container: Container) -> Choice:
        view = before(container, self.status)
        desired = Desired(
            index, container, view, view.command, view.args, view.pre_stop, view.readiness
        )
        settings = self.settings.containers.get(container.name, self.settings.default)
        choice = Choice(desired, settings, ContainerStatus(empty=view.empty), self.decisions)
        if settings.mode == "off":
            choice.note("turned-off")
            return choice
        if container.name in MESH_PROXIES and not self.gateway:
            self._choose_mesh(choice)
            return choice
        probes = ports.network_probes(container, view)
        choice.ports = settings.ports or ports.serving(container, probes)
        if not choice.ports and settings.mode == "auto":
            choice.note("serves-nothing")
            return choice
        if view.readiness is not None:
            choice.note("readiness-kept")
        else:
            code, probe = readiness.choose(
                container, settings, choice.ports, probes, mesh=self.mesh
            )
            if probe is not None:
                desired.readiness = probe
                choice.record.readiness = made_name(probe)
            choice.note(code, choice.record.readiness)
        if self.grace == 0:
            if not any(d.code == "grace-zero" for d in self.decisions):
                self.say("grace-zero")
            return choice
        choice.command = self._command(choice)
        self._profile(choice)
        choice.rung = self._rung(choice)
        if choice.rung:
            prestop.compose(choice, self.grace, self.operator.drain_bound)
        return choice

    def _command(self, choice: Choice) -> Sequence[str]:
        """Return what the container runs before its args, where that is known: its command, its annotation, the operator's look-up."""
        desired = choice.desired
        if desired.view.command:
            return desired.view.command
        if choice.settings.entrypoint:
            return choice.settings.entrypoint
        image = desired.container.image or ""
        for entry in self.operator.images:
            if fnmatchcase(image, entry.match):
                return entry.entrypoint + (() if desired.view.args else entry.cmd)
        return ()

    def _profile(self, choice: Choice) -> None:
        index, settings, container = (
            self.operator.profiles,
            choice.settings,
            choice.desired.container,
        )
        if settings.profile is not None:
            choice.profile, how = index.by_name[settings.profile], "profile-annotated"
        elif choice.command and (
            found := index.by_command([*choice.command, *(choice.desired.args or ())])
        ):
            choice.profile, how = found, "profile-command"
        elif not choice.command and (found := index.by_image(container.image or "")):
            choice.profile, how = found, "profile-image"
        else:
            how = "profile-generic"
        # An image's name is a hint only: the process tree, which the helper looks at, is better evidence.
        choice.generic = choice.profile is GENERIC or how == "profile-image"
        choice.observe = choice.profile.observe
        choice.record.profile = choice.profile.name
        choice.note(how, choice.profile.name)

    def _rung(self, choice: Choice) -> str:
        """Walk down the ladder from what is wanted to what can be had; "" if nothing can."""
        mode = choice.settings.mode
        refused = []
        for rung in _LADDER[0 if mode == "auto" else _LADDER.index(mode) :]:
            fall = self._why_not(rung, choice)
            if not fall:
                return rung
            if fall == "mode-not-allowed":
                refused.append(rung)
            elif fall not in choice.record.codes:
                choice.note(fall, "" if fall == self.helper_fall else rung)
        if refused:
            # An operator's choice of modes is news only where nothing is left.
            choice.note("mode-not-allowed", ", ".join(refused))
        return ""

    def _why_not(self, rung: str, choice: Choice) -> str:
        """Return the code of why a container cannot have a rung, or ""."""
        if rung not in self.operator.modes:
            return "mode-not-allowed"
        if rung == "sleep":
            return (
                "prestop-off"
                if not choice.settings.prestop
                else ""
                if self.operator.native_sleep
                else "unsupported-version"
            )
        if self.helper_fall:
            return self.helper_fall
        possible = choice.desired.view.helper_possible
        if rung == "hook":
            if not choice.settings.prestop:
                return "prestop-off"
            if possible:
                choice.stop = not self.shared_pid
                if self.shared_pid and "shared-pid-namespace" not in choice.record.codes:
                    choice.note("shared-pid-namespace", rung)
                return ""
            # A mesh takes the kubelet's request for one of its own, and the hook would fail at once.
            if not choice.ports or self.pod.spec.host_network or self.mesh:
                return "mount-collision"
            choice.delivery, choice.stop = "http", False
            return ""
        if not possible:
            return "mount-collision"
        if self.shared_pid:
            return "shared-pid-namespace"
        if not choice.command:
            return "entrypoint-unknown"
        return "already-init" if basename(choice.command[0]) in INITS else ""

    def _choose_mesh(self, choice: Choice) -> None:
        """Hold a mesh proxy that is a plain container until the others have drained; its own preStop is never touched."""
        view, settings = choice.desired.view, choice.settings
        if self.grace == 0 or not settings.prestop:
            return
        if view.pre_stop is not None:
            choice.note("mesh-own-prestop")
            return
        if not self.helper_fall and view.helper_possible and "hook" in self.operator.modes:
            choice.rung = "hook"
        elif self.operator.native_sleep and "sleep" in self.operator.modes:
            choice.rung = "sleep"
        else:
            return
        choice.mesh, choice.stop = True, False

    # -- containers among each other -----------------------------------------------------------------------------------

    def _align(self, ours: list[Choice]) -> None:
        """Let the containers of the Pod wait for each other: nothing behind or around a server stops before it owes no answer.

        Those that wait for requests wait for the ports of all that do. One whose own connections are permanent (a database) waits
        for the others' ports, if there are any. A mesh proxy waits as long as the longest of them.
        """
        apps = [c for c in ours if not c.mesh]
        helped = [c for c in apps if c.rung != "sleep"]
        for choice in helped:
            choice.probe_period = _probe_period(choice.desired.readiness)
        fronts = [c for c in helped if c.observe]
        if fronts and len(helped) > 1 and all([c.ports for c in fronts]):  # noqa: C419 - a list is quicker
            self._share(helped, fronts)
        if len(apps) < len(ours):
            self._hold([c for c in ours if c.mesh], apps)

    def _share(self, helped: list[Choice], fronts: list[Choice]) -> None:
        shared = sorted({port for c in fronts for port in c.ports})
        distances = [ports.distance(c.desired.container, c.ports, c.profile.name) for c in helped]
        nearest = min(distances)
        drain = max([c.need.waits.drain for c in fronts if c.need], default=0)
        period = min([c.probe_period for c in helped if c.probe_period], default=0)
        for choice, far in zip(helped, distances, strict=True):
            choice.ports, choice.probe_period = shared, period
            need = choice.need
            if need is None:
                continue
            waits = need.waits
            if not choice.observe:
                choice.observe = True
                waits = msgspec.structs.replace(waits, drain=drain)
            if far > nearest:
                # Where drains meet their cap the front must be gone first; what is behind it then has nothing in flight, and ends at once.
                waits = msgspec.structs.replace(waits, drain=waits.drain + BEHIND)
            choice.need = Need(waits, need.hook)

    def _hold(self, proxies: list[Choice], apps: list[Choice]) -> None:
        waits = [c.need.waits for c in apps if c.need]
        tail = max(0, self.grace - KILL_MARGIN)
        for proxy in proxies:
            if not waits:
                proxy.rung = ""
                continue
            helped = next((c for c in apps if c.rung != "sleep" and c.observe), None)
            proxy.ports, proxy.probe_period = (
                (helped.ports, helped.probe_period) if helped is not None else ((), 0)
            )
            proxy.record.mode = proxy.rung
            proxy.note("mesh-aligned", proxy.rung)
            delay, drain = max(w.delay_max for w in waits), max(w.drain for w in waits)
            if proxy.rung == "sleep":
                whole = delay + (drain or proxy.settings.default_drain)
                proxy.need = Need(Waits(whole, 0, whole, 0, tail), 0)
            else:
                proxy.need = Need(
                    Waits(
                        max(w.delay_min for w in waits),
                        max(w.quiet for w in waits),
                        delay,
                        drain,
                        tail,
                    ),
                    0,
                )

    # -- the budget ----------------------------------------------------------------------------------------------------

    def _limit(self) -> int:
        """Seconds that the grace period may reach."""
        return max(self.operator.grace_bound, self.grace) if self.settings.grace else self.grace

    def _fit(self, choice: Choice, limit: int) -> int:
        """Bring a container's waits below the limit; returns the seconds of grace that it wants."""
        need = choice.need
        if need is None or not choice.rung:
            return 0
        wanted = budget.total(need, self.grace)
        if wanted <= limit:
            return wanted
        waits = budget.fit(need, self.grace, limit)
        if waits is None:
            choice.note("grace-no-room", f"{limit} s")
            choice.rung, choice.record.mode = "", ""
            return 0
        if self.settings.grace:
            code = "grace-capped" if limit > self.grace else "grace-over-bound"
            self.say(
                code,
                choice.desired.container.name,
                f"wanted {wanted} s, bound {self.operator.grace_bound} s",
            )
        choice.need, choice.capped = Need(waits, need.hook), True
        return limit

    def _grace(self, ours: list[Choice], wanted: list[int]) -> GraceStatus | None:
        """Settle the grace period: never lowered."""
        seconds = max(wanted, default=0)
        if not seconds:
            return None
        if not self.settings.grace:
            self.say("grace-off", "", f"{self.grace} s")
            return None
        if seconds <= self.grace:
            self.say("grace-enough", "", f"{self.grace} s")
            return None
        longest = ours[wanted.index(seconds)]
        words = (
            f"bound {seconds}"
            if longest.capped or longest.need is None
            else budget.words(longest.need, self.grace)
        )
        words = f"{longest.desired.container.name}: {words}"
        self.say("grace-raised", "", f"{self.grace} -> {seconds} s = {words}")
        return GraceStatus(seconds, self.grace_was, words)

    # -- writing it down -----------------------------------------------------------------------------------------------

    def _equip(self, choice: Choice, port: int) -> None:
        """Write the values that a container gets on its rung."""
        desired, need, record = choice.desired, choice.need, choice.record
        if need is None:
            return
        name, waits, view = desired.container.name, need.waits, desired.view
        if choice.rung == "sleep":
            record.native_sleep = waits.delay_max
            desired.pre_stop = prestop.sleep_of(waits)
            return
        if choice.delivery == "http":
            desired.pre_stop = prestop.http_of(choice, waits, self.operator.port)
            return
        desired.mount = True
        options = helper.common(
            name,
            choice.ports,
            waits,
            choice.profile,
            generic=choice.generic,
            observe=choice.observe,
            probe_period=choice.probe_period,
            report=port,
        )
        if choice.delivery == "exec":
            record.pre_stop = view.pre_stop or ABSENT
            argv = helper.drain(
                options,
                stop=choice.stop,
                order=choice.order,
                user=choice.user,
                timeout=0 if choice.capped else choice.hook_timeout,
            )
            desired.pre_stop = {"exec": {"command": argv}}
        if choice.rung == "wrap":
            stop_on = choice.profile.stop_on
            if (own := stop_signal(desired.container)) in SIGNALS and own not in stop_on:
                stop_on = (*stop_on, own)
            desired.command = helper.run(options, stop_on, choice.command)
            if view.command is None:
                record.entrypoint = list(choice.command)


def _is_oversized(pod: Pod) -> bool:
    """Whether a Pod is not meant to run: to decide about it would take seconds, which others would wait for."""
    inits = pod.spec.init_containers or ()
    if len(pod.spec.containers) + len(inits) > MOST_CONTAINERS:
        return True
    return any(
        [len(container.ports or ()) > MOST_PORTS for container in (*pod.spec.containers, *inits)]  # noqa: C419
    )


def _is_windows(pod: Pod) -> bool:
    spec = pod.spec
    if spec.os is not None and spec.os.name:
        return spec.os.name == "windows"
    context = spec.security_context
    return (spec.node_selector or {}).get("kubernetes.io/os") == "windows" or (
        context is not None and present(context.windows_options) is not None
    )


def _probe_period(probe: Any) -> int:
    """Return how often the kubelet goes on probing while the Pod terminates: only readiness does; 0 if nothing does."""
    if probe is None:
        return 0
    if isinstance(probe, Raw):
        own = handler(probe)
        if own.http_get is None and own.tcp_socket is None and own.grpc is None:
            return 0
        return own.period_seconds or 10
    return int(probe["periodSeconds"])
