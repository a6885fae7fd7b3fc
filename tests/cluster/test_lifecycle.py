"""The chart's life: rollouts and an upgrade under a stream of Pods, an outage, an uninstall.

This module's own release goes through all of it, in the order of the tests: other tests must not
see it down.
"""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cluster import install, kube
from tests.cluster.conftest import HELPER_IMAGE, IMAGE, made_namespace
from tests.cluster.install import (
    CHART,
    Release,
    Stream,
    installed,
    is_injected,
    is_untouched,
    simple_pod,
    try_pod,
    wait_serving,
)
from tests.cluster.kube import Api, Tree

ON = {"podgrace.io/inject": "enabled"}
VALUES = install.images(IMAGE, HELPER_IMAGE)


class Life(NamedTuple):
    """The release, and a namespace that it looks at."""

    release: Release
    namespace: str


@pytest.fixture(scope="module")
def life(api: Api) -> Iterator[Life]:
    with (
        installed(api, VALUES) as release,
        made_namespace(api, {**release.labels, **ON}) as namespace,
    ):
        wait_serving(release, namespace)
        yield Life(release, namespace)


def under_a_stream(life: Life, action: Callable[[], Any]) -> tuple[int, int, int]:
    """Create ten Pods a second meanwhile; returns how many came, failed and were missed."""
    stream = Stream(life.release.api, life.namespace, rate=10)
    thread = threading.Thread(target=stream)
    thread.start()
    try:
        kube.wait("the stream", lambda: len(stream.answers) > 10)
        action()
        seen = len(stream.answers)
        kube.wait("the stream after it", lambda: len(stream.answers) > seen + 20)
    finally:
        stream.stopped = True
        thread.join()
    return stream.verdict()


def settle(life: Life, before: set[str]) -> None:
    """Wait until none of these Pods is left, and the Deployment has all of its own."""

    def replaced() -> Any:
        pods = life.release.api.pods(life.release.namespace)
        left = [kube.state(pod) for pod in pods if pod["metadata"]["uid"] in before]
        return (not left and kube.rolled_out(life.release.deployment())) or f"not yet: {left}"

    kube.wait("the new Pods of the webhook", replaced, 150)


def uids(life: Life) -> set[str]:
    return {pod["metadata"]["uid"] for pod in life.release.api.pods(life.release.namespace)}


def test_a_rollout_of_the_webhook_misses_no_pod(life: Life) -> None:
    """The webhook's own rolling update, under Ignore: a missed Pod would start unprotected."""

    def restart() -> None:
        before = uids(life)
        stamp = {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}
        name = life.release.deployment()["metadata"]["name"]
        life.release.api.patch(
            "Deployment",
            life.release.namespace,
            name,
            {"spec": {"template": {"metadata": {"annotations": stamp}}}},
        )
        settle(life, before)

    count, failed, missed = under_a_stream(life, restart)
    assert (failed, missed) == (0, 0), f"of {count} Pods"
    assert count > 100


def test_an_upgrade_of_the_chart_misses_no_pod(life: Life, tmp_path: Path) -> None:
    """There is no earlier release yet: this chart stands in, with other version and values."""
    chart = tmp_path / "podgrace"
    shutil.copytree(CHART, chart)
    meta = (chart / "Chart.yaml").read_text()
    assert "\nversion: 0.1.0\n" in meta
    (chart / "Chart.yaml").write_text(meta.replace("\nversion: 0.1.0\n", "\nversion: 0.1.1\n"))
    values = {
        **VALUES,
        "revision": life.release.revision,
        "config": {"defaults": {"delayMax": 21}},
        "podAnnotations": {"upgraded": "yes"},
    }

    def upgrade() -> None:
        before = uids(life)
        install.helm("upgrade", life.release, values, chart=chart)
        settle(life, before)

    count, failed, missed = under_a_stream(life, upgrade)
    assert (failed, missed) == (0, 0), f"of {count} Pods"
    assert life.release.deployment()["metadata"]["labels"]["helm.sh/chart"] == "podgrace-0.1.1"
    command = try_pod(life.release.api, life.namespace).body["spec"]["containers"][0]["lifecycle"][
        "preStop"
    ]["exec"]["command"]
    assert "--delay-max=21" in command


def test_while_the_webhook_is_down_pods_start_and_are_found(life: Life) -> None:
    """Ignore means: no Pod waits for us. The warning comes from the API server itself."""
    release, api = life.release, life.release.api
    name = release.deployment()["metadata"]["name"]
    assert not try_pod(api, life.namespace).warnings
    api.patch("Deployment", release.namespace, name, {"spec": {"replicas": 0}})
    kube.wait("the end of the webhook", lambda: not api.pods(release.namespace), 90)

    answer = api.ask("POST", api.path("Pod", life.namespace), simple_pod("missed"))
    assert answer.status == 201
    assert is_untouched(answer.body)
    assert any("did not see" in warning for warning in answer.warnings), answer

    api.patch("Deployment", release.namespace, name, {"spec": {"replicas": 2}})
    wait_serving(release, life.namespace)
    assert is_injected(try_pod(api, life.namespace).body)
    assert not try_pod(api, life.namespace).warnings

    api.create(simple_pod("seen"), life.namespace)
    listed = kube.run("kubectl", "get", "namespaces,pods", "--all-namespaces", "-o", "json").stdout
    audit = kube.run(*install.PODGRACE, "audit", "-f", "-", "-o", "json", check=False, input=listed)
    found = [
        row["pod"]
        for row in json.loads(audit.stdout)["findings"]
        if row["namespace"] == life.namespace
    ]
    assert (audit.returncode, found) == (3, ["missed"]), audit.stderr


def test_self_managed_certificates_need_few_rights_and_no_hand(life: Life) -> None:
    release, api = life.release, life.release.api
    entries = release.configuration()["webhooks"]
    assert len({entry["clientConfig"]["caBundle"] for entry in entries}) == 1
    for pod in api.pods(release.namespace):
        tokens = {volume["name"] for volume in pod["spec"]["volumes"] if "projected" in volume}
        holders = [
            c["name"]
            for c in pod["spec"]["containers"]
            for mount in c.get("volumeMounts", ())
            if mount["name"] in tokens
        ]
        assert holders == ["certs"]
    for role in api.list("Role", release.namespace):
        for rule in role["rules"]:
            assert rule.get("resourceNames"), rule
    for role in api.list("ClusterRole"):
        if release.namespace in role["metadata"]["name"]:
            for rule in role["rules"]:
                assert rule["resourceNames"] == [release.configuration()["metadata"]["name"]], rule


def test_helm_test_passes(life: Life) -> None:
    kube.run(
        "helm",
        "test",
        life.release.name,
        "--namespace",
        life.release.namespace,
        "--timeout",
        "120s",
    )


def test_an_uninstall_leaves_nothing(life: Life) -> None:
    release, api = life.release, life.release.api
    assert _left(release), "the look itself finds what is installed"
    kube.run(
        "helm",
        "uninstall",
        release.name,
        "--namespace",
        release.namespace,
        "--wait",
        "--timeout",
        "120s",
    )
    kube.wait(
        "the end of everything", lambda: not _left(release) or f"not yet: {_left(release)}", 60
    )
    assert is_untouched(try_pod(api, life.namespace).body)


def _left(release: Release) -> list[str]:
    """Find every object of the release, of every kind; those without a namespace by name."""
    common = {
        "configmap/kube-root-ca.crt",
        "serviceaccount/default",
        f"namespace/{release.namespace}",
    }
    inside = set(_all("true", "--namespace", release.namespace))
    outside = {line for line in _all("false") if release.namespace in line}
    return sorted((inside | outside) - common)


def _all(namespaced: str, *where: str) -> list[str]:
    kinds = kube.run(
        "kubectl", "api-resources", f"--namespaced={namespaced}", "--verbs=list", "-o", "name"
    ).stdout.split()
    skipped = {"events", "events.events.k8s.io", "componentstatuses"}
    names = ",".join(
        kind for kind in kinds if kind not in skipped and not kind.endswith("metrics.k8s.io")
    )
    return kube.run(
        "kubectl", "get", names, *where, "-o", "name", "--ignore-not-found"
    ).stdout.split()


def test_provided_certificates_need_no_rights_at_all(api: Api, tmp_path: Path) -> None:
    """An operator's own Secret: no role, no token; a renewed certificate is served at once."""
    tag = "provided"
    values: Tree = {
        **VALUES,
        "tls": {"type": "provided", "provided": {"secretName": tag}},
        "replicas": 1,
    }

    def secret(release: Release) -> Tree:
        command = ["certs", "init", "--dir", str(tmp_path / "tls")]
        names = [
            f"podgrace.{release.namespace}.svc",
            f"podgrace.{release.namespace}.svc.cluster.local",
        ]
        kube.run(
            *install.PODGRACE, *command, *[word for name in names for word in ("--name", name)]
        )
        data = {
            file: install.b64(tmp_path / "tls" / file) for file in ("tls.crt", "tls.key", "ca.crt")
        }
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": tag},
            "type": "kubernetes.io/tls",
            "data": data,
        }

    def prepare(release: Release) -> None:
        api.create(secret(release), release.namespace)
        values["tls"]["provided"]["caBundle"] = (tmp_path / "tls" / "ca.crt").read_text()

    with (
        installed(api, values, prepare) as release,
        made_namespace(api, {**release.labels, **ON}) as namespace,
    ):
        wait_serving(release, namespace)
        assert not [
            tree
            for tree in api.list("Role", release.namespace)
            if "test" not in tree["metadata"]["name"]
        ]
        assert not [
            tree
            for tree in api.list("ClusterRole")
            if release.namespace in tree["metadata"]["name"]
            and "test" not in tree["metadata"]["name"]
        ]
        for pod in api.pods(release.namespace):
            assert not [volume for volume in pod["spec"]["volumes"] if "projected" in volume]
