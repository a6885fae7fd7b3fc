"""Manifests: YAML or JSON text to documents and back, and the Pod inside any workload.

In: the text of one or more documents. Out: the same text, changed only where a patch says so: a document without a change
comes back byte for byte; in one with a change, comments, order, quotes and line ends stay the user's. What is changed belongs
to `webhook.admission`.

A changed document is merged line by line: what differs between our printing of it before and after is put into the user's own
lines. The merge is only used if it reads as the same data; else our printing is.
"""

import datetime as dt
import difflib
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeVar

import jsonpatch
import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq, TaggedScalar

from webhook.admission import Outcome, mutate
from webhook.config import Config
from webhook.core.patch import Op, render
from webhook.core.plan import restore
from webhook.core.pod import Pod

TEMPLATES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "Pod": ("", ()),
    "PodTemplate": ("", ("template",)),
    "ReplicationController": ("", ("spec", "template")),
    "Deployment": ("apps", ("spec", "template")),
    "StatefulSet": ("apps", ("spec", "template")),
    "DaemonSet": ("apps", ("spec", "template")),
    "ReplicaSet": ("apps", ("spec", "template")),
    "Job": ("batch", ("spec", "template")),
    "CronJob": ("batch", ("spec", "jobTemplate", "spec", "template")),
}
"""Kind -> its API group, and where its Pod is. Anything else passes unread."""

_NODES: Final = 1_000_000
"""Of one document, aliases unfolded: a few lines can ask for more than any memory holds."""

_START = re.compile(r"^(?=---(?:[ \t\r\n]|\Z))", re.MULTILINE)
_BARE_START = re.compile(r"---[ \t]*(?:#[^\n]*)?\r?\n")
_ITEM = re.compile(r"- *(?=[^ ])")
_END = re.compile(r"^\.\.\.(?=[ \t\r\n]|\Z)", re.MULTILINE)
_DIRECTIVE = re.compile(r"^%", re.MULTILINE)

T = TypeVar("T")


class ManifestError(ValueError):
    """The input cannot be used; the message names the document and what is wrong."""


class Workload(NamedTuple):
    """A Pod inside a document. `tree` is the part of the document that holds its metadata and spec; `place` is for messages."""

    kind: str
    name: str
    namespace: str
    place: str
    tree: Any
    pod: Pod


class Piece:
    """The text between two document starts, and what it reads as: mostly one document."""

    def __init__(self, text: str, where: str) -> None:
        self.text, self.where = text, where
        found = _BARE_START.match(text)
        self._head = found[0] if found else ""
        body, mark, rest = _parted(text[len(self._head) :])
        self._body, self._tail = body, mark + rest
        self._json = self._body.lstrip()[:1] in ("{", "[") and _is_json(self._body)
        self.documents = [json.loads(self._body)] if self._json else _load(self._body, where)
        sizes: dict[int, int] = {}
        try:
            size = sum(_size(document, sizes, where) for document in self.documents)
        except RecursionError as error:
            raise ManifestError(f"{where}: nested too deep") from error
        if size > _NODES:
            raise ManifestError(f"{where}: its aliases make more than {_NODES} nodes of it")
        self._changed = False

    def workloads(self) -> Iterator[Workload]:
        """Find every Pod and Pod template, in Lists too. Raises `ManifestError` for one that is malformed."""
        for document in self.documents:
            yield from _workloads(document, self.where)

    def patch(self, workload: Workload, ops: list[Op]) -> None:
        """Apply operations to a workload of this piece."""
        if not ops:
            return
        self._changed = True
        plain = json.loads(msgspec.json.encode(ops))
        shared = Counter(id(node) for document in self.documents for node in _nodes(document))
        for op in plain:
            _unshare(workload.tree, op["path"], shared)
        try:
            jsonpatch.apply_patch(workload.tree, plain, in_place=True)
        except jsonpatch.JsonPatchException as error:
            raise ManifestError(f"{workload.place}: {error}") from error

    def written(self) -> str:
        """Give the text back."""
        if not self._changed:
            return self.text
        if self._json:
            return self._head + _dump_json(self.documents[0], self._body) + self._tail
        ours = _dump(self.documents, self._body)
        body = _merged(
            self._body, _dump(_load(self._body, self.where), self._body), ours, self.documents
        )
        return (
            self._head + (body.replace("\n", "\r\n") if "\r\n" in self.text else body) + self._tail
        )


def read(text: str, where: str) -> list[Piece]:
    """Cut a text at its document starts. Raises `ManifestError`."""
    pieces: list[str] = []
    for part in _START.split(text):
        # Directives (%YAML) belong to the document that follows them.
        if pieces and _DIRECTIVE.search(pieces[-1]) and not _has_content(pieces[-1]):
            pieces[-1] += part
        else:
            pieces.append(part)
    numbered = [piece for piece in pieces if piece]
    named = sum(_has_content(piece) for piece in numbered) > 1
    made, number = [], 0
    for piece in numbered:
        number += _has_content(piece)
        made.append(Piece(piece, f"{where}: document {number}" if named else where))
    return made


def write(pieces: list[Piece]) -> str:
    """Join the pieces again."""
    return "".join(piece.written() for piece in pieces)


def inject(piece: Piece, workload: Workload, config: Config) -> Outcome:
    """Decide about a workload and apply the patch. Raises `ManifestError` for a Pod that no API server would take."""
    outcome = decided(workload, config)
    piece.patch(workload, outcome.ops)
    return outcome


def decided(workload: Workload, config: Config) -> Outcome:
    """Decide about a workload."""
    return _checked(
        workload, lambda: mutate(workload.pod, config, workload.namespace, workload.kind)
    )


def uninject(piece: Piece, workload: Workload) -> list[Op]:
    """Take our parts out of a workload again."""
    ops = _checked(workload, lambda: render(workload.pod, restore(workload.pod)))
    piece.patch(workload, ops)
    return ops


def plain(value: Any) -> Any:
    """Give ruamel's trees as the plain values they stand for: merge keys resolved, scalars bare."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, dt.date):
        # Unquoted dates are text to Kubernetes.
        return value.isoformat()
    if isinstance(value, TaggedScalar):
        return str(value.value)
    return str(value)


def _checked(workload: Workload, decide: Callable[[], T]) -> T:
    try:
        return decide()
    except (msgspec.DecodeError, RecursionError) as error:
        raise ManifestError(
            f"{workload.place}: {workload.kind} {workload.name or '(no name)'}: {error}"
        ) from error


def _workloads(document: Any, place: str) -> Iterator[Workload]:
    if not isinstance(document, dict):
        return
    kind = str(document.get("kind") or "")
    if kind.endswith("List") and isinstance(document.get("items"), list):
        for number, item in enumerate(document["items"], 1):
            yield from _workloads(item, f"{place}, item {number}")
        return
    group, path = TEMPLATES.get(kind, ("none", ()))
    if str(document.get("apiVersion") or "").rpartition("/")[0] != group:
        return
    tree: Any = document
    for key in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    metadata = document.get("metadata")
    name, namespace = (
        (str(metadata.get(key) or "") for key in ("name", "namespace"))
        if isinstance(metadata, dict)
        else ("", "")
    )
    try:
        pod = msgspec.json.decode(msgspec.json.encode(plain(tree)), type=Pod)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise ManifestError(
            f"{place}: {kind} {name or '(no name)'}: not a Pod template: {error}"
        ) from error
    own = pod.metadata.generate_name if pod.metadata and pod.metadata.generate_name else ""
    yield Workload(kind, name or own, namespace, place, tree, pod)


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    return yaml


def _load(text: str, where: str) -> list[Any]:
    try:
        return list(_yaml().load_all(text))
    except Exception as error:  # the parser has a dozen ways to fail on a text that is none
        raise ManifestError(f"{where}: not YAML: {' '.join(str(error).split())[:300]}") from error


def _dump(documents: list[Any], like: str) -> str:
    """Print documents; `like` is the text that they came from, whose indentation is kept."""
    yaml = _yaml()
    mapping, sequence, offset = _indents(like)
    yaml.indent(mapping=mapping, sequence=sequence, offset=offset)
    yaml.explicit_start = like.startswith("---")
    out = io.StringIO()
    yaml.dump_all(documents, out)
    text = out.getvalue()
    return text if like.endswith("\n") or not like else text.rstrip("\n")


def _merged(user: str, before: str, after: str, documents: list[Any]) -> str:
    """Put what changes between `before` and `after` into the user's lines; `after` itself where that does not read as `documents`."""
    lines, old, new = (
        text.replace("\r\n", "\n").splitlines(keepends=True) for text in (user, before, after)
    )
    place: dict[int, list[str]] = {}
    for _, i, j, k, m in difflib.SequenceMatcher(None, old, lines, autojunk=False).get_opcodes():
        for n in range(i, j):
            # The last line of ours takes what the user has more of.
            at = k + n - i
            place[n] = lines[at : m if n == j - 1 else at + 1] if at < m else []
        if i == j:
            place.setdefault(i - 1, []).extend(lines[k:m])
    made = place.get(-1, [])
    for tag, i, j, k, m in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        made += [line for n in range(i, j) for line in place[n]] if tag == "equal" else new[k:m]
    text = "".join(made)
    try:
        same = plain(_load(text, "")) == plain(documents)
    except ManifestError:
        same = False
    return text if same else after


def _indents(text: str) -> tuple[int, int, int]:
    """Tell how far maps and lists are indented: by the first of each under a key."""
    mapping, sequence, offset = 0, 0, 0
    last = ""
    for line in text.splitlines():
        stripped = line.lstrip(" ")
        if not stripped.strip() or stripped.startswith("#"):
            continue
        if last.rstrip().endswith(":"):
            step = len(line) - len(stripped) - (len(last) - len(last.lstrip(" -")))
            item = _ITEM.match(stripped)
            if item is None:
                mapping = mapping or max(step, 0)
            elif not sequence:
                offset = max(step, 0)
                sequence = offset + len(item[0])
        last = line
    return mapping or 2, sequence or 4, offset if sequence else 2


def _parted(body: str) -> tuple[str, str, str]:
    """Cut off an end mark (...) and what follows it, if that is nothing but comments."""
    found = _END.search(body)
    if found is None or _has_content(body[found.end() :]):
        return body, "", ""
    return body[: found.start()], found[0], body[found.end() :]


def _has_content(piece: str) -> bool:
    """Whether there is more than comments, blanks, directives and marks."""
    return any(
        line.strip()
        and not line.lstrip().startswith(("#", "%"))
        and line.strip() not in ("---", "...")
        for line in piece.splitlines()
    )


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _dump_json(document: Any, like: str) -> str:
    found = re.search(r"\n( +|\t)[\"\[{]", like)
    indent = None if found is None else found[1] if found[1] == "\t" else len(found[1])
    text = json.dumps(
        document,
        indent=indent,
        ensure_ascii=False,
        separators=None if found or ": " in like else (",", ":"),
    )
    return like[: len(like) - len(like.lstrip())] + text + like[len(like.rstrip()) :]


def _nodes(node: Any) -> Iterator[Any]:
    """Walk maps and lists; those that an alias or a merge key names come up once for each."""
    if isinstance(node, dict | list):
        yield node
        for child in node.values() if isinstance(node, dict) else node:
            yield from _nodes(child)


def _size(node: Any, sizes: dict[int, int], where: str) -> int:
    """Count the nodes that a document unfolds to, visiting each that aliases share once."""
    if not isinstance(node, dict | list):
        return 1
    known = sizes.get(id(node))
    if known == 0:
        raise ManifestError(f"{where}: an alias holds itself")
    if known is None:
        sizes[id(node)] = 0
        known = sizes[id(node)] = 1 + sum(
            _size(child, sizes, where)
            for child in (node.values() if isinstance(node, dict) else node)
        )
    return known


def _unshare(tree: Any, path: str, shared: Counter[int]) -> None:
    """Give the nodes on the way to a change their own copy, where an alias or a merge key lets several places share one."""
    node = tree
    for token in path.split("/")[1:-1]:
        key: Any = token.replace("~1", "/").replace("~0", "~")
        if isinstance(node, list):
            key = int(key)
        elif key not in node:
            return
        child = node[key]
        if shared[id(child)] > 1:
            child = CommentedMap(child.items()) if isinstance(child, dict) else CommentedSeq(child)
            node[key] = child
        node = child
