"""Certificates with a real API server: named rights, server-side apply, three replicas.

Also rotation under a stream of Pods.

The first half runs `podgrace certs run` as processes beside the cluster, with the token of a
service account that has exactly the rights of docs/certificates.md; the webhook configuration that
they keep selects nothing. The second half is the chart.
"""

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from certs import survey
from certs.authority import load_bundle
from certs.errors import ApiConflict, ApiError
from certs.kubernetes import Client, Server, call
from certs.records import read_authorities, read_serving, write_authorities
from tests.cluster import install, kube
from tests.cluster.conftest import HELPER_IMAGE, IMAGE, made_namespace
from tests.cluster.install import PODGRACE, Release, Stream, installed, wait_serving
from tests.cluster.kube import Api, Tree

ON = {"podgrace.io/inject": "enabled"}
ENTRIES = ("pod.podgrace.io", "namespace.podgrace.io")


class Place(NamedTuple):
    """A namespace with the chart's objects, and a service account with the chart's rights."""

    api: Api
    namespace: str
    configuration: str
    server: Server
    directory: Path

    @property
    def client(self) -> Client:
        return Client(self.server, self.namespace)

    @property
    def names(self) -> survey.Names:
        return survey.Names(
            "podgrace", "podgrace-tls", self.configuration, "podgrace-ca", "podgrace-certs"
        )

    def lines(self) -> list[survey.Line]:
        seen = survey.look(self.client, self.names)
        return survey.judge(
            seen, within=timedelta(days=7), covered=[f"podgrace.{self.namespace}.svc"]
        )

    def wrong(self) -> list[survey.Line]:
        return [line for line in self.lines() if line.level != "ok"]

    @property
    def authorities(self) -> Any:
        return read_authorities(self.client.secret("podgrace-ca").data)

    @property
    def serving(self) -> Any:
        return read_serving(self.client.secret("podgrace-tls").data)

    @property
    def bundles(self) -> dict[str, bytes]:
        return self.client.webhooks(self.configuration).bundles

    def options(self) -> list[str]:
        found = ["--api", self.server.url, "--namespace", self.namespace]
        return [*found, "--api-token", str(self.server.token), "--api-ca", str(self.server.ca)]


def _rules(configuration: str) -> tuple[list[Tree], list[Tree]]:
    inside = [
        {
            "apiGroups": [""],
            "resources": ["secrets"],
            "resourceNames": ["podgrace-ca", "podgrace-tls"],
            "verbs": ["get", "update"],
        },
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "resourceNames": ["podgrace-certs"],
            "verbs": ["get", "update"],
        },
    ]
    outside = [
        {
            "apiGroups": ["admissionregistration.k8s.io"],
            "resources": ["mutatingwebhookconfigurations"],
            "resourceNames": [configuration],
            "verbs": ["get", "patch"],
        }
    ]
    return inside, outside


def _objects(namespace: str, name: str) -> list[Tree]:
    inside, outside = _rules(name)
    rbac = "rbac.authorization.k8s.io"
    subject = [{"kind": "ServiceAccount", "name": "podgrace", "namespace": namespace}]
    entries = [
        {
            "name": entry,
            "admissionReviewVersions": ["v1"],
            "clientConfig": {
                "service": {
                    "name": "podgrace",
                    "namespace": namespace,
                    "path": "/mutate",
                    "port": 443,
                }
            },
            "failurePolicy": "Ignore",
            "sideEffects": "None",
            # Nothing has this label: no call is ever made.
            "objectSelector": {"matchLabels": {"podgrace.test/never": name}},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "rules": [
                {
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE"],
                    "resources": ["pods"],
                    "scope": "Namespaced",
                }
            ],
        }
        for entry in ENTRIES
    ]
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "podgrace"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "podgrace-ca"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "podgrace-tls"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "other"}},
        {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": "podgrace-certs"},
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "Role",
            "metadata": {"name": "certs"},
            "rules": inside,
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "certs"},
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "certs"},
            "subjects": subject,
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": name},
            "rules": outside,
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": name},
            "subjects": subject,
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": entries,
        },
    ]


CLUSTER_SCOPED = ("ClusterRole", "ClusterRoleBinding", "MutatingWebhookConfiguration")


@pytest.fixture
def place(api: Api, tmp_path: Path) -> Iterator[Place]:
    config = json.loads(
        kube.run("kubectl", "config", "view", "--minify", "--raw", "--flatten", "-o", "json").stdout
    )
    cluster = config["clusters"][0]["cluster"]
    if "certificate-authority-data" not in cluster:
        pytest.skip(
            "the kubeconfig names no authority of the API server: its certificate could not be "
            "verified"
        )
    (tmp_path / "ca.crt").write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    name = f"certs-{uuid.uuid4().hex[:8]}"
    with contextlib.ExitStack() as stack:
        namespace = stack.enter_context(made_namespace(api))
        for tree in _objects(namespace, name):
            # As Helm does: server-side apply, with an owner of its fields.
            _applied(api, tree, namespace, "helm")
            if tree["kind"] in CLUSTER_SCOPED:
                stack.callback(api.delete, tree["kind"], "", name)
        (tmp_path / "token").write_text(
            kube.run(
                "kubectl", "create", "token", "podgrace", "-n", namespace, "--duration", "1h"
            ).stdout
        )
        made = Place(
            api,
            namespace,
            name,
            Server.of(cluster["server"], tmp_path / "token", tmp_path / "ca.crt"),
            tmp_path,
        )
        # Rights are known to the API server a moment after they are written.
        kube.wait(
            "the rights",
            lambda: (
                _allowed(lambda: made.client.secret("podgrace-ca"))
                and _allowed(lambda: made.bundles)
            ),
            30,
        )
        yield made


def _applied(api: Api, tree: Tree, namespace: str, manager: str, *, force: bool = False) -> Tree:
    path = api.path(
        tree["kind"], "" if tree["kind"] in CLUSTER_SCOPED else namespace, tree["metadata"]["name"]
    )
    return api.must(
        "PATCH",
        f"{path}?fieldManager={manager}&force={str(force).lower()}",
        tree,
        kind="application/apply-patch+yaml",
    )


def _allowed(call: Callable[[], Any]) -> bool:
    try:
        call()
    except ApiError:
        return False
    return True


@contextlib.contextmanager
def replica(place: Place, name: str, *more: str) -> "Iterator[subprocess.Popen[str]]":
    """Run `podgrace certs run` with the service account's token."""
    command = [
        sys.executable,
        "-m",
        "certs",
        "run",
        *place.options(),
    ]
    command += [
        "--service",
        "podgrace",
        "--secret",
        "podgrace-tls",
        "--ca-secret",
        "podgrace-ca",
        "--lease",
        "podgrace-certs",
    ]
    command += ["--webhook-configuration", place.configuration, "--poll", "1s", *more]
    with (place.directory / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, text=True, env={**os.environ, "POD_NAME": name}
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def events(place: Place, name: str) -> list[Tree]:
    return [
        json.loads(line)
        for line in (place.directory / f"{name}.log").read_text().splitlines()
        if line.startswith("{")
    ]


def wait_pair(place: Place) -> None:
    kube.wait("a serving certificate", lambda: place.serving.leaf is not None, 60)


# Processes beside the cluster.


def test_three_replicas_with_limited_rights_agree_and_everything_checks(place: Place) -> None:
    with replica(place, "a"), replica(place, "b"), replica(place, "c"):
        wait_pair(place)
        kube.wait(
            "a check without findings", lambda: not place.wrong() or f"not yet: {place.wrong()}", 60
        )
        written = [event["event"] for name in "abc" for event in events(place, name)]
        assert [
            written.count(what)
            for what in ("authorities_written", "bundle_written", "serving_written")
        ] == [1, 1, 1]
        assert not [event for event in written if "failed" in event]
        assert set(place.bundles) == set(ENTRIES) and len(set(place.bundles.values())) == 1
        command = [
            *PODGRACE,
            "certs",
            "check",
            *place.options(),
            "--webhook-configuration",
            place.configuration,
        ]
        assert "trusts the serving certificate" in kube.run(*command).stdout


def test_of_the_configuration_only_the_bundles_are_ours(place: Place) -> None:
    before = place.api.get("MutatingWebhookConfiguration", "", place.configuration)
    with replica(place, "a"):
        wait_pair(place)
        after = place.api.get("MutatingWebhookConfiguration", "", place.configuration)
        owned = {
            entry["manager"]: entry["fieldsV1"] for entry in after["metadata"]["managedFields"]
        }
        expected = {
            f'k:{{"name":"{name}"}}': {".": {}, "f:clientConfig": {"f:caBundle": {}}, "f:name": {}}
            for name in ENTRIES
        }
        assert owned["podgrace-certs"] == {"f:webhooks": expected}
        for entry in after["webhooks"]:
            del entry["clientConfig"]["caBundle"]
        assert after["webhooks"] == before["webhooks"]
        # An upgrade applies the chart's fields again, without force, and changes one: no conflict,
        # and the bundles stay.
        bundles = place.bundles
        changed = next(
            tree
            for tree in _objects(place.namespace, place.configuration)
            if tree["kind"] == "MutatingWebhookConfiguration"
        )
        for entry in changed["webhooks"]:
            entry["timeoutSeconds"] = 7
        _applied(place.api, changed, place.namespace, "helm")
        assert place.bundles == bundles and all(bundles.values())


def test_what_an_upgrade_adds_is_filled(place: Place) -> None:
    with replica(place, "a"):
        wait_pair(place)
        changed = next(
            tree
            for tree in _objects(place.namespace, place.configuration)
            if tree["kind"] == "MutatingWebhookConfiguration"
        )
        changed["webhooks"].append({**changed["webhooks"][0], "name": "third.podgrace.io"})
        _applied(place.api, changed, place.namespace, "helm")
        kube.wait(
            "the third bundle",
            lambda: len(place.bundles) == 3 and len(set(place.bundles.values())) == 1,
            30,
        )


def test_the_rights_reach_no_further(place: Place) -> None:
    secrets = f"/api/v1/namespaces/{place.namespace}/secrets"
    configurations = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
    for method, path, body in (
        ("GET", secrets, None),
        ("GET", f"{secrets}/other", None),
        ("POST", secrets, {"metadata": {"name": "new"}}),
        ("DELETE", f"{secrets}/podgrace-ca", None),
        ("GET", configurations, None),
        ("GET", f"{configurations}/any-other", None),
        (
            "PATCH",
            f"{configurations}/any-other?fieldManager=x",
            {"metadata": {"name": "any-other"}},
        ),
        ("DELETE", f"{configurations}/{place.configuration}", None),
        ("GET", f"/api/v1/namespaces/{place.namespace}/pods", None),
    ):
        assert call(place.server, method, path, body).status == 403, (method, path)


def test_every_write_on_an_old_version_is_refused(place: Place) -> None:
    """What safety without a leader rests on, as the real API server does it."""
    client = place.client
    secret, webhooks, lease = (
        client.secret("podgrace-tls"),
        client.webhooks(place.configuration),
        client.lease("podgrace-certs"),
    )
    client.save_secret(secret, {"a": b"1"})
    client.publish(place.configuration, webhooks, b"-----BEGIN CERTIFICATE-----\n")
    client.save_lease(lease, {"holderIdentity": "a"})
    for again in (
        lambda: client.save_secret(secret, {"a": b"2"}),
        lambda: client.publish(place.configuration, webhooks, b""),
        lambda: client.save_lease(lease, {"holderIdentity": "b"}),
    ):
        with pytest.raises(ApiConflict, match="409"):
            again()


def test_the_authority_is_rotated_and_at_no_time_is_the_served_one_untrusted(place: Place) -> None:
    """Three replicas; a watcher compares what is served with what is trusted as fast as it can."""
    found: list[list[str]] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            found.append([line.text for line in place.lines() if line.level == "error"])
            time.sleep(0.05)

    with (
        replica(place, "a", "--trust-wait", "5s"),
        replica(place, "b", "--trust-wait", "5s"),
        replica(place, "c", "--trust-wait", "5s"),
    ):
        wait_pair(place)
        kube.wait(
            "a check without findings", lambda: not place.wrong() or f"not yet: {place.wrong()}", 60
        )
        old, leaf = place.authorities.signer.certificate, place.serving.leaf
        made = leaf.certificate.not_before + timedelta(hours=1)
        kube.wait("the next second", lambda: datetime.now(UTC) > made + timedelta(seconds=2))
        watcher = threading.Thread(target=watch)
        watcher.start()
        kube.run(
            *PODGRACE,
            "certs",
            "renew",
            "--authority",
            "--ca-secret",
            "podgrace-ca",
            *place.options(),
        )
        kube.wait(
            "both in every bundle",
            lambda: {len(load_bundle(bundle)) for bundle in place.bundles.values()} == {2},
            60,
        )
        assert place.serving.leaf.certificate.signed_by(old), (
            "the old one signs until everybody trusts the next one"
        )
        kube.wait("the new signer", lambda: place.authorities.signer.certificate != old, 60)
        kube.wait("its leaf", lambda: not place.serving.leaf.certificate.signed_by(old), 60)
        assert {len(load_bundle(bundle)) for bundle in place.bundles.values()} == {2}, (
            "the old one stays trusted while its leaves live"
        )
        over.set()
        watcher.join()
    assert len(found) > 20
    assert [lines for lines in found if lines] == []


def test_accidents_are_put_right(place: Place) -> None:
    api = place.api
    with replica(place, "a", "--trust-wait", "2s"), replica(place, "b", "--trust-wait", "2s"):
        wait_pair(place)
        kube.wait(
            "a check without findings", lambda: not place.wrong() or f"not yet: {place.wrong()}", 60
        )
        bundles = place.bundles

        path = api.path("MutatingWebhookConfiguration", "", place.configuration)
        api.must(
            "PATCH",
            path,
            [{"op": "remove", "path": "/webhooks/1/clientConfig/caBundle"}],
            kind="application/json-patch+json",
        )
        kube.wait("the blanked bundle", lambda: place.bundles == bundles, 30)

        api.delete("Secret", place.namespace, "podgrace-tls")
        kube.wait(
            "the complaint",
            lambda: any(event["event"] == "serving_failed" for event in events(place, "a")),
            60,
        )
        api.create(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "podgrace-tls"}},
            place.namespace,
        )
        kube.wait(
            "the Secret filled again",
            lambda: place.serving.leaf is not None and not place.wrong(),
            60,
        )

        secret = api.get("Secret", place.namespace, "podgrace-ca")
        api.must(
            "PUT",
            api.path("Secret", place.namespace, "podgrace-ca"),
            {**secret, "data": {"signer.crt": "eA==", "state.json": "Ww=="}},
        )
        kube.wait(
            "a new authority",
            lambda: place.authorities.signer is not None and not place.wrong(),
            90,
        )


def test_a_killed_leader_is_replaced_and_one_that_stops_hands_over(place: Place) -> None:
    def holder() -> str:
        return str(place.client.lease("podgrace-certs").get("spec", {}).get("holderIdentity") or "")

    with replica(place, "a") as first:
        kube.wait("the first one's turn", lambda: holder().startswith("a_"), 60)
        with replica(place, "b") as second:
            wait_pair(place)
            first.kill()
            kube.wait("the second one's turn", lambda: holder().startswith("b_"), 90)
            with replica(place, "c"):
                wait_pair(place)
                start = time.monotonic()
                second.send_signal(signal.SIGTERM)
                kube.wait("the third one's turn", lambda: holder().startswith("c_"), 60)
                assert second.wait(30) == 0
                assert time.monotonic() - start < 25, "it was given, not waited for"
    assert place.serving.leaf is not None


# The chart.


VALUES = install.images(IMAGE, HELPER_IMAGE)


@pytest.fixture(scope="module", params=["Ignore", "Fail"])
def release(api: Api, request: pytest.FixtureRequest) -> Iterator[tuple[Release, str]]:
    """Install with a short wait, so that a rotation fits into a test; with two replicas."""
    values = {
        **VALUES,
        "webhook": {"failurePolicy": request.param},
        "tls": {"selfManaged": {"trustWait": "20s"}},
    }
    with installed(api, values) as made, made_namespace(api, {**made.labels, **ON}) as namespace:
        wait_serving(made, namespace)
        yield made, namespace


def _proxied(api: Api) -> str:
    return f"http://127.0.0.1:{api._port}"


def _certs(release: Release, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run `podgrace certs` as an operator does, through `kubectl proxy`."""
    return kube.run(
        *PODGRACE, "certs", *words, "--api", _proxied(release.api), "--namespace", release.namespace
    )


def _loaded(release: Release, serial: str) -> bool:
    """Tell whether every webhook has said that it serves this certificate."""
    for pod in release.api.pods(release.namespace):
        log = kube.run(
            "kubectl", "logs", "-n", release.namespace, pod["metadata"]["name"], "-c", "webhook"
        ).stdout
        lines = (json.loads(line) for line in log.splitlines() if line.startswith("{"))
        if not any(
            line.get("event") == "certificate_loaded" and str(line.get("serial")).lower() == serial
            for line in lines
        ):
            return False
    return True


def _served(release: Release) -> list[str]:
    """Ask each replica for the fingerprint of the files that it serves."""
    found = []
    for pod in release.api.pods(release.namespace):
        name = pod["metadata"]["name"]
        shown = kube.run(
            "kubectl",
            "exec",
            "-n",
            release.namespace,
            name,
            "-c",
            "webhook",
            "--",
            "podgrace",
            "certs",
            "show",
            "--dir",
            "/tls",
            "-o",
            "json",
        )
        found.append(
            next(row["sha256"] for row in json.loads(shown.stdout) if row["role"] == "serving")
        )
    return found


def _look(release: Release) -> None:
    """Make the kubelet look at the volumes now; by itself it does within 90 s, as in the long form.

    It takes every change of a Pod for a reason.
    """
    if os.environ.get("PODGRACE_FULL") == "1":
        return
    for pod in release.api.pods(release.namespace):
        mark = {"metadata": {"annotations": {"podgrace.test/look": uuid.uuid4().hex}}}
        release.api.patch("Pod", release.namespace, pod["metadata"]["name"], mark)


def _new_in_all(release: Release, old: set[str]) -> bool:
    _look(release)
    new = set(_served(release))
    return len(new) == 1 and new != old


def test_the_first_certificate_is_mounted_when_it_is_made(release: tuple[Release, str]) -> None:
    """Not with the kubelet's next look, which is up to 90 s away."""
    made, _ = release
    for pod in made.api.pods(made.namespace):
        name = pod["metadata"]["name"]
        log = kube.run("kubectl", "logs", "-n", made.namespace, name, "-c", "webhook").stdout
        at = {
            line["event"]: datetime.fromisoformat(line["time"])
            for line in map(json.loads, log.splitlines())
        }
        assert at["certificate_loaded"] - at["listening"] < timedelta(seconds=30)


def test_a_node_is_drained_of_the_webhook_without_a_flag(release: tuple[Release, str]) -> None:
    made, _ = release
    for node in {pod["spec"]["nodeName"] for pod in made.api.pods(made.namespace)}:
        command = ["kubectl", "drain", node, "--dry-run=server", "--ignore-daemonsets"]
        # Other releases' Pods, and the cluster's own, are not asked.
        selector = f"pod-template-hash={_hash(made)}"
        done = kube.run(*command, "--pod-selector", selector)
        assert "evicting pod " + made.namespace in done.stdout


def _hash(release: Release) -> str:
    (found,) = {
        pod["metadata"]["labels"]["pod-template-hash"]
        for pod in release.api.pods(release.namespace)
    }
    return str(found)


def test_a_rotation_of_the_authority_under_a_stream_fails_and_misses_no_pod(
    release: tuple[Release, str],
) -> None:
    """Under Fail a failed call refuses a Pod, under Ignore it leaves it alone: expect neither."""
    made, namespace = release
    before = _certs(made, "show", "-o", "json").stdout
    (signer,) = [row["sha256"] for row in json.loads(before) if row["role"] == "signer"]
    old = set(_served(made))
    assert len(old) == 1
    stream = Stream(made.api, namespace, rate=20)
    thread = threading.Thread(target=stream)
    thread.start()
    try:
        kube.wait("the stream", lambda: len(stream.answers) > 20)
        _certs(made, "renew", "--authority")

        def promoted() -> Any:
            rows = json.loads(_certs(made, "show", "-o", "json").stdout)
            signers = [row["sha256"] for row in rows if row["role"] == "signer"]
            trusted = [
                row["sha256"]
                for row in rows
                if row["role"] == "trusted" and row["file"].startswith("webhook ")
            ]
            return (
                signers != [signer] and len(trusted) == 4
            ) or f"not yet: {signers}, {len(trusted)} trusted"

        kube.wait("the new signer, and two authorities in both entries", promoted, 180)
        kube.wait(
            "its certificate in every replica",
            lambda: _new_in_all(made, old),
            120,
        )
        client = Client(Server.of(_proxied(made.api), None, None), made.namespace)
        leaf = read_serving(client.secret("podgrace-tls").data).leaf
        assert leaf is not None
        kube.wait(
            "it in use", lambda: _loaded(made, f"{leaf.certificate.raw.serial_number:032x}"), 60
        )
        seen = len(stream.answers)
        kube.wait("the stream after it", lambda: len(stream.answers) > seen + 200, 120)

        # The old authority is trusted for two months more. Its time is brought forward; then it
        # must go without harm, too.
        assert "phase: retiring" in _certs(made, "check").stdout
        secret = client.secret("podgrace-ca")
        stored = read_authorities(secret.data)
        past = tuple(
            replace(item, until=datetime.now(UTC) - timedelta(hours=1)) for item in stored.retired
        )
        client.save_secret(secret, write_authorities(replace(stored, retired=past)))
        kube.wait(
            "the end of the old authority",
            lambda: "phase: steady" in _certs(made, "check", "--wait", "1m").stdout,
            90,
        )
        assert {
            len(load_bundle(bundle))
            for bundle in client.webhooks(made.configuration()["metadata"]["name"]).bundles.values()
        } == {1}
        seen = len(stream.answers)
        kube.wait("the stream after that", lambda: len(stream.answers) > seen + 200, 120)
    finally:
        stream.stopped = True
        thread.join()
    count, failed, missed = stream.verdict()
    assert (failed, missed) == (0, 0), f"of {count} Pods"
    assert count > 600


def test_a_new_leaf_under_a_stream_fails_and_misses_no_pod(release: tuple[Release, str]) -> None:
    made, namespace = release
    old = set(_served(made))
    stream = Stream(made.api, namespace, rate=20)
    thread = threading.Thread(target=stream)
    thread.start()
    try:
        kube.wait("the stream", lambda: len(stream.answers) > 20)
        _certs(made, "renew")
        kube.wait(
            "a new certificate in every replica",
            lambda: _new_in_all(made, old),
            120,
        )
        seen = len(stream.answers)
        kube.wait("the stream after it", lambda: len(stream.answers) > seen + 200, 120)
    finally:
        stream.stopped = True
        thread.join()
    count, failed, missed = stream.verdict()
    assert (failed, missed) == (0, 0), f"of {count} Pods"


def test_podgrace_check_tells_namespaces_apart(release: tuple[Release, str], api: Api) -> None:
    made, namespace = release

    def check(name: str) -> "subprocess.CompletedProcess[str]":
        return kube.run(
            *PODGRACE, "check", "--namespace", name, "--api", _proxied(api), check=False
        )

    done = check(namespace)
    assert done.returncode == 0 and done.stdout.startswith("podgrace: injected: "), (
        done.stdout + done.stderr
    )
    with made_namespace(api, {**made.labels, "podgrace.io/inject": "disabled"}) as out:
        done = check(out)
        assert done.returncode == 3 and "podgrace: opted-out: " in done.stderr
    done = check("kube-system")
    assert done.returncode == 3 and "podgrace: excluded: " in done.stderr
    with made_namespace(api, {"podgrace.io/revision": "nobody"}) as other:
        done = check(other)
        assert done.returncode == 3 and "podgrace: excluded: " in done.stderr
    done = check("no-such-namespace")
    assert done.returncode == 1 and "podgrace: no-namespace: " in done.stderr


def test_podgrace_check_finds_a_sound_release_through_kubectl(release: tuple[Release, str]) -> None:
    """By what it calls, whatever its name; other releases of the cluster are other lines."""
    made, namespace = release
    done = kube.run(*PODGRACE, "check", "-o", "json", check=False)
    about = f"{made.name} in {made.namespace}"
    lines = [line for line in json.loads(done.stdout)["lines"] if line["release"] == about]
    levels = {line["code"]: line["level"] for line in lines if line["code"] != "versions"}
    assert set(levels.values()) <= {"ok"}, lines
    assert {"configuration", "endpoints", "ca-bundle", "certificate", "policies"} <= set(levels)
    assert kube.run(*PODGRACE, "check", "-n", namespace).stdout.startswith("podgrace: injected: ")


def test_podgrace_check_without_the_right(release: tuple[Release, str], api: Api) -> None:
    _, namespace = release
    config = json.loads(
        kube.run("kubectl", "config", "view", "--minify", "--raw", "--flatten", "-o", "json").stdout
    )
    cluster = config["clusters"][0]["cluster"]
    with tempfile.TemporaryDirectory() as directory:
        token, ca = Path(directory) / "token", Path(directory) / "ca.crt"
        ca.write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
        token.write_text(kube.run("kubectl", "create", "token", "default", "-n", namespace).stdout)
        options = ["--api", cluster["server"], "--api-token", str(token), "--api-ca", str(ca)]
        done = kube.run(*PODGRACE, "check", "--namespace", namespace, *options, check=False)
        assert done.returncode == 1 and "podgrace: not-allowed: 403" in done.stderr, (
            done.stdout + done.stderr
        )
        token.write_text("nonsense")
        done = kube.run(*PODGRACE, "check", "--namespace", namespace, *options, check=False)
        assert done.returncode == 1 and "podgrace: not-allowed: 401" in done.stderr
    assert api


def test_podgrace_check_of_a_webhook_that_is_down(release: tuple[Release, str], api: Api) -> None:
    made, namespace = release
    name = made.deployment()["metadata"]["name"]
    api.patch("Deployment", made.namespace, name, {"spec": {"replicas": 0}})
    kube.wait("the end of the webhook", lambda: not api.pods(made.namespace), 90)
    policy = made.configuration()["webhooks"][0]["failurePolicy"]
    done = kube.run(
        *PODGRACE, "check", "--namespace", namespace, "--api", _proxied(api), check=False
    )
    assert done.returncode == 3 and "podgrace: no-answer: " in done.stderr, (
        done.stdout + done.stderr
    )
    assert ("failed calling webhook" in done.stderr) == (policy == "Fail")
