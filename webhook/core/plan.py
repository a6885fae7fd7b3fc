"""The decision: a Pod and settings in, a plan with every reason out.

In: `Pod`, `PodSettings`, `Operator`; nothing else (no clock, no environment, no call). Out: `Plan`:
the values that each container should have, the sidecar and the grace period for the Pod, and one
`Decision` for everything done or not done. This module is only the order of the steps; each step
has a module with its rules:

    alone -> look -> readiness, ladder, prestop -> align -> budget -> write

How a plan becomes JSON Patch belongs to `patch`; reading annotations belongs to `policy`.
"""

from collections.abc import Mapping
from typing import Final

from webhook.core import budget, ladder, prestop, probe, readiness
from webhook.core.align import align
from webhook.core.alone import left_alone
from webhook.core.decision import Choice, Decision, Desired, Facts, Look, Note, Plan
from webhook.core.look import container_looks, floored, pod_facts
from webhook.core.pod import Pod
from webhook.core.readiness import Answer
from webhook.core.settings import Operator, PodSettings
from webhook.core.status import (
    before,
    empty_before,
    grace_before,
    native_graces_before,
    pull_secrets_before,
    read,
)
from webhook.core.write import evictable_in, write

_WITHOUT_USERS: Final[Mapping[str, tuple[Note, ...]]] = {
    "idle": (("serves-nothing", ""),),
    "side": (("no-users", ""),),
    "signalled": (("worker-signalled", ""),),
}


def decide(
    pod: Pod, settings: PodSettings, operator: Operator, namespace: str = "", owner: str = ""
) -> Plan:
    """Decide a Pod. Raises `msgspec.ValidationError` for handlers that no API server accepts.

    `owner`: the kind of the object that contains its template, if there is no Pod yet.
    """
    if reasons := left_alone(pod, operator.excluded_namespaces, namespace):
        return Plan([Decision(code) for code in reasons], skip=True)
    facts = pod_facts(pod, settings, operator, owner)
    looks = container_looks(pod, facts, settings, operator)
    servers = [look for look in looks if look.role == "server"]
    answers = readiness.choose_all(servers, facts)
    # Lists are quicker.
    probed = any([answer.probe for answer in answers.values()])  # noqa: C419
    safe = probed or any([look.view.readiness for look in looks])  # noqa: C419
    choices: dict[int, Choice] = {}
    drained = False
    for look in servers:
        choice = _serve(look, answers[look.index], facts, operator, safe=safe)
        choices[look.index] = choice
        drained = drained or choice.rung.name != ""
    for look in looks:
        if look.role == "worker":
            choices[look.index] = _work(look, facts, operator)
        elif look.role != "server":
            choices[look.index] = _behind(look, facts, operator, drained=drained)
    aligned = align([choices[look.index] for look in looks], facts.grace)
    settled = budget.settle(aligned, facts, operator, may_raise=settings.grace)
    return write(pod, settings, operator, facts, settled)


def restore(pod: Pod) -> Plan:
    """Plan the way back: the Pod as it was before us."""
    status = read(pod)
    containers = []
    for i, container in enumerate(pod.spec.containers):
        view = before(container, status)
        was = (view.command, view.args, view.pre_stop, view.readiness)
        containers.append(Desired(i, container, view, *was, probe_graces=view.probe_graces))
    empty = empty_before(pod, status)
    evictable, _ = evictable_in(pod, status, empty, wanted=False)
    return Plan(
        (),
        containers=containers,
        grace=grace_before(pod, status),
        evictable=evictable,
        pull_secrets=pull_secrets_before(pod, status),
        empty=empty,
        native_graces=native_graces_before(pod, status),
    )


def _serve(look: Look, ready: Answer, facts: Facts, operator: Operator, *, safe: bool) -> Choice:
    """Settle a container that serves, as if alone in its Pod. `safe`: a rollout waits for it."""
    made = ready.probe
    notes: list[Note] = [(ready.code, ready.detail)]
    if ready.refused and not safe and facts.owner not in ("", "Pod"):
        notes.append(("rollout-unprotected", ""))
    if facts.grace == 0:
        return Choice(look, readiness=made, notes=notes)
    if facts.balancer is not None:
        look, said = floored(look, facts, operator.delay_bound)
        notes.append(("balancer", said))
    notes.append((look.profile_from, look.profile.name))
    rung = ladder.climb(look, facts, operator)
    notes += rung.falls
    if not rung.name:
        return Choice(look, readiness=made, notes=notes)
    hooks = prestop.compose(look, rung, facts.grace, operator.drain_bound, probed=safe)
    notes += hooks.notes
    return Choice(
        look,
        hooks.rung,
        hooks.hook,
        hooks.need,
        made,
        look.ports,
        look.profile.observe,
        0 if hooks.rung.name == "sleep" else _probe_period(look, made),
        notes=notes,
    )


def _work(look: Look, facts: Facts, operator: Operator) -> Choice:
    """Settle a worker: no requests, so it gets its signal at once, and as much time as it had."""
    notes: list[Note] = [("worker", ""), (look.profile_from, look.profile.name)]
    if facts.grace == 0:
        return Choice(look, notes=notes)
    rung = ladder.climb(look, facts, operator)
    notes += rung.falls
    if rung.name in ("", "sleep"):
        # A sleep before the signal does not help it.
        return Choice(look, notes=notes)
    hooks = prestop.compose(look, rung, facts.grace, operator.drain_bound)
    notes += hooks.notes
    return Choice(look, hooks.rung, hooks.hook, hooks.need, observe=False, notes=notes)


def _behind(look: Look, facts: Facts, operator: Operator, *, drained: bool) -> Choice:
    """Settle a container without users of its own. `drained`: another one in the Pod drains."""
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
        notes = (*notes, hooks.notes[0], ("not-held", "its own preStop"))
        return Choice(look, notes=notes)
    return Choice(look, rung, hooks.hook, notes=(*notes, hooks.notes[0]))


def _probe_period(look: Look, made: probe.Probe | None) -> int:
    return probe.period(look.view.readiness if made is None else made)
