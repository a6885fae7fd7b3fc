"""What must be true of every Pod: the checks that golden Pods and generated Pods share.

In: a Pod as JSON and a configuration. Out: the patched Pod and its outcome, after asserting
everything that is true of all.
"""

import copy
import json
from typing import Any

import jsonpatch
import msgspec

from tests.core.validation import guaranteed, problems, restricted
from webhook.admission import Outcome, mutate
from webhook.config import Config
from webhook.core.budget import KILL_MARGIN
from webhook.core.names import HELPER, SAFE_TO_EVICT, SIDECAR, STATUS_ANNOTATION
from webhook.core.patch import render
from webhook.core.plan import restore
from webhook.core.pod import Pod

Json = dict[str, Any]


def typed(pod: Json) -> Pod:
    """Decode as the server does."""
    return msgspec.json.decode(msgspec.json.encode(pod), type=Pod)


def plain(ops: list[Json]) -> list[Json]:
    """Give operations as the API server reads them."""
    return json.loads(msgspec.json.encode(ops))


def once(pod: Json, config: Config, namespace: str = "") -> tuple[Json, Outcome, list[Json]]:
    """Decide, and let jsonpatch apply the patch."""
    outcome = mutate(typed(pod), config, namespace)
    ops = plain(outcome.ops)
    return jsonpatch.apply_patch(copy.deepcopy(pod), ops), outcome, ops


def undone(pod: Json) -> Json:
    """Take everything of ours out again."""
    seen = typed(pod)
    return jsonpatch.apply_patch(copy.deepcopy(pod), plain(render(seen, restore(seen))))


def judged(
    pod: Json, config: Config, namespace: str = "", *, restores: bool = True
) -> tuple[Json, Outcome]:
    """Patch a Pod and assert everything that is true of every Pod."""
    original = copy.deepcopy(pod)
    patched, outcome, ops = once(pod, config, namespace)
    assert pod == original, "the input was changed"
    assert {op["op"] for op in ops} <= {"add", "remove", "replace"}
    assert not {op["path"] for op in ops} & {"/spec/containers", "/spec", "/metadata/labels", ""}, (
        "a whole part was written again"
    )
    again, _, second = once(patched, config, namespace)
    assert second == [], "a second pass changes something"
    assert again == patched
    assert problems(patched) == problems(original) == []
    if restores:
        assert undone(patched) == original
        assert undone(original) == original
    _fits(original, patched)
    _keeps(original, patched)
    _is_marked(outcome, ops, patched)
    return patched, outcome


def _is_marked(outcome: Outcome, ops: list[Json], patched: Json) -> None:
    if outcome.plan.skip:
        assert ops == []
        return
    assert STATUS_ANNOTATION in patched["metadata"]["annotations"]
    json.loads(patched["metadata"]["annotations"][STATUS_ANNOTATION])


def _fits(original: Json, patched: Json) -> None:
    """Assert that waits fit, the grace period is not lowered, and policies admit the sidecar."""
    before, after = (
        p["spec"].get("terminationGracePeriodSeconds", 30) for p in (original, patched)
    )
    assert after >= before
    for container in patched["spec"]["containers"]:
        hook = (container.get("lifecycle") or {}).get("preStop") or {}
        if "sleep" in hook:
            assert hook["sleep"]["seconds"] <= after
        for words in (container.get("command"), (hook.get("exec") or {}).get("command")):
            if words and words[0] == HELPER:
                option = dict(
                    word.split("=", 1) for word in words if word.startswith("--") and "=" in word
                )
                waits = [int(option[f"--{name}"]) for name in ("delay-max", "drain-timeout")]
                assert int(option["--delay-min"]) <= waits[0]
                left = after - sum(waits) - int(option.get("--hook-sleep", "0"))
                # A hook of unknown length and the stop share the rest, as they did before.
                assert left >= int(option.get("--hook-timeout", "0")) + KILL_MARGIN
                if "--no-stop" not in words:
                    assert left >= int(option["--patience"]) + KILL_MARGIN
    for container in patched["spec"].get("initContainers") or ():
        if container["name"] == SIDECAR and container not in (
            original["spec"].get("initContainers") or ()
        ):
            assert restricted(container) == []
    if guaranteed(original):
        assert guaranteed(patched)


_GRACE = "terminationGracePeriodSeconds"


_RESTARTING = ("livenessProbe", "startupProbe")


def _restarts(was: Json, now: Json, old_grace: int, new_grace: int) -> None:
    """Assert that a restart by a probe takes no longer than it did."""
    for name in _RESTARTING:
        if was.get(name) and was[name] != now[name]:
            assert now[name] == {**was[name], _GRACE: max(1, old_grace)}
            assert _GRACE not in was[name] and new_grace > old_grace


def _keeps(original: Json, patched: Json) -> None:
    """Nothing of the user's is lost, renamed or reordered; nothing but our few fields is new."""
    touched = {"command", "args", "lifecycle", "readinessProbe", "volumeMounts"}
    new_grace = patched["spec"].get("terminationGracePeriodSeconds", 30)
    old_grace = original["spec"].get("terminationGracePeriodSeconds", 30)
    old, new = original["spec"]["containers"], patched["spec"]["containers"]
    assert [c["name"] for c in old] == [c["name"] for c in new]
    for was, now in zip(old, new, strict=True):
        _restarts(was, now, old_grace, new_grace)
        others = touched | set(_RESTARTING)
        assert {key: value for key, value in was.items() if key not in others} == {
            k: v for k, v in now.items() if k not in others
        }
        mounts = was.get("volumeMounts") or []
        assert (now.get("volumeMounts") or [])[: len(mounts)] == mounts
        assert {k: v for k, v in (was.get("lifecycle") or {}).items() if k != "preStop"} == {
            k: v for k, v in (now.get("lifecycle") or {}).items() if k != "preStop"
        }
        if was.get("readinessProbe"):
            assert now["readinessProbe"] == was["readinessProbe"]
    secrets = original["spec"].get("imagePullSecrets") or []
    assert (patched["spec"].get("imagePullSecrets") or [])[: len(secrets)] == secrets
    rest = {"containers", "initContainers", "volumes", "terminationGracePeriodSeconds"}
    rest.add("imagePullSecrets")
    assert {k: v for k, v in original["spec"].items() if k not in rest} == {
        k: v for k, v in patched["spec"].items() if k not in rest
    }
    inits, volumes = (
        [
            [x for x in pod["spec"].get(part) or () if x["name"] != SIDECAR]
            for pod in (original, patched)
        ]
        for part in ("initContainers", "volumes")
    )
    assert volumes[0] == volumes[1]
    for was, now in zip(*inits, strict=True):
        if was.get("restartPolicy") == "Always":
            _restarts(was, now, old_grace, new_grace)
            now = {**now, **{name: was[name] for name in _RESTARTING if name in was}}  # noqa: PLW2901
        assert was == now
    assert {k: v for k, v in original["metadata"].items() if k != "annotations"} == {
        k: v for k, v in patched["metadata"].items() if k != "annotations"
    }
    added = set(patched["metadata"].get("annotations") or ()) - set(
        original["metadata"].get("annotations") or ()
    )
    assert added <= {STATUS_ANNOTATION, SAFE_TO_EVICT}
