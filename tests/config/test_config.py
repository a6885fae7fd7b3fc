"""The operator's file: good ones, and every problem of a bad one at once."""

import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from webhook import __version__
from webhook.config import ConfigError, load, parse
from webhook.profiles import PRESETS

WHOLE = """
helper:
  image: registry.example/podgrace-helper@sha256:1111
  imagePullPolicy: Never
  port: 20000
  resources:
    requests: {cpu: 5m, memory: 8Mi}
    limits: {memory: 8Mi}
  volumeSizeLimit: 2Mi
patches: {preStop: true, gracePeriod: false, readinessProbe: false, sidecar: true}
defaults: {mode: hook, delayMin: 3, quiet: 1, delayMax: 9, drainTimeout: 20, existingPreStop: keep}
bounds: {modes: [sleep, hook], delayMax: 60, drainTimeout: 120, gracePeriod: 300}
excludedNamespaces: [kube-system, podgrace]
kubernetes: {version: v1.34.2-eks-1, oldestKubelet: "1.31"}
profiles:
  shopd: {match: [shopd], signal: HUP, stopOn: [INT], observe: false, target: group, caveat: Ours.}
images:
  - {match: "registry.example/shop:*", entrypoint: [/app], cmd: [serve]}
workloads:
  - {apiVersion: example.com/v1, kind: Farm, paths: [spec.pools.*.template], owner: ReplicaSet}
"""


def test_the_defaults() -> None:
    config = load(None)
    assert config.operator.sidecar["image"] == f"docker.io/podgrace/podgrace-helper:{__version__}"
    assert config.operator.modes == {"sleep", "hook", "wrap"}
    assert config.file == parse("").file == parse("{}").file == parse("# nothing\n").file


def test_everything_can_be_said(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(WHOLE, encoding="utf-8")
    config = load(path)
    operator = config.operator
    assert operator.sidecar["image"] == "registry.example/podgrace-helper@sha256:1111"
    assert operator.sidecar["imagePullPolicy"] == "Never"
    assert operator.sidecar_resources == {
        "requests": {"cpu": "5m", "memory": "8Mi"},
        "limits": {"memory": "8Mi"},
    }
    assert operator.volume == {
        "name": "podgrace",
        "emptyDir": {"medium": "Memory", "sizeLimit": "2Mi"},
    }
    assert (operator.port, operator.grace_bound, operator.drain_bound) == (20000, 300, 120)
    assert operator.excluded_namespaces == {"kube-system", "podgrace"}
    assert (operator.native_sleep, operator.native_sidecar) == (True, True)
    profile = operator.profiles.by_name["shopd"]
    assert (profile.signal, profile.stop_on, profile.observe, profile.target) == (
        "HUP",
        ("INT",),
        False,
        "group",
    )
    assert operator.images[0].cmd == ("serve",)
    assert (config.defaults.mode, config.defaults.delay_max, config.defaults.readiness) == (
        "hook",
        9,
        "off",
    )


@pytest.mark.parametrize(
    ("version", "kubelet", "sleep", "sidecar"),
    [
        ("1.36", "", True, True),
        ("1.30", "", True, True),
        ("1.29", "", False, True),
        ("1.28", "", False, False),
        ("1.36", "1.29", False, True),
        ("1.36", "v1.28.9", False, False),
        ("1.29", "1.36", False, True),
    ],
)
def test_the_older_of_api_server_and_kubelet_decides(
    version: str, kubelet: str, sleep: bool, sidecar: bool
) -> None:
    operator = parse(
        f'{{kubernetes: {{version: "{version}", oldestKubelet: "{kubelet}"}}}}'
    ).operator
    assert (operator.native_sleep, operator.native_sidecar) == (sleep, sidecar)


def test_all_problems_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(
            "{helpr: {}, bounds: {modes: sleep, delayMx: 5}, defaults: {delayMin: soon},"
            " images: [{entrypoint: [1]}], patches: [no]}",
            "x.yaml",
        )
    text = "\n".join(caught.value.problems)
    for piece in (
        "helpr: unknown key; nearest known: helper",
        "bounds.modes: 'sleep': expected `array`",
        "bounds.delayMx: unknown key; nearest known: delayMax",
        "defaults.delayMin: 'soon': expected `int`",
        "images[0].entrypoint: [1]: expected `str`",
        "images[0]: match is required",
        "patches: expected a mapping, got ['no']",
    ):
        assert piece in text
    assert str(caught.value).startswith("x.yaml: ")


def bomb(first: str, other: str) -> str:
    """Let each of ten lines name the one before it nine times."""
    names = [", ".join([f"*k{n}"] * 9) for n in range(9)]
    lines = [f"k{n + 1}: &k{n + 1} {other.format(name)}" for n, name in enumerate(names)]
    return "\n".join([f"k0: &k0 {first}", *lines])


VALUES = [
    ("{defaults: {mode: turbo}}", "defaults.mode: 'turbo': accepted: auto, hook, off, sleep, wrap"),
    (
        "{defaults: {mode: wrap}, bounds: {modes: [sleep]}}",
        "defaults.mode: 'wrap': bounds.modes does not allow it",
    ),
    ("{bounds: {modes: []}}", "bounds.modes: []"),
    ("{bounds: {modes: [off]}}", "bounds.modes"),
    ("{bounds: {drainTimeout: 0}}", "bounds.drainTimeout: 0: accepted: 1 to 86400"),
    ("{bounds: {delayMax: 10}}", "defaults.delayMax: 15: accepted: 1 to 10"),
    ("{bounds: {gracePeriod: 0}}", "bounds.gracePeriod: 0"),
    ("{defaults: {delayMin: 16}}", "defaults.delayMin: 16: accepted: 1 to 15"),
    ("{defaults: {quiet: -1}}", "defaults.quiet: -1: accepted: 0 to 15"),
    ("{defaults: {drainTimeout: 601}}", "defaults.drainTimeout: 601: accepted: 1 to 600"),
    ("{helper: {port: 80}}", "helper.port: 80: accepted: 1024 to 65535"),
    ("{helper: {imagePullPolicy: Sometimes}}", "helper.imagePullPolicy: 'Sometimes'"),
    ("{helper: {image: ''}}", "helper.image: ''"),
    ("{helper: {image: 'a b'}}", "helper.image: 'a b'"),
    ("{helper: {resources: {requests: {cpu: 10 m}}}}", "helper.resources.requests.cpu: '10 m'"),
    (
        "{helper: {resources: {requests: {cpu: '1'}}}}",
        "helper.resources.requests.cpu: '1': over its limit '100m'",
    ),
    ("{helper: {volumeSizeLimit: big}}", "helper.volumeSizeLimit: 'big'"),
    ("{kubernetes: {version: new}}", "kubernetes.version: 'new': accepted: like 1.36"),
    ("{kubernetes: {version: 1.36}}", "kubernetes.version: 1.36: expected `str`"),
    ("{kubernetes: {oldestKubelet: x}}", "kubernetes.oldestKubelet: 'x'"),
    ("{profiles: {a: {signal: KILL}}}", "profiles.a: 'KILL'"),
    ("{profiles: {a: {signal: SIGTERM}}}", "profiles.a: 'SIGTERM'"),
    ("{profiles: {a: {target: all}}}", "profiles.a.target: 'all'"),
    ("{profiles: {a: {match: ['a,b']}}}", "profiles.a.match"),
    ("{profiles: {a: {drainTimeout: 601}}}", "profiles.a.drainTimeout: 601"),
    ("{workloads: [{}]}", "workloads[0]: apiVersion is required"),
    ("{workloads: [{apiVersion: a/v1}]}", "workloads[0]: kind is required"),
    (
        "{workloads: [{apiVersion: a/b/v1, kind: A}]}",
        "workloads[0].apiVersion: 'a/b/v1': accepted: a group such as example.com",
    ),
    ("{workloads: [{apiVersion: '', kind: A}]}", "workloads[0].apiVersion: ''"),
    ("{workloads: [{apiVersion: a, kind: A B}]}", "workloads[0].kind: 'A B': accepted: a kind"),
    ("{workloads: [{apiVersion: a, kind: A, owner: b/c}]}", "workloads[0].owner: 'b/c'"),
    ("{workloads: [{apiVersion: a, kind: A, paths: []}]}", "workloads[0].paths: []: accepted: at"),
    ("{workloads: [{apiVersion: a, kind: A, paths: [a..b]}]}", "workloads[0].paths: 'a..b'"),
    ("{workloads: [{apiVersion: a, kind: A, paths: ['*']}]}", "workloads[0].paths: '*': accepted"),
    ("{workloads: [{apiVersion: a, kind: A, path: b}]}", "workloads[0].path: unknown key"),
    (
        "{workloads: [{apiVersion: a, kind: A}, {apiVersion: a, kind: A, paths: [b]}]}",
        "workloads[1]: a A: workloads[0] names it already",
    ),
    ("[]", "the file: expected a mapping"),
    ("{a", "not YAML"),
    ("{a: 1, a: 2}", "not YAML: the key 'a' stands twice at line 1, column 8"),
    ("{a: &a [*a]}", "not YAML: the alias *a is in itself"),
    ("{helper: &h {<<: *h}}", "not YAML: the alias *h is in itself"),
    ("{a: *b}", "not YAML: found undefined alias"),
    ("{a: !!python/name:os.system ''}", "not YAML: could not determine a constructor"),
    ("a: \0", "not YAML"),
    ("[" * 100_000, "not YAML"),
    ("- " * 50_000, "not YAML"),
    (bomb("[x]", "[{}]"), "not YAML: more than 100000 values"),
    (bomb("{x: y}", "{{<<: [{}]}}"), "not YAML: more than 100000 values"),
    ("{kubernetes: {version: 2024-13-45}}", "not YAML: month must be in 1..12"),
    ("--- {}\n--- {}", "not YAML"),
    ("{1: 2}", "1: unknown key"),
]


@pytest.mark.parametrize(("text", "problem"), VALUES)
def test_each_problem_names_place_value_and_what_is_accepted(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert any(problem in found for found in caught.value.problems), caught.value.problems


@settings(deadline=None)
@given(
    st.one_of(
        st.text(),
        st.recursive(
            st.one_of(st.none(), st.text(), st.integers()), lambda x: st.dictionaries(st.text(), x)
        ).map(repr),
    )
)
def test_any_text_is_a_configuration_or_a_list_of_problems(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse(text)


def test_what_yaml_offers_is_read() -> None:
    """Words as in YAML 1.2; aliases and merge keys, where the map's own key wins."""
    file = parse("""
defaults: {mode: off}
patches: &p {preStop: false, sidecar: True}
excludedNamespaces: [no, yes, &ours on]
profiles:
  one: &one {signal: HUP, match: [one]}
  two: {<<: *one, match: [*ours]}
""").file
    assert (file.defaults.mode, file.patches.pre_stop, file.patches.sidecar) == ("off", False, True)
    assert file.excluded_namespaces == ["no", "yes", "on"]
    assert file.profiles["two"].signal == "HUP"
    assert file.profiles["two"].match == ["on"]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.yaml")


def test_profiles_and_balancers_of_the_operators_own_are_checked() -> None:
    text = """
profiles:
  ours: {match: [a b c], worker: true}
balancers:
  edge: {gates: [""], delay: 0}
"""
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert caught.value.problems == [
        "balancers.edge.delay: 0: accepted: 1 to 3600",
        "balancers.edge.gates: accepted: beginnings of a conditionType",
        "profiles.ours.match: 'a b c': accepted: a name, or a name and an argument",
    ]
    with pytest.raises(ConfigError, match=r"profiles\.ours: .*observe must be false"):
        parse("profiles: {ours: {worker: true}}")
    operator = parse("balancers: {aws: {gates: [a/], delay: 9}, edge: {gates: [b/], delay: 7}}")
    delays = {b.name: b.delay for b in operator.operator.balancers}
    assert (delays["aws"], delays["gke"], delays["edge"]) == (9, 40, 7)


CLASSED = """
defaults: {delayMin: 6, drainTimeout: 44}
bounds: {delayMax: 200}
classes:
  edge: {preset: aws-nlb, defaults: {delayMax: 170}}
  quick: {defaults: {delayMin: 1, delayMax: 4}, patches: {readinessProbe: false}}
  volume: {helper: {delivery: image}}
"""


def test_a_class_is_the_file_with_its_preset_and_its_own_keys_on_top() -> None:
    config = parse(CLASSED)
    edge, quick, volume = (config.of(name) for name in ("edge", "quick", "volume"))
    assert (edge.defaults.delay_min, edge.defaults.delay_max) == (120, 170)
    assert (edge.operator.delay_bound, edge.defaults.default_drain) == (180, 44)
    assert (quick.defaults.delay_min, quick.defaults.readiness) == (1, "off")
    assert (quick.operator.delay_bound, quick.operator.delivery) == (200, "sidecar")
    assert volume.operator.delivery == "image"
    assert (config.defaults.delay_min, config.operator.delivery) == (6, "sidecar")
    assert config.of("nobody") is config.of("") is config
    assert edge.classes == {}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_class_beside_the_defaults(name: str) -> None:
    config = parse(f"classes: {{one: {{preset: {name}}}}}").of("one")
    assert PRESETS[name].source
    assert config.defaults.delay_min <= config.defaults.delay_max <= config.operator.delay_bound


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: {preset: aws}", "classes.a: preset: 'aws': accepted: aws-alb, aws-nlb,"),
        ("A: {}", "classes.A: accepted: up to 40 of a to z, 0 to 9 and -, such as edge"),
        ("a/b: {}", "classes.a/b: accepted: up to 40"),
        ("a: {defaults: {delaymin: 3}}", "classes.a: defaults.delaymin: unknown key"),
        ("a: {bounds: {delayMax: 9}}", "classes.a: defaults.delayMax: 15: accepted: 1 to 9"),
        ("a: {helper: {image: x}}", "classes.a.helper.image: unknown key"),
        ("a: {classes: {}}", "classes.a.classes: unknown key"),
        ("a: 3", "classes.a: expected a mapping, got 3"),
        (", ".join(f"a{n}: {{}}" for n in range(17)), "classes: 17: accepted: up to 16"),
    ],
)
def test_what_is_wrong_with_a_class_is_said_with_its_name(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(problem)):
        parse(f"classes: {{{text}}}")


def test_the_problems_of_all_classes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("classes: {a: {preset: x}, b: {preset: y}, c: {preset: mesh}}")
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "classes.a",
        "classes.b",
    ]
