"""The manifest's text in the status, written by an attacker.

Whoever writes a Pod can write our annotation. `uninject` takes only the spelling from it: the
document means the same as without it, to any parser, and its neighbours keep every byte.
"""

import io
import json
import re
import time
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from tests.cli.command import podgrace
from webhook.cli import edits
from webhook.core import status
from webhook.core.names import STATUS_ANNOTATION
from webhook.core.pod import Pod

PLAIN: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "shop", "annotations": {"example.com/note": "kept"}},
    "spec": {
        "containers": [
            {
                "name": "web",
                "image": "shop:1",
                "command": ["gunicorn", "shop.wsgi"],
                "ports": [{"containerPort": 8000}],
                "volumeMounts": [{"name": "d", "mountPath": "/d"}],
                "lifecycle": {"preStop": {"exec": {"command": ["sleep", "5"]}}},
            }
        ],
        "volumes": [{"name": "d", "emptyDir": {}}],
        "terminationGracePeriodSeconds": 40,
    },
}
INJECTED = yaml.safe_load(podgrace("inject", "-f", "-", stdin=json.dumps(PLAIN)).out)

BEFORE = "# the neighbour's\nkind:   ConfigMap\ndata: {a:   ~}\n---\n"
AFTER = "---\nkind:  Secret # the other neighbour's\n"

STYLES = {
    "blocks": lambda data: yaml.safe_dump(data, sort_keys=False),
    "flow": lambda data: yaml.safe_dump(data, default_flow_style=True, width=10**6),
    "JSON": lambda data: json.dumps(data) + "\n",
    "JSON of many lines": lambda data: json.dumps(data, indent=2) + "\n",
}


def annotated(status: str) -> dict[str, Any]:
    """Give the injected Pod with another status."""
    data: dict[str, Any] = json.loads(json.dumps(INJECTED))
    data["metadata"]["annotations"][STATUS_ANNOTATION] = status
    return data


UNREADABLE = json.loads(podgrace("uninject", "-f", "-", stdin=json.dumps(annotated("{"))).out)
"""What is left where the whole status cannot be read: what only it knows is not undone."""


def judge(manifest: Any, style: str) -> str:
    """Take our parts out of a forged document, check what must hold, and give its text."""
    whole = json.loads(INJECTED["metadata"]["annotations"][STATUS_ANNOTATION])
    data = annotated(json.dumps({**whole, "manifest": manifest}))
    ran = podgrace("uninject", "-f", "-", stdin=BEFORE + STYLES[style](data) + AFTER)
    assert ran.code == 0
    assert ran.out.startswith(BEFORE)
    assert ran.out.endswith(AFTER)
    own = ran.out.removeprefix(BEFORE).removesuffix(AFTER)
    (made,) = yaml.load_all(own, Loader=yaml.CSafeLoader)
    pod = msgspec.json.decode(msgspec.json.encode(data), type=Pod)
    expected = PLAIN if status.read(pod) else UNREADABLE
    assert edits.without_nulls(made) == expected
    assert edits.without_nulls(YAML(typ="safe", pure=True).load(io.StringIO(own))) == expected
    assert not re.search(r"!|[\u2028\u202e]|^(?:\.\.\.|---)", own, re.MULTILINE)
    if style.startswith("JSON"):
        assert json.loads(own) == made
    return own


TOKENS = st.sampled_from(
    [
        *("metadata", "annotations", "name", "spec", "containers", "volumes", "initContainers"),
        *("0", "1", "-1", "-", "9" * 5000, "\u0663", "*", "~", "~0", "~1", "..", "a", "kind"),
        *("lifecycle", "preStop", "exec", "command", "readinessProbe", "httpGet", "emptyDir"),
        *("volumeMounts", "terminationGracePeriodSeconds", "podgrace.io~1status"),
    ]
)
PLACES = [
    *("/metadata", "/metadata/annotations", "/metadata/annotations/example.com~1note", "/spec"),
    *("/spec/containers", "/spec/volumes", "/spec/terminationGracePeriodSeconds"),
    *(f"/spec/containers/0/{k}" for k in ("command", "volumeMounts", "lifecycle", "args")),
    *("/spec/containers/0/lifecycle/preStop", "/spec/containers/0/lifecycle/preStop/exec"),
]
POINTERS = st.one_of(
    st.sampled_from(PLACES),
    st.lists(TOKENS, max_size=7).map(lambda tokens: "".join(f"/{token}" for token in tokens)),
    st.text(max_size=9),
)
PIECES = st.sampled_from(
    [
        *(" ", "\n", "\r", "\t", "---\n", "\n---\n", "\n...\n", "%YAML 1.1\n", "# c", " # c\n"),
        *("{", "}", "[", "]", ",", ": ", "- ", "? ", "|\n", ">-\n", "'", '"', "\\", "<<: "),
        *("&a ", "*a", "!!str ", "!x ", "!!python/name:os.system ", "~", " null", " {}", "k: v"),
        *("\u2028", "\x85", "\x00", "\x1b[2J", "\u202e", "\ufeff", "\ud800", "kind: Secret"),
    ]
)


def at(pointer: str) -> Any:
    """Give what stands at a pointer, as its author wrote it."""
    data: Any = PLAIN
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        data = data[int(key)] if isinstance(data, list) else data.get(key)
    return data


@st.composite
def entries(draw: st.DrawFn) -> tuple[str, str | None]:
    """Make up an entry: any pointer and any text, or a true value in a dangerous dress."""
    if draw(st.booleans()):
        text = st.none() | st.lists(PIECES, max_size=8).map("".join) | st.text(max_size=20)
        return draw(POINTERS), draw(text)
    pointer = draw(st.sampled_from(PLACES))
    value = json.dumps(at(pointer), indent=draw(st.sampled_from([None, 40])))
    if value.startswith("{") and draw(st.booleans()):
        value = value[:-1] + ", " + value[1:]
    key = draw(st.sampled_from(["", pointer.rpartition("/")[2] + ":"]))
    front, back = (draw(st.lists(PIECES, max_size=3).map("".join)) for _ in range(2))
    return pointer, f"{key} {front}{value}{back}"


@settings(max_examples=300, deadline=None)
@given(st.lists(entries(), max_size=5).map(dict), st.sampled_from(sorted(STYLES)))
def test_a_forged_text_changes_nothing(manifest: dict[str, str | None], style: str) -> None:
    judge(manifest, style)


LONG: dict[str, Any] = {
    "a deep pointer": {"/spec" + "/a" * 100_000: " null"},
    "many pointers": {f"/spec/containers/0/x{n}": " null" for n in range(50_000)},
    "many aliases": {f"/spec/containers/{n}/command": " *a" for n in range(50_000)},
    "a long text": {"/spec/volumes": " [" * 1_000_000},
    "a deep text": {"/spec/volumes": " [" * 2000},
    "a deep value": json.loads("[" * 500 + "]" * 500),
    "a number": 5,
    "a map of maps": {"/spec/volumes": {"a": 1}},
    "an index without an end": {f"/spec/containers/{'9' * 10_000}/command": None},
    "other digits": {"/spec/containers/\u0660/command": " ~"},
    "members that were never there": {
        "/spec/hostNetwork": " ~",
        "/spec/containers/0/readinessProbe/httpGet": " ~",
        "/spec/volumes/0/emptyDir": None,
    },
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", LONG)
def test_a_forged_text_costs_nothing(name: str, style: str) -> None:
    began = time.process_time()
    own = judge(LONG[name], style)
    assert time.process_time() - began < 30
    assert yaml.safe_load(own) in (PLAIN, UNREADABLE)


DRESSED = {
    "YAML's quotes": " [{'name': 'd', 'emptyDir': {}}]",
    "no quotes": " [{name: d, emptyDir: {}}]",
    "a tag": " !!seq [{name: d, emptyDir: {}}]",
    "a tag of a scalar": " [{name: !!str d, emptyDir: {}}]",
    "a key twice": ' [{"name": "x", "name": "d", "emptyDir": {}}]',
    "an end mark": " [{name: d, emptyDir: {}}]\n...\n",
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", DRESSED)
def test_a_true_value_in_a_dangerous_dress(name: str, style: str) -> None:
    judge({"/spec/volumes": DRESSED[name]}, style)


@pytest.mark.parametrize("end", ["\n...", "  # \u202edesrever", "  # one\u2028# two"])
def test_a_true_value_with_a_dangerous_end(end: str) -> None:
    """At the very end of a document, where nothing after it gives it away."""
    judge({"/spec/terminationGracePeriodSeconds": " 40" + end}, "blocks")


def test_a_true_text_comes_back() -> None:
    """Or else all of the above would hold for a command that keeps nothing."""
    kept = {"/spec/volumes": " [ {name: d, emptyDir: {}} ]  # mine"}
    assert "  volumes: [ {name: d, emptyDir: {}} ]  # mine\n" in judge(kept, "blocks")
