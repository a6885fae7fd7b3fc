"""What happens to a user's text: only what was asked for, and all of it comes back.

Other programs judge: PyYAML and ruamel.yaml read the output, jsonpatch makes what it should mean,
`patch` and `git apply` take the diff, and kubectl, if installed, reads words as we do.
"""

import difflib
import io
import json
import random
import subprocess
import time
from pathlib import Path
from typing import Any

import jsonpatch
import msgspec
import pytest
import yaml
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tests import needs
from tests.cli.command import WORKLOADS, podgrace
from tests.cli.styles import Writer, workload
from webhook.admission import mutate
from webhook.cli import documents, edits, scalars
from webhook.config import load
from webhook.core.names import STATUS_ANNOTATION
from webhook.core.pod import Pod


def read(text: str) -> list[Any]:
    """Read all documents as libyaml does."""
    return list(yaml.load_all(text, Loader=yaml.CSafeLoader))


def there_and_back(text: str) -> str:
    """Inject and uninject: nothing is rewritten, a second pass changes nothing.

    Gives what was injected.
    """
    injected = podgrace("inject", "-f", "-", stdin=text)
    assert injected.code == 0, injected.err
    assert "rewritten" not in injected.err
    assert podgrace("inject", "-f", "-", stdin=injected.out).out == injected.out
    assert podgrace("uninject", "-f", "-", stdin=injected.out) == (0, text, "")
    return injected.out


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
@example(1113529)  # a probe is an alias of one that gets a grace period, too
def test_any_style_comes_back_byte_for_byte(seed: int) -> None:
    """And what was injected means what the patch makes of the data."""
    chance = random.Random(seed)  # noqa: S311 - a style
    data = workload(chance)
    text = Writer(chance).document(data)
    assume(read(text) == [data])  # blanks below a block scalar may be of it
    (made,) = read(there_and_back(text))
    assert without_record(made) == patched(data)


def patched(data: dict[str, Any]) -> Any:
    """Apply the webhook's patch by jsonpatch, without any text."""
    if data["kind"] == "List":
        return {**data, "items": [patched(item) for item in data["items"]]}
    plain = json.loads(json.dumps(data))
    path = {"Pod": (), "CronJob": ("spec", "jobTemplate", "spec", "template")}.get(
        data["kind"], ("spec", "template")
    )
    tree = plain
    for key in path:
        tree = tree[key]
    pod = msgspec.convert(edits.without_nulls(tree), type=dict)
    owner = {"Deployment": "ReplicaSet", "CronJob": "Job"}.get(data["kind"], data["kind"])
    typed = msgspec.json.decode(msgspec.json.encode(pod), type=Pod)
    ops = mutate(typed, load(None), "", owner).ops
    jsonpatch.apply_patch(tree, json.loads(msgspec.json.encode(ops)), in_place=True)
    return plain


def without_record(data: Any) -> Any:
    """Leave out what the status keeps of the text."""
    if isinstance(data, list):
        return [without_record(item) for item in data]
    if not isinstance(data, dict):
        return data
    made = {key: without_record(item) for key, item in data.items()}
    if STATUS_ANNOTATION in made:
        status = json.loads(made[STATUS_ANNOTATION])
        status.pop("manifest", None)
        made[STATUS_ANNOTATION] = json.dumps(status, separators=(",", ":"))
    return made


HEAD = "apiVersion: v1\nkind: Pod\n"
POD = HEAD + "metadata:\n  name: a\nspec:\n  containers:\n  - name: a\n    image: shop:1\n"
PORTS = "    ports:\n    - containerPort: 8000\n"
WHOLE = POD + PORTS

TEXTS = {
    "annotations without a value": WHOLE.replace("name: a\nspec", "name: a\n  annotations:\nspec"),
    "comments below a null": WHOLE.replace(
        "spec:\n", "spec:\n  volumes: ~  # none\n  # - name: later\n  #   emptyDir: {}\n"
    ),
    "no metadata": WHOLE.replace("metadata:\n  name: a\n", ""),
    "metadata that is empty": WHOLE.replace("metadata:\n  name: a\n", "metadata:   { }\n"),
    "metadata that is null": WHOLE.replace("metadata:\n  name: a\n", "metadata:\n# none\n"),
    "parents that are empty": WHOLE.replace(
        "spec:\n", "spec:\n  volumes:  []\n  initContainers: [ ]\n"
    ),
    "a script": WHOLE
    + "    command:\n    - sh\n    - -c\n    - |\n      # first\n      exec /server\n",
    "a folded script": WHOLE
    + "    command: [sh, -c]\n    args:\n    - >-\n      exec /server\n      --fast\n",
    "a script that keeps its end": WHOLE
    + "    command:\n    - sh\n    - -c\n    - |+\n      exec /server\n\n\n# end\n",
    "a script with an indicator": WHOLE
    + "    command:\n    - sh\n    - -c\n    - |2-\n        exec /server\n",
    "a script at the very end": WHOLE
    + "    command:\n    - sh\n    - -c\n    - |\n      exec /server",
    "a comment after a command": WHOLE
    + "    command:\n    - /server\n    # [END command]\n# [END all]\n",
    "mixed indentation": POD + "    args:\n      - -v\n    ports:\n    - containerPort: 8000\n"
    "  volumes:\n     -   name: d\n         emptyDir: {}\n",
    "no newline at the end": WHOLE.rstrip("\n"),
    "a tab after a value": WHOLE.replace("shop:1\n", "shop:1\t\n"),
    "line ends of Windows": WHOLE.replace("\n", "\r\n"),
    "line ends of Windows, no newline": WHOLE.replace("\n", "\r\n").removesuffix("\r\n"),
    "marks": "%YAML 1.1\n---  # one\n" + WHOLE + "...\n# after\n",
    "an end before a start": WHOLE + "...\n# other\n---\n" + WHOLE,
    "a byte order mark": "\ufeff" + WHOLE,
    "a list": "apiVersion: v1\nkind: List\nitems:\n"
    + "".join("- " + WHOLE.replace("\n", "\n  ").rstrip() + "\n" for _ in range(2)),
    "a dash on a line of its own": HEAD
    + "spec:\n  containers:\n  -\n    name: a\n    image: shop:1\n"
    "    ports:\n    -\n      containerPort: 80\n",
    "keys of the same name": WHOLE.replace("    image", "    image: shop:0\n    image"),
    "quotes": WHOLE.replace(
        "name: a\n    image: shop:1", "\"name\": 'a'\n    'image':   \"shop:1\""
    ),
    "a flow map over several lines": HEAD + "spec: {\n  containers: [\n    {name: a, # the first\n"
    "     image: shop:1, ports: [{containerPort: 80}],\n    },\n  ],\n}\n",
    "one line": HEAD
    + "spec: {containers: [{name: a, image: shop:1, ports: [{containerPort: 80}]}]}\n",
    "a preStop of its own": WHOLE
    + "    lifecycle:\n      preStop: {httpGet: {path: '/stop', port: 8000}}  # asks\n",
    "a preStop over many lines": WHOLE + "    lifecycle:\n      preStop:\n        # asks\n"
    "        httpGet:\n          port: 8000\n          path: /stop # so\n",
    "a number in hexadecimal": WHOLE + "  terminationGracePeriodSeconds: 0x1E # 30\n",
    "words of YAML 1.1": WHOLE + "  hostNetwork: no\n  shareProcessNamespace: off\n",
    "JSON": json.dumps(read(WHOLE)[0], indent=4) + "\n",
    "JSON of one line": json.dumps(read(WHOLE)[0]),
    "JSON without blanks": json.dumps(read(WHOLE)[0], separators=(",", ":")),
    "JSON with tabs": json.dumps(read(WHOLE)[0], indent="\t").replace("\n", "\r\n") + "\r\n",
    "JSON with nulls": json.dumps({**read(WHOLE)[0], "metadata": None}, indent=2),
    "JSON by hand": '{"apiVersion":"v1", "kind":"Pod","spec":{"volumes" :null,\n'
    ' "containers":[ {"name":"a",\n'
    '"image":"\\u0073hop:1","env":[{"name":"A","value":"\\ud83d\\ude00 \\/"}],'
    ' "ports":[{"containerPort":8e1}] }]}}',
    "JSON after JSON": (json.dumps(read(WHOLE)[0]) + "\n") * 2,
    "JSON and YAML": json.dumps(read(WHOLE)[0]) + "\n---\n" + WHOLE,
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_style_comes_back_byte_for_byte(name: str) -> None:
    text = TEXTS[name]
    injected = there_and_back(text)
    assert injected.count("podgrace.io/status") >= 1
    assert injected.count("\r\n") in (0, injected.count("\n"))


NO_LINE_LOST = [
    name for name in TEXTS if not name.startswith(("JSON", "one line", "a number", "a flow"))
]


@pytest.mark.parametrize("name", NO_LINE_LOST)
def test_lines_stay_as_they_are(name: str) -> None:
    """But for a null or an empty list that is filled, and a preStop that is wrapped."""
    text = TEXTS[name]
    before, after = text.splitlines(), podgrace("inject", "-f", "-", stdin=text).out.splitlines()
    lost = [
        line
        for tag, i, j, _, _ in difflib.SequenceMatcher(None, before, after, False).get_opcodes()
        if tag in ("delete", "replace")
        for line in before[i:j]
    ]
    touched = ("[", "{", "~", "httpGet", "path: /stop", "port: 8000")
    assert [line for line in lost if not any(word in line for word in touched)] == []


@pytest.mark.parametrize("name", [name for name in TEXTS if name != "JSON by hand"])
def test_other_parsers_read_the_same(name: str) -> None:
    """What is written means the same to YAML 1.2 as to YAML 1.1."""
    out = podgrace("inject", "-f", "-", stdin=TEXTS[name]).out
    try:
        before = list(YAML(typ="safe", pure=True).load_all(TEXTS[name]))
    except (YAMLError, ValueError):
        return  # what it does not take from the user it need not take from us
    if before == read(TEXTS[name]):
        assert list(YAML(typ="safe", pure=True).load_all(out)) == read(out)


SHARED = """\
apiVersion: v1
kind: List
items:
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: one}
  spec:
    template:
      spec: &spec
        containers:
        - name: a
          image: shop:1
          ports: &ports
          - containerPort: 8000
          volumeMounts: &mounts
          - {name: d, mountPath: /d}
        volumes:
        - name: d
          emptyDir: {}
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: system, namespace: kube-system}
  spec:
    template:
      spec: *spec
- apiVersion: v1
  kind: ConfigMap
  metadata: {name: other}
  data:
    mounts: *mounts
    ports: *ports
"""


def test_an_alias_changes_nobody_else() -> None:
    """What names a node that is changed keeps its meaning; what need not be written out is not."""
    out = podgrace("inject", "-f", "-", stdin=SHARED).out
    (before,), (after,) = read(SHARED), read(out)
    assert after["items"][0] != before["items"][0]
    assert after["items"][1:] == before["items"][1:]
    assert "    ports: *ports\n" in out
    assert read(podgrace("uninject", "-f", "-", stdin=out).out) == [before]


def test_an_alias_of_what_is_the_same_stays() -> None:
    text = (
        HEAD + "spec:\n  containers:\n  - &a\n    name: a\n    image: shop:1\n"
        "    ports: &p\n    - containerPort: 8000\n"
        "  - <<: *a\n    name: b\n    ports: [{containerPort: 8001}]\n"
        "  - {name: c, image: shop:1, ports: *p}\n"
    )
    out = there_and_back(text)
    assert "  - <<: *a\n    name: b\n" in out
    assert "ports: *p" in out


def test_a_key_in_long_form_is_written_anew_and_said() -> None:
    """What cannot be edited in place: nothing is lost but the form."""
    text = HEAD + "spec:\n  ? containers\n  : # x\n    - name: a\n      image: shop:1\n"
    ran = podgrace("inject", "-f", "-", stdin=text + "      ports: [{containerPort: 80}]\n")
    assert "podgrace.io/status" in ran.out
    assert "rewritten" in ran.err
    back = podgrace("uninject", "-f", "-", stdin=ran.out)
    assert read(back.out) == read(text + "      ports: [{containerPort: 80}]\n")


def test_a_text_that_was_lost_comes_back_only_where_it_fits() -> None:
    """Somebody changed the file after us: that change stays."""
    text = TEXTS["comments below a null"]
    out = podgrace("inject", "-f", "-", stdin=text).out
    more = out.replace(
        "  volumes:  # none\n", "  volumes:  # none\n  - name: new\n    emptyDir: {}\n"
    )
    assert more != out
    back = podgrace("uninject", "-f", "-", stdin=more).out
    assert read(back)[0]["spec"]["volumes"] == [{"name": "new", "emptyDir": {}}]
    forged = out.replace(
        '"manifest":{"/spec/volumes":" ~"}', '"manifest":{"/spec/volumes":5,"/x/~":null}'
    )
    assert forged != out
    assert podgrace("uninject", "-f", "-", stdin=forged).code == 0


@pytest.mark.parametrize("program", ["patch", "git"])
@pytest.mark.parametrize("name", TEXTS)
def test_a_diff_applies(
    name: str, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs.programs(program)
    file = tmp_path / "a pod.yaml"
    file.write_bytes(TEXTS[name].encode())
    monkeypatch.chdir(tmp_path)
    diff = podgrace("inject", "--diff", "-f", file.name).out
    argv = {
        "patch": ["patch", "-p1", "--binary", "-s"],
        "git": ["git", "apply", "--whitespace=nowarn", "-"],
    }[program]
    subprocess.run(argv, cwd=tmp_path, input=diff.encode(), check=True)
    assert file.read_bytes() == podgrace("inject", "-f", "-", stdin=TEXTS[name]).out.encode()


# fmt: off
WORDS = [
    "y", "n", "yes", "no", "on", "off", "true", "False", "NULL", "~", "null", "017", "0o17", "08",
    "09.5", "1_000", "0x1F", "0b11", "1e3", "1.", ".5", "-0", "+5", "=", "12:30:45", "2020-01-02",
    "2020-01-02T03:04:05Z", "123456789012345678901234567890", "1e400x", "0x", "0b", "1.2.3", "1e",
    "--", ":a", "a:b", "5Mi", "10m", "1e21", "4294967296", "-.5", "0_8",
]
# fmt: on


def test_words_mean_what_they_mean_to_kubectl(tmp_path: Path) -> None:
    needs.programs("kubectl")
    lines = [f"  k{n}: {word}\n" for n, word in enumerate(WORDS)]
    lines += [f"  ? {word}\n  : key\n" for word in ("no", "5", "1.50")]
    text = "apiVersion: example.com/v1\nkind: Words\nmetadata: {name: w}\nspec:\n" + "".join(lines)
    file = tmp_path / "words.yaml"
    file.write_text(text, encoding="utf-8")
    argv = ["kubectl", "label", "--local", "-f", str(file), "a=b", "-o", "json"]
    ran = subprocess.run(argv, capture_output=True, check=True)
    (chunk,) = documents.read(text, "")
    assert chunk.roots[0].data["spec"] == json.loads(ran.stdout)["spec"]


@settings(deadline=None)
@given(st.text(), st.booleans())
def test_a_text_is_spelled_so_that_all_read_it(text: str, flow: bool) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    made = f"[{scalars.spelled(text, flow=True)}]\n" if flow else f"k: {scalars.spelled(text)}\n"
    expected: Any = [text] if flow else {"k": text}
    assert yaml.load(made, Loader=yaml.CSafeLoader) == expected
    assert YAML(typ="safe", pure=True).load(io.StringIO(made)) == expected
    assert documents.read(made, "")[0].roots[0].data == expected


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.text("ab: #'\"\n-|>\\{}[],&*!%@`é\t"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text("ab: #-", min_size=1), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(
    st.dictionaries(st.text("ab", min_size=1), VALUES, min_size=1),
    st.sampled_from([0, 2]),
    st.sampled_from([2, 4]),
)
def test_any_data_is_written_as_a_block(data: dict[str, Any], offset: int, step: int) -> None:
    text = "\n".join(scalars.block(data, 0, scalars.Layout(step, offset, step))) + "\n"
    assert yaml.load(text, Loader=yaml.CSafeLoader) == data
    assert documents.read(text, "")[0].roots[0].data == data


NAMES = st.sampled_from(["a", "b", "name", "x/y"])
WORDY = st.recursive(
    st.none() | st.booleans() | st.integers(0, 99) | st.sampled_from(["word", "two words", "x\ny"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@example([[], [], "x\ny"], None, 424986).via("a comment behind what ends in a literal block")
@settings(max_examples=200, deadline=None)
@given(WORDY, WORDY, st.integers(0, 2**32))
def test_any_data_becomes_any_other(before: Any, after: Any, seed: int) -> None:
    """Whatever a patch asks for: the text means it, in place or rewritten."""
    chance = random.Random(seed)  # noqa: S311 - a style
    text = Writer(chance).document({"a": before, "b": {"c": before}, "d": [before]})
    (chunk,) = documents.read(text, "")
    wanted = {"a": after, "b": {"c": before, "e": after}, "d": [after, before]}
    done = edits.write(chunk, chunk.roots[0], wanted, {})
    assert edits.without_nulls(
        [r.data for c in documents.read(done.text, "") for r in c.roots]
    ) == (edits.without_nulls([wanted]))


def test_a_large_file_takes_no_time() -> None:
    """Of the repository's own workloads, 150 KB; the bound is ten times what it takes."""
    one = (WORKLOADS / "django.yaml").read_text(encoding="utf-8")
    text = "---\n".join([one] * (150_000 // len(one)))
    began = time.process_time()
    assert podgrace("inject", "-f", "-", stdin=text).code == 0
    assert time.process_time() - began < 10
