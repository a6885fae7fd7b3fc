"""Never less time than before: after the stop signal, for a restart, and for a short drain."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.passes import judged, once, undone
from tests.core.pods import pods
from webhook.config import Config, parse
from webhook.core import budget
from webhook.core.decision import Need
from webhook.core.helper import Waits
from webhook.core.names import HELPER, SIDECAR
from webhook.core.settings import KILL_MARGIN

Json = dict[str, Any]
CONFIG = parse("")
SLOW = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
SECONDS = st.integers(0, 4000)
WAITS = st.builds(
    Waits,
    delay_min=st.integers(1, 20),
    quiet=st.integers(0, 5),
    delay_max=st.integers(20, 120),
    drain=st.integers(0, 600),
    patience=st.integers(2, 900),
)


def pod(grace: int | None = None, annotations: dict[str, str] | None = None, **web: Any) -> Json:
    container = {"name": "web", "image": "shop", "ports": [{"containerPort": 8080}], **web}
    spec: Json = {"containers": [container]}
    if grace is not None:
        spec["terminationGracePeriodSeconds"] = grace
    return {"metadata": {"name": "p", "annotations": annotations or {}}, "spec": spec}


def options(container: Json) -> dict[str, str]:
    words = (container.get("lifecycle") or {}).get("preStop", {}).get("exec", {}).get("command", ())
    if not words or words[0] != HELPER:
        return {}
    return dict(w.split("=", 1) for w in words if w.startswith("--") and "=" in w)


# -- the stop signal -------------------------------------------------------------------------------


@given(waits=WAITS, grace=st.integers(1, 3600), data=st.data())
def test_a_hook_and_the_stop_share_no_less_than_they_did(
    waits: Waits, grace: int, data: st.DataObject
) -> None:
    """However long the hook takes, as much time is left after the signal as without podgrace."""
    took = data.draw(st.integers(0, grace))
    for need in (Need(waits, None, shared=True), Need(waits, None), Need(waits, took)):
        after = budget.total(need, grace) - waits.delay_max - waits.drain - took
        assert after >= max(2, grace - took)
        if not need.shared:
            assert after >= waits.patience + KILL_MARGIN


@given(waits=WAITS, grace=st.integers(1, 3600), limit=st.integers(1, 900), hook=SECONDS)
@pytest.mark.parametrize("kind", ["none", "known", "shared", "unknown"])
def test_what_is_shortened_fits_and_leaves_some_drain(
    kind: str, waits: Waits, grace: int, limit: int, hook: int
) -> None:
    need = {
        "none": Need(waits, 0),
        "known": Need(waits, hook),
        "shared": Need(waits, None, shared=True),
        "unknown": Need(waits, None),
    }[kind]
    found = budget.fit(need, grace, limit)
    if found is None:
        return
    own = {"none": 0, "known": hook, "shared": 0, "unknown": min(grace, limit // 3)}[kind]
    assert found.delay_max + found.drain + own + found.patience + KILL_MARGIN <= max(
        limit, own + waits.delay_max + waits.drain + waits.patience + KILL_MARGIN
    )
    assert 1 <= found.delay_min <= found.delay_max <= waits.delay_max
    assert 0 <= found.drain <= waits.drain
    assert 2 <= found.patience <= waits.patience
    if waits.drain and limit - own - KILL_MARGIN >= 4:
        assert found.drain, "some drain is left"


@pytest.mark.parametrize("grace", range(9, 60, 3))
def test_little_grace_is_shared(grace: int) -> None:
    """A node that goes soon: delay, drain and stop all get a share."""
    made = pod(grace, {"podgrace.io/grace-period": "disabled"})
    patched, _ = judged(made, CONFIG)
    told = options(patched["spec"]["containers"][0])
    parts = [int(told[f"--{name}"]) for name in ("delay-max", "drain-timeout", "patience")]
    assert all(parts)
    assert sum(parts) + KILL_MARGIN <= grace


def test_a_hook_of_unknown_length_is_not_counted_twice() -> None:
    """An ingress controller whose stop takes 300 s stays below the autoscaler's 600 s."""
    hook = {"lifecycle": {"preStop": {"exec": {"command": ["/wait-shutdown"]}}}}
    patched, _ = judged(pod(300, **hook), CONFIG)
    assert patched["spec"]["terminationGracePeriodSeconds"] == 350
    told = options(patched["spec"]["containers"][0])
    assert (told["--hook"], told["--hook-timeout"], told["--patience"]) == ("after", "300", "300")


def test_a_patience_that_is_asked_for_comes_on_top() -> None:
    hook = {"lifecycle": {"preStop": {"exec": {"command": ["/deregister"]}}}}
    made = pod(30, {"podgrace.io/patience": "60"}, **hook)
    patched, _ = judged(made, CONFIG)
    assert patched["spec"]["terminationGracePeriodSeconds"] == 15 + 30 + 30 + 60 + KILL_MARGIN


def test_sleep_ahead_of_a_stop_leaves_the_least_of_our_own_delay() -> None:
    hook = {"lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "sleep 20; kill 1"]}}}}
    told = options(judged(pod(**hook), CONFIG)[0]["spec"]["containers"][0])
    assert (told["--hook"], told["--delay-min"], told["--delay-max"]) == ("after", "5", "5")
    annotated = pod(annotations={"podgrace.io/delay": "12"}, **hook)
    told = options(judged(annotated, CONFIG)[0]["spec"]["containers"][0])
    assert told["--delay-max"] == "12"


# -- containers that others need ------------------------------------------------------------------


@given(
    grace=st.integers(15, 200),
    slept=st.sampled_from([0, 1, 4, 20, 40]),
    raised=st.booleans(),
    image=st.sampled_from(["shop", "nginx"]),
)
def test_a_container_is_held_as_long_as_its_front_drains(
    grace: int, slept: int, raised: bool, image: str
) -> None:
    """Own sleeps count: while one runs, the front serves, even if nobody asks it for a while."""
    off = {} if raised else {"podgrace.io/grace-period": "disabled"}
    slept = min(slept, grace)
    sleep = {"lifecycle": {"preStop": {"sleep": {"seconds": slept}}}} if slept else {}
    subject = pod(grace, off, image=image, **sleep)
    subject["spec"]["containers"].append({"name": "log", "image": "shipper"})
    made, _ = judged(subject, CONFIG)
    front, held = map(options, made["spec"]["containers"])
    if not front or not held:
        return  # no room

    def ends(of: dict[str, str], delay: str) -> int:
        return int(of[f"--delay-{delay}"]) + int(of["--drain-timeout"]) * (delay == "max")

    assert ends(held, "max") >= slept + ends(front, "max")
    if raised:
        assert ends(held, "min") >= slept + ends(front, "min")


def test_servers_behind_a_sleeping_one_wait_for_it_unless_their_author_says_how_long() -> None:
    def delays(annotations: dict[str, str]) -> list[str]:
        subject = pod(30, annotations, lifecycle={"preStop": {"sleep": {"seconds": 20}}})
        other = {"name": "api", "image": "api", "ports": [{"containerPort": 9000}]}
        subject["spec"]["containers"].append(other)
        made, _ = judged(subject, CONFIG)
        return [options(c)["--delay-min"] for c in made["spec"]["containers"]]

    assert delays({}) == ["1", "21"]
    assert delays({"podgrace.io/delay.api": "3"}) == ["1", "3"]


# -- restarts --------------------------------------------------------------------------------------

LIVE = {"httpGet": {"path": "/live", "port": 8080}}


@pytest.mark.parametrize(("grace", "kept"), [(None, 30), (1, 1), (120, 120), (-3, 1)])
def test_a_restart_by_a_probe_takes_no_longer(grace: int | None, kept: int) -> None:
    made = pod(grace, livenessProbe=LIVE, startupProbe={**LIVE, "failureThreshold": 60})
    patched = once(made, CONFIG)[0]
    web = patched["spec"]["containers"][0]
    assert web["livenessProbe"] == {**LIVE, "terminationGracePeriodSeconds": kept}
    assert web["startupProbe"]["terminationGracePeriodSeconds"] == kept
    assert "terminationGracePeriodSeconds" not in web["readinessProbe"]
    assert once(patched, CONFIG)[2] == []
    assert undone(patched) == made


def test_only_where_the_grace_period_is_raised_and_none_is_set() -> None:
    own = {**LIVE, "terminationGracePeriodSeconds": 7}
    assert _live(pod(30, livenessProbe=own)) == own
    off = {"podgrace.io/grace-period": "disabled"}
    assert _live(pod(60, off, livenessProbe=LIVE)) == LIVE
    assert _live(pod(30, {"podgrace.io/mode": "off"}, livenessProbe=LIVE)) == LIVE
    assert _live(pod(0, livenessProbe=LIVE)) == LIVE


def test_what_a_user_writes_later_is_the_users() -> None:
    patched = once(pod(30, livenessProbe=LIVE), CONFIG)[0]
    own = {**LIVE, "terminationGracePeriodSeconds": 9}
    patched["spec"]["containers"][0]["livenessProbe"] = own
    assert _live(patched) == own
    assert undone(patched)["spec"]["containers"][0]["livenessProbe"] == own


def test_a_grace_period_that_another_webhook_raises_is_not_the_old_one() -> None:
    patched = once(pod(30, livenessProbe=LIVE), CONFIG)[0]
    patched["spec"]["terminationGracePeriodSeconds"] = 200
    assert _live(patched)["terminationGracePeriodSeconds"] == 200


def _live(made: Json, config: Config = CONFIG) -> Json:
    found: Json = once(made, config)[0]["spec"]["containers"][0]["livenessProbe"]
    return found


@SLOW
@given(made=pods())
def test_no_restart_of_any_pod_takes_longer(made: Json) -> None:
    was = max(1, made["spec"].get("terminationGracePeriodSeconds", 30))
    patched = judged(made, CONFIG)[0]
    now = patched["spec"].get("terminationGracePeriodSeconds", 30)
    for container in patched["spec"]["containers"]:
        off = made["metadata"].get("annotations", {}).get("podgrace.io/mode") == "off"
        if container["name"] == SIDECAR or off or now <= was:
            continue
        for name in ("livenessProbe", "startupProbe"):
            probe = container.get(name)
            own = f"podgrace.io/mode.{container['name']}"
            if probe and made["metadata"].get("annotations", {}).get(own) != "off":
                assert "terminationGracePeriodSeconds" in probe
