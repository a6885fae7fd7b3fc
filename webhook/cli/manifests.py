"""Manifests with workloads in them: from text to Pods, and from patches back to text.

In: the text of a file. Out: its `Workload`s, and the text again with their patches in it. Parsing
belongs in `documents`, the kinds of workload in `kinds`, writing in `edits`, and the decision in
`webhook.admission`.

A patch can remove what the Pod cannot show afterwards: a null, an alias, a user's style. The member
`manifest` of the status annotation keeps it, from JSON Pointer to the text that stood there (null:
nothing did). It exists only if something was lost, and only `uninject` reads it.

Whoever writes a Pod can forge it. So a text counts only at places that patches touch (`_PLACE`), if
it is short and has no characters that end a line or a document for other programs (`_FOREIGN`). It
comes back only where it means the same as what would be written without it (`edits`).
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import jsonpatch
import msgspec
from msgspec.structs import replace

from webhook.admission import Outcome, mutate
from webhook.cli import documents, edits, kinds, scalars
from webhook.cli.documents import Alias, Chunk, ManifestError, Map, Node, Seq
from webhook.cli.edits import Path
from webhook.config import Config
from webhook.core import status
from webhook.core.names import STATUS_ANNOTATION
from webhook.core.patch import Op, escape, render
from webhook.core.plan import restore
from webhook.core.pod import Pod

__all__ = ["ManifestError", "Manifests", "Workload", "decided", "read", "restored"]

_MOST: Final = 32 * 1024
"""Bytes of text kept for one Pod: an eighth of what its annotations may hold."""

_PLACE: Final = re.compile(
    r"|/metadata(?:/annotations(?:/[^/]*)?)?"
    r"|/spec(?:/(?:volumes|(?:initC|c)ontainers|imagePullSecrets|terminationGracePeriodSeconds))?"
    r"|/spec/containers/[0-9]{1,4}"
    r"(?:/(?:command|args|volumeMounts|(?:lifecycle|(?:readiness|liveness|startup)Probe)(?:/[A-Za-z]+){0,4}))?"
)
"""Where `webhook.core.patch` writes into what is the user's."""

_FOREIGN: Final = re.compile(
    r"^(?:---|\.\.\.|%)"
    r"|[^\t\n\x20-\x7e\xa0-\u2027\u202f-\u2065\u206a-\ud7ff\ue000-\ufefe\uff00-\ufffd"
    r"\U00010000-\U0010ffff]",
    re.MULTILINE,
)
"""Marks and directives; characters that YAML refuses, or takes for a line's end in one version
only; and those that change the direction of writing."""

Lost = dict[str, str | None]
"""JSON Pointer from the Pod -> the text that stood there; None: there was no such member."""

_decoder: Final = msgspec.json.Decoder(Lost)

T = TypeVar("T")


class Workload(NamedTuple):
    """A Pod in a document. `owner_kind`: what will own its Pods; `place`: file, document, line."""

    kind: str
    name: str
    namespace: str
    owner_kind: str
    place: str
    pod: Pod
    data: dict[str, Any]
    """The Pod or Pod template as it stands."""
    path: Path
    chunk: int
    root: int
    lost: Lost


class Manifests:
    """The documents of a file. `passed`: a sentence for each object with containers, not read."""

    def __init__(self, text: str, where: str, known: Sequence[kinds.Kind]) -> None:
        self._head = documents.BOM if text.startswith(documents.BOM) else ""
        self.chunks = documents.read(text, where)
        self.workloads: list[Workload] = []
        self.passed: list[str] = []
        self._changes: dict[tuple[int, int], list[tuple[Workload, dict[str, Any]]]] = {}
        for number, chunk in enumerate(self.chunks):
            for n, root in enumerate(chunk.roots):
                for found in kinds.find(root.data, known):
                    place = chunk.at(_node(root, found.path))
                    if isinstance(found, kinds.Passed):
                        self.passed.append(f"{place}: not read: {found.what}: {found.why}")
                    else:
                        self.workloads.append(_workload(found, place + found.item, number, n))

    @property
    def objects(self) -> list[Any]:
        """The data of every object, also of those in Lists."""
        return [one for chunk in self.chunks for root in chunk.roots for one in _flat(root.data)]

    def patch(self, workload: Workload, ops: list[Op]) -> None:
        """Note the operations that are to be applied to a workload."""
        if not ops:
            return
        plain = json.loads(msgspec.json.encode(ops))
        try:
            data = jsonpatch.apply_patch(_copy(workload.data), plain, in_place=True)
        except jsonpatch.JsonPatchException as error:
            raise ManifestError(f"{workload.place}: {error}") from error
        self._changes.setdefault((workload.chunk, workload.root), []).append((workload, data))

    def written(self, *, back: bool) -> tuple[str, list[str]]:
        """Give the text with all patches in it, and a sentence for each rewritten document.

        `back`: the patches restore.
        """
        notes: list[str] = []
        parts = [chunk.text for chunk in self.chunks]
        for (number, n), changes in self._changes.items():
            chunk = self.chunks[number]
            if parts[number] != chunk.text:
                # After an end mark (...) comes another document, which stands elsewhere now.
                chunk = Chunk(parts[number], chunk.where, chunk.line)
            done = _written(chunk, chunk.roots[n], changes, back=back)
            parts[number] = done.text
            if done.anew:
                notes.append(
                    f"{chunk.where}: its text has a form that cannot be edited in place:"
                    " rewritten without its comments"
                )
        return self._head + "".join(parts), notes


def read(text: str, where: str, known: Sequence[kinds.Kind] = kinds.KINDS) -> Manifests:
    """Read a file. Raises `ManifestError` if it is not YAML, or a workload in it is malformed."""
    return Manifests(text, where, known)


def _flat(data: Any) -> Iterator[Any]:
    """Give an object, or the items of a List."""
    items = data.get("items") if isinstance(data, dict) else None
    if isinstance(items, list) and str(data.get("kind")) == "List":
        for item in items:
            yield from _flat(item)
    else:
        yield data


def decided(workload: Workload, config: Config) -> Outcome:
    """Decide about a workload. Raises `ManifestError` for a Pod that no API server would take."""
    owner = workload.owner_kind or workload.kind
    return _checked(workload, lambda: mutate(workload.pod, config, workload.namespace, owner))


def restored(workload: Workload) -> list[Op]:
    """Give the operations that take our parts out of a workload again."""
    return _checked(workload, lambda: render(workload.pod, restore(workload.pod)))


def _copy(data: Any) -> Any:
    """Copy plain data; aliases no longer share it."""
    return msgspec.json.decode(msgspec.json.encode(data))


def _pod(data: Any) -> Pod:
    """Give the typed part of a Pod. A null is as good as nothing to Kubernetes."""
    return msgspec.json.decode(msgspec.json.encode(edits.without_nulls(data)), type=Pod)


def _checked(workload: Workload, decide: Callable[[], T]) -> T:
    try:
        return decide()
    except (msgspec.DecodeError, RecursionError) as error:
        raise ManifestError(
            f"{workload.place}: {workload.kind} {workload.name or '(no name)'}: {error}"
        ) from error


def _workload(found: kinds.Found, place: str, chunk: int, root: int) -> Workload:
    kind = found.kind.kind
    try:
        data = _copy(found.data)
        pod = _pod(data)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise ManifestError(
            f"{place}: {kind} {found.name or '(no name)'}: not a Pod template: {error}"
        ) from error
    return Workload(
        kind,
        found.name,
        found.namespace,
        found.kind.owner,
        place,
        pod,
        data,
        found.path,
        chunk,
        root,
        _lost(pod),
    )


def _written(
    chunk: Chunk, root: Node, changes: list[tuple[Workload, dict[str, Any]]], *, back: bool
) -> edits.Written:
    """Write the workloads of one document."""

    def attempt(lost: Mapping[Path, Lost]) -> edits.Written:
        data = root.data
        kept: dict[Path, str] = {}
        for workload, changed in changes:
            texts = lost.get(workload.path, {})
            pod = _nulls(changed, texts) if back else _with(changed, texts)
            data = _put(data, workload.path, pod)
            for pointer, text in texts.items():
                if text is not None:
                    kept[workload.path + _keys(pod, pointer)] = text
        return edits.write(chunk, root, data, kept)

    if back:
        return attempt({workload.path: workload.lost for workload, _ in changes})
    done = attempt({workload.path: workload.lost for workload, _ in changes})
    lost: dict[Path, Lost] = {}
    shared: dict[int, tuple[dict[str, Any], Lost]] = {}
    for workload, pod in changes:
        length = len(workload.path)
        new: Lost = {_pointer(path): " null" for path in _gone_nulls(workload.data, pod, ())}
        new |= {
            _pointer(path[length:]): text
            for path, text in done.lost.items()
            if path[:length] == workload.path
        }
        if "metadata" not in workload.data:
            new["/metadata"] = None
        node = _node(root, workload.path)
        # An alias of a whole template stays one: both keep the same.
        alike, texts = shared.setdefault(
            id(node.of if isinstance(node, Alias) else node), (pod, {**new, **workload.lost})
        )
        kept = _believed(texts if alike == pod else {**new, **workload.lost})
        if kept and len(json.dumps(kept)) <= _MOST:
            lost[workload.path] = kept
    return attempt(lost) if lost else done


def _gone_nulls(before: Any, after: Any, path: Path) -> Iterator[Path]:
    """Find the nulls that something has taken the place of."""
    if isinstance(before, dict):
        for key, item in before.items():
            now = after.get(key) if isinstance(after, dict) else None
            if item is None and (
                now is not None or not isinstance(after, dict) or key not in after
            ):
                yield (*path, key)
            elif isinstance(item, dict | list):
                yield from _gone_nulls(item, now, (*path, key))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for n, item in enumerate(before):
            yield from _gone_nulls(item, after[n], (*path, n))


# -- what is kept for the way back -----------------------------------------------------------------


def _lost(pod: Pod) -> Lost:
    """Give the texts in a Pod's status annotation."""
    found = status.read(pod)
    if found is None or not 0 < len(bytes(found.manifest)) <= _MOST:
        return {}
    try:
        return _believed(_decoder.decode(found.manifest))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {}


def _believed(lost: Lost) -> Lost:
    """Leave out what no patch of ours takes away."""
    return {
        pointer: text
        for pointer, text in lost.items()
        if _PLACE.fullmatch(pointer)
        and (text is None or (len(text) <= edits.LONGEST and not _FOREIGN.search(text)))
    }


def _with(data: dict[str, Any], lost: Lost) -> dict[str, Any]:
    """Put texts into a Pod's status annotation."""
    found = status.read(_pod(data)) if lost else None
    if found is None:
        return data
    text = status.encode(replace(found, manifest=msgspec.Raw(msgspec.json.encode(lost))))
    made: dict[str, Any] = _put(data, ("metadata", "annotations", STATUS_ANNOTATION), text)
    return made


def _nulls(data: dict[str, Any], lost: Lost) -> dict[str, Any]:
    """Put back a Pod's nulls where nothing is left, and leave out what was not there before."""
    for pointer, text in lost.items():
        keys = _keys(data, pointer)
        if text is None:
            data = _without(data, keys)
        elif "\n" not in text and scalars.value(text.strip()) is None:
            data = _put_null(data, keys)
    return data


def _without(data: Any, keys: Path) -> Any:
    """Leave out a member that is null or an empty map."""
    if isinstance(data, list):
        return [_without(item, keys[1:]) if n == keys[0] else item for n, item in enumerate(data)]
    if not isinstance(data, dict) or not keys or keys[0] not in data:
        return data
    key, rest = keys[0], keys[1:]
    if rest:
        return {**data, key: _without(data[key], rest)}
    return {name: item for name, item in data.items() if name != key or item not in (None, {})}


def _put_null(data: Any, keys: Path) -> Any:
    """Put a null where there is nothing, or only an empty map or list.

    A parent that is missing is made only if it may be empty: a probe without a handler is invalid.
    """
    if not keys:
        return data or None
    key, rest = keys[0], keys[1:]
    if isinstance(data, list):
        if not isinstance(key, int) or key >= len(data):
            return data
        return [_put_null(item, rest) if n == key else item for n, item in enumerate(data)]
    if not isinstance(data, dict):
        return data
    if rest and key not in data and key not in ("metadata", "lifecycle"):
        return data
    return {**data, key: _put_null(data.get(key, {} if rest else None), rest)}


def _pointer(path: Path) -> str:
    return "".join(f"/{escape(str(key))}" for key in path)


def _keys(data: Any, pointer: str) -> Path:
    """Read a JSON Pointer into `data`."""
    keys: list[str | int] = []
    for token in pointer.split("/")[1:]:
        key: str | int = token.replace("~1", "/").replace("~0", "~")
        if isinstance(data, list):
            key = int(key) if str(key).isdecimal() else -1
            data = data[key] if 0 <= key < len(data) else None
        else:
            data = data.get(key) if isinstance(data, dict) else None
        keys.append(key)
    return tuple(keys)


# -- places ----------------------------------------------------------------------------------------


def _put(data: Any, path: Path, item: Any) -> Any:
    """Give `data` with another item at a place. What aliases share is copied on the way there."""
    if not path:
        return item
    key, rest = path[0], path[1:]
    if isinstance(data, list):
        return [_put(one, rest, item) if n == key else one for n, one in enumerate(data)]
    return {**data, key: _put(data[key] if rest else None, rest, item)}


def _node(root: Node, path: Path) -> Node:
    """Find the node at a place, or the last one on the way there that is written out."""
    node = root
    for key in path:
        of = node.of if isinstance(node, Alias) else node
        if isinstance(of, Seq) and isinstance(key, int):
            node = of.items[key]
        elif isinstance(of, Map):
            found = [value for name, _, value in of.pairs if name == key]
            if not found:
                return node
            node = found[-1]
    return node
