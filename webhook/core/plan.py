"""The decision: a Pod and settings in, a plan with every reason out.

In: `Pod`, `PodSettings`, `Operator`; nothing else (no clock, no environment, no call). Out: `Plan`: for each container
the values that it should have, for the Pod the sidecar and the grace period, and one `Decision` for everything that was
done or left. This module is the order of things, and nothing else; each step has a module that says its rules:

    alone -> look -> readiness, ladder, prestop -> align -> budget -> equip

How a plan becomes JSON Patch belongs to `patch`; what a user wrote in an annotation belongs to `policy`.
"""

from collections.abc import Iterator

from webhook.core import budget, ladder, prestop, probe, readiness
from webhook.core.align import align
from webhook.core.alone import left_alone
from webhook.core.decision import Choice, Decision, Desired, Facts, Look, Note, Plan
from webhook.core.equip import equip
from webhook.core.look import container_look, pod_facts
from webhook.core.names import MESH_PROXIES, SIDECAR
from webhook.core.pod import Pod
from webhook.core.settings import Operator, PodSettings
from webhook.core.status import (
    Status,
    before,
    empty_before,
    encode,
    grace_before,
    overfull,
    read,
)


def decide(pod: Pod, settings: PodSettings, operator: Operator, namespace: str = "") -> Plan:
    """Decide about a Pod. Raises `msgspec.ValidationError` for handlers that no API server takes."""
    if reasons := left_alone(pod, operator.excluded_namespaces, namespace):
        return Plan([Decision(code) for code in reasons], skip=True)
    facts = pod_facts(pod, settings, operator)
    looks = [
        container_look(i, c, facts, settings.containers.get(c.name, settings.default), operator)
        for i, c in enumerate(pod.spec.containers)
    ]
    choices = align([_choose(look, facts, operator) for look in looks], facts.grace)
    settled = budget.settle(choices, facts, operator, may_raise=settings.grace)
    return _plan(pod, settings, operator, facts, settled)


def restore(pod: Pod) -> Plan:
    """Plan the way back: the Pod as it was before us."""
    status = read(pod)
    containers = []
    for i, container in enumerate(pod.spec.containers):
        view = before(container, status)
        containers.append(
            Desired(i, container, view, view.command, view.args, view.pre_stop, view.readiness)
        )
    return Plan(
        (),
        containers=containers,
        grace=grace_before(pod, status),
        empty=empty_before(pod, status),
    )


def _choose(look: Look, facts: Facts, operator: Operator) -> Choice:
    """Settle one container, as if it were alone in its Pod."""
    if look.role == "off":
        return Choice(look, notes=(("turned-off", ""),))
    if look.role == "proxy":
        rung = ladder.hold(look, facts, operator)
        return Choice(look, rung, notes=rung.falls)
    if look.role == "idle":
        return Choice(look, notes=(("serves-nothing", ""),))
    code, made = ("readiness-kept", None)
    if look.view.readiness is None:
        code, made = readiness.choose(look, mesh=facts.mesh)
    ready: Note = (code, "" if made is None else probe.name(made))
    if facts.grace == 0:
        return Choice(look, readiness=made, notes=(ready,))
    notes = (ready, (look.profile_from, look.profile.name))
    rung = ladder.climb(look, facts, operator)
    if not rung.name:
        return Choice(look, readiness=made, notes=(*notes, *rung.falls))
    hooks = prestop.compose(look, rung, facts.grace, operator.drain_bound)
    return Choice(
        look,
        hooks.rung,
        hooks.hook,
        hooks.need,
        made,
        look.ports,
        look.profile.observe,
        0 if hooks.rung.name == "sleep" else _probe_period(look, made),
        notes=(*notes, *rung.falls, *hooks.notes),
    )


def _probe_period(look: Look, made: probe.Probe | None) -> int:
    return probe.period(look.view.readiness if made is None else made)


def _plan(
    pod: Pod, settings: PodSettings, operator: Operator, facts: Facts, settled: budget.Budget
) -> Plan:
    """Write down what was settled, the sidecar that it takes, and every reason."""
    context = pod.spec.security_context
    choices = settled.choices
    helped = any([c.rung.name not in ("", "sleep") for c in choices])  # noqa: C419 - a list is quicker
    port = operator.port if helped and not facts.host_network else 0
    idle = not any([c.rung.name or c.readiness for c in choices])  # noqa: C419
    equipped = [equip(choice, operator, port) for choice in choices]
    empty = empty_before(pod, facts.status)
    records = {d.container.name: record for d, record in equipped if record.codes}
    status = encode(Status(operator.version, settled.grace, records, empty))
    if overfull(pod, status):
        return Plan([Decision("annotations-full")], skip=True)
    return Plan(
        [*_decisions(pod, settings, facts, settled, helped=helped, idle=idle)],
        idle=idle,
        containers=[desired for desired, _ in equipped],
        sidecar=helped,
        sidecar_port=port,
        sidecar_root=context is not None and context.run_as_user == 0,
        renew=facts.sidecar_at is not None
        and (facts.status is None or facts.status.version != operator.version),
        grace=facts.grace_was if settled.grace is None else settled.grace.now,
        status=status,
        empty=empty,
    )


def _decisions(
    pod: Pod,
    settings: PodSettings,
    facts: Facts,
    settled: budget.Budget,
    *,
    helped: bool,
    idle: bool,
) -> Iterator[Decision]:
    """Gather every reason: annotations, containers, native sidecars, then what is the Pod's."""
    for code, name, detail in settings.notes:
        yield Decision(code, name, detail)
    for choice in settled.choices:
        name = choice.look.container.name
        for code, detail in choice.notes:
            yield Decision(code, name, detail)
    for container in pod.spec.init_containers or ():
        if container.restart_policy == "Always" and container.name != SIDECAR:
            mesh = container.name in MESH_PROXIES
            yield Decision("mesh-native" if mesh else "native-sidecar", container.name)
    if facts.grace == 0 and any([c.look.role == "server" for c in settled.choices]):  # noqa: C419
        yield Decision("grace-zero")
    for code, detail in settled.notes:
        yield Decision(code, "", detail)
    if helped:
        yield Decision("sidecar-added")
        if facts.host_network:
            yield Decision("host-network")
    if idle:
        yield Decision("nothing-to-do")
