"""What is true of every possible Pod."""

import copy
import json
from typing import Any

import jsonpatch
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.passes import judged, once, plain, typed, undone
from tests.core.pods import TEXT, containers, pods
from tests.core.validation import problems
from webhook.admission import mutate
from webhook.config import parse
from webhook.core.names import MESH_PROXIES, SIDECAR, STATUS_ANNOTATION

Json = dict[str, Any]

CONFIGS = {
    "defaults": "{}",
    "tight": "{bounds: {gracePeriod: 40, delayMax: 15, drainTimeout: 30}}",
    "sleep-only": "{bounds: {modes: [sleep]}}",
    "hook-only": "{bounds: {modes: [hook]}, defaults: {existingPreStop: after}}",
    "old": "{kubernetes: {version: '1.29'}}",
    "very-old": "{kubernetes: {version: '1.27'}}",
    "no-sidecar": "{patches: {sidecar: false}}",
    "grace-off": "{patches: {gracePeriod: false}}",
    "all-off": "{patches:"
    " {sidecar: false, preStop: false, gracePeriod: false, readinessProbe: false}}",
    "look-up": "{images: [{match: '*', entrypoint: [/entry], cmd: [serve]}]}",
}
CONFIG = parse("")

SLOW = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.parametrize("name", CONFIGS)
@SLOW
@given(pod=pods())
def test_any_pod(name: str, pod: Json) -> None:
    """The patch applies, a second pass is empty, the result is valid, and waits fit.

    Nothing of the user's is lost, and uninject restores it.
    """
    judged(pod, parse(CONFIGS[name]))


@SLOW
@given(pod=pods(), other=pods())
def test_any_status_annotation_is_harmless(pod: Json, other: Json) -> None:
    """Another Pod's status is copied here.

    The Pod stays valid, another pass adds nothing, and no hook of the user's is lost.
    """
    foreign = once(other, CONFIG)[0]["metadata"].get("annotations", {}).get(STATUS_ANNOTATION)
    if foreign is None:
        return
    pod["metadata"].setdefault("annotations", {})[STATUS_ANNOTATION] = foreign
    patched, outcome, _ = once(pod, CONFIG)
    assert problems(patched) == []
    assert patched["spec"].get("terminationGracePeriodSeconds", 30) >= min(
        30, pod["spec"].get("terminationGracePeriodSeconds", 30)
    )
    assert once(patched, CONFIG)[2] == []
    if outcome.plan.skip:
        return
    for was, now in zip(pod["spec"]["containers"], patched["spec"]["containers"], strict=True):
        hook = (was.get("lifecycle") or {}).get("preStop")
        if hook and "exec" in hook:
            argv = now["lifecycle"]["preStop"]["exec"]["command"]
            assert argv[-len(hook["exec"]["command"]) :] == hook["exec"]["command"]


FORGED = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**12), 10**12), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
)
FIELDS = ("mode", "profile", "codes", "preStop", "nativeSleep", "readiness", "entrypoint", "empty")


@SLOW
@given(
    pod=pods(),
    status=st.one_of(
        TEXT,
        FORGED.map(json.dumps),
        st.fixed_dictionaries(
            {},
            optional={
                "version": TEXT,
                "grace": st.fixed_dictionaries(
                    {"now": st.integers(-5, 4000)},
                    optional={"was": st.one_of(st.none(), st.integers(-5, 10**10))},
                ),
                "containers": st.dictionaries(
                    st.sampled_from(["web", "api"]),
                    st.dictionaries(st.sampled_from(FIELDS), FORGED, max_size=3),
                ),
                "empty": st.lists(
                    st.sampled_from(["annotations", "volumes", "initContainers", "x"])
                ),
            },
        ).map(json.dumps),
    ),
)
def test_any_text_as_status_is_harmless(pod: Json, status: str) -> None:
    pod["metadata"].setdefault("annotations", {})[STATUS_ANNOTATION] = status
    patched, _, _ = once(pod, CONFIG)
    assert problems(patched) == []
    assert patched["spec"].get("terminationGracePeriodSeconds", 30) <= max(
        900, pod["spec"].get("terminationGracePeriodSeconds", 30)
    )
    assert once(patched, CONFIG)[2] == []
    undone(patched)


@SLOW
@given(pod=pods(), strip=st.booleans())
def test_status_lost_on_the_way(pod: Json, strip: bool) -> None:
    """Another webhook drops or garbles our annotation: our command line still has the hooks."""
    patched = once(pod, CONFIG)[0]
    annotations = patched["metadata"].get("annotations", {})
    if STATUS_ANNOTATION not in annotations:
        return
    annotations.pop(STATUS_ANNOTATION) if strip else annotations.update(
        {STATUS_ANNOTATION: annotations[STATUS_ANNOTATION][:-7]}
    )
    again, _, _ = once(patched, CONFIG)
    assert problems(again) == []
    for was, now in zip(pod["spec"]["containers"], again["spec"]["containers"], strict=True):
        hook = (was.get("lifecycle") or {}).get("preStop") or {}
        if "exec" in hook:
            argv = now["lifecycle"]["preStop"]["exec"]["command"]
            assert argv[-len(hook["exec"]["command"]) :] == hook["exec"]["command"]
        if "sleep" in hook and "exec" in now["lifecycle"]["preStop"]:
            assert (
                f"--hook-sleep={hook['sleep']['seconds']}"
                in now["lifecycle"]["preStop"]["exec"]["command"]
            )


@SLOW
@given(
    pod=pods(),
    extra=st.sampled_from(["late", *sorted(MESH_PROXIES)]).flatmap(
        lambda name: containers(name, 30)
    ),
)
def test_a_container_that_comes_later(pod: Json, extra: Json) -> None:
    """Another webhook adds a container after our first pass: the result equals one whole pass."""
    if any(
        c["name"] == extra["name"]
        for part in ("containers", "initContainers")
        for c in pod["spec"].get(part) or ()
    ):
        return
    if pod["spec"].get("terminationGracePeriodSeconds", 30) < 30:
        extra.pop("lifecycle", None)
    first = once(pod, CONFIG)[0]
    first["spec"]["containers"].append(copy.deepcopy(extra))
    second = once(first, CONFIG)[0]
    whole = copy.deepcopy(pod)
    whole["spec"]["containers"].append(copy.deepcopy(extra))
    at_once = once(whole, CONFIG)[0]
    assert problems(second) == []
    assert once(second, CONFIG)[2] == []
    # The sidecar's resources are the first pass's: other webhooks may have changed them since.
    for result in (second, at_once):
        for init in result["spec"].get("initContainers") or ():
            if init["name"] == SIDECAR:
                init.pop("resources", None)
    assert second == at_once


@SLOW
@given(pod=pods())
def test_the_plan_is_the_same_each_time(pod: Json) -> None:
    assert plain(mutate(typed(pod), CONFIG).ops) == plain(mutate(typed(pod), CONFIG).ops)


@SLOW
@given(pod=pods())
def test_operations_apply_to_the_received_object_only(pod: Json) -> None:
    """jsonpatch, another implementation, applies each; none relies on what an earlier one made."""
    ops = plain(mutate(typed(pod), CONFIG).ops)
    for op in ops:
        jsonpatch.apply_patch(copy.deepcopy(pod), [op])
