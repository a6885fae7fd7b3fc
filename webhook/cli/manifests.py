"""Manifests: YAML text to documents and back, and the Pod inside any workload.

In: the text of one or more YAML documents. Out: the same documents, changed only where a patch says so: comments, order and
quoting stay the user's. What is changed belongs to `webhook.admission`.
"""

import io
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import jsonpatch
import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from webhook.core.patch import Op, render
from webhook.core.plan import restore
from webhook.core.pod import Pod

from webhook.admission import Outcome, mutate  # isort: skip
from webhook.config import Config  # isort: skip

TEMPLATES: Final[dict[str, tuple[str, ...]]] = {
    "Pod": (),
    "PodTemplate": ("template",),
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
"""Kind -> where its Pod is."""


class ManifestError(ValueError):
    """The input cannot be used; the message names the document and what is wrong."""


class Workload(NamedTuple):
    """A Pod inside a document. `tree` is the part of the document that holds its metadata and spec."""

    kind: str
    name: str
    namespace: str
    tree: Any
    pod: Pod


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def read(text: str, where: str) -> list[Any]:
    """Parse all documents. Raises `ManifestError`."""
    try:
        return list(_yaml().load_all(text))
    except (YAMLError, ValueError, RecursionError) as error:
        raise ManifestError(f"{where}: not YAML: {' '.join(str(error).split())[:300]}") from error


def write(documents: list[Any], like: str) -> str:
    """Write documents back; `like` is the text that they came from, whose list indentation is kept."""
    yaml = _yaml()
    if not _indents_lists(like):
        yaml.indent(mapping=2, sequence=2, offset=0)
    yaml.explicit_start = like.lstrip().startswith("---")
    out = io.StringIO()
    if len(documents) == 1:
        yaml.dump(documents[0], out)
    else:
        yaml.dump_all(documents, out)
    return out.getvalue()


def workloads(documents: list[Any], where: str) -> Iterator[Workload]:
    """Find every Pod and Pod template, in Lists too. Raises `ManifestError` for one that is malformed."""
    for number, document in enumerate(documents, 1):
        yield from _workloads(document, f"{where}: document {number}")


def _workloads(document: Any, place: str) -> Iterator[Workload]:
    if not isinstance(document, dict):
        return
    kind = str(document.get("kind") or "")
    if kind.endswith("List") and isinstance(document.get("items"), list):
        for number, item in enumerate(document["items"], 1):
            yield from _workloads(item, f"{place}, item {number}")
        return
    if kind not in TEMPLATES:
        return
    tree: Any = document
    for key in TEMPLATES[kind]:
        tree = tree.get(key) if isinstance(tree, dict) else None
    metadata = document.get("metadata")
    name, namespace = (str(metadata.get(key) or "") for key in ("name", "namespace")) if isinstance(metadata, dict) else ("", "")
    try:
        pod = msgspec.json.decode(msgspec.json.encode(tree, enc_hook=_plain), type=Pod)
    except (msgspec.DecodeError, TypeError, RecursionError) as error:
        raise ManifestError(f"{place}: {kind} {name or '(no name)'}: not a Pod template: {error}") from error
    yield Workload(kind, name or (pod.metadata.generate_name if pod.metadata and pod.metadata.generate_name else ""), namespace, tree, pod)


def inject(workload: Workload, config: Config) -> Outcome:
    """Decide about a workload and apply the patch to its tree."""
    outcome = mutate(workload.pod, config, workload.namespace)
    _apply(workload.tree, outcome.ops)
    return outcome


def uninject(workload: Workload, config: Config) -> list[Op]:
    """Take our parts out of a workload's tree again."""
    ops = render(workload.pod, restore(workload.pod), config.operator)
    _apply(workload.tree, ops)
    return ops


def _apply(tree: Any, ops: list[Op]) -> None:
    jsonpatch.apply_patch(tree, ops, in_place=True)


def _plain(value: Any) -> Any:
    """Give ruamel's own scalars as the plain ones they stand for."""
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, dict):
        return dict(value)
    if isinstance(value, list):
        return list(value)
    raise TypeError(f"a {type(value).__name__} has no place in a manifest")


def _indents_lists(text: str) -> bool:
    """Tell lists indented below their key from lists at its level, by the first list under a key."""
    last = ""
    for line in text.splitlines():
        stripped = line.lstrip()
        if stripped.startswith("- ") and last.rstrip().endswith(":"):
            return len(line) - len(stripped) > len(last) - len(last.lstrip())
        if stripped and not stripped.startswith("#"):
            last = line
    return True
