"""The facts of an installation -> lines: ok, warn or fail, each with the remedy. Pure.

In: `Facts` and the time. Out: lines in the order of a search for a fault: is it there, is it
called, does the call arrive, does it do what it should. A fail means that Pods are not injected, or
can no longer be created; a warn, that it works but something is wrong or could not be read. `CODES`
says what each code means; docs/debugging.md lists them.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Final

import msgspec

from webhook import __version__
from webhook.cli import terminal
from webhook.cli.check.facts import (
    Configuration,
    Facts,
    Metadata,
    Release,
    Try,
    Unread,
    ours,
    ready,
)
from webhook.core.names import ENABLED, INJECT_LABEL

SOON: Final = timedelta(days=7)
"""A certificate that ends this soon should have been renewed: a third of its life is left."""
NAMED: Final = 5
"""Namespaces that a line names; the others are counted."""

CODES: Final = {
    "installed": "there is a release of podgrace",
    "configuration": "the release's MutatingWebhookConfiguration is there, with both of its "
    "entries",
    "endpoints": "Pods of the webhook are ready, more than one",
    "ca-bundle": "caBundle holds the certificates that an API server trusts",
    "certificate": "what the Pods serve is trusted by caBundle, named for the Service, and not old",
    "versions": "chart, webhook, helper and this command are of one version",
    "policies": "the admission policies are there, and bound",
    "namespaces": "the selectors choose namespaces",
    "overlap": "no namespace is chosen by two releases",
    "order": "other webhooks that change Pods do not come after ours",
    "admission": "a Pod by dry run comes back injected",
    "nodes": "the nodes can mount the helper's image",
    "latency": "the webhook answers well within its timeout",
}


class Line(msgspec.Struct):
    """One checked thing."""

    level: str
    code: str
    release: str
    text: str
    remedy: str = ""


def judge(facts: Facts, now: datetime | None = None) -> list[Line]:
    """Say of each thing whether it is right."""
    now = now or datetime.now(UTC)
    lines = list(_cluster(facts))
    for release in facts.releases:
        about = f"{release.name} in {release.namespace or '?'}"
        for level, code, text, remedy in _release(facts, release, now):
            lines.append(Line(level, code, about, text, remedy))
    return lines


def text(lines: Sequence[Line], *, colour: bool) -> str:
    """Print the lines, with a heading for each release."""
    out: list[str] = []
    about = ""
    for line in lines:
        if line.release != about:
            about = line.release
            out += (
                ["", terminal.bold(about, colour=colour)]
                if out
                else [terminal.bold(about, colour=colour)]
            )
        out.append(f"{terminal.level(line.level, colour=colour)}  {line.code:13}  {line.text}")
        if line.remedy:
            out.append(f"{'':21}to fix it: {line.remedy}")
    counts = {level: sum(line.level == level for line in lines) for level in ("warn", "fail")}
    if counts["fail"]:
        verdict = f"Not sound: {counts['fail']} failed, {counts['warn']} to look at."
    elif counts["warn"]:
        verdict = f"It works; {counts['warn']} to look at."
    else:
        verdict = "Sound."
    return "\n".join([*out, "", terminal.bold(verdict, colour=colour)])


Found = Iterator[tuple[str, str, str, str]]
"""Level, code, text, remedy."""


def _cluster(facts: Facts) -> Iterator[Line]:
    """Judge what belongs to no single release."""
    for name, read in (
        ("configuration", facts.configurations),
        ("installed", facts.deployments),
    ):
        if isinstance(read, Unread):
            yield Line("warn", name, "", f"not looked at: {read}")
    if isinstance(facts.in_tree, list):
        for policy in facts.in_tree:
            yield _in_tree(policy.metadata)
    if not facts.releases and not facts.in_tree and not isinstance(facts.deployments, Unread):
        yield Line(
            "fail",
            "installed",
            "",
            "podgrace is not installed: no MutatingWebhookConfiguration calls it, and no Deployment"
            " runs it",
            "is this the right cluster? docs/install.md says how to install it",
        )
    chosen = [
        (release, set(release.opted_in))
        for release in facts.releases
        if not isinstance(release.opted_in, Unread)
    ]
    for (one, mine), (other, yours) in combinations(chosen, 2):
        if both := sorted(mine & yours):
            yield Line(
                "fail",
                "overlap",
                "",
                f"{_listed(both)} chosen by two releases: {one.name} in {one.namespace} and"
                f" {other.name} in {other.namespace}",
                "give one of them a revision of its own (value `revision`)",
            )


def _in_tree(policy: Metadata) -> Line:
    about = f"{policy.labels.get('app.kubernetes.io/instance', policy.name)} (mode policy)"
    return Line("ok", "installed", about, f"MutatingAdmissionPolicy {policy.name}")


def _release(facts: Facts, release: Release, now: datetime) -> Found:
    """Judge one release, in the order in which a Pod's admission reaches its parts."""
    configuration = release.configuration
    if configuration is None:
        yield from _uncalled(facts, release)
        return
    yield from _configuration(configuration)
    yield from _endpoints(release, configuration)
    yield from _bundle(configuration)
    yield from _served(release, now)
    yield from _versions(release)
    yield from _policies(facts, configuration)
    yield from _namespaces(release)
    yield from _order(facts, configuration)
    yield from _trial(release, configuration)


def _uncalled(facts: Facts, release: Release) -> Found:
    if isinstance(facts.configurations, Unread):
        return
    said = (
        f"no MutatingWebhookConfiguration calls Deployment {release.name}: no Pod is injected"
        " (unless a static manifest on the API servers does it, which the API does not show)"
    )
    remedy = f"helm upgrade --reuse-values {release.name} ... -n {release.namespace}"
    yield "fail", "configuration", said, remedy
    yield from _endpoints(release, None)


def _configuration(configuration: Configuration) -> Found:
    name, entries = configuration.metadata.name, configuration.webhooks
    policies = {entry.failure_policy for entry in entries}
    seconds = max(entry.timeout_seconds for entry in entries)
    if len(entries) < 2:
        said = (
            f"{name} has only {entries[0].name}: Pods of the other kind of label are not injected"
        )
        yield "warn", "configuration", said, "helm upgrade --reuse-values: the chart renders two"
        return
    said = f"{name}: failurePolicy {', '.join(sorted(policies))}, {seconds} s"
    yield "ok", "configuration", said, ""


def _endpoints(release: Release, configuration: Configuration | None) -> Found:
    client = configuration.webhooks[0].client_config if configuration else None
    if client is not None and client.service is None:
        yield "ok", "endpoints", f"called by url {client.url}, not through a Service", ""
        return
    if isinstance(release.endpoints, Unread):
        yield "warn", "endpoints", f"not looked at: {release.endpoints}", ""
        return
    deployment = release.deployment
    service = client.service if client else None
    name = deployment.metadata.name if deployment else service.name if service else release.name
    where = f"kubectl -n {release.namespace}"
    able = len(ready(release.endpoints))
    wanted = deployment.spec.replicas if deployment else able
    if wanted == 0 and not able:
        said = f"Deployment {name} is scaled to 0: nobody answers"
        yield "fail", "endpoints", said, f"{where} scale deployment {name} --replicas=2"
    elif not able:
        why = f" ({release.unready})" if release.unready else ""
        said = f"no ready Pod behind Service {name}: nobody answers{why}"
        yield (
            "fail",
            "endpoints",
            said,
            f"{where} describe pods -l app.kubernetes.io/instance={release.name}",
        )
    elif deployment is None:
        said = f"{able} ready; no Deployment of podgrace's calls itself theirs"
        yield "warn", "endpoints", said, "was the Deployment renamed, or made without the chart?"
    elif able < wanted:
        why = f"; {release.unready}" if release.unready else ""
        said = f"{able} of {wanted} Pods are ready{why}"
        yield "warn", "endpoints", said, f"{where} rollout status deployment {name}"
    elif able == 1:
        said = "1 Pod: while it is replaced, nobody answers"
        yield "warn", "endpoints", said, "set the value replicas to 2 or more"
    else:
        yield "ok", "endpoints", f"{able} of {wanted} Pods are ready", ""


def _bundle(configuration: Configuration) -> Found:
    for entry in configuration.webhooks:
        client = entry.client_config
        bundle = client.bundle
        count = bundle.count(b"-----BEGIN CERTIFICATE-----")
        if not client.ca_bundle and client.url is None:
            said = f"{entry.name}: caBundle is empty, so that no API server trusts the webhook"
            yield "fail", "ca-bundle", said, _WRITES
        elif client.ca_bundle and not count:
            said = f"{entry.name}: caBundle holds no certificate ({len(bundle)} bytes)"
            yield "fail", "ca-bundle", said, _WRITES
        else:
            yield "ok", "ca-bundle", f"{entry.name}: {count} trusted", ""


_CERTS: Final = "and docs/certificates.md"
_WRITES: Final = (
    "the container `certs`, cert-manager's injector, or the value tls.provided.caBundle writes it:"
    " see docs/certificates.md"
)

_REFUSALS: Final = (
    ("expired", "restart the Deployment, and look at the log of its container `certs`"),
    ("not yet valid", "are the clocks right?"),
    ("ostname mismatch", "the certificate is another Service's: see `podgrace certs check`"),
    ("", f"caBundle is not of the authority that signed it: see `podgrace certs check` {_CERTS}"),
)
"""What OpenSSL says of a certificate, and what helps."""


def _served(release: Release, now: datetime) -> Found:
    if isinstance(release.served, Unread):
        yield "warn", "certificate", f"what is served was not looked at: {release.served}", ""
        return
    for pod in release.served:
        if pod.expires is None:
            said = f"Pod {pod.pod}: {pod.trouble}"
            yield "fail", "certificate", said, f"kubectl -n {release.namespace} logs {pod.pod}"
            continue
        until = f"{pod.expires:%Y-%m-%d %H:%M} UTC"
        if pod.refusal:
            remedy = next(remedy for word, remedy in _REFUSALS if word in pod.refusal)
            said = (
                f"Pod {pod.pod} serves one that API servers refuse: {pod.refusal} (until {until})"
            )
            yield "fail", "certificate", said, remedy
        elif now >= pod.expires:
            yield "fail", "certificate", f"Pod {pod.pod}: expired at {until}", _REFUSALS[0][1]
        elif now + SOON >= pod.expires:
            said = f"Pod {pod.pod}: expires at {until}, and should have been renewed"
            yield "warn", "certificate", said, "see `podgrace certs check`, or renew your own"
        else:
            days = (pod.expires - now).days
            said = f"Pod {pod.pod}: trusted by caBundle, {days} days left"
            yield "ok", "certificate", said, ""


def _versions(release: Release) -> Found:
    if release.deployment is None:
        return
    labels = release.deployment.metadata.labels
    chart = labels.get("helm.sh/chart", "").rpartition("-")[2]
    found = {"chart": chart, "webhook": labels.get("app.kubernetes.io/version", "")}
    images = sorted({c.image for c in release.deployment.spec.template.spec.containers})
    helper = ""
    if isinstance(release.trial, Try):
        mark = re.search(r"the mark of podgrace (\S+?):?(?:\s|$)", release.trial.found.text)
        found["webhook"] = mark[1] if mark else found["webhook"]
        helper = release.trial.helper
    known = {what: version for what, version in found.items() if version}
    said = ", ".join(f"{what} {version}" for what, version in known.items())
    tags = {tag for image in (*images, helper) if (tag := _tag(image))}
    if len(set(known.values())) > 1:
        yield "warn", "versions", said, "helm upgrade to one version; was a rollout left half done?"
    elif len(tags) > 1:
        said = f"{said}; tags differ: {', '.join(images)} and helper {helper}"
        yield "warn", "versions", said, "leave image.tag and helperImage.tag to the chart"
    elif known and __version__ not in known.values():
        said = f"{said}; this command is {__version__}"
        yield "warn", "versions", said, "use the command of the same version"
    else:
        yield "ok", "versions", said or "no version is told", ""


def _tag(image: str) -> str:
    """Give an image's tag; "" for a digest."""
    name = image.rpartition("/")[2]
    return "" if "@" in name else name.partition(":")[2]


def _policies(facts: Facts, configuration: Configuration) -> Found:
    if isinstance(facts.policies, Unread) or isinstance(facts.bindings, Unread):
        unread = facts.policies if isinstance(facts.policies, Unread) else facts.bindings
        yield "warn", "policies", f"not looked at: {unread}", ""
        return
    prefix = configuration.metadata.name
    mine = {f"{prefix}-missed", f"{prefix}-labels"}
    there = {p.metadata.name for p in facts.policies} & mine
    bound = {b.spec.policy_name for b in facts.bindings} & mine
    for name in sorted(there ^ bound):
        what = "is bound to nothing, and so without effect" if name in there else "is missing"
        yield "warn", "policies", f"ValidatingAdmissionPolicy {name} {what}", "helm upgrade"
    if there & bound:
        yield "ok", "policies", f"bound: {', '.join(sorted(there & bound))}", ""
    elif not there ^ bound:
        said = "none: a Pod that slips through is not warned about (audit.enabled is off?)"
        yield "ok", "policies", said, ""


def _namespaces(release: Release) -> Found:
    if isinstance(release.opted_in, Unread):
        yield "warn", "namespaces", f"not looked at: {release.opted_in}", ""
        return
    may = f"in {len(release.eligible)} more, Pods may ask by their own label"
    if release.opted_in:
        yield "ok", "namespaces", f"{_listed(release.opted_in)} opted in; {may}", ""
    elif release.eligible:
        said = f"none is opted in; {may}"
        yield "ok", "namespaces", said, ""
    else:
        remedy = (
            f"kubectl label namespace NAME {INJECT_LABEL}={ENABLED}, and podgrace.io/revision where"
            " the release has one"
        )
        yield "warn", "namespaces", "no namespace is selected: nothing is ever injected", remedy


def _order(facts: Facts, configuration: Configuration) -> Found:
    if isinstance(facts.configurations, Unread):
        return
    known = {c.metadata.name for c in ours(facts.configurations)}
    later = sorted(
        c.metadata.name
        for c in facts.configurations
        if c.metadata.name not in known
        and c.metadata.name > configuration.metadata.name
        and any(
            _changes_pods(rule.operations, rule.resources) for w in c.webhooks for rule in w.rules
        )
    )
    again = all(entry.reinvocation_policy == "IfNeeded" for entry in configuration.webhooks)
    if later and not again:
        said = f"{_listed(later)} may change Pods after us, and reinvocationPolicy is Never"
        yield "warn", "order", said, "set the value webhook.reinvocationPolicy to IfNeeded"
    elif later:
        yield "ok", "order", f"{_listed(later)} may change Pods after us; we are called again", ""


def _changes_pods(operations: Iterable[str], resources: Iterable[str]) -> bool:
    return bool({"CREATE", "*"} & set(operations)) and bool({"pods", "*", "*/*"} & set(resources))


def _trial(release: Release, configuration: Configuration) -> Found:
    trial = release.trial
    if trial is None:
        return
    if isinstance(trial, Unread):
        yield "warn", "admission", f"not tried: {trial}", ""
        return
    found = trial.found
    if found.what == "runtime":
        yield "fail", "nodes", found.text, ""
        return
    if found.what != "injected":
        # A refusal for another reason says nothing about us.
        level = "warn" if found.what in ("refused", "not-allowed") else "fail"
        said = f"dry run in {trial.namespace}: {found.what}: {found.text}"
        yield level, "admission", said, f"docs/certificates.md explains `{found.what}`"
        return
    yield "ok", "admission", f"dry run: {found.text}", ""
    if trial.added is None:
        return
    milliseconds = trial.added * 1000
    limit = min(entry.timeout_seconds for entry in configuration.webhooks)
    said = f"the webhook adds about {milliseconds:.0f} ms; its timeout is {limit} s"
    if trial.added > limit / 2:
        remedy = "has it enough CPU? see docs/metrics.md"
        yield "warn", "latency", said, remedy
    else:
        yield "ok", "latency", said, ""


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMED])
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} more"
