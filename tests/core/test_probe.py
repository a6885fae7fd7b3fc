"""The status identifies our readiness probe, whatever the times of a version's probes are."""

import copy
import json
from typing import Any

import pytest

from tests.core.passes import once, undone
from webhook.config import parse
from webhook.core.names import STATUS_ANNOTATION

CONFIG = parse("")
POD: dict[str, Any] = {
    "metadata": {"name": "web", "annotations": {}},
    "spec": {
        "containers": [
            {
                "name": "web",
                "image": "r.example/web:1",
                "ports": [{"name": "http", "containerPort": 8080}],
            }
        ]
    },
}
OLD = {"timeoutSeconds": 5, "periodSeconds": 7, "successThreshold": 1, "failureThreshold": 3}


FIRST = {"timeoutSeconds": 2, "periodSeconds": 2, "successThreshold": 1, "failureThreshold": 5}
"""What the first version added, without saying so in its status."""


def by_another_version(times: dict[str, int], said: dict[str, int]) -> dict[str, Any]:
    """Give a Pod with a probe from a version that used other times."""
    patched = once(POD, CONFIG)[0]
    patched["spec"]["containers"][0]["readinessProbe"] |= times
    status = json.loads(patched["metadata"]["annotations"][STATUS_ANNOTATION])
    del status["containers"]["web"]["readinessTimes"]
    status["containers"]["web"] |= {"readinessTimes": said} if said else {}
    patched["metadata"]["annotations"][STATUS_ANNOTATION] = json.dumps(status)
    return patched


@pytest.mark.parametrize(("times", "said"), [(OLD, OLD), (FIRST, {})])
def test_the_probe_of_a_version_with_other_times_is_taken_out(
    times: dict[str, int], said: dict[str, int]
) -> None:
    assert undone(by_another_version(times, said)) == POD


def test_a_pass_renews_the_probe_of_a_version_with_other_times() -> None:
    assert once(by_another_version(OLD, OLD), CONFIG)[0] == once(POD, CONFIG)[0]


@pytest.mark.parametrize(
    "times", [{"periodSeconds": 8}, {"initialDelaySeconds": 3}, {"failureThreshold": 9}]
)
def test_a_probe_that_the_user_changed_since_is_the_users(times: dict[str, int]) -> None:
    changed = by_another_version(OLD | times, OLD)
    mine = copy.deepcopy(changed["spec"]["containers"][0]["readinessProbe"])
    assert undone(changed)["spec"]["containers"][0]["readinessProbe"] == mine
    assert once(changed, CONFIG)[0]["spec"]["containers"][0]["readinessProbe"] == mine
