"""Manifests as text: documents, and each as a tree of nodes that know where they are.

In: the text of a file. Out: `Chunk`s, which join to the same text again, each with the nodes of its
documents. A node knows where its text starts and ends, so `edits` can change one place and leave
every other byte alone. What a scalar means belongs in `scalars`, which objects are workloads in
`kinds`.

libyaml parses YAML (kubectl's parser is a port of it). `json` parses JSON, which has escapes that
YAML lacks.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import yaml
from yaml.cyaml import CParser

from webhook.cli import scalars
from webhook.cli.exits import Unusable

_NODES: Final = 1_000_000
"""Per document, aliases unfolded: a few lines can ask for more than any memory holds."""
_DEPTH: Final = 200
"""Per document, aliases unfolded. The deepest field of a Pod is at about 15."""

BOM: Final = "\ufeff"
_START: Final = re.compile(r"^(?=---(?:[ \t\r\n]|\Z))", re.MULTILINE)
_MARK: Final = re.compile(r"---[ \t]*(?:#[^\n]*)?(?:\r?\n|\Z)")
_JSON_SPACE: Final = re.compile(r"[ \t\r\n]*")
_decoder: Final = json.JSONDecoder()


class ManifestError(Unusable, ValueError):
    """The input cannot be used; the message names file, document and line, and what is wrong."""


class Node:
    """A value in the text.

    `start`, `end`: of its text with its anchor; a block collection ends at the next token.
    `aliases`: it contains an alias. `data`: what it means, in JSON's types; aliases share it.
    """

    __slots__ = ("aliases", "anchor", "data", "depth", "end", "flow", "size", "start", "tag")

    def __init__(
        self, start: int, end: int, anchor: str | None = None, tag: str | None = None
    ) -> None:
        self.start, self.end, self.anchor, self.tag = start, end, anchor, tag
        self.flow = self.aliases = False
        self.size, self.depth = 1, 0
        self.data: Any = None


class Scalar(Node):
    """A scalar; `style`: its quote or block indicator, or ""."""

    __slots__ = ("style", "text")

    def __init__(self, start: int, end: int, text: str, style: str) -> None:
        super().__init__(start, end)
        self.text, self.style = text, style


class Map(Node):
    """A map: its entries as they stand, double keys and merge keys too."""

    __slots__ = ("merges", "pairs")

    def __init__(self, start: int, anchor: str | None = None, tag: str | None = None) -> None:
        super().__init__(start, start, anchor, tag)
        self.pairs: list[tuple[str, Node, Node]] = []
        """Key as text, its node, the value's node. A merge key is `MERGE`."""
        self.merges = False


class Seq(Node):
    """A list."""

    __slots__ = ("items",)

    def __init__(self, start: int, anchor: str | None = None, tag: str | None = None) -> None:
        super().__init__(start, start, anchor, tag)
        self.items: list[Node] = []


class Alias(Node):
    """A place that names another node."""

    __slots__ = ("of",)

    def __init__(self, start: int, end: int, of: Node) -> None:
        super().__init__(start, end)
        self.of, self.data, self.size, self.depth = of, of.data, of.size, of.depth
        self.aliases = True


MERGE: Final = "<<\0"
"""The key of a merge: no text that a key can have, since YAML has no NUL."""


class Chunk:
    """The text between two document starts, and its documents: mostly one."""

    def __init__(self, text: str, where: str, line: int) -> None:
        self.text, self.where, self.line = text, where, line
        self.is_json = False
        self.roots: list[Node] = []
        self._parse()

    def at(self, node: Node) -> str:
        """Say where a node is: file, document, line."""
        return f"{self.where}, line {self.line + self.text.count(chr(10), 0, node.start)}"

    def _parse(self) -> None:
        try:
            found = _json(self.text)
            self.is_json = found is not None
            self.roots = _Composer().run(self.text) if found is None else found
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = self.line + (mark.line if mark is not None else 0)
            words = " ".join(word for word in (error.context, error.problem) if word)
            said = f"not YAML: {words[:300]}{self._hint()}"
            raise ManifestError(f"{self.where}, line {line}: {said}") from error
        except yaml.reader.ReaderError as error:
            line = self.line + self.text.count("\n", 0, int(error.position))
            raise ManifestError(
                f"{self.where}, line {line}: not YAML: the character {error.character!r:.12}"
            ) from error
        except (_Refused, scalars.ScalarError) as error:
            said = f"{error}{self._hint()}"
            raise ManifestError(f"{self.where}, line {self.line}: {said}") from error

    def _hint(self) -> str:
        """Say what to do with a template, whose placeholders are no YAML."""
        helm = "{{" in self.text
        return " (a Helm template: render it first, with helm template)" if helm else ""


class _Refused(ValueError):
    """A document that is YAML, but too large."""


def read(text: str, where: str) -> list[Chunk]:
    """Cut a text, but for a byte order mark, at its document starts, and parse it.

    Raises `ManifestError`.
    """
    parts: list[str] = []
    for part in _START.split(text.removeprefix(BOM)):
        # Directives (%YAML) belong to the document that follows them.
        if parts and parts[-1][:1] == "%" and not _has_content(parts[-1]):
            parts[-1] += part
        elif part:
            parts.append(part)
    filled = [_has_content(part) for part in parts]
    chunks, number, line = [], 0, 1
    for part, full in zip(parts, filled, strict=True):
        number += full
        chunks.append(
            Chunk(part, f"{where}: document {number}" if sum(filled) > 1 else where, line)
        )
        line += part.count("\n")
    return chunks


def _has_content(text: str) -> bool:
    """Whether there is more than comments, blanks, directives and marks."""
    return any(
        line.strip() and line.lstrip()[0] not in "#%" and line.strip() not in ("---", "...")
        for line in text.splitlines()
    )


# -- YAML ------------------------------------------------------------------------------------------


class _Composer:
    """Builds the nodes of every document of a text from libyaml's events."""

    def __init__(self) -> None:
        self.roots: list[Node] = []
        self.anchors: dict[str, Node] = {}
        self.opened: list[Map | Seq] = []
        self.keys: list[Scalar | None] = []
        """Of each collection that is open: the key whose value comes next."""

    def run(self, text: str) -> list[Node]:
        parser = CParser(text)
        take = _EVENTS.get
        while parser.check_event():
            event = parser.get_event()
            build = take(event.__class__)
            if build is not None:
                build(self, event)
        return self.roots

    def scalar(self, event: Any) -> None:
        style = event.style or ""
        node = Scalar(event.start_mark.index, event.end_mark.index, event.value, style)
        node.anchor, node.tag = event.anchor, event.tag
        node.data = scalars.value(event.value, event.tag, not style)
        if event.anchor:
            self.anchors[event.anchor] = node
        self.add(node)

    def alias(self, event: Any) -> None:
        of = self.anchors.get(event.anchor)
        if of is None or of in self.opened:
            raise _Refused(
                f"the alias *{event.anchor} holds itself"
                if of
                else f"not YAML: the alias *{event.anchor} names nothing"
            )
        self.add(Alias(event.start_mark.index, event.end_mark.index, of))

    def map(self, event: Any) -> None:
        self.open(Map(event.start_mark.index, event.anchor, event.tag), event)

    def seq(self, event: Any) -> None:
        self.open(Seq(event.start_mark.index, event.anchor, event.tag), event)

    def open(self, node: Map | Seq, event: Any) -> None:
        node.flow = bool(event.flow_style)
        if node.anchor:
            self.anchors[node.anchor] = node
        self.opened.append(node)
        self.keys.append(None)
        if len(self.opened) > _DEPTH:
            raise _Refused("nested too deep")

    def close(self, event: Any) -> None:
        node = self.opened.pop()
        self.keys.pop()
        node.end = event.end_mark.index
        _close(node)
        self.add(node)

    def document(self, _: Any) -> None:
        self.anchors = {}

    def add(self, node: Node) -> None:
        """Put a whole node where it belongs."""
        if not self.opened:
            self.roots.append(node)
            return
        into = self.opened[-1]
        if isinstance(into, Seq):
            into.items.append(node)
            return
        key = self.keys[-1]
        if key is not None:
            self.keys[-1] = None
            into.pairs.append((_key(key, into), key, node))
            return
        of = node.of if isinstance(node, Alias) else node
        if not isinstance(of, Scalar):
            raise _Refused("a key that is a map or a list: JSON has none")
        if of is not node:
            key = Scalar(node.start, node.end, of.text, of.style)
            key.tag = of.tag
        self.keys[-1] = of if of is node else key


_EVENTS: Final[dict[type, Any]] = {
    yaml.ScalarEvent: _Composer.scalar,
    yaml.AliasEvent: _Composer.alias,
    yaml.MappingStartEvent: _Composer.map,
    yaml.SequenceStartEvent: _Composer.seq,
    yaml.MappingEndEvent: _Composer.close,
    yaml.SequenceEndEvent: _Composer.close,
    yaml.DocumentStartEvent: _Composer.document,
}


def _key(node: Scalar, of: Map) -> str:
    if node.text == "<<" and not node.style and node.tag in (None, "tag:yaml.org,2002:merge"):
        of.merges = True
        return MERGE
    return scalars.key(node.text, node.tag, not node.style)


def _close(node: Map | Seq) -> None:
    """Settle what a collection means, once it is whole."""
    members = node.items if isinstance(node, Seq) else [value for _, _, value in node.pairs]
    node.aliases = any([member.aliases for member in members])  # noqa: C419 - twice as fast
    node.size = 1 + sum([member.size for member in members])
    node.depth = 1 + max([member.depth for member in members], default=0)
    if node.size > _NODES:
        raise _Refused(f"its aliases make more than {_NODES} nodes of it")
    if node.depth > _DEPTH:
        raise _Refused("nested too deep")
    if isinstance(node, Seq):
        node.data = [member.data for member in members]
    else:
        own = {key: value.data for key, _, value in node.pairs if key != MERGE}
        node.data = own if not node.merges else merged(node, lambda source: source.data) | own


def merged(node: Map, value: Any) -> dict[str, Any]:
    """Give what a map takes over by its merge keys. `value` says what a node means."""
    found: dict[str, Any] = {}
    for key, _, member in node.pairs:
        if key != MERGE:
            continue
        of = member.of if isinstance(member, Alias) else member
        # Of a list the first one counts.
        for source in reversed(of.items) if isinstance(of, Seq) else [member]:
            data = value(source)
            if not isinstance(data, dict):
                raise _Refused("not YAML: a merge key (<<) takes maps")
            found |= data
    return found


# -- JSON ------------------------------------------------------------------------------------------


def _json(text: str) -> list[Node] | None:
    """Build the nodes of JSON values, one after another; None if the text is not JSON."""
    mark = _MARK.match(text)
    at = _after_space(text, mark.end() if mark else 0)
    if text[at : at + 1] not in ("{", "["):
        return None
    roots = []
    try:
        while at < len(text):
            node = _json_node(text, at, 0)
            roots.append(node)
            at = _after_space(text, node.end)
    except (ValueError, IndexError):
        return None
    return roots


def _json_node(text: str, at: int, depth: int) -> Node:
    if depth > _DEPTH:
        raise _Refused("nested too deep")
    if text[at] not in "{[":
        data, end = _decoder.raw_decode(text, at)
        node: Node = Scalar(at, end, text[at:end], '"')
        if isinstance(data, float):
            data = scalars.value(text[at:end])
        node.data = data
        return node
    made = Map(at) if text[at] == "{" else Seq(at)
    made.flow = True
    close = "}" if text[at] == "{" else "]"
    at = _after_space(text, at + 1)
    while text[at] != close:
        if isinstance(made, Map):
            key, end = _decoder.raw_decode(text, at)
            if not isinstance(key, str):
                raise ValueError  # noqa: TRY004 - it is not JSON, as whatever `json` refuses
            key_node = Scalar(at, end, key, '"')
            at = _after_space(text, end)
            _expect(text, at, ":")
            value = _json_node(text, _after_space(text, at + 1), depth + 1)
            made.pairs.append((key, key_node, value))
        else:
            value = _json_node(text, at, depth + 1)
            made.items.append(value)
        at = _after_space(text, value.end)
        if text[at] != close:
            _expect(text, at, ",")
            at = _after_space(text, at + 1)
            if text[at] == close:
                raise ValueError
    made.end = at + 1
    _close(made)
    return made


def _expect(text: str, at: int, mark: str) -> None:
    if text[at] != mark:
        raise ValueError


def _after_space(text: str, at: int) -> int:
    found = _JSON_SPACE.match(text, at)
    return found.end() if found else at


def entries(node: Node) -> Iterator[Node]:
    """Give the nodes of a collection's values."""
    if isinstance(node, Map):
        yield from (value for _, _, value in node.pairs)
    elif isinstance(node, Seq):
        yield from node.items
