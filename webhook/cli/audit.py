"""`podgrace audit`: which running Pods should carry our mark and do not.

In: the cluster's Pods and namespaces, or with -f what `kubectl get namespaces,pods -A -o json` (or
yaml) printed. Out: a table or JSON, and exit code 3 if there are any. The rule is
`webhook.core.audit`. Pods that are ending or have ended do not count.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

import msgspec

from webhook.cli import cluster, documents, terminal
from webhook.cli.arguments import add_config, add_file, command, config, with_text
from webhook.cli.exits import DIFFERS, OK
from webhook.config import Config
from webhook.core.audit import finding
from webhook.core.names import CLASS_LABEL, INJECT_LABEL
from webhook.core.pod import Pod
from webhook.core.reasons import REASONS

Labels = dict[str, dict[str, str]]
"""Of namespaces, by name."""

_ENDED: Final = ("Succeeded", "Failed")


class _Owner(msgspec.Struct):
    kind: str = ""
    name: str = ""


class _Metadata(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    labels: dict[str, str] | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    owner_references: list[_Owner] | None = None


class _Status(msgspec.Struct):
    phase: str = ""


class _Item(msgspec.Struct):
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    status: _Status | None = None


class Finding(msgspec.Struct, rename="camel"):
    """One Pod that is not as it should be."""

    namespace: str
    pod: str
    owner: str
    created: str
    code: str
    why: str
    detail: str
    changed_by: str


def add_parser(commands: Any) -> None:
    """Add the command to the top parser's."""
    text = "List running Pods that are opted in and slipped through, in the cluster or in a file."
    made = command(commands, "audit", run, text, _EXAMPLES)
    dump = "what `kubectl get namespaces,pods -A -o json` printed, instead of the cluster"
    add_file(made, instead=dump)
    add_config(made)
    cluster.add_options(made, everywhere=True, selector=True)
    terminal.add_output(made, "table", "json", "yaml")


_EXAMPLES: Final = """
podgrace audit -A
podgrace audit -n shop -l app=web
kubectl get namespaces,pods -A -o json | podgrace audit -f -
"""


def run(args: argparse.Namespace) -> int:
    """Judge every Pod of a file, or of the cluster."""
    return _of_file(args) if args.filename else _of_cluster(args, config(args))


def _of_cluster(args: argparse.Namespace, settings: Config) -> int:
    """Read Pods page by page, and keep only what is found."""
    reach = cluster.of(args)
    if args.all_namespaces:
        path = reach.listing("v1", "namespaces", namespaced=False)
        named = [item.metadata for item in reach.items(path, _Item)]
    else:
        named = [reach.get(f"/api/v1/namespaces/{quote(reach.namespace, safe='')}", _Item).metadata]
    namespaces = {item.name: item.labels or {} for item in named}
    count = 0

    def pods() -> Iterator[msgspec.Raw]:
        nonlocal count
        path = reach.listing("v1", "pods")
        for pod in reach.items(path, msgspec.Raw, selector=args.selector):
            count += 1
            yield pod

    _tell_classes(namespaces, settings)
    found = list(_judged(pods(), namespaces, settings, "the cluster"))
    return _tell(args.output, found, count, settings)


@with_text
def _of_file(args: argparse.Namespace, text: str, where: str, config: Config) -> int:
    """Judge every Pod in `text`."""
    pods, namespaces = _sorted_out(_items(text, where), where)
    found = list(_judged(map(_encoded, pods), namespaces, config, where))
    if pods and not namespaces:
        print(
            f"podgrace: {where}: no namespaces in it, so only the Pods' own labels count",
            file=sys.stderr,
        )
    _tell_classes(namespaces, config)
    return _tell(args.output, found, len(pods), config)


def _tell_classes(namespaces: Labels, config: Config) -> None:
    """Name the namespaces whose class is not in the configuration."""
    known = ", ".join(sorted(config.classes)) or "none"
    for name, labels in sorted(namespaces.items()):
        told = labels.get(CLASS_LABEL, "")
        if told and told not in config.classes:
            text = f"namespace {name}: {CLASS_LABEL}: {told}: the configuration has {known}"
            print(f"podgrace: {text}", file=sys.stderr)


def _encoded(tree: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(tree)
    except (UnicodeError, RecursionError) as error:
        raise documents.ManifestError(f"not a Pod: {error}") from error


def _tell(output: str, found: list[Finding], count: int, config: Config) -> int:
    found.sort(key=lambda f: (f.namespace, f.pod))
    if output != "table":
        whole = {"version": config.operator.version, "pods": count, "findings": found}
        print(terminal.structured(whole, output))
    elif found:
        rows = [
            (f.namespace, f.pod, f.owner or "-", f.code, f.created or "-", f.detail or f.why)
            for f in found
        ]
        print(terminal.table(("NAMESPACE", "POD", "OWNER", "WHAT", "CREATED", "WHY"), rows))
        print(
            f"\n{len(found)} of {count} Pods. To replace one, restart its owner:"
            " kubectl rollout restart",
            file=sys.stderr,
        )
    else:
        version = config.operator.version
        print(f"{count} Pods, none slipped through: what is opted in has the mark of {version}")
    return DIFFERS if found else OK


def _judged(
    pods: Iterator[bytes | msgspec.Raw],
    namespaces: Labels,
    config: Config,
    where: str,
) -> Iterator[Finding]:
    operator = config.operator
    for content in pods:
        try:
            item = msgspec.json.decode(content, type=_Item)
            pod = msgspec.json.decode(content, type=Pod)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise documents.ManifestError(f"{where}: not a Pod: {error}") from error
        metadata = item.metadata
        if metadata.deletion_timestamp or (item.status is not None and item.status.phase in _ENDED):
            continue
        label = (metadata.labels or {}).get(INJECT_LABEL)
        code, detail = finding(
            pod,
            label,
            namespaces.get(metadata.namespace, {}).get(INJECT_LABEL),
            operator.excluded_namespaces,
            operator.version,
        )
        if code:
            owner = next(
                (f"{owner.kind}/{owner.name}" for owner in metadata.owner_references or ()), ""
            )
            reason = REASONS[code]
            created = metadata.creation_timestamp or ""
            yield Finding(
                metadata.namespace,
                metadata.name,
                owner,
                created,
                code,
                reason.sentence,
                detail,
                reason.hint,
            )


def _sorted_out(items: Iterator[Any], where: str) -> tuple[list[dict[str, Any]], Labels]:
    """Tell Pods from namespaces; of these, keep the labels."""
    pods: list[dict[str, Any]] = []
    namespaces: Labels = {}
    for item in items:
        kind = item.get("kind")
        if kind == "Pod":
            pods.append(item)
        elif kind == "Namespace":
            try:
                metadata = msgspec.convert(item, _Item).metadata
            except msgspec.ValidationError as error:
                raise documents.ManifestError(f"{where}: not a Namespace: {error}") from error
            namespaces[metadata.name] = metadata.labels or {}
    return pods, namespaces


def _items(text: str, where: str) -> Iterator[dict[str, Any]]:
    """Find every object. Try JSON first: a large cluster's is long."""
    try:
        trees = [json.loads(text)]
    except (ValueError, RecursionError):
        trees = [root.data for chunk in documents.read(text, where) for root in chunk.roots]
    for tree in trees:
        if isinstance(tree, dict):
            inner = tree.get("items")
            kind = str(tree.get("kind") or "").removesuffix("List")
            for item in inner if isinstance(inner, list) else [tree]:
                if isinstance(item, dict):
                    # Items of a PodList name no kind of their own.
                    yield item if item.get("kind") or not kind else {**item, "kind": kind}
