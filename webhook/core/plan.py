"""The decision: a Pod and settings in, a plan with every reason out.

In: `Pod`, `PodSettings`, `Operator`; nothing else (no clock, no environment, no call). Out: `Plan`: for each container
the values that it should have, for the Pod the sidecar and the grace period, and one `Decision` for everything that was
done or left. This module is the order of things, and nothing else; each step has a module that says its rules:

    alone -> look -> readiness, ladder, prestop -> align -> budget -> equip

How a plan becomes JSON Patch belongs to `patch`; what a user wrote in an annotation belongs to `policy`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from webhook.core import budget, ladder, prestop, probe, readiness, sidecar
from webhook.core.align import align
from webhook.core.alone import left_alone
from webhook.core.decision import Choice, Decision, Desired, Facts, Look, Note, Plan
from webhook.core.equip import equip
from webhook.core.look import container_look, floored, pod_facts
from webhook.core.names import MESH_PROXIES, SIDECAR
from webhook.core.pod import ABSENT, Pod
from webhook.core.readiness import Answer
from webhook.core.settings import Operator, PodSettings
from webhook.core.status import (
    Status,
    before,
    empty_before,
    encode,
    grace_before,
    overfull,
    pull_secrets_before,
    read,
)

_WITHOUT_USERS: Final[Mapping[str, tuple[Note, ...]]] = {
    "idle": (("serves-nothing", ""),),
    "side": (("no-users", ""),),
    "signalled": (("worker-signalled", ""),),
}


_STOPPED: Final = ("server", "worker")
"""Roles that get their signal from us."""


def decide(
    pod: Pod, settings: PodSettings, operator: Operator, namespace: str = "", owner: str = ""
) -> Plan:
    """Decide about a Pod. Raises `msgspec.ValidationError` for handlers that no API server takes.

    `owner`: the kind of the object that its template stands in, where there is no Pod yet.
    """
    if reasons := left_alone(pod, operator.excluded_namespaces, namespace):
        return Plan([Decision(code) for code in reasons], skip=True)
    facts = pod_facts(pod, settings, operator, owner)
    looks = [
        container_look(i, c, facts, settings.containers.get(c.name, settings.default), operator)
        for i, c in enumerate(pod.spec.containers)
    ]
    answers = readiness.choose_all([look for look in looks if look.role == "server"], facts)
    safe = any([look.view.readiness is not None for look in looks]) or any(  # noqa: C419
        [answer.probe is not None for answer in answers.values()]  # noqa: C419
    )
    choices = {
        look.index: _serve(look, answers[look.index], facts, operator, safe=safe)
        for look in looks
        if look.role == "server"
    }
    drained = any([c.rung.name for c in choices.values()])  # noqa: C419 - a list is quicker
    choices |= {look.index: _work(look, facts, operator) for look in looks if look.role == "worker"}
    settled = budget.settle(
        align(
            [
                choices.get(look.index) or _behind(look, facts, operator, drained=drained)
                for look in looks
            ],
            facts.grace,
        ),
        facts,
        operator,
        may_raise=settings.grace,
    )
    return _plan(pod, settings, operator, facts, settled)


def restore(pod: Pod) -> Plan:
    """Plan the way back: the Pod as it was before us."""
    status = read(pod)
    containers = []
    for i, container in enumerate(pod.spec.containers):
        view = before(container, status)
        containers.append(
            Desired(
                i,
                container,
                view,
                view.command,
                view.args,
                view.pre_stop,
                view.readiness,
                probe_graces=view.probe_graces,
            )
        )
    empty = empty_before(pod, status)
    evictable, _ = _evictable(pod, status, empty, wanted=False)
    return Plan(
        (),
        containers=containers,
        grace=grace_before(pod, status),
        evictable=evictable,
        pull_secrets=pull_secrets_before(pod, status),
        empty=empty,
    )


def _evictable(
    pod: Pod, status: Status | None, empty: Sequence[str], *, wanted: bool
) -> tuple[str | None, bool]:
    added = status is not None and status.evictable
    return sidecar.evictable(pod, added=added, wanted=wanted, empty="safeToEvict" in empty)


def _serve(look: Look, ready: Answer, facts: Facts, operator: Operator, *, safe: bool) -> Choice:
    """Settle a container that serves, as if it were alone in its Pod. `safe`: its rollout waits."""
    made = ready.probe
    notes: tuple[Note, ...] = ((ready.code, ready.detail),)
    if ready.refused and not safe and facts.owner not in ("", "Pod"):
        notes = (*notes, ("rollout-unprotected", ""))
    if facts.grace == 0:
        return Choice(look, readiness=made, notes=notes)
    if facts.balancer is not None:
        look, said = floored(look, facts, operator.delay_bound)
        notes = (*notes, ("balancer", said))
    notes = (*notes, (look.profile_from, look.profile.name))
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


def _work(look: Look, facts: Facts, operator: Operator) -> Choice:
    """Settle a worker: nobody sends to it, so it gets its signal at once, and the time that it had."""
    notes: tuple[Note, ...] = (("worker", ""), (look.profile_from, look.profile.name))
    if facts.grace == 0:
        return Choice(look, notes=notes)
    rung = ladder.climb(look, facts, operator)
    notes = (*notes, *rung.falls)
    if rung.name in ("", "sleep"):
        # To sleep before the signal is no help to it.
        return Choice(look, notes=notes)
    hooks = prestop.compose(look, rung, facts.grace, operator.drain_bound)
    notes = (*notes, *hooks.notes)
    return Choice(look, hooks.rung, hooks.hook, hooks.need, observe=False, notes=notes)


def _behind(look: Look, facts: Facts, operator: Operator, *, drained: bool) -> Choice:
    """Settle a container that has no users of its own. `drained`: another one of the Pod drains."""
    if look.role == "off":
        return Choice(look, notes=(("turned-off", ""),))
    notes = _WITHOUT_USERS.get(look.role, ())
    if facts.grace == 0 or look.role == "signalled" or not (drained or look.role == "proxy"):
        return Choice(look, notes=notes)
    rung = ladder.hold(look, facts, operator)
    notes = (*notes, *rung.falls)
    if not rung.name or look.view.pre_stop is None:
        return Choice(look, rung, notes=notes)
    hooks = prestop.compose(look, rung, facts.grace, operator.drain_bound)
    if not hooks.rung.name:
        notes = (*notes, *hooks.notes, ("not-held", "its own preStop"))
        return Choice(look, notes=notes)
    return Choice(look, rung, hooks.hook, notes=(*notes, hooks.notes[0]))


def _probe_period(look: Look, made: probe.Probe | None) -> int:
    return probe.period(look.view.readiness if made is None else made)


def _plan(
    pod: Pod, settings: PodSettings, operator: Operator, facts: Facts, settled: budget.Budget
) -> Plan:
    """Write down what was settled, the sidecar that it takes, and every reason."""
    choices = settled.choices
    helped = any([c.rung.name not in ("", "sleep") for c in choices])  # noqa: C419 - a list is quicker
    copied = helped and operator.delivery == "sidecar"
    port = operator.port if copied and not facts.host_network else 0
    idle = not any([c.rung.name or c.readiness for c in choices])  # noqa: C419
    # A liveness restart of a container takes no longer than it did.
    raised_from = 0 if settled.grace is None else facts.grace
    equipped = [equip(choice, operator, port, raised_from) for choice in choices]
    empty = empty_before(pod, facts.status)
    records = {
        d.container.name: record for d, record in equipped if record.codes or record.probe_graces
    }
    evictable, added = _evictable(pod, facts.status, empty, wanted=copied)
    own = pull_secrets_before(pod, facts.status)
    secrets = [name for name in operator.pull_secrets if helped and name not in own]
    status = encode(
        Status(
            operator.version,
            settled.grace,
            records,
            empty,
            added,
            secrets,
            ABSENT if facts.status is None else facts.status.manifest,
        )
    )
    if overfull(pod, status):
        return Plan([Decision("annotations-full")], skip=True)
    return Plan(
        [
            *_decisions(
                pod, settings, operator, facts, settled, secrets=secrets, helped=helped, idle=idle
            )
        ],
        idle=idle,
        containers=[desired for desired, _ in equipped],
        sidecar=sidecar.for_pod(
            pod,
            operator,
            port,
            [desired.answer for desired, _ in equipped if desired.answer],
            wraps="wrap" in [c.rung.name for c in choices],
        )
        if copied
        else None,
        volume=operator.volume if helped else None,
        renew=facts.ours and (facts.status is None or facts.status.version != operator.version),
        grace=facts.grace_was if settled.grace is None else settled.grace.now,
        evictable=evictable,
        status=status,
        pull_secrets=[*own, *secrets],
        empty=empty,
    )


def _decisions(
    pod: Pod,
    settings: PodSettings,
    operator: Operator,
    facts: Facts,
    settled: budget.Budget,
    *,
    secrets: Sequence[str],
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
    if facts.grace == 0 and any([c.look.role in _STOPPED for c in settled.choices]):  # noqa: C419
        yield Decision("grace-zero")
    for code, detail in settled.notes:
        yield Decision(code, "", detail)
    if helped:
        if operator.delivery == "sidecar":
            yield Decision("sidecar-added")
            if facts.host_network:
                yield Decision("host-network")
        else:
            yield Decision("helper-mounted")
    if secrets:
        yield Decision("pull-secrets-added", "", ", ".join(secrets))
        if not pull_secrets_before(pod, facts.status) and not pod.spec.service_account:
            yield Decision("pull-secrets-alone")
    if idle and facts.asked:
        for choice in settled.choices:
            if choice.look.role in ("idle", "side"):
                yield Decision("asked-in-vain", choice.look.container.name)
    if idle:
        yield Decision("nothing-to-do")
