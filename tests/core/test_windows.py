"""Every way a Pod can name Windows, and what only looks like it."""

from typing import Any

import pytest

from tests.core.passes import judged, typed
from webhook.config import parse
from webhook.core.windows import is_windows

OS, BETA = "kubernetes.io/os", "beta.kubernetes.io/os"


def pod(container: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    web = {"name": "web", "image": "iis", "ports": [{"containerPort": 80}], **(container or {})}
    return {"metadata": {"name": "p"}, "spec": {"containers": [web], **spec}}


def affinity(*terms: dict[str, Any]) -> dict[str, Any]:
    required = {"nodeSelectorTerms": list(terms)}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def term(*wanted: tuple[str, str, list[str]]) -> dict[str, Any]:
    return {"matchExpressions": [{"key": k, "operator": o, "values": v} for k, o, v in wanted]}


IN, NOT_LINUX = term((OS, "In", ["windows"])), term((OS, "NotIn", ["linux"]))
BUILD = ("example.com/build", "In", ["10.0.20348"])
OPTIONS = {"securityContext": {"windowsOptions": {"hostProcess": True}}}

WINDOWS: dict[str, dict[str, Any]] = {
    "os": pod(os={"name": "windows"}),
    "selector": pod(nodeSelector={OS: "windows"}),
    "old selector": pod(nodeSelector={BETA: "windows"}),
    "both selectors": pod(nodeSelector={OS: "windows", BETA: "windows"}),
    "affinity": pod(affinity=affinity(IN)),
    "old affinity": pod(affinity=affinity(term((BETA, "In", ["windows"])))),
    "affinity not to Linux": pod(affinity=affinity(NOT_LINUX)),
    "affinity beside more": pod(affinity=affinity(term(BUILD, (OS, "In", ["windows"])))),
    "each term": pod(affinity=affinity(IN, NOT_LINUX)),
    "an empty term matches nothing": pod(affinity=affinity({}, {"matchExpressions": []}, IN)),
    "options of the Pod": pod(securityContext={"windowsOptions": {"runAsUserName": "x"}}),
    "options of a container": pod(OPTIONS),
    "options of an init container": pod(initContainers=[{"name": "i", **OPTIONS}]),
    "a label that only Windows has": pod(nodeSelector={"node.kubernetes.io/windows-build": "10.0"}),
    "runtime class": pod(runtimeClassName="windows-2022"),
    "toleration": pod(tolerations=[{"key": "os", "value": "windows", "effect": "NoSchedule"}]),
    "toleration of the label": pod(tolerations=[{"key": OS, "value": "windows"}]),
    "image": pod({"image": "mcr.microsoft.com/windows/servercore/iis:latest"}),
    "tag": pod({"image": "r.example/shop:2-nanoserver-ltsc2022"}),
    "options, the affinity says nothing": pod(OPTIONS, affinity=affinity(term(BUILD))),
}
LINUX: dict[str, dict[str, Any]] = {
    "nothing": pod(),
    "os beats the rest": pod(OPTIONS, os={"name": "linux"}, nodeSelector={OS: "windows"}),
    "selector beats options": pod(OPTIONS, nodeSelector={OS: "linux"}),
    "one of two terms": pod(affinity=affinity(IN, term(BUILD))),
    "a term for each": pod(affinity=affinity(IN, term((OS, "In", ["linux"])))),
    "either": pod(affinity=affinity(term((OS, "In", ["windows", "linux"])))),
    "not to Windows": pod(affinity=affinity(term((OS, "NotIn", ["windows"])))),
    "not to either": pod(affinity=affinity(term((OS, "NotIn", ["linux", "windows"])))),
    "exists": pod(affinity=affinity(term((OS, "Exists", [])))),
    "preferred only": pod(
        affinity={
            "nodeAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": IN}]
            }
        }
    ),
    "not there": pod(affinity={"nodeAffinity": None}),
    "no terms": pod(affinity=affinity()),
    "empty options": pod({"securityContext": {"windowsOptions": {}}}),
    "null options": pod({"securityContext": {"windowsOptions": None}}),
    "a word in the text": pod({"command": ["sh", "-c", "echo windowsOptions"]}),
    "hints, but a selector": pod(
        {"image": "r.example/servercore"},
        nodeSelector={OS: "linux"},
        tolerations=[{"key": "os", "value": "windows"}],
        runtimeClassName="windows",
    ),
    "tolerates everything": pod(tolerations=[{"operator": "Exists"}]),
    "tolerates another": pod(tolerations=[{"key": "pool", "value": "windows"}]),
    "another label": pod(nodeSelector={"example.com/os": "windows"}),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_windows(name: str) -> None:
    assert is_windows(typed(WINDOWS[name]))
    patched, outcome = judged(WINDOWS[name], parse(""))
    assert [
        d.code for d in outcome.plan.decisions if d.code in ("windows", "hook", "wrap", "sleep")
    ] == ["windows", "sleep"]
    assert "podgrace" not in [c["name"] for c in patched["spec"].get("initContainers", ())]


@pytest.mark.parametrize("name", LINUX)
def test_linux(name: str) -> None:
    assert not is_windows(typed(LINUX[name]))
