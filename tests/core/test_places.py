"""A Pod starts where the helper cannot run; one that only looks like such a Pod loses nothing."""

from typing import Any

import pytest

from tests.core.passes import judged
from webhook.config import parse


def codes(**spec: Any) -> tuple[list[str], dict[str, Any]]:
    web = {"name": "web", "image": "shop", "ports": [{"containerPort": 8080}]}
    subject = {"metadata": {"name": "p"}, "spec": {"containers": [web], **spec}}
    patched, outcome = judged(subject, parse(""))
    rungs = ("virtual-node", "wasm", "hook", "wrap", "sleep")
    return [d.code for d in outcome.plan.decisions if d.code in rungs], patched["spec"]


@pytest.mark.parametrize(
    "spec",
    [
        {"nodeSelector": {"kubernetes.io/role": "agent", "type": "virtual-kubelet"}},
        {"tolerations": [{"key": "virtual-kubelet.io/provider", "operator": "Exists"}]},
        {"tolerations": [{"key": "azure.com/aci", "effect": "NoSchedule"}]},
    ],
)
def test_a_virtual_node_gets_a_sleep(spec: dict[str, Any]) -> None:
    found, made = codes(**spec)
    assert found == ["virtual-node", "sleep"]
    assert "initContainers" not in made
    assert "volumes" not in made
    assert "readinessProbe" not in made["containers"][0]


@pytest.mark.parametrize("name", ["wasmtime-spin-v2", "wasmedge", "wws-v1", "crun-wasm"])
def test_webassembly_gets_a_sleep(name: str) -> None:
    found, made = codes(runtimeClassName=name)
    assert found == ["wasm", "sleep"]
    assert "initContainers" not in made


@pytest.mark.parametrize(
    "spec",
    [
        {"tolerations": [{"operator": "Exists"}]},
        {"tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}]},
        {"tolerations": None, "nodeSelector": {"type": "fast"}},
        {"runtimeClassName": "gvisor"},
        {"runtimeClassName": "spinning-disks"},
    ],
)
def test_any_other_node_gets_the_helper(spec: dict[str, Any]) -> None:
    found, made = codes(**spec)
    assert found == ["hook"]
    assert "readinessProbe" in made["containers"][0]
