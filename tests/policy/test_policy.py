"""Annotations: precedence, bounds, and what becomes of a value: used, cut to the bound, refused."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from webhook.config import Config, parse
from webhook.core.pod import Pod
from webhook.core.reasons import REASONS
from webhook.core.settings import PodSettings, Settings
from webhook.policy import KEYS, POD_KEYS, resolve

CONFIG = parse("")


def resolved(
    annotations: dict[str, str], config: Config = CONFIG, labels: dict[str, str] | None = None
) -> PodSettings:
    pod = {
        "metadata": {
            "annotations": {f"podgrace.io/{key}": value for key, value in annotations.items()},
            "labels": labels or {},
        },
        "spec": {"containers": [{"name": "web"}, {"name": "db-1"}]},
    }
    return resolve(msgspec.convert(pod, Pod), config)


def of(container: str, annotations: dict[str, str], config: Config = CONFIG) -> Settings:
    found = resolved(annotations, config)
    assert not found.notes, found.notes
    return found.containers.get(container, found.default)


def test_nothing_asked_for() -> None:
    assert resolved({}) == PodSettings(CONFIG.defaults, {}, True, True, ())


GOOD: list[tuple[str, str, str, Any]] = [
    *(("mode", word, "mode", word) for word in ("auto", "off", "sleep", "hook", "wrap")),
    ("profile", "nginx", "profile", "nginx"),
    ("delay-min", "7", "delay_min", 7),
    ("delay-min", "7s", "delay_min", 7),
    ("delay-max", "2m", "delay_max", 120),
    ("quiet", "0", "quiet", 0),
    ("drain-timeout", "600", "drain_timeout", 600),
    ("patience", "2", "patience", 2),
    *(("existing-prestop", word, "existing", word) for word in ("auto", "keep", "before", "after")),
    ("prestop", "disabled", "prestop", False),
    ("prestop", "enabled", "prestop", True),
    ("readiness-probe", "enabled", "readiness", "auto"),
    ("readiness-probe", "disabled", "readiness", "off"),
    *(("readiness-probe", word, "readiness", word) for word in ("http", "tcp", "grpc")),
    ("readiness-port", "8080", "readiness_port", 8080),
    ("readiness-port", "http-api", "readiness_port", "http-api"),
    ("readiness-path", "/ready?x=1", "readiness_path", "/ready?x=1"),
    ("entrypoint", '["/app", "-x"]', "entrypoint", ("/app", "-x")),
    ("ports", "80, 443,80", "ports", (80, 443)),
]


@pytest.mark.parametrize(("key", "text", "field", "value"), GOOD)
def test_a_good_value_is_used_for_the_pod_and_for_one_container(
    key: str, text: str, field: str, value: object
) -> None:
    assert getattr(of("web", {key: text}), field) == value
    assert getattr(of("web", {f"{key}.web": text}), field) == value
    assert of("db-1", {f"{key}.web": text}) == CONFIG.defaults


def test_every_key_has_a_good_value_here() -> None:
    assert {key for key, *_ in GOOD} | {"delay"} == set(KEYS)


BAD = [
    *(("mode", text) for text in ("", "Auto", "turbo", "hook ", "hook\n")),
    *(
        ("delay", text)
        for text in (
            "",
            "0",
            "-1",
            "5.5",
            "1h",
            "5 s",
            "0x5",
            "\uff15",
            "1e3",
            "9999999",
            "s",
            "5ss",
        )
    ),
    *(("quiet", text) for text in ("-1", "x")),
    *(("patience", text) for text in ("0", "1")),
    *(("drain-timeout", text) for text in ("0", "none")),
    *(("prestop", text) for text in ("true", "yes", "Enabled")),
    *(("readiness-probe", text) for text in ("exec", "auto", "off", "HTTP")),
    *(
        ("readiness-port", text)
        for text in (
            "0",
            "65536",
            "99999999999",
            "-1",
            "HTTP",
            "-a",
            "a-",
            "toolongforaportname",
            "8080x!",
            "\u0661",
        )
    ),
    *(("readiness-path", text) for text in ("", "ready", "/a b", "/ä", "/\n", "/" + "x" * 1024)),
    *(
        ("entrypoint", text)
        for text in (
            "",
            "/app",
            "{}",
            "[]",
            '[""]',
            "[1]",
            '["/app",',
            "[" * 5000,
            '["' + '","'.join("x" * 300) + '"]',
        )
    ),
    *(
        ("ports", text)
        for text in ("", "http", "80,,81", "0", "80;81", ",".join(map(str, range(1, 18))))
    ),
    *(("profile", text) for text in ("", "NGINX", "cobol")),
    *(("existing-prestop", text) for text in ("replace", "")),
]


@pytest.mark.parametrize(("key", "text"), BAD)
def test_a_bad_value_is_named_and_the_default_used(key: str, text: str) -> None:
    found = resolved({f"{key}.web": text})
    assert found.containers.get("web", found.default) == CONFIG.defaults
    ((code, container, detail),) = found.notes
    assert (code, container) == ("annotation-invalid", "web")
    assert detail.startswith((f"podgrace.io/{key}.web='", f'podgrace.io/{key}.web="'))
    assert "accepted:" in detail
    assert len(detail) < 200
    assert REASONS[code].warn


BOUNDED = parse(
    "{bounds: {delayMax: 20, drainTimeout: 40, modes: [sleep, hook]}, defaults: {drainTimeout: 10}}"
)


@pytest.mark.parametrize(
    ("key", "field", "bound"),
    [
        ("delay-max", "delay_max", 20),
        ("delay-min", "delay_min", 20),
        ("drain-timeout", "drain_timeout", 40),
        ("patience", "patience", 40),
    ],
)
def test_over_the_bound_is_the_bound(key: str, field: str, bound: int) -> None:
    for text in (str(bound + 1), "999999", "9999m"):
        found = resolved({key: text}, BOUNDED)
        assert getattr(found.default, field) == bound
        assert [note[0] for note in found.notes] == ["annotation-bounded"]
    assert getattr(of("web", {key: str(bound)}, BOUNDED), field) == bound


def test_a_mode_that_the_operator_does_not_allow_is_refused() -> None:
    found = resolved({"mode": "wrap"}, BOUNDED)
    assert found.default.mode == "auto"
    assert found.notes[0][0] == "annotation-refused"
    assert "hook, sleep" in found.notes[0][2]


OFF = parse(
    "{patches: {preStop: false, gracePeriod: false, readinessProbe: false, sidecar: false}}"
)


@pytest.mark.parametrize("key", ["prestop", "grace-period", "readiness-probe", "sidecar"])
def test_an_annotation_switches_off_and_never_on(key: str) -> None:
    found = resolved({key: "enabled"}, OFF)
    assert [note[0] for note in found.notes] == ["annotation-refused"]
    assert found == msgspec.structs.replace(resolved({}, OFF), notes=found.notes)
    assert not resolved({key: "disabled"}, OFF).notes
    assert resolved({key: "disabled"}) != resolved({})


def test_the_container_stands_above_the_pod_and_the_pod_above_the_operator() -> None:
    config = parse("{defaults: {drainTimeout: 11}}")
    assert of("web", {}, config).default_drain == 11
    assert of("web", {"drain-timeout": "12"}, config).drain_timeout == 12
    assert of("web", {"drain-timeout": "12", "drain-timeout.web": "13"}, config).drain_timeout == 13
    assert (
        of("db-1", {"drain-timeout": "12", "drain-timeout.web": "13"}, config).drain_timeout == 12
    )


DELAYS = [
    ({"delay": "8"}, (8, 8)),
    ({"delay": "8", "delay-max": "20"}, (8, 20)),
    ({"delay-min": "30"}, (30, 30)),
    ({"delay-max": "3"}, (3, 3)),
    ({"delay-min": "30", "delay-max": "10"}, (10, 10)),
    ({"delay-min": "6", "delay.web": "20"}, (20, 20)),
    ({"delay": "20", "delay-min.web": "6"}, (6, 20)),
    ({"delay": "20", "delay-max.web": "6"}, (6, 6)),
]


@pytest.mark.parametrize(("annotations", "ends"), DELAYS)
def test_both_ends_of_the_delay(annotations: dict[str, str], ends: tuple[int, int]) -> None:
    settings = of("web", annotations)
    assert (settings.delay_min, settings.delay_max) == ends
    assert settings.quiet <= settings.delay_max


def test_keys_of_the_whole_pod_take_no_container() -> None:
    found = resolved({f"{key}.web": "disabled" for key in POD_KEYS})
    assert [note[0] for note in found.notes] == ["annotation-unknown"] * len(POD_KEYS)
    assert found.grace and found.sidecar


def test_unknown_keys_are_named_with_the_nearest_known_one() -> None:
    notes = resolved({"drain-timout": "5", "zzz": "1"}).notes
    assert notes[0] == (
        "annotation-unknown",
        "",
        "podgrace.io/drain-timout; nearest: drain-timeout",
    )
    assert notes[1] == ("annotation-unknown", "", "podgrace.io/zzz")


def test_a_container_that_is_not_there() -> None:
    assert resolved({"mode.wbe": "off"}).notes == (
        ("annotation-no-container", "", "podgrace.io/mode.wbe"),
    )
    assert resolved({"mode.web.x": "off"}).notes[0][0] == "annotation-no-container"


@pytest.mark.parametrize(
    ("value", "noted"), [("enabled", False), ("disabled", False), ("true", True), ("", True)]
)
def test_the_label(value: str, noted: bool) -> None:
    assert bool(resolved({}, labels={"podgrace.io/inject": value}).notes) is noted


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*KEYS, *POD_KEYS, "x", *(f"{key}.web" for key in KEYS)]),
        st.text(),
        max_size=8,
    )
)
def test_any_text_gives_settings_within_the_bounds(annotations: dict[str, str]) -> None:
    found = resolved(annotations, BOUNDED)
    for one in (found.default, *found.containers.values()):
        assert 1 <= one.delay_min <= one.delay_max <= 20
        assert 0 <= one.quiet <= one.delay_max
        assert one.drain_timeout is None or 1 <= one.drain_timeout <= 40
        assert one.mode != "wrap"
    assert {code for code, _, _ in found.notes} <= set(REASONS)
