"""What stands in the way of podgrace: what would refuse its Pods, or make it do less.

In: `Evidence`, a `Space`, or the cluster. Out: hits. Amounts are compared as the API does
(LimitRanger and ResourceQuota admission; core/v1 LimitRangeItem); the rules of Pod Security are
those of pod-security-standards. Other policies are named, not read: only a dry run shows what they
do.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, Final

from webhook.admission import sentence
from webhook.cli.check.nodes import mounts_images
from webhook.cli.plan.evidence import Around, Evidence
from webhook.cli.plan.objects import Limit, Node
from webhook.cli.plan.rule import Hit, Rule, Space
from webhook.config import Config
from webhook.core.names import CLASS_LABEL
from webhook.core.reasons import REASONS
from webhook.core.resources import quantity

_OWN_RULES: Final = frozenset({"rollout-unprotected", "grace-zero", "spot-node"})
_FALLS: Final = frozenset(
    {"sidecar-off", "unsupported-version", "shared-pid-namespace", "prestop-off", "grace-off"}
    | {"prestop-kept-sleep", "prestop-kept-http", "virtual-node", "wasm"}
)
"""Reasons that warn nobody at admission, and still mean less than podgrace could do."""

_ENFORCE: Final = "pod-security.kubernetes.io/enforce"
_IMAGES_ALLOWED: Final = (1, 33)
"""Version of Pod Security from which "restricted" allows image volumes."""
_SIDECARS: Final = (1, 29)
_SLEEPS: Final = (1, 30)
"""Kubelets that run native sidecars, and the native sleep, by default (KEP-753, KEP-3960)."""
_NAMED: Final = 3


def _windows(it: Evidence) -> Iterator[Hit]:
    if it.facts.no_helper == "windows":
        yield Hit("runs on Windows: a native sleep, no drain")


def _less(it: Evidence) -> Iterator[Hit]:
    for found in it.plan.decisions:
        if found.code in _OWN_RULES or not (REASONS[found.code].warn or found.code in _FALLS):
            continue
        where = f"{found.container}: " if found.container else ""
        yield Hit(f"{where}{found.code}: {sentence(found)}")


def _slipped(it: Evidence) -> Iterator[Hit]:
    now = it.running
    if it.enabled and not it.plan.skip and now is not None and now.marked < now.pods:
        yield Hit(
            f"{now.marked} of {now.pods} Pods carry the mark: kubectl rollout restart"
            f" -n {it.workload.namespace} {it.workload.kind.lower()}/{it.workload.name}"
        )


def _quota(space: Space) -> Iterator[Hit]:
    wanted: dict[str, Fraction] = defaultdict(Fraction)
    for it in space.workloads:
        if it.injected or not it.replicas:
            continue
        for what, amounts in (("requests", it.requests), ("limits", it.limits)):
            for name, amount in amounts.items():
                wanted[f"{what}.{name}"] += it.replicas * quantity(amount)
    for quota in space.around.quotas.get(space.name, ()):
        for name, hard in quota.hard.items():
            more = wanted.get(f"requests.{name}" if name in ("cpu", "memory") else name)
            if not more:
                continue
            room = quantity(hard) - quantity(quota.used.get(name, "0"))
            if more > room:
                yield Hit(
                    f"ResourceQuota {quota.name}: {name} has {said(name, room)} left; the sidecars"
                    f" of all workloads here would ask for {said(name, more)}"
                )


def _limit_range(space: Space) -> Iterator[Hit]:
    sidecars = {
        (tuple(it.requests.items()), tuple(it.limits.items()))
        for it in space.workloads
        if it.plan.sidecar and not it.injected
    }
    for limits in space.around.limits.get(space.name, ()):
        said = {
            why
            for requests, own in sorted(sidecars)
            for limit in limits.limits
            if limit.type == "Container"
            for why in _refusals(limit, dict(requests), dict(own))
        }
        for why in sorted(said):
            yield Hit(f"LimitRange {limits.name}: {why}")


def _refusals(
    limit: Limit, requests: Mapping[str, str], limits: Mapping[str, str]
) -> Iterator[str]:
    """Say what LimitRanger would refuse in the sidecar, once it has filled in its defaults."""
    whole = {**limit.max, **limit.default, **limits}
    asked = {**whole, **limit.default_request, **requests}
    for name, least in limit.min.items():
        if name in asked and quantity(asked[name]) < quantity(least):
            yield f"{name}: the sidecar requests {asked[name]}, at least {least} is accepted"
    for name, most in limit.max.items():
        if name in whole and quantity(whole[name]) > quantity(most):
            yield f"{name}: the sidecar is limited to {whole[name]}, at most {most} is accepted"
    for name, ratio in limit.max_limit_request_ratio.items():
        if name in whole and name in asked and quantity(asked[name]):
            found = quantity(whole[name]) / quantity(asked[name])
            if found > quantity(ratio):
                yield (
                    f"{name}: the sidecar's limit {whole[name]} is {float(found):.0f} times its"
                    f" request {asked[name]}, at most {ratio} times is accepted"
                )


def _pod_security(space: Space) -> Iterator[Hit]:
    level, config = space.labels.get(_ENFORCE), space.config
    if level != "restricted" or not any(it.helped for it in space.workloads):
        return
    version = space.labels.get(f"{_ENFORCE}-version", "latest")
    if config.operator.delivery == "image":
        if version != "latest" and _version(version) < _IMAGES_ALLOWED:
            yield Hit(f"restricted, as of {version}, allows no image volumes (from v1.33 it does)")
        return
    missing = _unrestricted(config.file.helper.security_context)
    if missing:
        yield Hit(f"restricted refuses the sidecar: helper.securityContext lacks {missing}")


def _unknown_class(space: Space) -> Iterator[Hit]:
    name = space.labels.get(CLASS_LABEL, "")
    if name and name not in space.whole.classes:
        known = ", ".join(sorted(space.whole.classes)) or "none"
        yield Hit(f"{CLASS_LABEL}: {name}: the configuration has {known}")


def _unrestricted(context: Mapping[str, Any]) -> str:
    """Name what Pod Security "restricted" misses in the sidecar's security context."""
    capabilities = context.get("capabilities")
    dropped = capabilities.get("drop", ()) if isinstance(capabilities, dict) else ()
    profile = context.get("seccompProfile")
    kind = profile.get("type") if isinstance(profile, dict) else None
    wanted = {
        "allowPrivilegeEscalation: false": context.get("allowPrivilegeEscalation") is False,
        "capabilities.drop: [ALL]": "ALL" in dropped,
        "runAsNonRoot: true": context.get("runAsNonRoot") is True,
        "seccompProfile": kind in ("RuntimeDefault", "Localhost"),
    }
    return ", ".join(name for name, there in wanted.items() if not there)


def _runtime(around: Around, config: Config) -> Iterator[Hit]:
    if all(one.operator.delivery != "image" for one in (config, *config.classes.values())):
        return
    old = [
        node
        for node in _linux(around)
        if node.runtime and not mounts_images(node.runtime, node.kubelet)
    ]
    if old:
        runtimes = ", ".join(sorted({node.runtime for node in old}))
        yield Hit(f"helper.delivery is image, and {_names(old)} cannot mount one ({runtimes})")


def _old_kubelet(around: Around, config: Config) -> Iterator[Hit]:
    operator = config.operator
    needed = _SLEEPS if operator.native_sleep else _SIDECARS if operator.native_sidecar else (0, 0)
    old = [n for n in around.cluster.nodes if n.kubelet and _version(n.kubelet) < needed]
    if old:
        versions = ", ".join(sorted({node.kubelet for node in old}))
        yield Hit(
            f"config kubernetes promises {needed[0]}.{needed[1]}; the kubelet of {_names(old)} is"
            f" {versions}"
        )


def _others(around: Around, _: Config) -> Iterator[Hit]:
    for policy in around.cluster.policies:
        yield Hit(f"{policy.kind} {policy.name} judges Pods; its rules are not read here")


def _linux(around: Around) -> list[Node]:
    return [node for node in around.cluster.nodes if node.system != "windows"]


def _names(nodes: list[Node]) -> str:
    names = ", ".join(node.name for node in nodes[:_NAMED])
    return names if len(nodes) <= _NAMED else f"{names} and {len(nodes) - _NAMED} more"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])


def said(name: str, amount: Fraction) -> str:
    """Say an amount as Kubernetes writes it: CPU in millicores, memory in MiB."""
    if name.endswith("cpu"):
        return f"{float(amount * 1000):g}m"
    return f"{float(amount / 2**20):g}Mi" if name.endswith("memory") else f"{float(amount):g}"


RULES: Final = (
    Rule(
        "windows",
        "less",
        "the helper is a Linux program: Windows Pods get a sleep and nothing else",
        "nothing to do",
        _windows,
    ),
    Rule(
        "does-less",
        "less",
        "something in the Pod, its annotations or the configuration has podgrace do less",
        "see the reason's code in docs/reasons.md",
        _less,
    ),
    Rule(
        "slipped-through",
        "less",
        "its label is set, and some of its Pods run as before",
        "kubectl rollout restart; `podgrace audit` lists the Pods",
        _slipped,
    ),
)
SPACE_RULES: Final = (
    Rule(
        "quota",
        "refused",
        "a ResourceQuota has no room for all sidecars: the last Pods would be refused",
        "raise the quota, lower helper.resources, or use helper.delivery: image",
        _quota,
    ),
    Rule(
        "limit-range",
        "refused",
        "a LimitRange refuses what the sidecar asks for",
        "change helper.resources in the configuration, or the LimitRange",
        _limit_range,
    ),
    Rule(
        "pod-security",
        "refused",
        "Pod Security of the namespace refuses what podgrace adds",
        "change helper.securityContext or helper.delivery, or the enforce-version label",
        _pod_security,
    ),
    Rule(
        "class-unknown",
        "advice",
        "the namespace's label names a class that is not in the configuration, so it is in none",
        "correct the label podgrace.io/class, or add the class to config.classes",
        _unknown_class,
    ),
)
CLUSTER_RULES: Final = (
    Rule(
        "runtime",
        "refused",
        "the helper comes as an image volume, which some nodes cannot mount: Pods hang there",
        "helper.delivery: sidecar, or a newer container runtime",
        _runtime,
    ),
    Rule(
        "old-kubelet",
        "refused",
        "some kubelets are older than the configuration says, and lack what it relies on",
        "config kubernetes.oldestKubelet: the oldest version that runs",
        _old_kubelet,
    ),
    Rule(
        "other-policies",
        "advice",
        "other policies judge Pods too, and may refuse what podgrace adds",
        "try one Pod: podgrace inject -f pod.yaml | kubectl create --dry-run=server -f -",
        _others,
    ),
)
