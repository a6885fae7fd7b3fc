"""`podgrace inject`, `uninject`, `explain`, as a user runs them."""

import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.cli.command import WORKLOADS, podgrace, spawned
from tests.core.validation import problems

DEPLOYMENT = (WORKLOADS / "nginx.yaml").read_text(encoding="utf-8")

ODD = """\
# a shop
# with two lines of comment

apiVersion: apps/v1
kind: Deployment
metadata:
  name: 'shop'   # quoted
spec:
  template:
    metadata:
      annotations:
        podgrace.io/delay: "7"
        note: |
          kept
            as it is
        folded: >-
          also
          kept
    spec:
      # the server
      containers:
      - image: "nginx:1.27"
        name: web

        ports: [ {containerPort: 80} ]   # flow
        env:
        - {name:   A,  value: 'x'}
        args: ["-g",   "daemon off;"]
      - name: side  # no ports
        image: busybox
      volumes:
      - name: data
        emptyDir: {}
      terminationGracePeriodSeconds: 40 # long
# the end
"""

MANY = f"""\
# first comment
apiVersion: v1
kind: ConfigMap
metadata: {{name:   odd,   labels: {{a:  b}}}}
data:
    key:   "value"
---
{DEPLOYMENT}---
# only a comment
---

---
apiVersion: v1
kind: Service
metadata:
      name: deep
spec: {{ports: [{{port: 80}}]}}
"""

ANCHORS = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: anchors}
spec:
  template:
    metadata: {labels: {app: a}}
    spec:
      containers:
        - &base
          name: one
          image: shop:1
          ports:
            - containerPort: 8080
          lifecycle: &life
            postStart: {exec: {command: [/warm]}}
          volumeMounts: &mounts
            - {name: data, mountPath: /data}
        - <<: *base
          name: two
          ports:
            - containerPort: 8081
        - name: three
          image: shop:1
          ports: [{containerPort: 8082}]
          lifecycle: *life
          volumeMounts: *mounts
      volumes:
        - name: data
          emptyDir: {}
"""

DEEP = """\
apiVersion: v1
kind: Pod
metadata:
        name: deep
        labels: {a: b}
spec:
        containers:
            -   name: web
                image: shop:1
                ports:
                    -   containerPort: 80
                    # the other
                    -   containerPort: 81
"""

LIST = """\
apiVersion: v1
kind: List
items:
  - apiVersion: v1
    kind: Pod
    metadata: {name: a}
    spec:
      containers:
        - {name: web, image: shop:1, ports: [{containerPort: 80}]}
  - apiVersion: v1
    kind: Secret
    metadata: {name: b}
  - apiVersion: batch/v1
    kind: CronJob
    metadata: {name: c}
    spec:
      jobTemplate:
        spec:
          template:
            spec:
              restartPolicy: Never
              containers: [{name: job, image: shop:1}]
"""

TEXTS = {
    "odd": ODD,
    "many": MANY,
    "anchors": ANCHORS,
    "list": LIST,
    "crlf": ODD.replace("\n", "\r\n"),
    "no newline at the end": DEPLOYMENT.rstrip("\n"),
    "directives": "%YAML 1.2\n---\n" + DEPLOYMENT,
    "start and end marks": "--- # one\n" + DEPLOYMENT + "...\n",
    "deep lists": DEEP,
    "json": json.dumps(YAML(typ="safe").load(DEPLOYMENT), indent=2) + "\n",
    "json of one line": json.dumps(YAML(typ="safe").load(DEPLOYMENT)),
    "json with tabs": json.dumps(YAML(typ="safe").load(DEPLOYMENT), indent="\t") + "\n",
    **{path.stem: path.read_text(encoding="utf-8") for path in WORKLOADS.glob("*.yaml")},
}


@pytest.mark.parametrize("name", TEXTS)
def test_there_and_back(name: str) -> None:
    """Injecting twice is injecting once; uninject gives back the user's text, byte for byte."""
    text = TEXTS[name]
    injected = podgrace("inject", "-f", "-", stdin=text)
    assert injected.code == 0, injected.err
    again = podgrace("inject", "-f", "-", stdin=injected.out)
    assert again.out == injected.out
    assert podgrace("inject", "--check", "-f", "-", stdin=injected.out) == (0, "", again.err)
    back = podgrace("uninject", "-f", "-", stdin=injected.out)
    assert (back.code, back.err) == (0, "")
    assert back.out == text
    assert list(YAML(typ="safe").load_all(back.out)) == list(YAML(typ="safe").load_all(text))
    if name == "job":
        assert injected.out == text
    else:
        assert "podgrace.io/status" in injected.out


def test_as_a_process() -> None:
    injected = spawned("inject", "-f", "-", stdin=ODD)
    assert injected == podgrace("inject", "-f", "-", stdin=ODD)
    assert spawned("inject", "--check", "-f", str(WORKLOADS / "nginx.yaml")).code == 3
    assert spawned("uninject", "-f", "-", stdin=injected.out) == (0, ODD, "")
    assert spawned("explain", "-f", "-", stdin="a: [").code == 1


def test_every_line_of_the_user_is_still_there() -> None:
    """Comments, blank lines, quotes, flow style, order: only added lines and a raised number."""
    injected = podgrace("inject", "-f", "-", stdin=ODD).out.splitlines()
    rest = iter(injected)
    for line in ODD.splitlines():
        if "terminationGracePeriodSeconds" not in line:
            assert line in rest, line
    assert any(
        line.startswith("      terminationGracePeriodSeconds: ") and line.endswith(" # long")
        for line in injected
    )


def test_other_documents_are_untouched_byte_for_byte() -> None:
    injected = podgrace("inject", "-f", "-", stdin=MANY).out
    head, _, tail = MANY.partition(DEPLOYMENT)
    assert injected.startswith(head)
    assert injected.endswith(tail)


def test_crlf_stays() -> None:
    out = podgrace("inject", "-f", "-", stdin=ODD.replace("\n", "\r\n")).out
    assert out.count("\n") == out.count("\r\n")


def test_containers_that_share_nodes_by_alias_get_their_own() -> None:
    out = podgrace("inject", "-f", "-", stdin=ANCHORS).out
    spec = YAML(typ="safe").load(out)["spec"]["template"]["spec"]
    for container in spec["containers"]:
        assert (
            f"--container={container['name']}"
            in container["lifecycle"]["preStop"]["exec"]["command"]
        )
        assert container["lifecycle"]["postStart"] == {"exec": {"command": ["/warm"]}}
        assert [mount["mountPath"] for mount in container["volumeMounts"]] == [
            "/data",
            "/.podgrace",
        ]
    assert problems({"metadata": {}, "spec": spec}) == []
    back = YAML(typ="safe").load(podgrace("uninject", "-f", "-", stdin=out).out)
    assert back == YAML(typ="safe").load(ANCHORS)


UNTOUCHED = {
    "nothing": "",
    "a comment": "# nothing\n",
    "empty documents": "---\n---\n\n---\n",
    "null": "null\n",
    "a list": "[1,   2]\n",
    "text": "just   text\n",
    "another group": "apiVersion: batch.volcano.sh/v1alpha1\nkind: Job\nspec: {tasks:   []}\n",
    "opted out": DEPLOYMENT.replace(
        "labels: {app: nginx}\n    spec",
        "labels: {app: nginx,   podgrace.io/inject: disabled}\n    spec",
    ),
    "a system namespace": DEPLOYMENT.replace(
        "name: nginx\nspec", "name: nginx\n  namespace:   kube-system\nspec"
    ),
    "an empty List": "apiVersion: v1\nkind: List\nitems:   []\n",
    "tabs in a value": "a: 'b\tc'\n",
}


@pytest.mark.parametrize("name", UNTOUCHED)
def test_untouched(name: str) -> None:
    text = UNTOUCHED[name]
    for command in ("inject", "uninject"):
        ran = podgrace(command, "-f", "-", stdin=text)
        assert (ran.code, ran.out) == (0, text)
    assert podgrace("inject", "--check", "-f", "-", stdin=text).code == 0


POD_OF_ONE = "apiVersion: v1\nkind: Pod\nspec: {containers: [{name: a, image: x, %s}]}\n"

BAD = {
    "tabs": ("a:\n\tb: c\n", "not YAML"),
    "a template of helm": ("{{- if .Values.x }}\na: b\n{{- end }}\n", "render it first, with helm"),
    "a value of helm": ("image: {{ .Values.image }}\n", "render it first, with helm template"),
    "half": ("a: [1,\n", "not YAML"),
    "a map as a key": ("? {a: b}\n: c\n", "a key that is a map"),
    "an alias of nothing": ("a: *b\n", "*b names nothing"),
    "a merge of a word": ("a: {<<: b}\n", "a merge key"),
    "no number of JSON's": ("a: .inf\n", ".inf"),
    "not UTF-8": (b"a: \xff\n", "not UTF-8 at byte 3"),
    "a list for a spec": (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: [1]\n",
        "line 1: Pod p: not a Pod template",
    ),
    "a word for a template": (
        "apiVersion: apps/v1\nkind: Deployment\nspec:\n  template: x\n",
        "line 4: Deployment (no name): not a Pod template",
    ),
    "a number for a name": (
        "apiVersion: v1\nkind: Pod\nspec: {containers: [{name: 5, image: x}]}\n",
        "$.spec.containers[0].name",
    ),
    "the second document": (
        "a: b\n---\napiVersion: v1\nkind: Pod\nspec: []\n",
        "document 2, line 3: Pod",
    ),
    "YAML of the second document": ("a: b\n---\na:\n\tb: c\n", "document 2, line 4: not YAML"),
    "the third item": (
        "kind: List\nitems: [{}, {}, {apiVersion: v1, kind: Pod, spec: 1}]\n",
        "item 3: Pod",
    ),
    "a preStop of a number": (
        POD_OF_ONE % "ports: [{containerPort: 1}], lifecycle: {preStop: 5}",
        "Pod (no name)",
    ),
    "an alias bomb": (
        "a0: &a0 [x,x,x,x,x,x,x,x]\n"
        + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 8)}]\n" for i in range(1, 12)),
        "aliases",
    ),
    "an alias of itself": ("a: &a {b: *a}\n", ""),
    "nested deep": ("[" * 500, "too deep"),
    "nested deep and closed": ("[" * 500 + "]" * 500, ""),
    "control characters": ("a: \x01\n", "not YAML"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_that_says_where(name: str) -> None:
    text, problem = BAD[name]
    for command in ("inject", "explain", "audit"):
        ran = podgrace(command, "-f", "-", stdin=text)
        if command != "audit":
            assert ran.code == 1 or not problem, ran
        if ran.code == 1:
            assert ran.out == ""
            assert ran.err.count("\n") == 1
            assert ran.err.startswith("podgrace: standard input")
            assert command == "audit" or problem in ran.err, ran.err


def test_diff_shows_and_writes_nothing() -> None:
    ran = podgrace("inject", "--diff", "-f", str(WORKLOADS / "nginx.yaml"))
    assert ran.code == 0
    assert "+      terminationGracePeriodSeconds: 75" in ran.out
    assert "\n-" not in ran.out.partition("\n@@")[2]
    assert podgrace("uninject", "--diff", "-f", str(WORKLOADS / "nginx.yaml")).out == ""


def test_check() -> None:
    ran = podgrace("inject", "--check", "-f", str(WORKLOADS / "nginx.yaml"))
    assert (ran.code, ran.out) == (3, "")
    assert "deployment 'nginx' injected" in ran.err


def test_a_class_is_chosen_by_name(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("classes: {edge: {preset: aws-nlb}}", encoding="utf-8")
    argv = ("-f", str(WORKLOADS / "nginx.yaml"), "--config", str(file))
    plain, edge = podgrace("inject", *argv), podgrace("inject", *argv, "--class", "edge")
    assert edge.code == plain.code == 0
    assert "--delay-min=120" in edge.out
    assert "--delay-min=120" not in plain.out
    assert "delay 150" in podgrace("explain", *argv, "--class", "edge").out
    for wrong, known in (("edgy", "accepted: edge"), ("Edge", "accepted: edge")):
        refused = podgrace("explain", *argv, "--class", wrong)
        assert refused.code == 1
        assert f"--class {wrong}: {known}" in refused.err
    alone = podgrace("explain", *argv[:2], "--class", "edge")
    assert "the configuration has no classes" in alone.err


def test_a_newer_configuration_renews_what_is_there(tmp_path: Path) -> None:
    """What other settings or another version injected is brought up to date, nothing twice."""
    config = tmp_path / "config.yaml"
    config.write_text("{helper: {port: 20000}, defaults: {delayMax: 9}}", encoding="utf-8")
    old = podgrace("inject", "-f", "-", stdin=DEPLOYMENT).out
    fresh = podgrace("inject", "-f", "-", "--config", str(config), stdin=DEPLOYMENT).out
    renewed = podgrace("inject", "-f", "-", "--config", str(config), stdin=old).out
    assert YAML(typ="safe").load(renewed) == YAML(typ="safe").load(fresh)
    aged = old.replace("podgrace-helper:0.1.0", "podgrace-helper:0.0.1").replace(
        '"version":"0.1.0"', '"version":"0.0.1"'
    )
    assert aged != old
    assert YAML(typ="safe").load(podgrace("inject", "-f", "-", stdin=aged).out) == YAML(
        typ="safe"
    ).load(old)
    mirrored = old.replace(
        "docker.io/podgrace/podgrace-helper:0.1.0", "mirror.example/podgrace-helper:0.1.0"
    )
    assert podgrace("inject", "-f", "-", stdin=mirrored).out == mirrored


def test_explain_as_a_table_and_as_json() -> None:
    table = podgrace("explain", "-f", str(WORKLOADS / "django.yaml")).out.splitlines()
    assert table[0] == "Deployment django"
    assert table[1].split() == ["CONTAINER", "WHAT", "WHY", "CHANGED", "BY"]
    (workload,) = json.loads(
        podgrace("explain", "-o", "json", "-f", str(WORKLOADS / "django.yaml")).out
    )
    assert (workload["kind"], workload["name"], workload["result"]) == (
        "Deployment",
        "django",
        "injected",
    )
    assert len(workload["decisions"]) == table.index("") - 2
    assert table[table.index("") + 1].split()[:2] == ["CONTAINER", "WAITS"]
    assert {c["name"]: c["watched"] for c in workload["containers"]}.keys() == {"nginx", "gunicorn"}
    wrap = next(d for d in workload["decisions"] if d["code"] == "wrap")
    assert wrap["container"] == "gunicorn"
    assert wrap["changedBy"] == "podgrace.io/mode.gunicorn"
    assert podgrace("explain", "-f", "-", stdin="a: b\n").out == "no workload in it\n"


def test_colour_only_on_a_terminal() -> None:
    assert "\033" not in podgrace("explain", "-f", str(WORKLOADS / "nginx.yaml")).out


def test_output_is_utf8_whatever_the_terminal_says() -> None:
    text = DEPLOYMENT.replace(
        "name: nginx\nspec", "name: nginx\n  annotations: {who: Søren ✓}\nspec"
    )
    out = spawned(
        "inject", "-f", "-", stdin=text, env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    ).out
    assert "Søren ✓" in out
