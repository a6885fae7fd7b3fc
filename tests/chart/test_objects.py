"""What the chart renders: webhook configuration, Deployment, certificates, permissions, audit."""

import json
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from certs.metrics import PATIENCE
from tests.chart.rendering import (
    CHART,
    CI_FILES,
    Object,
    Objects,
    ci,
    hook,
    objects,
    refusal,
    run,
    text,
)
from webhook.cli import parser
from webhook.config import CLASS, CLASSES, parse
from webhook.config.file import DEFAULT_IMAGE, HelperConfig
from webhook.core import names
from webhook.core.sidecar import SECURITY_CONTEXT
from webhook.profiles import PRESETS

SYSTEM = ["kube-system", "kube-public", "kube-node-lease"]


def names_of(files: list[Path]) -> list[str]:
    return [file.name.removesuffix("-values.yaml") for file in files]


@pytest.mark.parametrize("file", CI_FILES, ids=names_of(CI_FILES))
@pytest.mark.parametrize("helm", ["helm", "helm3"])
def test_two_renders_are_the_same_bytes(file: Path, helm: str) -> None:
    """GitOps tools render again and again; what differs is drift."""
    call = (
        "template",
        "podgrace",
        str(CHART),
        "--namespace",
        "podgrace",
        "--kube-version",
        "1.36.0",
        "--values",
        str(file),
    )
    first, second = (run.__wrapped__(*call, helm=helm) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout


@pytest.mark.parametrize("file", CI_FILES, ids=names_of(CI_FILES))
def test_helm_3_and_4_render_the_same(file: Path) -> None:
    def rendered(helm: str) -> dict[tuple[str, str], Object]:
        found = Objects(text(file, options=("--kube-version", "1.36.0"), helm=helm)).all
        return {(item["kind"], item["metadata"]["name"]): item for item in found}

    assert rendered("helm") == rendered("helm3")


@pytest.mark.parametrize("file", CI_FILES, ids=names_of(CI_FILES))
@pytest.mark.parametrize("helm", ["helm", "helm3"])
def test_helm_lint_finds_nothing(file: Path, helm: str) -> None:
    done = run(
        "lint", "--strict", str(CHART), "--kube-version", "1.36.0", "--values", str(file), helm=helm
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_template_generates_or_asks_the_cluster() -> None:
    found = [
        (path.name, word)
        for path in (CHART / "templates").rglob("*")
        if path.is_file()
        for word in re.findall(
            r"\b(?:genCA|genSelfSignedCert|genSignedCert|genPrivateKey|lookup|now|randAlphaNum"
            r"|randAlpha|uuidv4)\b",
            _code(path),
        )
    ]
    assert found == []


def _code(path: Path) -> str:
    """Keep the text between braces, without comments and strings."""
    actions = re.findall(r"\{\{(.*?)\}\}", path.read_text(encoding="utf-8"), re.DOTALL)
    return "\n".join(
        re.sub(r'"[^"]*"', "", action)
        for action in actions
        if not action.strip("- ").startswith("/*")
    )


@pytest.mark.parametrize("file", CI_FILES, ids=names_of(CI_FILES))
def test_no_null_and_no_empty_text_is_rendered(file: Path) -> None:
    """The API server drops them, and GitOps tools would see a difference for ever."""

    def nothing(value: object, at: str) -> list[str]:
        if isinstance(value, dict):
            return [path for key, item in value.items() for path in nothing(item, f"{at}.{key}")]
        if isinstance(value, list):
            return [path for i, item in enumerate(value) for path in nothing(item, f"{at}[{i}]")]
        return [at] if value is None or (value == "" and not at.endswith("apiGroups[0]")) else []

    assert [place for item in objects(file).all for place in nothing(item, item["kind"])] == []


@pytest.mark.parametrize("file", CI_FILES, ids=names_of(CI_FILES))
def test_every_object_is_labelled_and_in_its_place(file: Path) -> None:
    cluster_wide = {
        "ClusterRole", "ClusterRoleBinding", "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding", "MutatingWebhookConfiguration", "Namespace",
        "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
    }  # fmt: skip
    for item in objects(file).all:
        if item["metadata"]["name"].endswith(("-extra", "-critical")):
            continue  # the operator's own
        labels = item["metadata"]["labels"]
        assert {
            "app.kubernetes.io/name",
            "app.kubernetes.io/instance",
            "app.kubernetes.io/version",
            "app.kubernetes.io/component",
            "helm.sh/chart",
        } <= set(labels)
        assert all(len(label) <= 63 for label in labels.values())
        assert ("namespace" in item["metadata"]) is (item["kind"] not in cluster_wide), item["kind"]


def test_two_releases_of_one_name_do_not_collide() -> None:
    """Objects without a namespace carry it in their names."""
    shared = (
        "ClusterRole",
        "ClusterRoleBinding",
        "MutatingWebhookConfiguration",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    )
    one, other = objects(namespace="one"), objects(namespace="other")
    for kind in shared:
        assert not {item["metadata"]["name"] for item in one.of(kind)} & {
            item["metadata"]["name"] for item in other.of(kind)
        }


def test_a_long_release_name_gives_names_that_fit() -> None:
    rendered = objects(name="a" * 53)
    assert all(
        len(item["metadata"]["name"]) <= 63
        for item in rendered.all
        if "namespace" in item["metadata"]
    )


# --- the webhook configuration


def entries(*files: Path, **sets: str) -> dict[str, Object]:
    found = objects(*files, sets=sets).one("MutatingWebhookConfiguration")["webhooks"]
    return {entry["name"]: entry for entry in found}


def test_defaults_of_the_entries() -> None:
    found = entries()
    assert list(found) == ["pod.podgrace.io", "namespace.podgrace.io"]
    for entry in found.values():
        assert entry["rules"] == [
            {
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "operations": ["CREATE"],
                "resources": ["pods"],
                "scope": "Namespaced",
            }
        ]
        assert entry["clientConfig"] == {
            "service": {"name": "podgrace", "namespace": "podgrace", "path": "/mutate", "port": 443}
        }
        wanted = {
            "failurePolicy": "Ignore", "timeoutSeconds": 3, "reinvocationPolicy": "IfNeeded",
            "sideEffects": "None", "matchPolicy": "Equivalent", "admissionReviewVersions": ["v1"],
        }  # fmt: skip
        assert {key: entry[key] for key in wanted} == wanted
        assert [condition["name"] for condition in entry["matchConditions"]] == [
            "restarts",
            "not-a-mirror",
        ]


def selected(selector: Object, labels: dict[str, str]) -> bool:
    """Evaluate matchExpressions as Kubernetes does."""
    for need in selector["matchExpressions"]:
        value, values = labels.get(need["key"]), need.get("values", [])
        holds = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not holds[need["operator"]]:
            return False
    return True


ABSENT, ON, OFF, ODD = None, "enabled", "disabled", "yes"


@pytest.mark.parametrize(
    ("namespace", "pod", "called"),
    [
        (ABSENT, ABSENT, None), (ABSENT, ON, "pod"), (ABSENT, OFF, None), (ABSENT, ODD, None),
        (ON, ABSENT, "namespace"), (ON, ON, "pod"), (ON, OFF, None), (ON, ODD, "namespace"),
        (OFF, ABSENT, None), (OFF, ON, None), (OFF, OFF, None), (OFF, ODD, None),
    ],
)  # fmt: skip
def test_who_is_called_for(namespace: str | None, pod: str | None, called: str | None) -> None:
    """The truth table of opt-in; no Pod matches both entries."""
    on = {"kubernetes.io/metadata.name": "shop"} | (
        {names.INJECT_LABEL: namespace} if namespace else {}
    )
    own = {names.INJECT_LABEL: pod} if pod else {}
    matching = [
        name
        for name, entry in entries().items()
        if selected(entry["namespaceSelector"], on) and selected(entry["objectSelector"], own)
    ]
    assert matching == ([f"{called}.podgrace.io"] if called else [])


@pytest.mark.parametrize(
    ("kind", "path"),
    [(None, "/mutate"), ("edge", "/mutate/edge"), ("spot", "/mutate/spot"), ("odd", "/mutate")],
)
@pytest.mark.parametrize("entry", ["pod", "namespace"])
def test_a_namespace_of_a_class_meets_that_class_alone(
    kind: str | None, path: str, entry: str
) -> None:
    """A class that is not declared counts as none."""
    found = entries(
        **{"config.classes.edge.preset": '"aws-alb"', "config.classes.spot.preset": '"spot-30s"'}
    )
    assert len(found) == 6
    on = {"kubernetes.io/metadata.name": "shop"} | ({names.CLASS_LABEL: kind} if kind else {})
    own = {names.INJECT_LABEL: "enabled"} if entry == "pod" else {}
    on |= {names.INJECT_LABEL: "enabled"} if entry == "namespace" else {}
    (met,) = [
        webhook
        for webhook in found.values()
        if selected(webhook["namespaceSelector"], on) and selected(webhook["objectSelector"], own)
    ]
    assert met["clientConfig"]["service"]["path"] == path
    assert met["name"].startswith(f"{entry}.")
    assert met["name"].endswith(".podgrace.io")


def test_the_presets_of_the_schema_are_those_of_the_webhook() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    kind = schema["properties"]["config"]["properties"]["classes"]
    ((pattern, of_class),) = kind["patternProperties"].items()
    assert of_class["properties"]["preset"]["enum"] == sorted(PRESETS)
    assert pattern == f"^{CLASS.pattern}$"
    assert kind["maxProperties"] == CLASSES


@pytest.mark.parametrize("namespace", [*SYSTEM, "podgrace"])
def test_system_namespaces_and_our_own_are_never_called_for(namespace: str) -> None:
    labels = {"kubernetes.io/metadata.name": namespace, names.INJECT_LABEL: "enabled"}
    assert not any(selected(entry["namespaceSelector"], labels) for entry in entries().values())


def test_our_own_pods_are_excluded_by_their_label_too() -> None:
    """The first exclusion, by namespace, does not work if the release shares one."""
    labels = objects().one("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert labels[names.INJECT_LABEL] == "disabled"
    assert not any(selected(entry["objectSelector"], labels) for entry in entries().values())


def test_pod_labels_of_the_operator_cannot_make_us_inject_ourselves() -> None:
    labels = objects(sets={"podLabels": '{"podgrace.io/inject":"enabled"}'}).one("Deployment")[
        "spec"
    ]["template"]["metadata"]["labels"]
    assert labels[names.INJECT_LABEL] == "disabled"


def test_a_revision_takes_over_labelled_namespaces_and_no_others() -> None:
    plain = {"kubernetes.io/metadata.name": "shop", names.INJECT_LABEL: "enabled"}
    canary = plain | {"podgrace.io/revision": "canary"}
    for files, takes, leaves in (((), plain, canary), ((ci("canary"),), canary, plain)):
        namespace = entries(*files)["namespace.podgrace.io"]["namespaceSelector"]
        assert selected(namespace, takes)
        assert not selected(namespace, leaves)


def test_aks_gets_the_selectors_that_it_would_add() -> None:
    keys = [
        (e["key"], e["operator"])
        for e in entries(ci("aks"))["pod.podgrace.io"]["namespaceSelector"]["matchExpressions"]
    ]
    assert {
        ("control-plane", "DoesNotExist"),
        ("control-plane", "NotIn"),
        ("kubernetes.azure.com/managedby", "NotIn"),
    } <= set(keys)
    assert "control-plane" not in [
        key
        for key, _ in [
            (e["key"], e)
            for e in entries()["pod.podgrace.io"]["namespaceSelector"]["matchExpressions"]
        ]
    ]


def test_a_url_replaces_the_service() -> None:
    for entry in entries(ci("cert-manager-issuer")).values():
        assert entry["clientConfig"] == {"url": "https://podgrace.example.internal:8443/mutate"}


# --- certificates: nothing is rendered that somebody writes at run time


@pytest.mark.parametrize(
    "mode", ["self-managed", "cert-manager", "cert-manager-issuer", "openshift"]
)
def test_no_ca_bundle_where_another_writes_it(mode: str) -> None:
    assert all("caBundle" not in entry["clientConfig"] for entry in entries(ci(mode)).values())


def test_a_given_bundle_is_rendered_into_every_entry() -> None:
    assert all(entry["clientConfig"]["caBundle"] for entry in entries(ci("provided")).values())


def test_the_secrets_and_the_lease_are_made_empty() -> None:
    rendered = objects()
    assert sorted(secret["metadata"]["name"] for secret in rendered.of("Secret")) == [
        "podgrace-ca",
        "podgrace-tls",
    ]
    for item in [*rendered.of("Secret"), *rendered.of("Lease")]:
        assert not {"data", "stringData", "spec"} & set(item)


def test_rights_are_limited_to_names() -> None:
    """Verbs that cannot be limited by name are not granted at all."""
    rendered = objects()
    rules = [
        rule
        for kind in ("Role", "ClusterRole")
        for item in rendered.of(kind)
        for rule in item["rules"]
    ]
    assert [(rule["resources"], rule["resourceNames"], rule["verbs"]) for rule in rules] == [
        (["secrets"], ["podgrace-ca", "podgrace-tls"], ["get", "update"]),
        (["leases"], ["podgrace-certs"], ["get", "update"]),
        (["mutatingwebhookconfigurations"], ["podgrace"], ["get", "patch"]),
    ]


def test_the_names_given_to_the_certificates_container_are_those_of_the_objects() -> None:
    rendered = objects()
    options = dict(
        argument.removeprefix("--").split("=", 1)
        for argument in rendered.container("certs")["args"]
        if "=" in argument
    )
    assert rendered.one("Secret", options["secret"])
    assert rendered.one("Secret", options["ca-secret"])
    assert rendered.one("Lease", options["lease"])
    assert rendered.one("Service", options["service"])
    assert rendered.one("MutatingWebhookConfiguration", options["webhook-configuration"])


@pytest.mark.parametrize(
    "mode", ["provided", "cert-manager", "cert-manager-issuer", "openshift", "restricted"]
)
def test_no_rights_and_no_token_where_certificates_come_from_elsewhere(mode: str) -> None:
    rendered = objects(ci(mode))
    assert not rendered.kinds() & {
        "Role",
        "RoleBinding",
        "ClusterRole",
        "ClusterRoleBinding",
        "Lease",
    }
    assert rendered.pod()["automountServiceAccountToken"] is False
    assert not [volume for volume in rendered.pod()["volumes"] if "projected" in volume]
    assert [container["name"] for container in rendered.pod()["containers"]] == ["webhook"]


def test_the_token_goes_into_the_certificates_container_only() -> None:
    rendered = objects()
    assert rendered.pod()["automountServiceAccountToken"] is False
    assert rendered.one("ServiceAccount")["automountServiceAccountToken"] is False
    holders = [
        c["name"]
        for c in rendered.pod()["containers"]
        if any(m["name"] == "api-token" for m in c["volumeMounts"])
    ]
    assert holders == ["certs"]


def test_cert_manager_is_told_to_inject_the_authority_of_the_right_certificate() -> None:
    rendered = objects(ci("cert-manager"))
    annotations = rendered.one("MutatingWebhookConfiguration")["metadata"]["annotations"]
    certificate = rendered.one("Certificate", "podgrace-tls")
    assert (
        annotations["cert-manager.io/inject-ca-from"]
        == f"podgrace/{certificate['metadata']['name']}"
    )
    assert "podgrace.podgrace.svc" in certificate["spec"]["dnsNames"]
    (volume,) = [volume for volume in rendered.pod()["volumes"] if volume["name"] == "tls"]
    assert volume["secret"]["secretName"] == certificate["spec"]["secretName"]
    assert len(rendered.of("Issuer")) == 2


def test_an_issuer_of_the_operator_needs_none_of_ours() -> None:
    rendered = objects(ci("cert-manager-issuer"))
    assert rendered.of("Issuer") == []
    certificate = rendered.one("Certificate")["spec"]
    assert certificate["issuerRef"] == {
        "group": "cert-manager.io",
        "kind": "ClusterIssuer",
        "name": "internal-ca",
    }
    assert "podgrace.example.internal" in certificate["dnsNames"]


# --- the Deployment


def test_a_rollout_of_ours_never_goes_below_what_is_wanted() -> None:
    deployment = objects().one("Deployment")["spec"]
    assert deployment["replicas"] == 2
    assert deployment["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
    }
    budget = objects().one("PodDisruptionBudget")["spec"]
    assert (budget["maxUnavailable"], budget["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")
    assert budget["selector"] == deployment["selector"]


@pytest.mark.parametrize("mode", ["self-managed", "cert-manager", "provided"])
def test_nothing_in_a_pod_of_ours_holds_its_node(mode: str) -> None:
    """`kubectl drain` and the cluster autoscaler ask before they take a Pod with an emptyDir."""
    template = objects(ci(mode)).one("Deployment")["spec"]["template"]
    assert [v["name"] for v in template["spec"]["volumes"] if "emptyDir" in v] == []
    assert not [name for name in template["metadata"]["annotations"] if "evict" in name]


def test_the_first_certificate_is_mounted_as_soon_as_it_is_made() -> None:
    """The kubelet looks at a Pod's volumes again when a startup probe succeeds."""
    pod = objects(ci("self-managed")).pod()
    containers = {container["name"]: container for container in pod["containers"]}
    probe = containers["certs"]["startupProbe"]
    assert probe["httpGet"] == {"path": "/startz", "port": "certs-metrics"}
    assert probe["periodSeconds"] * probe["failureThreshold"] > PATIENCE
    mounts = {m["name"] for m in containers["certs"]["volumeMounts"]}
    assert mounts == {"api-token"}, "it writes the Secret, and reads no file of it"
    assert {m["name"] for m in containers["webhook"]["volumeMounts"]} == {"config", "tls"}
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "tls"]
    assert volume["secret"]["secretName"] == "podgrace-tls"


def test_a_single_replica_gets_no_budget() -> None:
    """It would block the drain of its node for ever."""
    assert objects(sets={"replicas": "1"}).of("PodDisruptionBudget") == []


def test_an_autoscaler_owns_the_number_of_replicas() -> None:
    rendered = objects(ci("autoscaling"))
    assert "replicas" not in rendered.one("Deployment")["spec"]
    scaler = rendered.one("HorizontalPodAutoscaler")["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 9)
    assert scaler["metrics"][0]["containerResource"]["target"]["averageUtilization"] == 75
    assert rendered.one("PodDisruptionBudget")["spec"]["maxUnavailable"] == "34%"


def test_replicas_prefer_to_be_apart() -> None:
    pod, selector = objects().pod(), objects().one("Deployment")["spec"]["selector"]
    (term,) = pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert term["podAffinityTerm"] == {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": selector,
    }
    (spread,) = pod["topologySpreadConstraints"]
    assert (spread["whenUnsatisfiable"], spread["labelSelector"]) == ("ScheduleAnyway", selector)


def test_probes_do_not_touch_the_tls_port() -> None:
    rendered = objects()
    ports = {port["name"]: port["containerPort"] for port in rendered.container()["ports"]}
    assert ports == {"https": 8443, "metrics": 9090}
    probes = {
        kind: rendered.container()[f"{kind}Probe"]["httpGet"]
        for kind in ("startup", "liveness", "readiness")
    }
    assert probes == {
        kind: {"path": "/readyz" if kind == "readiness" else "/livez", "port": "metrics"}
        for kind in probes
    }
    assert "readinessProbe" not in rendered.container("certs"), (
        "a renewal that fails must not make a webhook unready"
    )


def test_changed_configuration_makes_new_pods() -> None:
    def checksum(**sets: str) -> str:
        found: str = objects(sets=sets).one("Deployment")["spec"]["template"]["metadata"][
            "annotations"
        ]["checksum/config"]
        return found

    assert checksum() != checksum(**{"config.defaults.delayMax": "20"})
    assert checksum() == checksum(replicas="3")


@pytest.mark.parametrize("file", CI_FILES, ids=names_of(CI_FILES))
def test_the_configuration_file_is_one_that_the_webhook_accepts(file: Path) -> None:
    for config in objects(file).of("ConfigMap"):
        if "config.yaml" in config.get("data", {}):
            parsed = parse(config["data"]["config.yaml"], file.name)
            assert set(SYSTEM) < parsed.operator.excluded_namespaces


def test_the_configuration_says_what_the_values_say() -> None:
    parsed = parse(objects(ci("everything")).one("ConfigMap", "grace")["data"]["config.yaml"])
    assert parsed.file.helper.image == "docker.io/example/podgrace-helper:1.2"
    assert parsed.file.helper.image_pull_policy == "IfNotPresent"
    assert parsed.operator.pull_secrets == ("regcred",)
    # Helm adds given keys to the defaults; null removes a key.
    assert parsed.operator.sidecar["securityContext"] == {
        **SECURITY_CONTEXT,
        "runAsUser": 1234,
    }
    assert parsed.file.excluded_namespaces == [*SYSTEM, "rook-ceph", "grace-system"]
    assert parsed.file.kubernetes.version == "1.34"
    assert parsed.file.profiles["shop"].signal == "USR1"
    assert (parsed.defaults.mode, parsed.defaults.delay_max) == ("hook", 10)
    assert parsed.of("edge").defaults.default_drain == 60
    assert (parsed.of("spot").defaults.delay_max, parsed.of("none").defaults.delay_max) == (5, 10)


def test_the_version_of_kubernetes_is_helms_where_none_is_given() -> None:
    for version, seen in (("v1.31.4-gke.1", "1.31"), ("1.36+", "1.36")):
        parsed = parse(
            objects(options=("--kube-version", version.replace("+", ".0+x"))).one("ConfigMap")[
                "data"
            ]["config.yaml"]
        )
        assert parsed.file.kubernetes.version == seen


def test_an_older_kubernetes_is_refused() -> None:
    assert "1.30" in refusal(options=("--kube-version", "1.29.9"))


@pytest.mark.parametrize(
    ("sets", "version", "named"),
    [
        ({}, "1.34.9", "v1.34.9"),
        ({"config.kubernetes.oldestKubelet": "1.34"}, "1.36.0", "1.34"),
        ({"config.kubernetes.version": "1.33"}, "1.36.0", "1.33"),
    ],
)
def test_an_image_volume_is_refused_where_kubernetes_has_none(
    sets: dict[str, str], version: str, named: str
) -> None:
    values = {"config.helper.delivery": '"image"'} | {k: f'"{v}"' for k, v in sets.items()}
    told = refusal(sets=values, options=("--kube-version", version))
    assert f"this is {named}: set config.helper.delivery=sidecar" in told


def test_an_image_volume_of_a_class_is_refused_there_too() -> None:
    sets = {"config.classes.edge.helper.delivery": '"image"'}
    told = refusal(sets=sets, options=("--kube-version", "1.34.0"))
    assert "config.classes.edge.helper.delivery is image" in told
    rendered = objects(sets=sets, options=("--kube-version", "1.35.0"))
    config = parse(rendered.one("ConfigMap")["data"]["config.yaml"])
    assert (config.operator.delivery, config.of("edge").operator.delivery) == ("sidecar", "image")


def test_an_image_volume_is_what_the_configuration_says() -> None:
    digest = "sha256:" + "2" * 64
    sets = {"config.helper.delivery": '"image"', "helperImage.digest": f'"{digest}"'}
    rendered = objects(sets=sets, options=("--kube-version", "1.35.0"))
    operator = parse(rendered.one("ConfigMap")["data"]["config.yaml"]).operator
    image = operator.volume["image"]
    assert isinstance(image, dict) and image["reference"].endswith(f"@{digest}")
    assert image["pullPolicy"] == "IfNotPresent"


@pytest.mark.parametrize(
    ("sets", "image"),
    [
        ({}, "docker.io/podgrace/podgrace:0.1.0"),
        ({"image.tag": '"2"'}, "docker.io/podgrace/podgrace:2"),
        ({"image.registry": '"r.example/x/"'}, "r.example/x/podgrace/podgrace:0.1.0"),
        ({"global.imageRegistry": '"g.example"'}, "g.example/podgrace/podgrace:0.1.0"),
        (
            {"global.imageRegistry": '"g.example"', "image.registry": '"r.example"'},
            "r.example/podgrace/podgrace:0.1.0",
        ),
        (
            {"image.tag": '"2"', "image.digest": f'"sha256:{"a" * 64}"'},
            f"docker.io/podgrace/podgrace@sha256:{'a' * 64}",
        ),
    ],
)
def test_image_names(sets: dict[str, str], image: str) -> None:
    rendered = objects(sets=sets)
    assert {container["image"] for container in rendered.pod()["containers"]} == {image}
    assert [
        item["spec"]["containers"][0]["image"] for item in rendered.hooks() if item["kind"] == "Pod"
    ] == [image]


def helper(sets: dict[str, str] | None = None, *files: Path) -> HelperConfig:
    rendered = objects(*files, sets=sets)
    (config,) = [
        c["data"]["config.yaml"] for c in rendered.of("ConfigMap") if "config.yaml" in c["data"]
    ]
    return parse(config).file.helper


def test_the_helpers_image_has_a_registry() -> None:
    """Runtimes that know several registries refuse a short name: every Pod would stay in Init."""
    assert helper().image == DEFAULT_IMAGE
    named = {"helperImage.repository": '"r.example/x/helper"'}
    assert helper(named).image == "r.example/x/helper:0.1.0"
    mirrored = {"image.registry": '"mirror.example"', "helperImage.repository": '"r.example/x"'}
    assert helper(mirrored).image == "mirror.example/r.example/x:0.1.0"


def test_the_helpers_user_is_the_operators_and_on_openshift_the_platforms() -> None:
    assert helper().security_context == SECURITY_CONTEXT
    chosen = {"config.helper.securityContext.runAsUser": "1000"}
    assert helper(chosen).security_context == {**SECURITY_CONTEXT, "runAsUser": 1000}
    none = {"config.helper.securityContext.runAsNonRoot": "null"}
    assert "runAsNonRoot" not in helper(none).security_context
    assert helper(chosen, ci("openshift")).security_context == {
        key: value for key, value in SECURITY_CONTEXT.items() if key != "seccompProfile"
    }


def test_the_arguments_are_ones_that_the_program_knows() -> None:
    """Checked by its own parser, for each mode."""
    for file in CI_FILES:
        rendered = objects(file)
        pods = [
            *rendered.of("Deployment"),
            *(item for item in rendered.hooks() if item["kind"] == "Pod"),
        ]
        for item in pods:
            for container in item["spec"].get("template", item)["spec"]["containers"]:
                assert parser(container["args"][0]).parse_args(container["args"]).func, (
                    file.name,
                    container["name"],
                )


def test_the_server_knows_by_which_name_and_from_where_it_is_called() -> None:
    args = objects(sets={"webhook.apiServers": '["10.0.0.0/28","fd00::1"]'}).container()["args"]
    assert "--service-name=podgrace.podgrace.svc" in args
    assert "--api-servers=10.0.0.0/28,fd00::1" in args
    by_address = {
        "tls.type": '"cert-manager"',
        "webhook.url": '"https://hooks.example:8443/mutate"',
    }
    assert "--service-name=hooks.example" in objects(sets=by_address).container()["args"]


def test_only_api_servers_with_a_certificate_are_served_where_asked_for() -> None:
    rendered = objects(ci("restricted"))
    assert "--client-ca=/etc/podgrace/client-ca.crt" in rendered.container()["args"]
    assert "--client-names=kube-apiserver" in rendered.container()["args"]
    assert rendered.one("ConfigMap")["data"]["client-ca.crt"].startswith(
        "-----BEGIN CERTIFICATE-----"
    )
    assert not [
        argument for argument in objects().container()["args"] if argument.startswith("--client")
    ]


def test_openshift_chooses_the_ids() -> None:
    assert objects(ci("openshift")).pod()["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    null = {f"podSecurityContext.{key}": "null" for key in ("runAsUser", "runAsGroup", "fsGroup")}
    assert objects(sets=null).pod()["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def test_a_network_policy_lets_the_api_server_in_and_nothing_out_but_to_it() -> None:
    spec = objects(sets={"networkPolicy.enabled": "true"}).one("NetworkPolicy")["spec"]
    assert spec["ingress"][0] == {"ports": [{"port": "https", "protocol": "TCP"}]}
    assert spec["egress"] == [
        {"ports": [{"port": 443, "protocol": "TCP"}, {"port": 6443, "protocol": "TCP"}]}
    ]
    closed = objects(ci("restricted")).one("NetworkPolicy")["spec"]
    assert closed["egress"] == []
    assert [rule["from"] for rule in closed["ingress"]] == [
        [{"ipBlock": {"cidr": "10.0.0.0/28"}}],
        [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
    ]


# --- audit, policy, test


def test_the_audit_warns_and_never_refuses() -> None:
    rendered = objects()
    bindings = {
        item["spec"]["policyName"]: item["spec"]["validationActions"]
        for item in rendered.of("ValidatingAdmissionPolicyBinding")
    }
    assert bindings == {"podgrace-missed": ["Warn", "Audit"], "podgrace-labels": ["Warn"]}
    for policy in rendered.of("ValidatingAdmissionPolicy"):
        assert policy["spec"]["failurePolicy"] == "Ignore"
        assert policy["metadata"]["name"] in bindings


def test_the_audit_looks_where_the_webhook_looks() -> None:
    pods = objects(ci("everything")).one(
        "ValidatingAdmissionPolicy", "10-grace-grace-system-missed"
    )["spec"]
    """In the namespaces of every class: a class's entries only add a choice among them."""
    pod, namespace, *_ = entries(ci("everything")).values()
    anywhere = [
        need
        for need in pod["namespaceSelector"]["matchExpressions"]
        if need["key"] != names.CLASS_LABEL
    ]
    assert pods["matchConstraints"]["namespaceSelector"] == {"matchExpressions": anywhere}
    assert pods["matchConstraints"]["resourceRules"] == pod["rules"]
    assert pods["matchConditions"] == pod["matchConditions"] == namespace["matchConditions"]
    assert names.STATUS_ANNOTATION in pods["validations"][0]["expression"]


def test_no_audit_where_it_is_off_or_the_api_does_not_have_it() -> None:
    assert "ValidatingAdmissionPolicy" not in objects(sets={"audit.enabled": "false"}).kinds()
    assert (
        "ValidatingAdmissionPolicy"
        not in objects(options=("--api-versions", "apps/v1/Deployment")).kinds()
    )
    known = (
        "--api-versions",
        "apps/v1/Deployment,admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy",
    )
    assert "ValidatingAdmissionPolicy" in objects(options=known).kinds()
    assert [
        item["metadata"]["name"]
        for item in objects(sets={"audit.workloads": "false"}).of("ValidatingAdmissionPolicy")
    ] == ["podgrace-missed"]


def test_policy_mode_is_a_policy_and_nothing_else() -> None:
    rendered = objects(ci("policy"))
    assert rendered.kinds() == {"MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"}
    assert rendered.hooks() == []
    assert "seconds: 10" in json.dumps(rendered.one("MutatingAdmissionPolicy"))
    assert "1.36" in refusal(ci("policy"), options=("--kube-version", "1.35.0"))


def test_helm_test_may_create_pods_in_its_namespace_and_nothing_else() -> None:
    hooks = {item["kind"]: item for item in objects().hooks()}
    assert set(hooks) == {"Namespace", "ServiceAccount", "Role", "RoleBinding", "Pod"}
    assert hooks["Role"]["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}
    ]
    namespace = hooks["Namespace"]["metadata"]["name"]
    assert namespace not in [*SYSTEM, "podgrace"]
    assert (
        hooks["Role"]["metadata"]["namespace"]
        == hooks["RoleBinding"]["metadata"]["namespace"]
        == namespace
    )
    assert hooks["Pod"]["spec"]["containers"][0]["args"] == [
        "check",
        f"--namespace={namespace}",
        "--wait=60s",
    ]
    assert all(
        "before-hook-creation,hook-succeeded"
        in item["metadata"]["annotations"]["helm.sh/hook-delete-policy"]
        for item in hooks.values()
    )


def test_a_given_namespace_is_not_made() -> None:
    assert "Namespace" not in [item["kind"] for item in objects(ci("everything")).hooks()]


def test_extra_objects_are_rendered_as_templates() -> None:
    assert (
        objects(ci("everything")).one("ConfigMap", "grace-extra")["metadata"]["namespace"]
        == "grace-system"
    )
    assert objects(ci("ha")).one("ResourceQuota")["metadata"]["namespace"] == "podgrace"


def test_each_template_holds_one_object() -> None:
    """One object per file: a reader finds it by its name."""
    source = (
        text(ci("monitoring"))
        + text(ci("cert-manager"))
        + text(ci("policy"))
        + text(ci("autoscaling"))
    )
    per_file: dict[str, set[str]] = {}
    for block in re.split(r"^---\n", source, flags=re.MULTILINE):
        for file in re.findall(r"^# Source: (\S+)", block, re.MULTILINE):
            per_file.setdefault(file, set()).update(
                re.findall(r"^kind: (\w+)", block, re.MULTILINE)
            )
    assert {file: kinds for file, kinds in per_file.items() if len(kinds) != 1} == {}


def test_the_dashboard_is_json_and_its_panels_do_not_overlap() -> None:
    board = json.loads(
        objects(ci("monitoring")).one("ConfigMap", "podgrace-dashboard")["data"]["podgrace.json"]
    )
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_chart_and_application_have_the_versions_of_the_package() -> None:
    chart = YAML(typ="safe", pure=True).load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    from webhook import __version__  # noqa: PLC0415 - beside its only use

    assert chart["appVersion"] == __version__
    assert f":{__version__}\n" in chart["annotations"]["artifacthub.io/images"]
    assert f"## {chart['version']}\n" in (CHART / "CHANGELOG.md").read_text(encoding="utf-8")


def test_hooks_are_no_part_of_the_release() -> None:
    assert all(hook(item) for item in objects().all if item["metadata"]["name"].endswith("-test"))
