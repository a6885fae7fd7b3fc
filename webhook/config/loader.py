"""YAML, read strictly: text in, plain values out.

What the values mean belongs to `file`.
"""

from typing import Any, ClassVar, Final

import yaml
from yaml.composer import Composer, ComposerError

_NODES: Final = 100_000
"""Nodes of the file, with aliases expanded: far more than any real ConfigMap of 1 MiB holds."""


class _Loader(Composer, yaml.CSafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """PyYAML's safe loader on libyaml's events, and stricter.

    A duplicate key is an error, since one of the two is a slip. So is an alias inside the node that
    it names, and a file that aliases make too large. Composing in Python turns deep nesting into a
    `RecursionError`. `off`, `no` and `yes` are text, as in YAML 1.2: `off` is a mode.
    """

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, form) for tag, form in forms if not tag.endswith(":bool") or first in "tTfF"]
        for first, forms in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        yaml.CSafeLoader.__init__(self, text)
        Composer.__init__(self)
        self._count = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: Any, index: Any) -> yaml.Node:
        """Compose a node, and count it with all that it contains."""
        event, before = self.peek_event(), self._count
        node = Composer.compose_node(self, parent, index)
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self._sizes:
                raise ComposerError(
                    None, None, f"the alias *{event.anchor} is in itself", event.start_mark
                )
            self._count += self._sizes[id(node)]
        else:
            self._count += 1
            self._sizes[id(node)] = self._count - before
        if self._count > _NODES:
            raise ComposerError(None, None, f"more than {_NODES} values", event.start_mark)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a map, and look for duplicate keys."""
        node = Composer.compose_mapping_node(self, anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise ComposerError(
                        None, None, f"the key {key.value!r:.40} stands twice", key.start_mark
                    )
                seen.add(key.value)
        return node


def values(text: str) -> Any:
    """Read one document. Raises `ValueError`, which says what is wrong and where."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe one
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        words = " ".join(str(error).split()).replace(' in "<unicode string>",', " at")
        raise ValueError(f"not YAML: {words}") from error
