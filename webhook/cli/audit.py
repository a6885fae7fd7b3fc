"""`podgrace audit`: which running Pods should carry our mark and do not.

In: what `kubectl get namespaces,pods -A -o json` (or yaml) printed. Out: a table or JSON, and exit
code 3 if there are any. The rule is `webhook.core.audit`; nothing is asked of a cluster. Pods that
are ending, or have ended, are not looked at.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from webhook.cli import documents, show
from webhook.config import Config
from webhook.core.audit import finding
from webhook.core.names import INJECT_LABEL
from webhook.core.pod import Pod
from webhook.core.reasons import REASONS

OK, DIFFERS = 0, 3

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


def run(args: argparse.Namespace, text: str, where: str, config: Config) -> int:
    """Judge every Pod in `text`."""
    pods, namespaces = _sorted_out(_items(text, where), where)
    found = sorted(_judged(pods, namespaces, config, where), key=lambda f: (f.namespace, f.pod))
    if pods and not namespaces:
        print(
            f"podgrace: {where}: no namespaces in it, so only the Pods' own labels count",
            file=sys.stderr,
        )
    if args.output == "json":
        whole = {"version": config.operator.version, "pods": len(pods), "findings": found}
        print(msgspec.json.format(msgspec.json.encode(whole), indent=2).decode())
    elif found:
        rows = [
            (f.namespace, f.pod, f.owner or "-", f.code, f.created or "-", f.detail or f.why)
            for f in found
        ]
        print(show.table(("NAMESPACE", "POD", "OWNER", "WHAT", "CREATED", "WHY"), rows))
        print(
            f"\n{len(found)} of {len(pods)} Pods. To replace one, restart its owner:"
            " kubectl rollout restart",
            file=sys.stderr,
        )
    else:
        print(
            f"{len(pods)} Pods: each that is opted in carries the mark of {config.operator.version}"
        )
    return DIFFERS if found else OK


def _judged(
    pods: list[dict[str, Any]], namespaces: dict[str, str | None], config: Config, where: str
) -> Iterator[Finding]:
    operator = config.operator
    for tree in pods:
        try:
            item = msgspec.convert(tree, _Item)
            pod = msgspec.json.decode(msgspec.json.encode(tree), type=Pod)
        except (
            msgspec.ValidationError,
            msgspec.DecodeError,
            UnicodeError,
            RecursionError,
        ) as error:
            raise documents.ManifestError(f"{where}: not a Pod: {error}") from error
        metadata = item.metadata
        if metadata.deletion_timestamp or (item.status is not None and item.status.phase in _ENDED):
            continue
        label = (metadata.labels or {}).get(INJECT_LABEL)
        code, detail = finding(
            pod,
            label,
            namespaces.get(metadata.namespace),
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


def _sorted_out(
    items: Iterator[Any], where: str
) -> tuple[list[dict[str, Any]], dict[str, str | None]]:
    """Tell Pods from namespaces; of these, keep the label."""
    pods, namespaces = [], {}
    for item in items:
        kind = item.get("kind")
        if kind == "Pod":
            pods.append(item)
        elif kind == "Namespace":
            try:
                metadata = msgspec.convert(item, _Item).metadata
            except msgspec.ValidationError as error:
                raise documents.ManifestError(f"{where}: not a Namespace: {error}") from error
            namespaces[metadata.name] = (metadata.labels or {}).get(INJECT_LABEL)
    return pods, namespaces


def _items(text: str, where: str) -> Iterator[dict[str, Any]]:
    """Find every object: JSON first, since that of a large cluster is long."""
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
