"""Values that are declared are read, and the reverse; all are in the schema and in the README."""

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from ruamel.yaml import YAML

from tests.chart.rendering import CHART, CI_FILES, ci, refusal, text
from webhook.config import Config, ConfigError, parse
from webhook.config.file import File

VALUES = YAML(typ="safe", pure=True).load((CHART / "values.yaml").read_text(encoding="utf-8"))
SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))

WHOLE = (
    "config.profiles",
    "config.balancers",
    "config.classes",
    "affinity",
    "resources",
    "certsResources",
    "podSecurityContext",
    "securityContext",
    "config.helper.securityContext",
    "nodeSelector",
    "podSpec",
)
"""Values with contents that Kubernetes or the operator defines."""


def leaves(tree: Any, at: str = "") -> Iterator[str]:
    """List the paths of all values."""
    for key, value in tree.items():
        path = f"{at}.{key}" if at else key
        if (
            isinstance(value, dict)
            and value
            and path not in WHOLE
            and not path.endswith((".labels", ".requests", ".limits"))
        ):
            yield from leaves(value, path)
        else:
            yield path


# What each value is changed to, and the mode or switch that it needs to have an effect.
SELF: dict[str, str] = {}
POLICY = {"mode": '"policy"'}
CERT_MANAGER = {"tls.type": '"cert-manager"'}
PROVIDED = {"tls.type": '"provided"', "tls.provided.secretName": '"s"'}
PEM = json.dumps("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
CHANGES: dict[str, tuple[str, dict[str, str]]] = {
    "mode": ('"policy"', SELF),
    "platform": ('"aks"', SELF),
    "revision": ('"canary"', SELF),
    "clusterDomain": ('"other.local"', SELF),
    "image.registry": ('"r.example"', SELF),
    "image.repository": ('"other"', SELF),
    "image.tag": ('"t"', SELF),
    "image.digest": (f'"sha256:{"1" * 64}"', SELF),
    "image.pullPolicy": ('"Always"', SELF),
    "image.pullSecrets": ('[{"name":"p"}]', SELF),
    "helperImage.repository": ('"other"', SELF),
    "helperImage.tag": ('"t"', SELF),
    "helperImage.digest": (f'"sha256:{"1" * 64}"', SELF),
    "helperImage.pullPolicy": ('"Always"', SELF),
    "global.imageRegistry": ('"g.example"', SELF),
    "config.helper.delivery": ('"image"', SELF),
    "config.helper.port": ("15991", SELF),
    "config.helper.metrics": ("true", SELF),
    "config.helper.resources.requests": ('{"cpu":"2m"}', SELF),
    "config.helper.resources.limits": ('{"cpu":"50m"}', SELF),
    "config.helper.imagePullSecrets": ('[{"name":"p"}]', SELF),
    "config.helper.securityContext": ('{"runAsUser":1000}', SELF),
    "config.helper.volumeSizeLimit": ('"3Mi"', SELF),
    "config.patches.preStop": ("false", SELF),
    "config.patches.gracePeriod": ("false", SELF),
    "config.patches.readinessProbe": ("false", SELF),
    "config.patches.sidecar": ("false", SELF),
    "config.defaults.mode": ('"sleep"', SELF),
    "config.defaults.delayMin": ("4", SELF),
    "config.defaults.quiet": ("3", SELF),
    "config.defaults.delayMax": ("16", SELF),
    "config.defaults.drainTimeout": ("31", SELF),
    "config.defaults.existingPreStop": ('"keep"', SELF),
    "config.bounds.modes": ('["sleep"]', SELF),
    "config.bounds.delayMax": ("121", SELF),
    "config.bounds.drainTimeout": ("601", SELF),
    "config.bounds.gracePeriod": ("901", SELF),
    "config.excludedNamespaces": ('["kube-system"]', SELF),
    "config.kubernetes.version": ('"1.31"', SELF),
    "config.kubernetes.oldestKubelet": ('"1.30"', SELF),
    "config.profiles": ('{"shop":{"match":["shopd"]}}', SELF),
    "config.balancers": ('{"edge":{"gates":["edge.example/"],"delay":60}}', SELF),
    "config.images": ('[{"match":"*/shop:*"}]', SELF),
    "config.workloads": ('[{"apiVersion":"example.com","kind":"Farm"}]', SELF),
    "config.classes": ('{"edge":{"preset":"mesh"}}', SELF),
    "tls.type": ('"cert-manager"', SELF),
    "tls.minVersion": ('"1.2"', SELF),
    "tls.clientAuth.ca": (PEM, SELF),
    "tls.clientAuth.names": ('["kube-apiserver"]', {"tls.clientAuth.ca": PEM}),
    "tls.selfManaged.leafLife": ('"30d"', SELF),
    "tls.selfManaged.caLife": ('"365d"', SELF),
    "tls.selfManaged.trustWait": ('"6m"', SELF),
    "tls.certManager.issuerRef": ('{"name":"i"}', CERT_MANAGER),
    "tls.certManager.duration": ('"1000h"', CERT_MANAGER),
    "tls.certManager.renewBefore": ('"100h"', CERT_MANAGER),
    "tls.certManager.annotations": ('{"a":"b"}', CERT_MANAGER),
    "tls.provided.secretName": ('"other"', PROVIDED),
    "tls.provided.caBundle": (PEM, PROVIDED),
    "webhook.failurePolicy": ('"Fail"', SELF),
    "webhook.timeoutSeconds": ("2", SELF),
    "webhook.reinvocationPolicy": ('"Never"', SELF),
    "webhook.namePrefix": ('"10-"', SELF),
    "webhook.url": ('"https://h.example/mutate"', CERT_MANAGER),
    "webhook.namespaceExpressions": ('[{"key":"a","operator":"Exists"}]', SELF),
    "webhook.objectExpressions": ('[{"key":"a","operator":"Exists"}]', SELF),
    "webhook.matchConditions": ('[{"name":"a","expression":"true"}]', SELF),
    "webhook.apiServers": ('["10.0.0.0/28"]', SELF),
    "webhook.annotations": ('{"a":"b"}', SELF),
    "webhook.labels": ('{"a":"b"}', SELF),
    "audit.enabled": ("false", SELF),
    "audit.workloads": ("false", SELF),
    "policy.sleepSeconds": ("9", POLICY),
    "policy.failurePolicy": ('"Fail"', POLICY),
    "replicas": ("3", SELF),
    "autoscaling.enabled": ("true", SELF),
    "autoscaling.minReplicas": ("3", {"autoscaling.enabled": "true"}),
    "autoscaling.maxReplicas": ("7", {"autoscaling.enabled": "true"}),
    "autoscaling.targetCPUUtilizationPercentage": ("50", {"autoscaling.enabled": "true"}),
    "podDisruptionBudget.enabled": ("false", SELF),
    "podDisruptionBudget.maxUnavailable": ('"50%"', SELF),
    "drainSeconds": ("14", SELF),
    "terminationGracePeriodSeconds": ("31", SELF),
    "resources": ('{"limits":{"memory":"1Gi"}}', SELF),
    "certsResources": ('{"limits":{"memory":"1Gi"}}', SELF),
    "affinity": ('{"nodeAffinity":{}}', SELF),
    "topologySpreadConstraints": ('[{"maxSkew":2}]', SELF),
    "nodeSelector": ('{"a":"b"}', SELF),
    "tolerations": ('[{"operator":"Exists"}]', SELF),
    "priorityClassName": ('"p"', SELF),
    "serviceAccount.create": ("false", SELF),
    "serviceAccount.name": ('"n"', SELF),
    "serviceAccount.annotations": ('{"a":"b"}', SELF),
    "rbac.create": ("false", SELF),
    "podSecurityContext": ('{"runAsUser":1000}', SELF),
    "securityContext": ('{"runAsUser":1000}', SELF),
    "networkPolicy.enabled": ("true", SELF),
    **{
        f"networkPolicy.{key}": (
            '[{"ipBlock":{"cidr":"10.0.0.0/8"}}]', {"networkPolicy.enabled": "true"}
        )
        for key in ("apiServerFrom", "metricsFrom")
    },
    "networkPolicy.apiServerPorts": ("[6444]", {"networkPolicy.enabled": "true"}),
    "ports.webhook": ("10250", SELF),
    "ports.plain": ("9999", SELF),
    "ports.certs": ("9998", SELF),
    "service.port": ("8443", SELF),
    "service.annotations": ('{"a":"b"}', SELF),
    "service.trafficDistribution": ('"PreferClose"', SELF),
    "service.ipFamilyPolicy": ('"SingleStack"', SELF),
    "service.ipFamilies": ('["IPv6"]', SELF),
    "hostNetwork": ("true", SELF),
    "dnsPolicy": ('"Default"', SELF),
    **{
        f"monitoring.{monitor}.{key}": (
            value, {} if key == "enabled" else {f"monitoring.{monitor}.enabled": "true"}
        )
        for monitor in ("serviceMonitor", "podMonitor")
        for key, value in {
            "enabled": "true", "namespace": '"m"', "labels": '{"a":"b"}', "interval": '"15s"',
            "relabelings": '[{"action":"drop"}]', "metricRelabelings": '[{"action":"drop"}]',
        }.items()
    },
    **{
        f"monitoring.prometheusRule.{key}": (
            value, {} if key == "enabled" else {"monitoring.prometheusRule.enabled": "true"}
        )
        for key, value in {
            "enabled": "true", "namespace": '"m"', "labels": '{"a":"b"}',
            "alertLabels": '{"a":"b"}', "disabled": '["PodgraceSlow"]',
            "runbookUrl": '"https://r.example"', "extraRules": '[{"record":"a","expr":"1"}]',
        }.items()
    },
    **{
        f"monitoring.dashboard.{key}": (
            value, {} if key == "enabled" else {"monitoring.dashboard.enabled": "true"}
        )
        for key, value in {
            "enabled": "true", "namespace": '"m"', "labels": '{"a":"b"}',
            "annotations": '{"a":"b"}',
        }.items()
    },
    "nameOverride": ('"n"', SELF),
    "fullnameOverride": ('"n"', SELF),
    "namespaceOverride": ('"n"', SELF),
    "commonLabels": ('{"a":"b"}', SELF),
    "commonAnnotations": ('{"a":"b"}', SELF),
    "deploymentAnnotations": ('{"a":"b"}', SELF),
    "podLabels": ('{"a":"b"}', SELF),
    "podAnnotations": ('{"a":"b"}', SELF),
    "extraArgs": ('["--x"]', SELF),
    "extraEnv": ('[{"name":"A","value":"b"}]', SELF),
    "extraVolumes": ('[{"name":"v","emptyDir":{}}]', SELF),
    "extraVolumeMounts": ('[{"name":"v","mountPath":"/v"}]', SELF),
    "initContainers": ('[{"name":"i","image":"i"}]', SELF),
    "podSpec": ('{"hostUsers":false}', SELF),
    "revisionHistoryLimit": ("1", SELF),
    "extraObjects": ('[{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"e"}}]', SELF),
    "test.enabled": ("false", SELF),
    "test.namespace": ('"n"', SELF),
    "test.wait": ('"5s"', SELF),
}  # fmt: skip


def test_the_table_of_changes_is_complete() -> None:
    """A new value needs a line here: what it is changed to."""
    assert set(CHANGES) == set(leaves(VALUES))


@pytest.mark.parametrize("path", CHANGES)
def test_a_declared_value_is_read(path: str) -> None:
    """Changing it changes what is rendered."""
    change, needs = CHANGES[path]
    assert text(sets=needs) != text(sets={**needs, path: change})


def read_paths() -> set[str]:
    """List what templates read, except whole subtrees that are passed on."""
    found = set()
    for template in (CHART / "templates").rglob("*"):
        if template.is_file():
            source = template.read_text(encoding="utf-8")
            found |= set(re.findall(r"\.Values\.([A-Za-z]\w*(?:\.[A-Za-z]\w*)*)", source))
            for name, start in re.findall(r"(\$\w+) := \.Values\.([\w.]+)", source):
                found |= {
                    f"{start}.{rest}" for rest in re.findall(rf"{re.escape(name)}\.(\w+)", source)
                }
    return found


def test_a_value_that_is_read_is_declared() -> None:
    def declared(path: str) -> bool:
        tree = VALUES
        for key in path.split("."):
            if not isinstance(tree, dict) or key not in tree:
                return False
            tree = tree[key]
        return True

    assert len(read_paths()) > 90
    assert [path for path in sorted(read_paths()) if not declared(path)] == []


def test_every_value_is_in_a_values_file_for_ci_or_has_a_reason() -> None:
    """The files in ci/ are really installed; together they set nearly everything."""
    set_there = {
        path
        for file in CI_FILES
        for path in leaves(YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8")))
    }
    wanted = {
        path
        for path in leaves(VALUES)
        if not any(other == path or other.startswith(f"{path}.") for other in set_there)
    }
    assert wanted == {"audit.enabled", "podDisruptionBudget.enabled"}, (
        "switched off in the tests above"
    )


# --- the schema


def test_the_schema_knows_every_value_and_no_other() -> None:
    def same(schema: dict[str, Any], values: Any, at: str) -> list[str]:
        if "properties" not in schema or not isinstance(values, dict) or at in WHOLE:
            return []
        if at.endswith("issuerRef"):
            return []
        gap = [f"{at}.{key}" for key in set(schema["properties"]) ^ set(values)]
        return gap + [
            line
            for key in set(schema["properties"]) & set(values)
            for line in same(schema["properties"][key], values[key], f"{at}.{key}".lstrip("."))
        ]

    assert same(SCHEMA, VALUES, "") == []


def test_the_schema_is_closed_wherever_it_knows_the_keys() -> None:
    def open_places(schema: Any, at: str) -> list[str]:
        if isinstance(schema, list):
            return [
                place for i, item in enumerate(schema) for place in open_places(item, f"{at}[{i}]")
            ]
        if not isinstance(schema, dict):
            return []
        here = (
            [at]
            if "properties" in schema and schema.get("additionalProperties") is not False
            else []
        )
        return here + [
            place for key, item in schema.items() for place in open_places(item, f"{at}/{key}")
        ]

    assert open_places(SCHEMA, "") == ["/properties/global"], "only a parent chart's own"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("replicaCount", "3", "replicaCount"),
        ("image.name", '"x"', "name"),
        ("config.defaults.delay", "5", "delay"),
        ("config.helper.image", '"evil"', "image"),
        ("config.helper.imagePullPolicy", '"Always"', "imagePullPolicy"),
        ("config.profiles.shop", '{"sginal":"TERM"}', "sginal"),
        ("config.profiles.shop", '{"signal":"KILL"}', "one of"),
        ("config.balancers.edge", '{"gates":[],"delay":60}', "gates"),
        ("config.images", '[{"entrypoint":["a"]}]', "match"),
        ("config.workloads", '[{"apiVersion":"example.com"}]', "kind"),
        ("config.classes.edge", '{"preset":"mash"}', "one of"),
        ("config.classes.Edge", "{}", "Edge"),
        ("config.classes.edge", '{"defaults":{"delay":1}}', "delay"),
        ("config.defaults.mode", '"hok"', "one of"),
        ("config.defaults.delayMin", "0", "minimum"),
        ("config.defaults.quiet", "1.5", "integer"),
        ("config.bounds.modes", '["auto"]', "one of"),
        ("config.excludedNamespaces", '["Kube_System"]', "pattern"),
        ("tls.type", '"selfmanaged"', "one of"),
        ("tls.selfManaged.leafLife", '"60 days"', "pattern"),
        ("tls.certManager.duration", '"60d"', "pattern"),
        ("tls.provided.caBundle", '"LS0t"', "pattern"),
        ("webhook.failurePolicy", '"ignore"', "one of"),
        ("webhook.timeoutSeconds", "31", "maximum"),
        ("webhook.url", '"http://h.example"', "pattern"),
        ("webhook.matchConditions", '[{"expression":"true"}]', "name"),
        ("webhook.namespaceExpressions", '[{"key":"a","operator":"in"}]', "one of"),
        ("webhook.annotations", '{"a":true}', "string"),
        ("replicas", "0", "minimum"),
        ("replicas", '"2"', "integer"),
        ("podDisruptionBudget.maxUnavailable", "0", "minimum"),
        ("podDisruptionBudget.minAvailable", "2", "minAvailable"),
        ("podDisruptionBudget.maxUnavailable", '"100%"', "pattern"),
        ("ports.webhook", "70000", "maximum"),
        ("image.digest", '"latest"', "pattern"),
        ("image.tag", '"a b"', "pattern"),
        ("commonLabels", '{"a":1}', "string"),
        ("platform", '"gke"', "one of"),
        ("mode", '"sleep"', "one of"),
        ("monitoring.serviceMonitor.enable", "true", "enable"),
        ("monitoring.prometheusRule.disabled", '["Slow"]', "pattern"),
        ("test.wait", '"1 minute"', "pattern"),
    ],
)
def test_the_schema_refuses(path: str, value: str, said: str) -> None:
    """It names the place, so that a typo is found at the install and not in production."""
    message = refusal(sets={path: value})
    assert "don't meet the specifications of the schema" in message
    assert said in message
    assert path.split(".", maxsplit=1)[0] in message


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ({"drainSeconds": "25"}, "terminationGracePeriodSeconds is 30, but must be at least 33"),
        ({"tls.type": '"provided"'}, "tls.provided.secretName must name the Secret"),
        ({"tls.provided.secretName": '"s"'}, "set tls.type=provided"),
        ({"tls.certManager.issuerRef": '{"name":"i"}'}, "set tls.type=cert-manager"),
        ({"webhook.url": '"https://h.example"'}, "names only the Service"),
        ({"tls.clientAuth.names": '["a"]'}, "no name can be trusted"),
        ({"ports.plain": "8443"}, "must differ"),
        (
            {"autoscaling.enabled": "true", "autoscaling.minReplicas": "9"},
            "above autoscaling.maxReplicas, 6",
        ),
        ({"config.defaults.delayMin": "16"}, "above config.defaults.delayMax, 15"),
        ({"config.defaults.delayMax": "121"}, "above config.bounds.delayMax, 120"),
        ({"config.defaults.drainTimeout": "601"}, "above config.bounds.drainTimeout, 600"),
    ],
)
def test_values_that_contradict_each_other_are_refused(sets: dict[str, str], said: str) -> None:
    assert said in refusal(sets=sets)


def test_all_contradictions_are_told_at_once() -> None:
    message = refusal(sets={"drainSeconds": "25", "ports.plain": "8443", "tls.type": '"provided"'})
    assert message.count("\n- ") == 3


# --- `config` and the webhook's own configuration


def keys(tree: Any, at: str = "") -> set[str]:
    if not isinstance(tree, dict) or at.endswith((".requests", ".limits", ".profiles")):
        return {at}
    return {path for key, value in tree.items() for path in keys(value, f"{at}.{key}")}


DERIVED = {".helper.image", ".helper.imagePullPolicy"}
"""Made from `helperImage`: there is one place to name an image."""


def test_config_has_exactly_the_keys_of_the_webhooks_file() -> None:
    file = msgspec.to_builtins(File())
    assert keys(VALUES["config"]) == keys(file) - DERIVED


def test_config_has_the_defaults_of_the_webhooks_file() -> None:
    file = msgspec.to_builtins(File())
    file["helper"] = {
        key: value for key, value in file["helper"].items() if f".helper.{key}" not in DERIVED
    }
    file["kubernetes"]["version"] = ""  # as Helm sees it
    assert VALUES["config"] == file


def test_schema_and_webhook_agree_on_what_is_accepted() -> None:
    """The webhook accepts each end of each range in the schema, and refuses one beyond."""
    config = SCHEMA["properties"]["config"]["properties"]
    for part in ("helper", "bounds", "defaults"):
        for key, schema in config[part]["properties"].items():
            for end, step in (("minimum", -1), ("maximum", 1)):
                if end not in schema:
                    continue
                inside, outside = schema[end], schema[end] + step
                bounds = {"delayMax": 3600, "drainTimeout": 86400}
                wide = {"bounds": bounds, "defaults": {"delayMax": 3600, "delayMin": 1}}
                if (part, key, end) == ("bounds", "delayMax", "minimum"):
                    wide = {"defaults": {"delayMax": 1, "delayMin": 1, "quiet": 1}}
                if (part, key, end) == ("bounds", "drainTimeout", "minimum"):
                    wide = {"defaults": {"drainTimeout": 1}}
                if (part, key, end) == ("defaults", "delayMax", "minimum"):
                    wide = {"defaults": {"delayMin": 1, "quiet": 0}}
                assert isinstance(_with(wide, part, key, inside), Config), (part, key, inside)
                with pytest.raises(ConfigError):
                    _with(wide, part, key, outside)


def _with(tree: dict[str, Any], part: str, key: str, value: Any) -> Config:
    merged = {**tree, part: {**tree.get(part, {}), key: value}}
    return parse(json.dumps(merged))


# --- the README


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chart_readme", CHART.parent / "readme.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys  # noqa: PLC0415 - dataclasses look their module up

    sys.modules["chart_readme"] = module
    spec.loader.exec_module(module)
    return module


def test_the_readme_is_made_from_the_values(capsys: pytest.CaptureFixture[str]) -> None:
    assert _generator().main(["--check"]) == 0, capsys.readouterr().err


def test_every_value_has_a_comment() -> None:
    """A key without its own comment is below a commented one."""
    listed = {
        ".".join(row.path)
        for row in _generator().rows((CHART / "values.yaml").read_text(encoding="utf-8"))
    }
    silent = [
        path
        for path in leaves(VALUES)
        if not any(path == known or path.startswith(f"{known}.") for known in listed - {"config"})
    ]
    assert silent == []


@pytest.mark.parametrize("file", CI_FILES, ids=lambda file: file.name.removesuffix("-values.yaml"))
def test_a_file_for_ci_says_what_it_is_for(file: Path) -> None:
    assert file.read_text(encoding="utf-8").startswith("# ")


def test_notes_say_what_next_and_what_is_risked() -> None:
    from tests.chart.rendering import run  # noqa: PLC0415

    def notes(*arguments: str) -> str:
        done = run(
            "install",
            "podgrace",
            str(CHART),
            "--dry-run=client",
            "--namespace",
            "podgrace",
            *arguments,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split("NOTES:", 1)[1]

    plain = notes()
    for wanted in (
        "kubectl label namespace NAMESPACE podgrace.io/inject=enabled",
        "helm test podgrace -n podgrace",
        "kube-system, kube-public, kube-node-lease, podgrace",
        "failurePolicy Ignore, 3 s", "kubectl delete mutatingwebhookconfiguration podgrace",
    ):  # fmt: skip
        assert wanted in plain
    assert "Risks" not in plain, "the defaults carry none"
    risky = notes(
        "--set",
        "replicas=1,webhook.failurePolicy=Fail,audit.enabled=false,drainSeconds=5,"
        "webhook.timeoutSeconds=15,webhook.reinvocationPolicy=Never",
    )
    assert risky.count("  ! ") == 7
    assert "kubectl delete mutatingadmissionpolicybinding podgrace" in notes(
        "--values", str(ci("policy"))
    )
