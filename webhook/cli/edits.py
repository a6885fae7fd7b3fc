"""Changes of data as changes of text: new meaning, written into the lines that are there.

In: a `Chunk`, one of its documents, and the data that it should become. Out: the chunk's text with
the fewest places changed. Lines that mean the same as before are not touched, whatever they look
like. The order is:

1. The document and the data are walked side by side; where they differ, an `Edit` is noted: an
   entry or an item is put in or taken out as whole lines, a value is replaced between its colon and
   its end. `difflib` finds the parts of lists that are alike.
2. An alias stays if its anchor, after the change, has the value that should be there. Else its
   value is written out.
3. The text is joined and read again. If it does not mean the data, the whole document is rewritten
   (`Written.anew`): it loses its comments, never its meaning.

New text comes after the last line of the entry before it, so that taking it out gives the same
bytes. Where a change loses the user's own text (a null's spelling, an alias, a handler in a style
of its own), the text goes into `Written.lost`; given back as `kept`, it is written again.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from functools import cached_property
from typing import Any, Final, NamedTuple

from webhook.cli import scalars
from webhook.cli.documents import (
    MERGE,
    Alias,
    Chunk,
    ManifestError,
    Map,
    Node,
    Scalar,
    Seq,
    entries,
    merged,
)
from webhook.cli.documents import read as read_text
from webhook.cli.scalars import Layout

Path = tuple[str | int, ...]
"""Keys and positions from the root of a document."""

LONGEST: Final = 4096
"""Characters of one lost text that are kept: it lives in an annotation of the Pod."""

_DASH: Final = re.compile(r"\n( *)-(?=[ \t\r\n])")
_NOTHING: Final = object()


class Written(NamedTuple):
    """The chunk after a change. `anew`: the document was written as a whole."""

    text: str
    lost: dict[Path, str | None]
    anew: bool = False


class Edit(NamedTuple):
    """Replace `start` to `end` by `text`; `lines`: whole lines are put in."""

    start: int
    end: int
    text: str
    lines: bool = False


class _Unfit(Exception):
    """Text that is not edited in place: a key with `?`, a list that starts on its parent's line."""


def write(chunk: Chunk, root: Node, data: Any, kept: Mapping[Path, str]) -> Written:
    """Make a document mean `data`. `kept`: texts to write where they mean what should be there."""
    for texts in (kept, {}) if kept else ({},):
        editor = _Editor(chunk, root, texts)
        try:
            new = editor.sync(root, data, ())
            text = _cut(chunk.text, editor.edits)
        except _Unfit:
            continue
        if new is not _NOTHING and _alike(new, data) and _reads_as(chunk, root, text, new):
            return Written(text, editor.lost)
    return Written(_anew(chunk, root, data), {}, True)


def _reads_as(chunk: Chunk, root: Node, text: str, data: Any) -> bool:
    expected = [data if node is root else node.data for node in chunk.roots]
    try:
        again = read_text(text, "")
    except ManifestError:
        return False
    return [node.data for part in again for node in part.roots] == expected


def _alike(one: Any, other: Any) -> bool:
    return bool(one == other) or without_nulls(one) == without_nulls(other)


def without_nulls(data: Any) -> Any:
    """Leave nulls out of maps: to Kubernetes they are absent.

    A merge key's entry can be hidden in no other way.
    """
    if isinstance(data, dict):
        return {key: without_nulls(item) for key, item in data.items() if item is not None}
    return [without_nulls(item) for item in data] if isinstance(data, list) else data


def _cut(text: str, edits: list[Edit]) -> str:
    """Put the edits into the text."""
    newline = "\r\n" if text[: text.find("\n")].endswith("\r") else "\n"
    parts: list[str] = []
    at = 0
    for edit in sorted(edits, key=lambda e: (e.start, e.end)):
        if edit.start > at:
            parts.append(text[at : edit.start])
        if edit.lines and parts and not parts[-1].endswith("\n"):
            parts.append(newline)
        if edit.text:
            parts.append(edit.text.replace("\n", newline))
        at = max(at, edit.end)
    parts.append(text[at:])
    made = "".join(parts)
    # What ends without a newline goes on doing so.
    return made if text.endswith("\n") else made.removesuffix("\n").removesuffix("\r")


def _anew(chunk: Chunk, root: Node, data: Any) -> str:
    """Write a document as a whole."""
    text = chunk.text
    end = _Editor(chunk, root, {}).end(root)
    rest = text[end:]
    if root.flow or not isinstance(data, dict | list) or not data:
        made = json.dumps(data, ensure_ascii=False) if chunk.is_json else scalars.spelled(data)
    else:
        made = "\n".join(scalars.block(data, 0, Layout()))
        if rest.partition("\n")[0].strip():
            # A comment on the last line: behind a literal block it would be part of the text.
            rest = "\n" + rest.lstrip(" \t")
    return text[: root.start] + made + rest


class _Editor:
    """One walk through a document."""

    def __init__(self, chunk: Chunk, root: Node, kept: Mapping[Path, str]) -> None:
        self.text, self.chunk, self.root, self.kept = chunk.text, chunk, root, kept
        self.above = {path[:n] for path in kept for n in range(len(path))}
        """Where something kept may be further down."""
        self.edits: list[Edit] = []
        self.lost: dict[Path, str | None] = {}
        self.changed: dict[int, Any] = {}
        """The values of anchored nodes after the change, by id: aliases may follow."""
        self.layout = _layout(root, self)

    # -- the walk ----------------------------------------------------------------------------------

    def sync(self, node: Node, data: Any, path: Path) -> Any:
        """Note the edits that make `node` mean `data`, and give what it means after them.

        `_NOTHING`: it has to be replaced as a whole.
        """
        if node.data == data and not (self.changed and node.aliases) and path not in self.above:
            return node.data
        if isinstance(node, Alias):
            now = self.now(node)
            return now if now == data else _NOTHING
        made: Any = _NOTHING
        if isinstance(node, Map) and isinstance(data, dict):
            made = self._map(node, data, path)
        elif isinstance(node, Seq) and isinstance(data, list):
            made = self._seq(node, data, path)
        elif node.data == data:
            made = node.data
        if node.anchor and made is not _NOTHING:
            self.changed[id(node)] = made
        return made

    def now(self, node: Node) -> Any:
        """Give what a node means after the change."""
        of = node.of if isinstance(node, Alias) else node
        return self.changed.get(id(of), of.data)

    def _map(self, node: Map, data: dict[str, Any], path: Path) -> Any:
        inherited = merged(node, self.now) if node.merges else {}
        last = {key: n for n, (key, _, _) in enumerate(node.pairs)}
        gone: set[int] = set()
        made: dict[str, Any] = dict(inherited)
        values: list[tuple[Node, Node, Any, Path]] = []
        mark = len(self.edits)
        for n, (key, key_node, value) in enumerate(node.pairs):
            if key == MERGE:
                continue
            if n != last[key]:
                # A double key: the last one counts, but where it goes all go.
                if key not in data:
                    gone.add(n)
                continue
            hidden = key in inherited and key in data and data[key] == inherited[key]
            if key not in data or (hidden and value.data != data[key]):
                gone.add(n)
                self._lose_entry((*path, key), node, n)
                continue
            at = (*path, key)
            # An empty {} or [] becomes a block, where its parent is one.
            whole = (value.flow and not value.data and data[key] and not node.flow) or (
                self._is_kept(at, data[key], value, node, key_node)
            )
            new = _NOTHING if whole else self.sync(value, data[key], at)
            made[key] = data[key] if new is _NOTHING else new
            if new is _NOTHING:
                values.append((key_node, value, data[key], at))
        added = {
            key: item
            for key, item in data.items()
            if key not in last and not (key in inherited and inherited[key] == item)
        }
        # A null hides what a merge key brings in and nobody wants.
        hiding = [key for key in inherited if key not in data]
        added |= dict.fromkeys(hiding)
        self.lost |= {(*path, key): None for key in hiding}
        if len(gone) == len(node.pairs) and not (added or node.flow):
            del self.edits[mark:]
            return _NOTHING
        for key_node, value, item, at in values:
            self._replace(node, key_node, value, item, at)
        made |= added
        if gone or added:
            texts = {key: (item, (*path, key)) for key, item in added.items()}
            (self._map_in_flow if node.flow else self._map_in_block)(node, gone, texts)
        return made

    def _seq(self, node: Seq, data: list[Any], path: Path) -> Any:
        plan = list(_aligned([item.data for item in node.items], data))
        if not (data or node.flow):
            return _NOTHING
        made: list[Any] = []
        texts: list[tuple[int | None, Any]] = []
        for n, m in plan:
            if n is None:
                made.append(data[m])  # type: ignore[index]  # one of both is there
                texts.append((None, data[m]))  # type: ignore[index]
            elif m is not None:
                item = node.items[n]
                new = self.sync(item, data[m], (*path, m))
                if new is _NOTHING:
                    self._replace_item(node, item, data[m])
                    new = data[m]
                made.append(new)
                texts.append((n, None))
        if len(texts) != len(node.items) or any(n is None for n, _ in texts):
            (self._seq_in_flow if node.flow else self._seq_in_block)(node, texts)
        return made

    # -- block style -------------------------------------------------------------------------------

    def _map_in_block(self, node: Map, gone: set[int], added: dict[str, tuple[Any, Path]]) -> None:
        column = self.column(node.pairs[0][1].start)
        n = 0
        while n < len(node.pairs):
            if n not in gone:
                n += 1
                continue
            since = n
            while n in gone:
                n += 1
            start = node.pairs[since][1].start
            if self.is_first(start):
                self._drop(self.line(start), self.next_line(self.pair_end(node, n - 1)))
            elif n < len(node.pairs):
                # On the line of a dash: the next entry takes its place.
                self._drop(start, node.pairs[n][1].start)
            else:
                raise _Unfit
        lines = [
            line for key, (item, at) in added.items() for line in self._entry(key, item, column, at)
        ]
        if lines:
            at = self.next_line(self.pair_end(node, len(node.pairs) - 1))
            start = node.pairs[-1][1].start
            if self._is_open(node.pairs[-1][2], at) and self.is_first(start):
                # A block scalar without a newline at the end of the file would get one.
                at = self.line(start)
            self._insert(at, lines)

    def _entry(self, key: str, item: Any, column: int, path: Path) -> list[str]:
        raw = self.kept.get(path, "")
        if raw and self._means(f"{' ' * column}{raw}\n", {key: item}):
            return (" " * column + raw).split("\n")
        return list(scalars.entry(key, item, column, self.layout))

    def _seq_in_block(self, node: Seq, plan: Sequence[tuple[int | None, Any]]) -> None:
        dashes = list(self.dashes(node))
        column = self.column(dashes[0])
        stay = {n for n, _ in plan}
        for n in range(len(node.items)):
            if n not in stay:
                self._whole_line(dashes[n])
                self._drop(self.line(dashes[n]), self.next_line(self.item_end(node, n, dashes)))
        new: dict[int | None, list[str]] = {}
        after: int | None = None
        for was, item in plan:
            if was is None:
                new.setdefault(after, []).extend(scalars.listed(item, column, self.layout))
            else:
                after = was
        for place, lines in new.items():
            if place is None:
                self._whole_line(dashes[0])
                at = self._above_comments(dashes[0])
            else:
                at = self.next_line(self.item_end(node, place, dashes))
                if self._is_open(node.items[place], at):
                    raise _Unfit
            self._insert(at, lines)

    def _whole_line(self, at: int) -> None:
        if not self.is_first(at):
            raise _Unfit

    def _above_comments(self, at: int) -> int:
        """Give the start of the comments right above a line: they belong to what follows them."""
        line = self.line(at)
        while line:
            above = self.line(line - 1)
            if self.text[above:line].strip() and not self.text[above:line].lstrip().startswith("#"):
                break
            line = above
        return line

    # -- flow style --------------------------------------------------------------------------------

    def _map_in_flow(self, node: Map, gone: set[int], added: dict[str, tuple[Any, Path]]) -> None:
        spans = [(key.start, self.pair_end(node, n)) for n, (_, key, _) in enumerate(node.pairs)]
        plan: list[tuple[int | None, str]] = [(n, "") for n in range(len(spans)) if n not in gone]
        before = self._before_items(node, spans)
        plan += [
            (None, self._flow_entry(key, item, at, before)) for key, (item, at) in added.items()
        ]
        self._in_flow(node, spans, plan)

    def _seq_in_flow(self, node: Seq, plan: Sequence[tuple[int | None, Any]]) -> None:
        spans = [(item.start, item.end) for item in node.items]
        before = self._before_items(node, spans)
        self._in_flow(
            node,
            spans,
            [(n, "" if n is not None else self.inline(item, before)) for n, item in plan],
        )

    def _in_flow(
        self, node: Node, spans: list[tuple[int, int]], plan: list[tuple[int | None, str]]
    ) -> None:
        space = self._before_items(node, spans)
        stay = {n for n, _ in plan if n is not None}
        n = 0
        while n < len(spans):
            since = n
            while n < len(spans) and n not in stay:
                n += 1
            if n > since:
                if since:
                    self._drop(spans[since - 1][1], spans[n - 1][1])
                else:
                    self._drop(spans[0][0], spans[n][0] if n < len(spans) else spans[n - 1][1])
            n += 1
        after: int | None = None
        for place, (same, made) in enumerate(plan):
            if same is not None:
                after = same
            elif after is not None:
                self.edits.append(Edit(spans[after][1], spans[after][1], f",{space}{made}"))
            elif stay:
                first = spans[min(stay)][0]
                self.edits.append(Edit(first, first, f"{made},{space}"))
            else:
                at = spans[0][0] if spans else self._bracket(node) + 1
                self.edits.append(Edit(at, at, f",{space}{made}" if place else made))

    def _bracket(self, node: Node) -> int:
        """Find the bracket that opens a flow collection: behind its anchor and tag."""
        at = node.start
        while self.text[at] not in "[{":
            at += 1
        return at

    def _before_items(self, node: Node, spans: list[tuple[int, int]]) -> str:
        """Give the blanks between a comma of this collection and the next item."""
        text = self.text
        least = "" if self.chunk.is_json else " "
        if not spans:
            return " " if not self.chunk.is_json or _json_spaced(self) else ""
        if len(spans) > 1:
            between = text[spans[0][1] : spans[1][0]].partition(",")[2]
        else:
            between = text[self._bracket(node) + 1 : spans[0][0]]
            if "\n" not in between:
                between = " " if _json_spaced(self) else ""
        if "#" in between:
            between = "\n" + between.rpartition("\n")[2]
        return between.replace("\r\n", "\n") or least

    def _flow_entry(self, key: str, item: Any, path: Path, before: str) -> str:
        name = (
            json.dumps(key, ensure_ascii=False)
            if self.chunk.is_json
            else scalars.spelled(key, flow=True)
        )
        raw = self.kept.get(path, "")
        if raw and "\n" not in raw and self._means(f"{{{raw}}}\n", {key: item}):
            return raw
        return f"{name}:{' ' if _json_spaced(self) else ''}{self.inline(item, before)}"

    def inline(self, item: Any, before: str) -> str:
        """Write a value in flow style; JSON over several lines where its neighbours are."""
        if not self.chunk.is_json:
            return scalars.spelled(item, flow=True)
        spaced = _json_spaced(self)
        if "\n" not in before or not isinstance(item, dict | list) or not item:
            marks = (", ", ": ") if spaced else (",", ":")
            return json.dumps(item, ensure_ascii=False, separators=marks)
        step = _json_step(self.text)
        made = json.dumps(item, ensure_ascii=False, indent=step)
        return made.replace("\n", "\n" + before.rpartition("\n")[2])

    # -- one value ---------------------------------------------------------------------------------

    def _replace(self, node: Map, key: Node, value: Node, item: Any, path: Path) -> None:
        """Replace what is between a key's colon and the end of its value."""
        colon, end = self.colon(key, value), self.end(value) if not _is_empty(value) else 0
        end = max(end, colon)
        self._lose(path, node, key, value)
        kept = self._kept(path, item, None if node.flow else self.column(key.start))
        if node.flow:
            made = (
                kept[0]
                if kept
                else " " * _json_spaced(self) + self.inline(item, self._line_indent(key.start))
            )
            self.edits.append(Edit(colon, end, made))
            return
        first, *rest = kept or scalars.after_colon(item, self.column(key.start), self.layout)
        if isinstance(value, Map | Seq) and not value.flow:
            # Its lines go, the comment on the key's line stays.
            start = self.content(value)
            self._whole_line(start)
            header = re.split(r"\s#|[\r\n]", self.text[colon:start], maxsplit=1)[0].rstrip()
            self.edits.append(Edit(colon, colon + len(header), first))
            self._drop(self.line(start), self.next_line(end))
            self._insert(self.line(start), rest)
        elif "\n" in self.text[colon:end]:
            self.edits.append(Edit(colon, end, "\n".join([first, *rest])))
        else:
            self.edits.append(Edit(colon, end, first))
            self._insert(self.next_line(end), rest)

    def _replace_item(self, node: Seq, item: Node, data: Any) -> None:
        if node.flow:
            self.edits.append(Edit(item.start, item.end, self.inline(data, "")))
        elif _is_empty(item) or (isinstance(item, Map | Seq) and not item.flow):
            raise _Unfit
        else:
            column = self.column(item.start) - self.layout.dash
            lines = list(scalars.listed(data, column, self.layout))
            lines[0] = lines[0][column + self.layout.dash :]
            self.edits.append(Edit(item.start, self.end(item), "\n".join(lines)))

    # -- texts of the user's that come back --------------------------------------------------------

    def _lose(self, path: Path, node: Map, key: Node, value: Node) -> None:
        """Keep the text of a value that goes, unless it is data and would be written just so."""
        colon = self.colon(key, value)
        raw = self.text[colon : max(self.end(value), colon)].replace("\r\n", "\n")
        if node.flow:
            same = raw == " " * _json_spaced(self) + self.inline(
                value.data, self._line_indent(key.start)
            )
        else:
            made = scalars.after_colon(value.data, self.column(key.start), self.layout)
            same = raw == "\n".join(made)
        if (not same or value.data is None) and len(raw) <= LONGEST:
            self.lost[path] = raw

    def _lose_entry(self, path: Path, node: Map, n: int) -> None:
        """Keep the text of an entry that goes, to the end of its line."""
        key, key_node, value = node.pairs[n]
        start, end = key_node.start, self.pair_end(node, n)
        if node.flow:
            raw = self.text[start:end].replace("\r\n", "\n")
            same = raw == self._flow_entry(key, value.data, path, self._line_indent(start))
        else:
            column = self.column(start)
            raw = self.text[start : self.next_line(end)].replace("\r\n", "\n").removesuffix("\n")
            made = scalars.entry(key, value.data, column, self.layout)
            same = raw == "\n".join(made).removeprefix(" " * column)
        if not same and len(raw) <= LONGEST:
            self.lost[path] = raw

    def _kept(self, path: Path, item: Any, column: int | None) -> list[str]:
        """Give the lines of a kept text behind a colon, if they mean `item`.

        `column`: of the key, None in flow style.
        """
        raw = self.kept.get(path)
        if raw is None:
            return []
        word = raw.strip()
        if word.startswith("*"):
            node = self.anchors.get(word[1:])
            return [raw] if node is not None and self.now(node) == item else []
        if column is None:
            fits = "\n" not in raw and self._means(f'{{"k":{raw}}}\n', {"k": item})
            return [raw] if fits else []
        return raw.split("\n") if self._means(f"{' ' * column}k:{raw}\n", {"k": item}) else []

    def _means(self, text: str, data: Any) -> bool:
        """Whether a text with a kept one in it reads as `data`, and is plain.

        No tag, no key twice, and JSON in JSON: every other program must read the same there.
        """
        try:
            (chunk,) = read_text(text, "")
        except (ManifestError, ValueError):
            return False
        return (
            [root.data for root in chunk.roots] == [data]
            and chunk.is_json >= self.chunk.is_json
            and _is_plain(chunk.roots[0])
        )

    @cached_property
    def anchors(self) -> dict[str, Node]:
        """The nodes with an anchor, by name; of several the last one."""
        found: dict[str, Node] = {}
        todo = [self.root]
        while todo:
            node = todo.pop()
            if node.anchor:
                found.setdefault(node.anchor, node)
            todo += entries(node)
        return found

    def _is_kept(self, path: Path, item: Any, value: Node, node: Map, key: Node) -> bool:
        """Whether to write a kept text in place of a value, which is not that text already."""
        if path not in self.kept:
            return False
        colon = self.colon(key, value)
        now = self.text[colon : max(self.end(value), colon)].replace("\r\n", "\n")
        column = None if node.flow else self.column(key.start)
        return now != self.kept[path] and bool(self._kept(path, item, column))

    # -- places ------------------------------------------------------------------------------------

    def _drop(self, start: int, end: int) -> None:
        self.edits.append(Edit(start, end, ""))

    def _insert(self, at: int, lines: Sequence[str]) -> None:
        if lines:
            self.edits.append(Edit(at, at, "\n".join(lines) + "\n", True))

    def line(self, at: int) -> int:
        """Give the start of a place's line."""
        return self.text.rfind("\n", 0, at) + 1

    def next_line(self, at: int) -> int:
        """Give the start of the line after a place's."""
        found = self.text.find("\n", at)
        return len(self.text) if found < 0 else found + 1

    def column(self, at: int) -> int:
        """Give the column of a place, from 0."""
        return at - self.line(at)

    def is_first(self, at: int) -> bool:
        """Whether nothing but blanks is before a place in its line."""
        return not self.text[self.line(at) : at].strip()

    def _line_indent(self, at: int) -> str:
        line = self.text[self.line(at) : at]
        return "\n" + line[: len(line) - len(line.lstrip())] if not line.strip() else ""

    def colon(self, key: Node, value: Node) -> int:
        """Give the place behind the colon of a key."""
        at = self.text.find(":", key.end)
        if at < 0 or self.text[key.end : at].strip() or (value.end <= at and not _is_empty(value)):
            raise _Unfit
        return at + 1

    def content(self, node: Node) -> int:
        """Give where a block collection's first entry starts, behind anchor and tag."""
        if isinstance(node, Map):
            return node.pairs[0][1].start
        return next(self.dashes(node))  # type: ignore[arg-type]  # a Seq

    def pair_end(self, node: Map, n: int) -> int:
        """Give where the text of an entry ends."""
        _, key, value = node.pairs[n]
        if not _is_empty(value):
            return self.end(value)
        try:
            return self.colon(key, value)
        except _Unfit:
            if node.flow:
                return key.end
            raise

    def item_end(self, node: Seq, n: int, dashes: list[int]) -> int:
        """Give where the text of an item ends."""
        return dashes[n] + 1 if _is_empty(node.items[n]) else self.end(node.items[n])

    def end(self, node: Node) -> int:
        """Give where a node's text ends: without the comments and empty lines below."""
        if node.flow or not isinstance(node, Map | Seq):
            return self._scalar_end(node) if isinstance(node, Scalar) else node.end
        if isinstance(node, Map):
            return self.pair_end(node, len(node.pairs) - 1) if node.pairs else node.end
        if not node.items:
            return node.end
        last = node.items[-1]
        return list(self.dashes(node))[-1] + 1 if _is_empty(last) else self.end(last)

    def _scalar_end(self, node: Scalar) -> int:
        if node.style not in ("|", ">"):
            return node.end
        raw = self.text[node.start : node.end]
        header = raw.partition("\n")[0].partition("#")[0]
        value = node.text.rstrip("\n")
        if "+" in header or value.endswith((" ", "\t")) or not value:
            return node.end - (raw.endswith("\n") and node.end > node.start + 1)
        return node.start + len(raw.rstrip())

    def dashes(self, node: Seq) -> Iterator[int]:
        """Give where the dash of each item of a block list is."""
        text, at = self.text, node.start
        if text[at : at + 1] != "-" or node.anchor or node.tag:
            found = _DASH.search(text, at, node.items[0].start + 1)
            if found is None:
                raise _Unfit
            at = found.end() - 1
        yield at
        mark = "\n" + " " * self.column(at) + "-"
        for item in node.items[1:]:
            found_at = text.rfind(mark, at, item.start + 1)
            if found_at < 0:
                raise _Unfit
            at = found_at + len(mark) - 1
            yield at

    def _is_open(self, node: Node, at: int) -> bool:
        """Whether a node ends the file, without a newline, in a block scalar."""
        if at < len(self.text) or self.text.endswith("\n"):
            return False
        while isinstance(node, Map | Seq) and not node.flow:
            node = node.pairs[-1][2] if isinstance(node, Map) else node.items[-1]
        return isinstance(node, Scalar) and node.style in ("|", ">")


def _is_empty(node: Node) -> bool:
    """Whether a value is nothing at all: the null of `volumes:`."""
    return isinstance(node, Scalar) and node.start == node.end


def _is_plain(node: Node) -> bool:
    """Whether nothing in a node has a tag, and no map a key twice."""
    keys = [key for key, _, _ in node.pairs] if isinstance(node, Map) else []
    tags = [key.tag for _, key, _ in node.pairs] if isinstance(node, Map) else []
    return (
        node.tag is None
        and not any(tags)
        and len(set(keys)) == len(keys)
        and all(_is_plain(member) for member in entries(node))
    )


def _aligned(old: list[Any], new: list[Any]) -> Iterator[tuple[int | None, int | None]]:
    """Pair the items of two lists: (n, m) alike or in one place, (n, None) gone, (None, m) new."""
    if len(old) == len(new):
        yield from zip(range(len(old)), range(len(new)), strict=True)
        return
    before, after = ([_token(item) for item in items] for items in (old, new))
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    for _, i, j, k, m in matcher.get_opcodes():
        both = min(j - i, m - k)
        yield from ((i + n, k + n) for n in range(both))
        yield from ((n, None) for n in range(i + both, j))
        yield from ((None, n) for n in range(k + both, m))


def _token(item: Any) -> str:
    """Give what an item of a list is known by: its name, else all of it."""
    if isinstance(item, dict) and isinstance(item.get("name"), str):
        return "\0" + str(item["name"])
    return json.dumps(item, sort_keys=True)


def _layout(root: Node, editor: _Editor) -> Layout:
    """Tell how a document is indented, by its first maps and lists in block style."""
    step = offset = dash = None
    todo: list[tuple[int | None, Node]] = [(None, root)]
    while todo and (step is None or offset is None):
        column, node = todo.pop(0)
        if node.flow or not isinstance(node, Map | Seq):
            continue
        try:
            start = editor.column(editor.content(node))
        except (_Unfit, IndexError):
            continue
        if isinstance(node, Map):
            if column is not None:
                step = step or start - column
            todo += [(start, value) for _, _, value in node.pairs]
        elif node.items:
            if column is not None and offset is None:
                offset = max(start - column, 0)
                dash = editor.column(node.items[0].start) - start if node.items[0].start else 2
            todo += [(None, item) for item in node.items]
    return Layout(step or 2, 0 if offset is None else offset, dash if dash and 1 < dash < 9 else 2)


def _json_spaced(editor: _Editor) -> bool:
    return not editor.chunk.is_json or ": " in editor.text or ":\t" in editor.text


def _json_step(text: str) -> str | int:
    found = re.search(r"\n( +|\t)[\"\[{]", text)
    return 2 if found is None else "\t" if found[1] == "\t" else len(found[1])
