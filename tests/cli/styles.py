"""One Pod, written in many ways: data and chance in, YAML as people and tools write it out.

What varies, line by line: block and flow style, indentation of maps and lists, quotes, block
scalars, comments, empty lines, blanks and tabs behind values, spellings of null, anchors with
aliases, line ends, marks around the document.
"""

import json
import random
from typing import Any

WORDS = {None: ("", "~", "null"), True: ("true", "yes", "on"), False: ("false", "no")}


class Writer:
    """Writes data in a style that changes with every line."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.step = chance.choice((2, 2, 2, 4, 3))
        self.flow = chance.choice((0.0, 0.1, 0.5))
        self.noise = chance.choice((0.0, 0.1, 0.4))
        self.mixed = chance.choice((None, 0, 2))
        self.aliases = chance.choice((False, False, True))
        self.known: dict[str, str] = {}

    def document(self, data: Any) -> str:
        """Write a document."""
        lines = list(self.map(data, 0))
        if self.is_noisy():
            lines = ["# before", "", *lines]
        mark = self.chance.choice(("", "", "---\n", "--- # one\n", "%YAML 1.1\n---\n"))
        text = mark + "\n".join(lines)
        if self.chance.random() < 0.7:
            text += self.chance.choice(
                ("\n", "\n", "\n\n", "\n# end\n", "\n...\n", "\n# no newline")
            )
        if self.chance.random() < 0.2:
            text = text.replace("\n", "\r\n")
        return text

    def is_noisy(self) -> bool:
        """Whether something is to stand here that means nothing."""
        return self.chance.random() < self.noise

    def tail(self) -> str:
        """Write what may follow a value on its line."""
        if not self.is_noisy():
            return ""
        return self.chance.choice(("  # why: because", " #", " ", "\t", "   ", " \t # tab"))

    def between(self, column: int) -> list[str]:
        """Write what may stand between two lines."""
        if not self.is_noisy():
            return []
        return self.chance.choice(
            (["# at the margin"], [" " * column + "# - x: [y"], [""], ["   "], ["", "# a", ""])
        )

    def map(self, data: dict[str, Any], column: int) -> Any:
        """Write the lines of a map."""
        for number, (key, item) in enumerate(data.items()):
            if number:
                yield from self.between(column)
            head = " " * column + self.key(key) + ":"
            yield from self.value(head, item, column, self.step)

    def value(self, head: str, item: Any, column: int, step: int) -> Any:
        """Write a value behind its key or dash."""
        mark = self.mark(item)
        if mark.startswith("*"):
            yield f"{head} {mark}{self.tail()}"
            return
        head += f" {mark}" if mark else ""
        if isinstance(item, dict | list) and item and self.chance.random() >= self.flow:
            yield head + (self.tail() if head.endswith(":") else "")
            yield from self.between(column)
            if isinstance(item, dict):
                yield from self.map(item, column + step)
            else:
                offset = self.chance.choice((0, 2)) if self.mixed is None else self.mixed
                yield from self.list(item, column + offset)
        elif isinstance(item, str) and "\n" in item and item[:1].isprintable() and item[0] != " ":
            end = ("-", "", "+" if self.noise == 0 else "")[
                self.chance.choice((1, 2)) if item.endswith("\n") else 0
            ]
            yield f"{head} |{end}"
            for line in item.removesuffix("\n").split("\n"):
                yield " " * (column + step) + line if line else ""
        else:
            tail = "" if item is None and head.endswith("-") else self.tail()
            yield from (head + self.gap(head, item) + self.inline(item) + tail).split("\n")

    def gap(self, head: str, item: Any) -> str:
        """Write what is between a colon or a dash and a value."""
        wide = ("  ", "\t") if head.endswith(":") and item is not None else ()
        return self.chance.choice((" ", " ", " ", *wide))

    def mark(self, item: Any) -> str:
        """Give an anchor, or the alias of what was written before."""
        if not self.aliases or not isinstance(item, dict | list) or not item:
            return ""
        text = json.dumps(item)
        if text in self.known:
            return f"*{self.known[text]}"
        self.known[text] = f"a{len(self.known)}"
        return f"&{self.known[text]}"

    def list(self, data: list[Any], column: int) -> Any:
        """Write the lines of a list."""
        for number, item in enumerate(data):
            if number:
                yield from self.between(column)
            dash = " " * column + "-"
            if (
                isinstance(item, dict)
                and item
                and not self.aliases
                and self.chance.random() >= self.flow
            ):
                wide = self.chance.choice((2, 2, 2, 4))
                lines = list(self.map(item, column + wide))
                yield dash + " " * (wide - 1) + lines[0].lstrip(" ")
                yield from lines[1:]
            else:
                yield from self.value(dash, item, column, 2)

    def key(self, key: str) -> str:
        """Write a key."""
        return self.chance.choice((key, key, key, json.dumps(key), f"'{key}'"))

    def inline(self, item: Any) -> str:
        """Write a value in one line."""
        if isinstance(item, dict):
            inner = ", ".join(f"{self.key(k)}: {self.inline(v) or '~'}" for k, v in item.items())
            return self.chance.choice(("{%s}", "{ %s }")) % inner
        if isinstance(item, list):
            inner = self.chance.choice((", ", ",", ",  ")).join(self.inline(v) or "~" for v in item)
            return self.chance.choice(("[%s]", "[ %s ]")) % inner
        if item is None or isinstance(item, bool):
            return self.chance.choice(WORDS[item])
        if isinstance(item, int):
            return str(item)
        plain = item.replace("/", "").replace("-", "").replace(
            ".", ""
        ).isalpha() and item.lower() not in ("y", "n", "no", "yes", "on", "off")
        return self.chance.choice(
            (
                item if plain else json.dumps(item),
                json.dumps(item),
                "'" + item.replace("'", "''") + "'" if "\n" not in item else json.dumps(item),
            )
        )


def _container(chance: random.Random, name: str, port: int) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name, "image": chance.choice(("shop:1", "nginx:1.27"))}
    handlers: tuple[Any, ...] = (
        None,
        {},
        {"postStart": {"exec": {"command": ["/warm"]}}},
        {"preStop": {"exec": {"command": ["sh", "-c", "sleep 5"]}}},
        {"preStop": {"httpGet": {"path": "/stop", "port": port}}},
        {"preStop": {"sleep": {"seconds": 3}}},
        {"preStop": None},
    )
    commands: tuple[Any, ...] = (
        None,
        [],
        ["/server"],
        ["gunicorn", "shop.wsgi", "--bind", "0.0.0.0:8000"],
        ["sh", "-c", "# with a comment\nexec /server\n"],
        ["sh", "-c", "say: it's\n\n  all # here"],
    )
    parts: dict[str, tuple[Any, ...]] = {
        "ports": ([{"containerPort": port}],) * 3,
        "command": commands,
        "args": (["-x"], [], None),
        "lifecycle": handlers,
        "volumeMounts": (None, [], [{"name": "d", "mountPath": "/d"}]),
        "livenessProbe": ({"httpGet": {"path": "/live", "port": port}},),
        "readinessProbe": (None, {"tcpSocket": {"port": port}, "periodSeconds": 7}),
        "env": ([{"name": "A", "value": "b c"}],),
    }
    for key, values in parts.items():
        if chance.random() < (0.8 if key == "ports" else 0.4):
            made[key] = chance.choice(values)
    return _shuffled(chance, made) if chance.random() < 0.3 else made


def _shuffled(chance: random.Random, data: dict[str, Any]) -> dict[str, Any]:
    return dict(chance.sample(list(data.items()), len(data)))


def _template(chance: random.Random) -> dict[str, Any]:
    names = "abc"[: chance.choice((1, 1, 2, 3))]
    spec: dict[str, Any] = {
        "containers": [_container(chance, name, 8000 + n) for n, name in enumerate(names)]
    }
    parts: dict[str, tuple[Any, ...]] = {
        "volumes": (None, [], [{"name": "d", "emptyDir": {}}]),
        "initContainers": (None, [], [{"name": "i", "image": "shop:1"}]),
        "terminationGracePeriodSeconds": (None, 40, 5),
    }
    for key, values in parts.items():
        if chance.random() < 0.5:
            spec[key] = chance.choice(values)
    metadata: tuple[Any, ...] = (
        "",
        None,
        {},
        {"labels": {"app": "a"}},
        {"labels": {"app": "a"}, "annotations": None},
        {"annotations": {}},
        {"annotations": {"note": "two\nlines\n", "example.com/a": "1"}},
    )
    head = chance.choice(metadata)
    made = {"spec": _shuffled(chance, spec)}
    return made if head == "" else _shuffled(chance, {"metadata": head, **made})


def workload(chance: random.Random) -> dict[str, Any]:
    """Make up a workload, or a List of two that may share their template."""
    template = _template(chance)
    kind = chance.choice(("Pod", "CronJob", "Deployment", "StatefulSet", "List"))
    if kind == "Pod":
        return {"apiVersion": "v1", "kind": kind, **template}
    if kind == "CronJob":
        job = {"spec": {"template": template}}
        return {"apiVersion": "batch/v1", "kind": kind, "spec": {"jobTemplate": job}}
    if kind != "List":
        return {"apiVersion": "apps/v1", "kind": kind, "spec": {"template": template}}
    templates = (template, template if chance.random() < 0.5 else _template(chance))
    items = [
        {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": one}}
        for one in templates
    ]
    return {"apiVersion": "v1", "kind": kind, "items": items}
