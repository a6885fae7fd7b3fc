"""The golden Pods of tests/pods: each file has its settings and expectations; one file per case.

| key of `expect`  | claim about the patched Pod                                            |
|------------------|------------------------------------------------------------------------|
| decisions, never | these reasons are given, or not; `container: code`, or `code` for the  |
|                  | Pod                                                                    |
| left-alone       | exactly these reasons, and no patch                                    |
| marked-only      | only the status annotation is new                                      |
| warnings         | each text is in a warning                                              |
| grace            | terminationGracePeriodSeconds                                          |
| sidecar          | the sidecar has these fields; null: there is none                      |
| hook, pid1       | by container: the helper's preStop or command has these words in order |
| never-word       | by container: no word of either begins like this                       |
| at               | path -> value; null: absent                                            |
| unchanged        | these paths are unchanged                                              |
| order            | names of initContainers; `order-containers`: of containers             |

`restores: false` is for Pods that already have some part of ours, forged or broken: `uninject`
removes it.
"""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.core.passes import judged
from webhook.admission import answer
from webhook.config import Config, parse
from webhook.core.names import HELPER, STATUS_ANNOTATION

FOLDER = Path(__file__).parent.parent / "pods"
FILES = sorted(FOLDER.glob("*.yaml"))
EXPECTATIONS = {
    *(
        "decisions",
        "never",
        "left-alone",
        "marked-only",
        "warnings",
        "grace",
        "sidecar",
        "hook",
        "pid1",
        "never-word",
        "at",
        "unchanged",
    ),
    *("order", "order-containers"),
}


def load(path: Path) -> dict[str, Any]:
    case: dict[str, Any] = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    return case


def configured(case: dict[str, Any]) -> Config:
    text = io.StringIO()
    YAML(typ="safe", pure=True).dump(case.get("config", {}), text)
    return parse(text.getvalue())


def test_there_are_enough() -> None:
    assert len(FILES) >= 60


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    case = load(path)
    assert set(case) <= {"what", "pitfalls", "config", "namespace", "pod", "expect", "restores"}, (
        "a key that nothing reads"
    )
    expect: dict[str, Any] = case["expect"]
    assert set(expect) <= EXPECTATIONS, "an expectation that nothing checks"
    pod, config = case["pod"], configured(case)
    patched, outcome = judged(
        pod, config, case.get("namespace", "shop"), restores=case.get("restores", True)
    )
    said = [f"{d.container}: {d.code}" if d.container else d.code for d in outcome.plan.decisions]
    for code in expect.get("decisions", ()):
        assert code in said, said
    for code in expect.get("never", ()):
        assert code not in said, said
    if "left-alone" in expect:
        assert said == expect["left-alone"]
        assert patched == pod
    if expect.get("marked-only"):
        annotations = patched["metadata"]["annotations"]
        assert annotations.pop(STATUS_ANNOTATION)
        assert {**patched, "metadata": None} == {**pod, "metadata": None}
    _warns(expect, pod, config, case.get("namespace", "shop"))
    _holds(expect, pod, patched)


def _warns(expect: dict[str, Any], pod: dict[str, Any], config: Config, namespace: str) -> None:
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    request = {
        "uid": "1",
        "kind": kind,
        "operation": "CREATE",
        "namespace": namespace,
        "object": pod,
    }
    body = json.dumps(
        {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    ).encode()
    warnings = json.loads(answer(body, config).body)["response"].get("warnings", [])
    assert all(len(warning) <= 120 for warning in warnings)
    for text in expect.get("warnings", ()):
        assert any(text in warning for warning in warnings), warnings
    assert bool(warnings) == bool(expect.get("warnings")), warnings


def _holds(expect: dict[str, Any], pod: dict[str, Any], patched: dict[str, Any]) -> None:
    spec = patched["spec"]
    sidecar = next((c for c in spec.get("initContainers") or () if c["name"] == "podgrace"), None)
    if "grace" in expect:
        assert spec["terminationGracePeriodSeconds"] == expect["grace"]
    if "sidecar" in expect:
        if expect["sidecar"] is None:
            assert sidecar is None
        else:
            assert sidecar is not None
            assert {key: sidecar.get(key) for key in expect["sidecar"]} == expect["sidecar"]
    for name, words in expect.get("hook", {}).items():
        _in_order(words, _hook(spec, name))
    for name, words in expect.get("pid1", {}).items():
        command = _container(spec, name).get("command")
        if words is None:
            assert not command or command[0] != HELPER
        else:
            assert command and command[0] == HELPER
            _in_order(words, command)
    for name, word in expect.get("never-word", {}).items():
        assert not any(
            text.startswith(word)
            for text in (*_hook(spec, name), *(_container(spec, name).get("command") or ()))
        )
    for path, value in expect.get("at", {}).items():
        assert at(patched, path) == value, path
    for path in expect.get("unchanged", ()):
        assert at(pod, path) is not None, f"{path}: not in the file"
        assert at(patched, path) == at(pod, path), path
    for key, part in (("order", "initContainers"), ("order-containers", "containers")):
        if key in expect:
            assert [c["name"] for c in spec[part]] == expect[key]


def _container(spec: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(c for c in spec["containers"] if c["name"] == name)
    return found


def _hook(spec: dict[str, Any], name: str) -> list[str]:
    words: list[str] = (
        _container(spec, name)
        .get("lifecycle", {})
        .get("preStop", {})
        .get("exec", {})
        .get("command", [])
    )
    return words


def _in_order(words: list[str], command: list[str]) -> None:
    rest = iter(command)
    assert all(word in rest for word in words), (words, command)


def at(tree: Any, path: str) -> Any:
    """Follow `spec.containers[web].command`; None if nothing is there.

    Annotation keys with dots are tried as a whole.
    """
    if path.startswith("metadata.annotations."):
        return (
            tree["metadata"].get("annotations", {}).get(path.removeprefix("metadata.annotations."))
        )
    for part in re.findall(r"[^.\[\]]+", path):
        if isinstance(tree, list):
            tree = next((item for item in tree if item["name"] == part), None)
        else:
            tree = tree.get(part) if isinstance(tree, dict) else None
        if tree is None:
            return None
    return tree


def test_every_pitfall_number_is_one_of_the_list() -> None:
    numbers = {number for path in FILES for number in load(path).get("pitfalls", ())}
    assert numbers <= set(range(1, 61))
