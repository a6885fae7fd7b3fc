"""What `plan` says: a row for each workload, the worst first, and totals. Pure.

In: a `Cluster` and the configuration. Out: `Report`, which is also the JSON that `-o json` prints
and `--diff` reads. How it is shown belongs to `text` and `html`.

The verdict on today, from a workload's findings:

| verdict    | when                                                                             |
|------------|----------------------------------------------------------------------------------|
| left-alone | podgrace leaves its Pods alone, whatever the label says                          |
| no-users   | no container serves anybody, or no Service and no port of a node leads to it     |
| drained    | its Pods carry our mark, and nothing else loses requests                         |
| loses      | a finding loses requests                                                         |
| may-lose   | a finding may lose requests, and podgrace knows the server                       |
| unknown    | the same, of a server that podgrace does not know                                |
| no-cause   | none of that                                                                     |
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Final

import msgspec

from webhook.cli.plan import beyond, evidence, obstacles, today
from webhook.cli.plan.evidence import Around, Evidence
from webhook.cli.plan.objects import Cluster
from webhook.cli.plan.obstacles import said
from webhook.cli.plan.read import KINDS
from webhook.cli.plan.rule import HARMS, PODGRACE, Hit, Space
from webhook.cli.plan.rules import RULES
from webhook.config import Config
from webhook.core.decision import Decision
from webhook.core.resources import quantity

VERDICTS: Final[Mapping[str, str]] = {
    "loses": "would lose requests",
    "may-lose": "may lose requests",
    "unknown": "unknown server, may lose requests",
    "no-cause": "no cause found",
    "drained": "podgrace drains it",
    "no-users": "no users seen",
    "left-alone": "left alone",
}
"""Verdict on today -> what it says to people; the worst first."""

_HARM_RANK: Final = {harm: rank for rank, harm in enumerate(HARMS)}
_VERDICT_RANK: Final = {verdict: rank for rank, verdict in enumerate(VERDICTS)}
_RUNGS: Final = ("wrap", "hook", "hook-http", "sleep")


class Found(msgspec.Struct, frozen=True):
    """A finding. `by`: who fixes it, "podgrace" or "you"."""

    code: str
    harm: str
    detail: str
    by: str


class Elsewhere(msgspec.Struct, frozen=True):
    """A finding about a namespace or the cluster (then `namespace` is "")."""

    namespace: str
    code: str
    harm: str
    detail: str
    by: str


class Server(msgspec.Struct, frozen=True):
    """A container that serves. `profile`: "generic" if unknown; `seen`: how it was found."""

    container: str
    profile: str
    seen: str


class Does(msgspec.Struct, frozen=True, rename="camel"):
    """What podgrace would do.

    `modes`: container -> wrap, hook, hook-http or sleep; `readiness`: the container that gets a
    probe; `why`: reasons for which the Pods are left alone. Seconds: of grace now and then, and
    the longest wait before the server is told to stop. `requests`: of the sidecar, for each Pod.
    """

    modes: dict[str, str]
    readiness: str
    why: list[str]
    grace_now: int
    grace: int
    drain: int
    requests: dict[str, str]


class Row(msgspec.Struct, frozen=True, rename="camel"):
    """A workload. `pods`, `injected`: those that run, and those with our mark; None if not read."""

    namespace: str
    kind: str
    name: str
    replicas: int | None
    verdict: str
    enabled: bool
    pods: int | None
    injected: int | None
    servers: list[Server]
    podgrace: Does
    findings: list[Found]


class Totals(msgspec.Struct, frozen=True, rename="camel"):
    """Sums. `requests`: of all sidecars that are not there yet; `ending`: Jobs and their like."""

    workloads: int
    namespaces: int
    verdicts: dict[str, int]
    codes: dict[str, int]
    enabled: int
    injected: int
    requests: dict[str, str]
    longest_grace: int
    longest_drain: int
    ending: int


class Report(msgspec.Struct, frozen=True, rename="camel"):
    """All of it. `unread`: kinds of which nothing was read, so that no rule judges them."""

    podgrace: str
    source: str
    totals: Totals
    workloads: list[Row]
    elsewhere: list[Elsewhere]
    unread: list[str]
    passed: list[str]


def report(cluster: Cluster, config: Config, source: str) -> Report:
    """Judge every workload. Raises `ManifestError` for a Pod that no API server would take."""
    around = Around(cluster)
    seen = [evidence.of(workload, around, config) for workload in cluster.workloads]
    rows = sorted((_row(it) for it in seen), key=_order)
    return Report(
        config.operator.version,
        source,
        _totals(rows, seen, cluster),
        rows,
        list(_elsewhere(seen, around, config)),
        [kind for kind in KINDS if not around.knows(kind)],
        list(cluster.passed),
    )


def _row(it: Evidence) -> Row:
    workload, now = it.workload, it.running
    findings = [] if it.plan.skip else sorted(_findings(it), key=lambda f: _HARM_RANK[f.harm])
    return Row(
        workload.namespace,
        workload.kind,
        workload.name,
        it.replicas,
        _verdict(it, findings),
        it.enabled,
        None if now is None else now.pods,
        None if now is None else now.marked,
        [
            Server(s.name, s.look.profile.name, s.look.profile_from.removeprefix("profile-"))
            for s in it.servers
        ],
        _does(it),
        findings,
    )


def _findings(it: Evidence) -> Iterator[Found]:
    """Ask every rule.

    1. Of a workload that serves nobody only the obstacles are asked.
    2. What podgrace fixes is gone where it is there already.
    3. Without a Service in front of it, a loss is a matter of who else calls it: advice.
    """
    rules = list(obstacles.RULES)
    if it.servers or it.services:
        rules = [*today.RULES, *rules, *beyond.RULES]
    for rule in rules:
        for hit in rule.find(it):
            if it.injected and hit.by == PODGRACE:
                continue
            harm = hit.harm or rule.harm
            if it.reached is False and harm in ("loses", "may-lose"):
                harm = "advice"
            yield Found(rule.code, harm, hit.detail, hit.by)


def _verdict(it: Evidence, findings: Sequence[Found]) -> str:
    if it.plan.skip:
        return "left-alone"
    harms = {found.harm for found in findings}
    unheard = any(found.code == "undeclared-port" for found in findings)
    if it.reached is False or not (it.servers or unheard):
        return "no-users"
    if "loses" in harms:
        return "loses"
    if "may-lose" in harms:
        return "may-lose" if any(server.known for server in it.servers) else "unknown"
    return "drained" if it.injected else "no-cause"


def _does(it: Evidence) -> Does:
    return Does(
        {d.container: d.code for d in it.plan.decisions if d.code in _RUNGS},
        it.ready_made,
        _why(it.plan.decisions) if it.plan.skip else [],
        it.facts.grace,
        it.grace,
        it.drain,
        dict(it.requests),
    )


def _why(decisions: Iterable[Decision]) -> list[str]:
    return list(dict.fromkeys(decision.code for decision in decisions))


def _order(row: Row) -> tuple[int, int, int, str, str, str]:
    worst = min((_HARM_RANK[found.harm] for found in row.findings), default=len(HARMS))
    number = -sum(found.harm in ("loses", "may-lose") for found in row.findings)
    return _VERDICT_RANK[row.verdict], worst, number, row.namespace, row.kind, row.name


def _elsewhere(seen: Sequence[Evidence], around: Around, config: Config) -> Iterator[Elsewhere]:
    for everywhere in obstacles.CLUSTER_RULES:
        for hit in everywhere.find(around, config):
            yield _placed("", everywhere.code, everywhere.harm, hit)
    spaces: dict[str, list[Evidence]] = defaultdict(list)
    for it in seen:
        if not it.plan.skip:
            spaces[it.workload.namespace].append(it)
    for name in sorted(spaces):
        labels = around.cluster.namespaces.get(name, {})
        space = Space(name, labels, spaces[name], around, config)
        for rule in obstacles.SPACE_RULES:
            for hit in rule.find(space):
                yield _placed(name, rule.code, rule.harm, hit)


def _placed(namespace: str, code: str, harm: str, hit: Hit) -> Elsewhere:
    return Elsewhere(namespace, code, hit.harm or harm, hit.detail, hit.by)


def _totals(rows: Sequence[Row], seen: Sequence[Evidence], cluster: Cluster) -> Totals:
    verdicts = Counter(row.verdict for row in rows)
    codes = Counter(code for row in rows for code in {found.code for found in row.findings})
    requests: dict[str, Fraction] = defaultdict(Fraction)
    for it in seen:
        for name, each in () if it.injected else it.requests.items():
            requests[name] += (it.replicas or 0) * quantity(each)
    return Totals(
        len(rows),
        len({row.namespace for row in rows}),
        {verdict: verdicts[verdict] for verdict in VERDICTS if verdicts[verdict]},
        {code: codes[code] for code in RULES if codes[code]},
        sum(row.enabled for row in rows),
        sum(it.injected for it in seen),
        {name: said(name, value) for name, value in requests.items()},
        max((row.podgrace.grace for row in rows), default=0),
        max((row.podgrace.drain for row in rows), default=0),
        cluster.ending,
    )
