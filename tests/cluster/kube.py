"""The API server, as any client calls it: JSON over `kubectl proxy`, for every kubeconfig.

In: a kubeconfig by the environment. Out: `Api`, with waits that end at a condition or fail at a
deadline with what was seen.
"""

import contextlib
import http.client
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

Tree = dict[str, Any]

CORE = "/api/v1/namespaces/{}"
_ADMISSION = "/apis/admissionregistration.k8s.io/v1"
PATHS = {
    "Pod": CORE + "/pods",
    "Service": CORE + "/services",
    "ConfigMap": CORE + "/configmaps",
    "Secret": CORE + "/secrets",
    "Event": CORE + "/events",
    "ServiceAccount": CORE + "/serviceaccounts",
    "ResourceQuota": CORE + "/resourcequotas",
    "LimitRange": CORE + "/limitranges",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "ReplicaSet": "/apis/apps/v1/namespaces/{}/replicasets",
    "StatefulSet": "/apis/apps/v1/namespaces/{}/statefulsets",
    "DaemonSet": "/apis/apps/v1/namespaces/{}/daemonsets",
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
    "CronJob": "/apis/batch/v1/namespaces/{}/cronjobs",
    "Lease": "/apis/coordination.k8s.io/v1/namespaces/{}/leases",
    "EndpointSlice": "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "Ingress": "/apis/networking.k8s.io/v1/namespaces/{}/ingresses",
    "IngressClass": "/apis/networking.k8s.io/v1/ingressclasses",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "HorizontalPodAutoscaler": "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers",
    "Namespace": "/api/v1/namespaces",
    "Node": "/api/v1/nodes",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "MutatingWebhookConfiguration": f"{_ADMISSION}/mutatingwebhookconfigurations",
    "ValidatingAdmissionPolicy": f"{_ADMISSION}/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": f"{_ADMISSION}/validatingadmissionpolicybindings",
}
"""Kind -> where the API keeps it."""


class Answer(NamedTuple):
    """What the API server said."""

    status: int
    body: Tree
    warnings: tuple[str, ...]
    text: str

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))


class Refused(Exception):
    """The API server did not do it; holds its answer."""

    def __init__(self, what: str, answer: Answer) -> None:
        self.answer = answer
        super().__init__(f"{what}: {answer.status}: {answer.message}")


class Api:
    """A connection a request; calls may come from several threads."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(
        self, method: str, path: str, body: Tree | None = None, *, kind: str = "application/json"
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request(
                method,
                path,
                None if body is None else json.dumps(body),
                {"Content-Type": kind, "Accept": "application/json"},
            )
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
            warnings = tuple(response.headers.get_all("Warning") or ())
        finally:
            connection.close()
        try:
            tree = json.loads(text)
        except ValueError:
            tree = {"message": text}
        return Answer(response.status, tree, warnings, text)

    def must(
        self, method: str, path: str, body: Tree | None = None, *, kind: str = "application/json"
    ) -> Tree:
        answer = self.ask(method, path, body, kind=kind)
        if answer.status >= 300:
            raise Refused(f"{method} {path}", answer)
        return answer.body

    # -- by kind

    def path(self, kind: str, namespace: str = "", name: str = "") -> str:
        return PATHS[kind].format(namespace) + (f"/{name}" if name else "")

    def create(self, tree: Tree, namespace: str = "", *, dry_run: bool = False) -> Tree:
        path = self.path(tree["kind"], namespace or tree["metadata"].get("namespace", "default"))
        return self.must("POST", path + ("?dryRun=All" if dry_run else ""), tree)

    def get(self, kind: str, namespace: str, name: str) -> Tree:
        return self.must("GET", self.path(kind, namespace, name))

    def list(self, kind: str, namespace: str = "", selector: str = "") -> "list[Tree]":
        found: list[Tree] = self.must(
            "GET", self.path(kind, namespace) + (f"?labelSelector={selector}" if selector else "")
        )["items"]
        return found

    def delete(self, kind: str, namespace: str, name: str, **options: Any) -> None:
        answer = self.ask(
            "DELETE",
            self.path(kind, namespace, name),
            {"kind": "DeleteOptions", "apiVersion": "v1", **options},
        )
        if answer.status >= 300 and answer.status != 404:
            raise Refused(f"DELETE {kind} {name}", answer)

    def patch(self, kind: str, namespace: str, name: str, body: Tree) -> Tree:
        return self.must(
            "PATCH",
            self.path(kind, namespace, name),
            body,
            kind="application/strategic-merge-patch+json",
        )

    def pods(self, namespace: str, app: str = "") -> "list[Tree]":
        return self.list("Pod", namespace, f"app={app}" if app else "")

    def evict(self, namespace: str, name: str) -> Answer:
        metadata = {"name": name, "namespace": namespace}
        tree = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
        return self.ask("POST", self.path("Pod", namespace, name) + "/eviction", tree)

    def log(self, namespace: str, pod: str, container: str) -> str:
        path = f"{self.path('Pod', namespace, pod)}/log?container={container}&tailLines=60"
        answer = self.ask("GET", path)
        return answer.text if answer.status == 200 else ""


@contextlib.contextmanager
def proxy() -> Iterator[Api]:
    """Run `kubectl proxy` on a free port of this machine."""
    command = [
        "kubectl",
        "proxy",
        "--port=0",
        "--reject-methods=^$",
        "--reject-paths=^$",
        "--accept-paths=.*",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            assert "Starting to serve on" in line, f"kubectl proxy said {line!r}"
            yield Api(int(line.rsplit(":", 1)[1]))
        finally:
            process.terminate()


def wait(what: str, check: Callable[[], Any], seconds: float = 60, every: float = 0.25) -> Any:
    """Wait until a check gives something true, and return that.

    A string that begins with "not yet" is false, and gives the reason.
    """
    deadline = time.monotonic() + seconds
    while True:
        seen = check()
        if seen and not (isinstance(seen, str) and seen.startswith("not yet")):
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen in {seconds:.0f} s; last seen: {seen}")
        time.sleep(every)


def ready(pod: Tree) -> bool:
    return any(
        c["type"] == "Ready" and c["status"] == "True"
        for c in pod.get("status", {}).get("conditions", ())
    )


def going(pod: Tree) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def state(pod: Tree) -> str:
    """Say in a line where a Pod is and why."""
    statuses = [
        *pod.get("status", {}).get("initContainerStatuses", ()),
        *pod.get("status", {}).get("containerStatuses", ()),
    ]
    waits = [
        f"{s['name']}: {w['reason']} {w.get('message', '')}".strip()
        for s in statuses
        if (w := s.get("state", {}).get("waiting"))
    ]
    ends = [
        f"{s['name']}: ended with {e['exitCode']}"
        for s in statuses
        if (e := s.get("state", {}).get("terminated"))
    ]
    phase, goes = pod.get("status", {}).get("phase"), "going" if going(pod) else ""
    return f"{pod['metadata']['name']} {phase} {goes} {'; '.join(waits + ends)}".strip()


def wait_ready(
    api: Api, namespace: str, app: str, count: int, seconds: float = 120
) -> "list[Tree]":
    """Wait until this many Pods of an app are ready and no other is left."""

    def check() -> Any:
        pods = api.pods(namespace, app)
        if len(pods) == count and all(ready(pod) and not going(pod) for pod in pods):
            return pods
        return f"not yet: {[state(pod) for pod in pods]}"

    found: list[Tree] = wait(f"{count} ready Pods of {app}", check, seconds)
    return found


def rolled_out(deployment: Tree) -> bool:
    """Tell what `kubectl rollout status` waits for."""
    status, wanted = deployment.get("status", {}), deployment["spec"]["replicas"]
    return (
        status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
        and status.get("updatedReplicas", 0) == wanted
        and status.get("replicas", 0) == wanted
        and status.get("availableReplicas", 0) == wanted
    )


def run(*command: str, check: bool = True, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run a program; its failure shows what it said."""
    done = subprocess.run([*command], capture_output=True, text=True, check=False, **options)
    assert not check or done.returncode == 0, (
        f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-3000:]}\n"
        f"{done.stderr[-3000:]}"
    )
    return done


def container(name: str, image: str, **fields: Any) -> Tree:
    return {"name": name, "image": image, "imagePullPolicy": "IfNotPresent", **fields}


def pod_template(
    app: str,
    containers: Sequence[Tree],
    *,
    labels: Tree | None = None,
    annotations: Tree | None = None,
    **spec: Any,
) -> Tree:
    return {
        "metadata": {"labels": {"app": app, **(labels or {})}, "annotations": annotations or {}},
        "spec": {"containers": [*containers], "automountServiceAccountToken": False, **spec},
    }


def deployment(app: str, replicas: int, template: Tree, **spec: Any) -> Tree:
    metadata = {"name": app, "labels": {"app": app}}
    selector = {"matchLabels": {"app": app}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {"replicas": replicas, "selector": selector, "template": template, **spec},
    }


def service(app: str, port: int = 8080) -> Tree:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": app},
        "spec": {"selector": {"app": app}, "ports": [{"port": 80, "targetPort": port}]},
    }
