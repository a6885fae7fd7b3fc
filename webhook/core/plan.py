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

from webhook.core import budget, helper
from webhook.core.budget import Need
from webhook.core.helper import Waits
from webhook.core.names import DISABLED, INITS, INJECT_LABEL, MESH_PROXIES, MIRROR_ANNOTATION, SIDECAR, VOLUME
from webhook.core.pod import ABSENT, EMPTY, Container, Handler, HttpGet, Pod, PortHandler, Raw, handler, present
from webhook.core.profile import GENERIC, Profile, basename
from webhook.core.settings import KILL_MARGIN, Operator, PodSettings, Settings
from webhook.core.status import Before, ContainerStatus, GraceStatus, Status, before, encode, grace_before, probe_name, read, sidecar_index

DEFAULT_GRACE: Final = 30
"""Seconds: what the API server fills in before webhooks run (core/v1 defaulting); a manifest on disk may lack it."""

_SERVING_NUMBERS: Final = frozenset({80, 443, 3000, 5000, 8000, 8080, 8443})
_SERVING_NAMES: Final = ("http", "https", "web", "grpc", "h2c", "www")
_SIDE_NAMES: Final = ("metrics", "prometheus", "prom", "admin", "debug", "health", "pprof", "jmx", "probe", "status")
_SIDE_NUMBERS: Final = frozenset({*range(9090, 9130), 15020, 15021, 15090, 4191, 2019, 6060, 5005, 9229})
"""Ports that exporters, debuggers and meshes use by convention: not where users' requests arrive."""

_LADDER: Final = ("wrap", "hook", "sleep")

_READINESS_TIMES: Final = {"timeoutSeconds": 3, "periodSeconds": 5, "successThreshold": 1, "failureThreshold": 3}


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
    """All of it. `skip`: the Pod is left alone; `decisions` then say why."""

    decisions: list[Decision]
    skip: bool = False
    containers: list[Desired] = []
    sidecar: bool = False
    sidecar_port: int = 0
    sidecar_root: bool = False
    grace: int | None = None
    status: str | None = None


class _Choice(msgspec.Struct):
    """A container on its way: which rung, with which settings."""

    desired: Desired
    settings: Settings
    record: ContainerStatus
    rung: str = ""
    delivery: str = "exec"
    profile: Profile = GENERIC
    generic: bool = True
    ports: Sequence[int] = ()
    command: Sequence[str] = ()
    user: Handler | None = None
    order: str = ""
    stop: bool = True
    need: Need | None = None


def decide(pod: Pod, settings: PodSettings, operator: Operator, namespace: str = "") -> Plan:
    """Decide about a Pod. Raises `msgspec.ValidationError` for handlers that the API server would have refused."""
    if reasons := _left_alone(pod, operator, namespace):
        return Plan([Decision(code) for code in reasons], skip=True)
    return _Decider(pod, settings, operator).plan()


def restore(pod: Pod) -> Plan:
    """Plan the way back: the Pod as it was before us."""
    status = read(pod)
    plan = Plan([])
    for i, container in enumerate(pod.spec.containers):
        view = before(container, status)
        plan.containers.append(Desired(i, container, view, view.command, view.args, view.pre_stop, view.readiness))
    plan.grace = grace_before(pod, status)
    return plan


def _left_alone(pod: Pod, operator: Operator, namespace: str) -> list[str]:
    """All reasons, not the first: see the table in `reasons`."""
    metadata = pod.metadata or EMPTY
    reasons = []
    if metadata.labels and metadata.labels.get(INJECT_LABEL) == DISABLED:
        reasons.append("opted-out")
    if (namespace or metadata.namespace or "") in operator.excluded_namespaces:
        reasons.append("excluded-namespace")
    if metadata.annotations and MIRROR_ANNOTATION in metadata.annotations:
        reasons.append("mirror-pod")
    if pod.spec.restart_policy not in (None, "Always"):
        reasons.append("not-restarting")
    return reasons


class _Decider:
    """The state of one decision."""

    def __init__(self, pod: Pod, settings: PodSettings, operator: Operator) -> None:
        spec = pod.spec
        self.pod, self.settings, self.operator = pod, settings, operator
        self.decisions = [Decision(code, container, detail) for code, container, detail in settings.notes]
        self.status = read(pod)
        self.grace_was = grace_before(pod, self.status)
        self.grace = DEFAULT_GRACE if self.grace_was is None else self.grace_was
        self.sidecar_at = sidecar_index(pod)
        self.windows = (spec.os is not None and spec.os.name == "windows") or (spec.node_selector or {}).get(
            "kubernetes.io/os"
        ) == "windows"
        self.shared_pid = bool(spec.share_process_namespace or spec.host_pid)
        self.mesh = any(c.name in MESH_PROXIES for c in spec.containers) or any(c.name in MESH_PROXIES for c in spec.init_containers or ())
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
            taken = any(c.name == SIDECAR for c in spec.containers) or any(c.name == SIDECAR for c in spec.init_containers or ())
            if taken or any(v.name == VOLUME for v in spec.volumes or ()):
                return "name-collision"
        return ""

    # -- the order of things -------------------------------------------------------------------------------------------

    def plan(self) -> Plan:
        choices = [self._choose(i, container) for i, container in enumerate(self.pod.spec.containers)]
        for container in self.pod.spec.init_containers or ():
            if container.restart_policy == "Always" and container.name != SIDECAR:
                self.say("mesh-native" if container.name in MESH_PROXIES else "native-sidecar", container.name)
        ours = [c for c in choices if c.rung]
        if not ours and not any(c.record.readiness for c in choices) and self.status is None and self.sidecar_at is None:
            self.say("nothing-to-do")
            return Plan(self.decisions, skip=True)
        plan = Plan(self.decisions, containers=[c.desired for c in choices], grace=self.grace_was)
        limit = self._limit(ours)
        self._share_ports(ours)
        wanted = 0
        for choice in ours:
            wanted = max(wanted, self._fit(choice, limit))
        ours = [c for c in ours if c.rung]
        helped = [c for c in ours if c.rung != "sleep"]
        plan.sidecar = bool(helped)
        if helped:
            plan.sidecar_port = 0 if self.pod.spec.host_network else self.operator.port
            context = self.pod.spec.security_context
            plan.sidecar_root = context is not None and context.run_as_user == 0
            self.say("sidecar-added")
            if self.pod.spec.host_network:
                self.say("host-network")
            if present(self.pod.spec.resources) is not None:
                self.say("pod-resources")
        for choice in ours:
            self._equip(choice, plan.sidecar_port)
        grace = self._grace(wanted, limit)
        plan.grace = grace.now if grace is not None else self.grace_was
        plan.status = encode(Status(self.operator.version, grace, {c.desired.container.name: c.record for c in choices if c.record.codes}))
        return plan

    def _limit(self, ours: list[_Choice]) -> int:
        """Seconds that the grace period may reach."""
        if not ours:
            return 0
        if self.settings.grace:
            return max(self.operator.grace_bound, self.grace)
        return self.grace

    # -- one container -------------------------------------------------------------------------------------------------

    def _choose(self, index: int, container: Container) -> _Choice:
        view = before(container, self.status)
        desired = Desired(index, container, view, view.command, view.args, view.pre_stop, view.readiness)
        settings = self.settings.containers.get(container.name, self.settings.default)
        choice = _Choice(desired, settings, ContainerStatus())
        name = container.name
        if settings.mode == "off":
            self._note(choice, "turned-off")
            return choice
        if name in MESH_PROXIES:
            self._choose_mesh(choice)
            return choice
        probes = self._probes(container, view)
        choice.ports = ports = settings.ports or _serving_ports(container, probes)
        if not ports and settings.mode == "auto":
            self._note(choice, "serves-nothing")
            return choice
        self._readiness(choice, probes)
        if self.grace == 0:
            if not any(d.code == "grace-zero" for d in self.decisions):
                self.say("grace-zero")
            return choice
        choice.command = self._command(choice)
        self._profile(choice)
        choice.rung = self._rung(choice)
        if choice.rung:
            self._compose(choice)
        return choice

    def _note(self, choice: _Choice, code: str, detail: str = "") -> None:
        choice.record.codes.append(code)
        self.decisions.append(Decision(code, choice.desired.container.name, detail))

    def _probes(self, container: Container, view: Before) -> list[tuple[str, Handler]]:
        """Decode the container's own probes; exec ones serve no request and are left out."""
        raws = (
            ("readiness", view.readiness),
            ("liveness", present(container.liveness_probe)),
            ("startup", present(container.startup_probe)),
        )
        found = []
        for kind, raw in raws:
            if raw is not None:
                probe = handler(raw)
                if probe.http_get is not None or probe.tcp_socket is not None or probe.grpc is not None:
                    found.append((kind, probe))
        return found

    def _command(self, choice: _Choice) -> Sequence[str]:
        """Return what the container runs, where that is known: its command, its annotation, the operator's look-up."""
        view = choice.desired.view
        if view.command:
            return view.command
        if choice.settings.entrypoint:
            return choice.settings.entrypoint
        image = choice.desired.container.image or ""
        for entry in self.operator.images:
            if fnmatchcase(image, entry.match):
                if not view.args and entry.cmd:
                    choice.desired.args = list(entry.cmd)
                return entry.entrypoint or entry.cmd
        return ()

    def _profile(self, choice: _Choice) -> None:
        index, settings, container = self.operator.profiles, choice.settings, choice.desired.container
        if settings.profile is not None:
            choice.profile, how = index.by_name[settings.profile], "profile-annotated"
        elif choice.command and (found := index.by_command([*choice.command, *(choice.desired.args or ())])):
            choice.profile, how = found, "profile-command"
        elif not choice.command and (found := index.by_image(container.image or "")):
            choice.profile, how = found, "profile-image"
        else:
            how = "profile-generic"
        # An image's name is a hint only: the process tree, which the helper looks at, is better evidence.
        choice.generic = choice.profile is GENERIC or how == "profile-image"
        choice.record.profile = choice.profile.name
        self._note(choice, how, choice.profile.name)

    def _rung(self, choice: _Choice) -> str:
        """Walk down the ladder from what is wanted to what can be had; "" if nothing can."""
        mode = choice.settings.mode
        for rung in _LADDER[0 if mode == "auto" else _LADDER.index(mode) :]:
            fall = self._why_not(rung, choice)
            if not fall:
                return rung
            # An operator's choice of modes is no news to a Pod that asked for none.
            if fall not in choice.record.codes and not (fall == "mode-not-allowed" and mode == "auto"):
                self._note(choice, fall, rung)
        return ""

    def _why_not(self, rung: str, choice: _Choice) -> str:
        """Return the code of why a container cannot have a rung, or ""."""
        if rung not in self.operator.modes:
            return "mode-not-allowed"
        if rung == "sleep":
            return "prestop-off" if not choice.settings.prestop else "" if self.operator.native_sleep else "unsupported-version"
        if self.helper_fall:
            return self.helper_fall
        possible = choice.desired.view.helper_possible
        if rung == "hook":
            if not choice.settings.prestop:
                return "prestop-off"
            if possible:
                choice.stop = not self.shared_pid
            elif choice.ports and not self.pod.spec.host_network:
                choice.delivery, choice.stop = "http", False
            return "" if possible or choice.delivery == "http" else "mount-collision"
        if not possible:
            return "mount-collision"
        if self.shared_pid:
            return "shared-pid-namespace"
        if not choice.command:
            return "entrypoint-unknown"
        return "already-init" if basename(choice.command[0]) in INITS else ""

    def _choose_mesh(self, choice: _Choice) -> None:
        """Hold a mesh proxy that is a plain container until the others have drained; its own preStop is never touched."""
        view, settings = choice.desired.view, choice.settings
        if self.grace == 0 or not settings.prestop:
            return
        if view.pre_stop is not None:
            self._note(choice, "mesh-own-prestop")
        elif self.helper_fall or not view.helper_possible or "hook" not in self.operator.modes:
            if self.operator.native_sleep:
                self._note(choice, "mesh-aligned")
                choice.rung = "sleep"
                choice.need = Need(self._waits(choice), 0)
        else:
            self._note(choice, "mesh-aligned")
            choice.rung, choice.stop = "hook", False
            choice.need = Need(self._waits(choice), 0)
            choice.record.mode = "hook"

    # -- preStop -------------------------------------------------------------------------------------------------------

    def _compose(self, choice: _Choice) -> None:
        """Settle what becomes of the user's own preStop; `choice.rung` may become "" (nothing of ours is left to do)."""
        raw, settings = choice.desired.view.pre_stop, choice.settings
        hook: int | None = 0
        if raw is not None:
            user = handler(raw)
            hook = helper.literal_sleep(user)
            kept = self._why_kept(choice, user)
            if kept:
                self._note(choice, kept)
                choice.delivery = "none"
                if choice.rung != "wrap":
                    choice.rung = ""
                    return
            else:
                choice.user = user
                after = settings.existing == "after" or (
                    settings.existing == "auto" and user.exec is not None and helper.stops_server(user.exec)
                )
                choice.order = "after" if after else "before"
                self._note(choice, "prestop-after" if after else "prestop-before")
        elif not settings.prestop:
            self._note(choice, "prestop-off")
            choice.delivery = "none"
        else:
            self._note(choice, "prestop-added")
        self._note(choice, choice.rung if choice.delivery != "http" else "hook-http")
        choice.record.mode = choice.rung
        choice.need = Need(self._waits(choice), hook)

    def _why_kept(self, choice: _Choice, user: Handler) -> str:
        """Return why the user's preStop stays as it is, or "" if it is composed with ours."""
        if not choice.settings.prestop:
            return "prestop-off"
        if choice.settings.existing == "keep":
            return "prestop-kept"
        if choice.rung == "sleep" or choice.delivery == "http":
            return "prestop-kept-sleep"
        if user.tcp_socket is not None:
            return "prestop-kept-tcp"
        if user.http_get is not None:
            if (user.http_get.scheme or "HTTP") != "HTTP":
                return "prestop-kept-https"
            port = _number(user.http_get.port, choice.desired.container)
            if port is None:
                return "prestop-kept"
            user.http_get.port = port
        return ""

    def _waits(self, choice: _Choice) -> Waits:
        settings, profile = choice.settings, choice.profile
        if choice.rung == "sleep":
            return Waits(settings.delay_max, 0, settings.delay_max, 0, KILL_MARGIN)
        drain = settings.drain_timeout or profile.drain_timeout or settings.default_drain
        patience = settings.patience or profile.patience or self.grace
        if not profile.observe:
            drain, patience = 0, max(drain, patience)
        return Waits(settings.delay_min, settings.quiet, settings.delay_max, drain, patience)

    # -- the budget ----------------------------------------------------------------------------------------------------

    def _share_ports(self, ours: list[_Choice]) -> None:
        """Let every container of the Pod wait for the ports of all: a back end must not stop before the front that still owes answers."""
        helped = [c for c in ours if c.rung != "sleep" and c.desired.container.name not in MESH_PROXIES]
        if all(c.ports for c in helped):
            ports = sorted({port for c in helped for port in c.ports})
            for choice in ours:
                choice.ports = ports

    def _fit(self, choice: _Choice, limit: int) -> int:
        """Bring a container's waits below the limit; returns the seconds of grace that it wants."""
        need = choice.need
        if need is None:
            return 0
        wanted = budget.total(need, self.grace)
        if wanted <= limit:
            return wanted
        waits = budget.fit(need, limit)
        name = choice.desired.container.name
        if waits is None:
            self._note(choice, "grace-no-room", f"{limit} s")
            choice.rung, choice.record.mode = "", ""
            return 0
        if self.settings.grace:
            self.say("grace-capped", name, f"wanted {wanted} s, bound {limit} s")
        choice.need = Need(waits, need.hook)
        return limit

    def _grace(self, wanted: int, limit: int) -> GraceStatus | None:
        """Settle the grace period: never lowered."""
        if not wanted:
            return None
        if not self.settings.grace:
            self.say("grace-off", "", f"{self.grace} s")
            return None
        if wanted <= self.grace:
            self.say("grace-enough", "", f"{self.grace} s")
            return None
        text = f"{self.grace} -> {wanted}" + (f" (bound {limit})" if wanted == limit else "")
        self.say("grace-raised", "", text)
        return GraceStatus(wanted, self.grace_was, f"delay + drain + max(hook + {KILL_MARGIN}, {self.grace})")

    # -- writing it down -----------------------------------------------------------------------------------------------

    def _equip(self, choice: _Choice, port: int) -> None:
        """Write the values that a container gets on its rung."""
        desired, need, record = choice.desired, choice.need, choice.record
        if need is None:
            return
        name, waits = desired.container.name, need.waits
        record.pre_stop = (choice.delivery != "none" and desired.view.pre_stop) or ABSENT
        if choice.rung == "sleep":
            record.native_sleep = waits.delay_max
            desired.pre_stop = {"sleep": {"seconds": waits.delay_max}}
            return
        if choice.delivery == "http":
            desired.pre_stop = {
                "httpGet": {"path": helper.drain_path(name, choice.ports, waits), "port": self.operator.port, "scheme": "HTTP"}
            }
            return
        desired.mount = True
        options = helper.common(
            name,
            choice.ports,
            waits,
            choice.profile,
            generic=choice.generic,
            probe_period=_probe_period(desired),
            report=port,
        )
        if choice.delivery == "exec":
            desired.pre_stop = {"exec": {"command": helper.drain(options, stop=choice.stop, order=choice.order, user=choice.user)}}
        if choice.rung == "wrap":
            lifecycle = desired.container.lifecycle
            stop_on = choice.profile.stop_on
            if lifecycle is not None and lifecycle.stop_signal:
                stop_on = tuple(dict.fromkeys((*stop_on, lifecycle.stop_signal.removeprefix("SIG"))))
            desired.command = helper.run(options, stop_on, choice.command)
            if desired.view.command is None:
                record.added.append("command")
            if desired.args is not desired.view.args:
                record.added.append("args")
        elif desired.args is not desired.view.args:
            desired.args = desired.view.args

    # -- readiness -----------------------------------------------------------------------------------------------------

    def _readiness(self, choice: _Choice, probes: list[tuple[str, Handler]]) -> None:
        """Add a readiness probe where there is none."""
        settings, desired = choice.settings, choice.desired
        if desired.view.readiness is not None:
            self._note(choice, "readiness-kept")
            return
        if settings.readiness == "off":
            self._note(choice, "readiness-off")
            return
        probe: dict[str, Any] | None = None
        if settings.readiness != "auto":
            port = settings.readiness_port or _one(_plausible(desired.container, choice.ports))
            code = "readiness-annotated" if port is not None else "readiness-ambiguous" if choice.ports else "readiness-no-port"
            probe = _probe(settings.readiness, port, settings.readiness_path) if port is not None else None
        elif self.mesh:
            code = "readiness-mesh"
        else:
            code, probe = self._readiness_from(choice, probes)
        detail = ""
        if probe is not None:
            detail = choice.record.readiness = probe_name(msgspec.convert(probe, Handler))
            desired.readiness = {**probe, **_READINESS_TIMES}
        self._note(choice, code, detail)

    def _readiness_from(self, choice: _Choice, probes: list[tuple[str, Handler]]) -> tuple[str, dict[str, Any] | None]:
        for kind, own in probes:
            if kind != "readiness":
                return f"readiness-{kind}", _copy(own)
        ports = _plausible(choice.desired.container, choice.ports)
        if len(ports) == 1:
            return "readiness-tcp", _probe("tcp", ports[0], "")
        return ("readiness-ambiguous" if ports else "readiness-no-port"), None


def _probe(kind: str, port: int | str, path: str) -> dict[str, Any]:
    if kind == "http":
        return {"httpGet": {"path": path, "port": port, "scheme": "HTTP"}}
    return {"tcpSocket" if kind == "tcp" else "grpc": {"port": port}}


def _copy(own: Handler) -> dict[str, Any]:
    """Copy the handler of a probe. Without `host`: Pod Security "baseline" refuses one on what we add."""
    get: HttpGet | None = own.http_get
    if get is not None:
        copied: dict[str, Any] = {"path": get.path or "/", "port": get.port, "scheme": get.scheme or "HTTP"}
        if get.http_headers:
            copied["httpHeaders"] = [{"name": header.name, "value": header.value} for header in get.http_headers]
        return {"httpGet": copied}
    if own.tcp_socket is not None:
        return {"tcpSocket": {"port": own.tcp_socket.port}}
    grpc: PortHandler = own.grpc or PortHandler()
    return {"grpc": {"port": grpc.port} if grpc.service is None else {"port": grpc.port, "service": grpc.service}}


def _number(port: int | str, container: Container) -> int | None:
    """Resolve a port's name on its own container."""
    if isinstance(port, int):
        return port
    for declared in container.ports or ():
        if declared.name == port:
            return declared.container_port
    return int(port) if port.isascii() and port.isdigit() else None


def _serving_ports(container: Container, probes: list[tuple[str, Handler]]) -> Sequence[int]:
    """Return the TCP ports on which requests arrive: those declared, less exporters' where others remain; else those probed."""
    declared = [port for port in container.ports or () if port.protocol in (None, "TCP")]
    if len(declared) > 1:
        declared = [port for port in declared if not _is_side(port.name or "", port.container_port)] or declared
    if declared:
        return sorted({port.container_port for port in declared})
    found = set()
    for _, probe in probes:
        where = probe.http_get or probe.tcp_socket or probe.grpc
        if where is not None and (number := _number(where.port, container)):
            found.add(number)
    return sorted(found)


def _is_side(name: str, number: int) -> bool:
    return number in _SIDE_NUMBERS or any(word in name for word in _SIDE_NAMES)


def _plausible(container: Container, ports: Sequence[int]) -> Sequence[int]:
    """Narrow several ports down: by conventional name, then by conventional number."""
    if len(ports) < 2:
        return ports
    named = {port.container_port for port in container.ports or () if port.name and port.name.split("-")[0] in _SERVING_NAMES}
    for narrowed in ([p for p in ports if p in named], [p for p in ports if p in _SERVING_NUMBERS]):
        if len(narrowed) == 1:
            return narrowed
    return ports


def _one(ports: Sequence[int]) -> int | None:
    return ports[0] if len(ports) == 1 else None


def _probe_period(desired: Desired) -> int:
    """Return how often the kubelet goes on probing while the Pod terminates: only readiness does; 0 if nothing does."""
    readiness = desired.readiness
    if readiness is None:
        return 0
    if isinstance(readiness, Raw):
        probe = handler(readiness)
        if probe.http_get is None and probe.tcp_socket is None and probe.grpc is None:
            return 0
        return probe.period_seconds or 10
    return int(readiness["periodSeconds"])
