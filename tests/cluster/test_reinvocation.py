"""Beside a webhook that adds a container, before ours or after: each is handled once."""

import base64
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from certs.authority import Authority, service_names
from tests.cluster import kube
from tests.cluster.conftest import made_namespace
from tests.cluster.install import STATUS, Release, is_injected, try_pod
from tests.cluster.kube import Api, Tree

OTHER = '''
"""A webhook that adds a container "late" with a port of its own, once."""
import base64, http.server, json, ssl

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        response = {"uid": review["request"]["uid"], "allowed": True}
        containers = review["request"]["object"]["spec"]["containers"]
        if not any(container["name"] == "late" for container in containers):
            late = {"name": "late", "image": "podgrace.test/none:1", "command": ["/late"]}
            late["ports"] = [{"containerPort": 9099}]
            add = {"op": "add", "path": "/spec/containers/-", "value": late}
            patch = json.dumps([add]).encode()
            response |= {"patchType": "JSONPatch", "patch": base64.b64encode(patch).decode()}
        kind = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
        body = json.dumps({**kind, "response": response}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/other/tls.crt", "/other/tls.key")
server = http.server.ThreadingHTTPServer(("", 8443), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
'''


@pytest.fixture(scope="module")
def other(api: Api, servers_image: str) -> Iterator[Callable[[str, dict[str, str]], Tree]]:
    """Run the other webhook in the cluster; returns a function that makes its configuration.

    By name, and for whose namespaces.
    """
    with made_namespace(api) as namespace:
        authority = Authority.create(now=datetime.now(UTC))
        leaf = authority.issue(*service_names("other", namespace), now=datetime.now(UTC))
        files = {"tls.crt": leaf.cert_pem, "tls.key": leaf.key_pem, "other.py": OTHER.encode()}
        data = {name: base64.b64encode(content).decode() for name, content in files.items()}
        api.create(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "other"}, "data": data},
            namespace,
        )
        mount = [{"name": "other", "mountPath": "/other"}]
        probe = {"tcpSocket": {"port": 8443}, "periodSeconds": 1}
        app = kube.container(
            "other",
            servers_image,
            command=["python3", "/other/other.py"],
            volumeMounts=mount,
            readinessProbe=probe,
        )
        template = kube.pod_template(
            "other", [app], volumes=[{"name": "other", "secret": {"secretName": "other"}}]
        )
        api.create(kube.deployment("other", 1, template), namespace)
        api.create(kube.service("other", 8443), namespace)
        kube.wait_ready(api, namespace, "other", 1)
        made: list[str] = []

        def configure(name: str, labels: dict[str, str]) -> Tree:
            service = {"name": "other", "namespace": namespace, "path": "/", "port": 80}
            entry = {
                "name": "other.e2e.test",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "timeoutSeconds": 5,
                "failurePolicy": "Fail",
                "reinvocationPolicy": "Never",
                "clientConfig": {
                    "service": service,
                    "caBundle": base64.b64encode(authority.cert_pem).decode(),
                },
                "namespaceSelector": {"matchLabels": labels},
                "rules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["pods"],
                    }
                ],
            }
            tree = {
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "MutatingWebhookConfiguration",
            }
            made.append(name)
            return api.create({**tree, "metadata": {"name": name}, "webhooks": [entry]})

        yield configure
        for name in made:
            api.delete("MutatingWebhookConfiguration", "", name)


@pytest.mark.parametrize("order", ["before", "after"])
def test_another_webhook(
    podgrace: Release,
    namespaces: Callable[..., str],
    other: Callable[[str, dict[str, str]], Tree],
    order: str,
) -> None:
    """Webhooks run in order of their names; ours runs again when a later one changed the Pod."""
    mark = {"e2e-other": order}
    namespace = namespaces({**podgrace.labels, **mark, "podgrace.io/inject": "enabled"})
    name = f"{'0' if order == 'before' else 'zz'}-{namespace}"
    ours = podgrace.configuration()["metadata"]["name"]
    assert (name < ours) == (order == "before"), ours
    other(name, {**mark, "kubernetes.io/metadata.name": namespace})

    def both() -> Any:
        answer = try_pod(podgrace.api, namespace)
        found = [
            container["name"] for container in answer.body.get("spec", {}).get("containers", ())
        ]
        return (
            answer
            if found == ["app", "late"]
            else f"not yet: {answer.status} {answer.message} {found}"
        )

    pod = kube.wait("both webhooks", both, 60).body
    assert is_injected(pod)
    status = json.loads(pod["metadata"]["annotations"][STATUS])
    assert set(status["containers"]) == {"app", "late"}
    for container in pod["spec"]["containers"]:
        # Each waits for the ports of all: a back end must not stop before the front that still owes
        # answers.
        hook = container["lifecycle"]["preStop"]["exec"]["command"]
        assert "--ports=8080,9099" in hook
        assert [mount["name"] for mount in container["volumeMounts"]].count("podgrace") == 1
    assert [container["name"] for container in pod["spec"]["initContainers"]] == ["podgrace"]
    assert [volume["name"] for volume in pod["spec"]["volumes"]].count("podgrace") == 1
