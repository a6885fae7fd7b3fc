"""What the sidecar requests, beside all kinds of other containers."""

from typing import Any

import msgspec
import pytest

from webhook.core.pod import Pod
from webhook.core.resources import sidecar_resources

REQUESTS = {"cpu": "1m", "memory": "4Mi"}
LIMITS = {"cpu": "100m", "memory": "16Mi"}
FIXED = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1000m", "memory": "1Gi"}}
ONLY_LIMITS = {"limits": {"cpu": 2, "memory": "1Gi"}}
BURSTABLE = {"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi"}}
MEMORY = {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}


def pod(tree: Any) -> Pod:
    return msgspec.json.decode(msgspec.json.encode(tree), type=Pod)


def chosen(*containers: Any, inits: tuple[Any, ...] = (), **spec: Any) -> dict[str, Any]:
    def made(name: str, resources: Any) -> dict[str, Any]:
        return {"name": name} | ({} if resources is None else {"resources": resources})

    listed = [made(f"app{i}", resources) for i, resources in enumerate(containers)]
    before = [made(f"init{i}", resources) for i, resources in enumerate(inits)]
    tree = {"spec": {"containers": listed, "initContainers": before, **spec}}
    return sidecar_resources(pod(tree), REQUESTS, LIMITS)


@pytest.mark.parametrize(
    ("containers", "limits"),
    [
        ((None,), {"memory": "16Mi"}),
        (({"requests": {"cpu": "1"}},), {"memory": "16Mi"}),
        ((MEMORY,), {"memory": "16Mi"}),
        ((BURSTABLE,), LIMITS),
        ((BURSTABLE, MEMORY), {"memory": "16Mi"}),
        ((BURSTABLE, None), {"memory": "16Mi"}),
    ],
)
def test_cpu_is_limited_only_where_each_other_container_limits_it(
    containers: tuple[Any, ...], limits: dict[str, str]
) -> None:
    own = chosen(*containers)
    assert own.get("limits", {}) == limits
    assert own["requests"] == REQUESTS


@pytest.mark.parametrize("resources", [FIXED, ONLY_LIMITS])
def test_a_guaranteed_pod_stays_guaranteed(resources: Any) -> None:
    assert chosen(resources, inits=(FIXED,)) == {"requests": LIMITS, "limits": LIMITS}


def test_an_init_container_counts_as_the_api_server_counts_it() -> None:
    assert chosen(FIXED, inits=(None,))["requests"] == REQUESTS
    assert chosen(FIXED, inits=(BURSTABLE,)) == {"requests": REQUESTS, "limits": LIMITS}


def test_a_total_of_the_pod_decides_its_class_by_itself() -> None:
    total = {"limits": {"cpu": "2", "memory": "2Gi"}}
    assert chosen(FIXED, resources=total) == {"requests": REQUESTS, "limits": LIMITS}


@pytest.mark.parametrize("total", [{}, {"limits": {}}, None])
def test_a_total_that_holds_nothing_is_none(total: Any) -> None:
    assert chosen(FIXED, resources=total) == {"requests": LIMITS, "limits": LIMITS}


def test_our_own_sidecar_does_not_count() -> None:
    tree = {
        "spec": {
            "containers": [{"name": "app", "resources": BURSTABLE}],
            "initContainers": [{"name": "podgrace", "resources": {"requests": REQUESTS}}],
        }
    }
    assert sidecar_resources(pod(tree), REQUESTS, LIMITS)["limits"] == LIMITS
