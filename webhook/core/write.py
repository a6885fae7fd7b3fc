"""Write what was settled for each container as the plan for the Pod.

In: the Pod, settings, and a `Budget` with choices that fit. Out: `Plan`: the values that each
container should have, the sidecar that they need, our annotations, and one `Decision` for
everything done or not done. Nothing is settled here. How a plan becomes JSON Patch belongs to
`patch`.
"""

from collections.abc import Sequence
from typing import Final

from webhook.core import restart, sidecar
from webhook.core.budget import Budget
from webhook.core.decision import Decision, Desired, Facts, Plan
from webhook.core.equip import equip
from webhook.core.names import MESH_PROXIES, SIDECAR
from webhook.core.pod import ABSENT, Pod
from webhook.core.settings import Operator, PodSettings
from webhook.core.status import (
    ContainerStatus,
    Status,
    empty_before,
    encode,
    native_graces_before,
    overfull,
    pull_secrets_before,
)

_STOPPED: Final = ("server", "worker")
"""Roles that we stop."""


def write(
    pod: Pod, settings: PodSettings, operator: Operator, facts: Facts, settled: Budget
) -> Plan:
    """Write down what was settled, the sidecar that it needs, and every reason."""
    choices, status, raised = settled.choices, facts.status, settled.grace
    rungs = [choice.rung.name for choice in choices]
    helped = "wrap" in rungs or "hook" in rungs
    copied = helped and operator.delivery == "sidecar"
    port = operator.port if copied and not facts.host_network else 0
    # A container's liveness restart takes no longer than it did.
    raised_from = 0 if raised is None else facts.grace
    containers: list[Desired] = []
    answers: list[str] = []
    records: dict[str, ContainerStatus] = {}
    for choice in choices:
        desired, record = equip(choice, operator, port, raised_from)
        containers.append(desired)
        if desired.answer:
            answers.append(desired.answer)
        if record.codes or record.probe_graces:
            records[choice.look.container.name] = record
    native = native_graces_before(pod, status)
    if raised_from:
        for index, was in native.items():
            if kept := restart.kept(was, raised_from):
                name = (pod.spec.init_containers or [])[index].name
                records[name] = ContainerStatus(probe_graces=kept)
                native[index] = {**was, **kept}
    empty = empty_before(pod, status)
    evictable, added = evictable_in(pod, status, empty, wanted=copied)
    own = pull_secrets_before(pod, status)
    secrets: list[str] = []
    if helped and operator.pull_secrets:
        secrets = [name for name in operator.pull_secrets if name not in own]
    manifest = ABSENT if status is None else status.manifest
    text = encode(Status(operator.version, raised, records, empty, added, secrets, manifest))
    if overfull(pod, text):
        return Plan([Decision("annotations-full")], skip=True)
    idle = not any(rungs) and not any([choice.readiness for choice in choices])  # noqa: C419
    decisions = _of_containers(pod, settings, settled)
    decisions += _of_pod(operator, facts, settled, helped=helped)
    if secrets:
        decisions.append(Decision("pull-secrets-added", "", ", ".join(secrets)))
        if not own and not pod.spec.service_account:
            decisions.append(Decision("pull-secrets-alone"))
    if idle:
        decisions += _of_idle(facts, settled)
    return Plan(
        decisions,
        idle=idle,
        containers=containers,
        sidecar=sidecar.for_pod(pod, operator, port, answers, wraps="wrap" in rungs)
        if copied
        else None,
        volume=operator.volume if helped else None,
        renew=facts.ours and (status is None or status.version != operator.version),
        grace=facts.grace_was if raised is None else raised.now,
        evictable=evictable,
        status=text,
        pull_secrets=[*own, *secrets],
        empty=empty,
        native_graces=native,
    )


def evictable_in(
    pod: Pod, status: Status | None, empty: Sequence[str], *, wanted: bool
) -> tuple[str | None, bool]:
    """Call `sidecar.evictable` for a Pod with this status."""
    added = status is not None and status.evictable
    return sidecar.evictable(pod, added=added, wanted=wanted, empty="safeToEvict" in empty)


def _of_containers(pod: Pod, settings: PodSettings, settled: Budget) -> list[Decision]:
    """Give the reasons about annotations, containers, and native sidecars."""
    found = [Decision(code, name, detail) for code, name, detail in settings.notes]
    for choice in settled.choices:
        name = choice.look.container.name
        found += [Decision(code, name, detail) for code, detail in choice.notes]
    for container in pod.spec.init_containers or ():
        if container.restart_policy == "Always" and container.name != SIDECAR:
            mesh = container.name in MESH_PROXIES
            found.append(Decision("mesh-native" if mesh else "native-sidecar", container.name))
    return found


def _of_pod(operator: Operator, facts: Facts, settled: Budget, *, helped: bool) -> list[Decision]:
    """Give the reasons about the grace period, and about how the helper gets into the Pod."""
    found = []
    if facts.grace == 0 and any([c.look.role in _STOPPED for c in settled.choices]):  # noqa: C419
        found.append(Decision("grace-zero"))
    for code, detail in settled.notes:
        found.append(Decision(code, "", detail))
    if settled.grace is not None and 0 < facts.notice < settled.grace.now:
        found.append(Decision("spot-node", "", f"{facts.notice} s"))
    if helped and operator.delivery == "sidecar":
        found.append(Decision("sidecar-added"))
        if facts.host_network:
            found.append(Decision("host-network"))
    elif helped:
        found.append(Decision("helper-mounted"))
    return found


def _of_idle(facts: Facts, settled: Budget) -> list[Decision]:
    """Give the reasons of a Pod in which no container needs anything."""
    vain = [c for c in settled.choices if facts.opted_in and c.look.role in ("idle", "side")]
    found = [Decision("asked-in-vain", choice.look.container.name) for choice in vain]
    return [*found, Decision("nothing-to-do")]
