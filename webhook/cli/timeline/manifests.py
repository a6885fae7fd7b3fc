"""What `timeline` makes in a cluster, and removes again: names in, manifests out. Pure.

Everything has the label INSTANCE, by which it is removed. No Pod gets a service account token or a
privilege, none passes podgrace's webhook, and each ends by itself after an hour, whatever happens
to the command that made it.
"""

from typing import Any, Final, NamedTuple

from webhook.cli.timeline.workload import READY

NAME: Final = "podgrace-timeline"
INSTANCE: Final = "app.kubernetes.io/instance"
PART: Final = "app.kubernetes.io/component"
PORT: Final = 8080
KINDS: Final = ("ingresses", "services", "pods")
"""What is made, in the order in which it is removed."""
_LIVE: Final = 3600

Tree = dict[str, Any]


class Plan(NamedTuple):
    """What is made for one run. start, linger: seconds of the server, see `workload`."""

    instance: str
    image: str
    start: float
    linger: float
    probe: bool

    @property
    def service(self) -> str:
        """The Service with a cluster IP."""
        return self.instance

    @property
    def headless(self) -> str:
        """The headless Service."""
        return f"{self.instance}-headless"

    def labels(self, part: str) -> dict[str, str]:
        """Give the labels of an object."""
        return {
            "app.kubernetes.io/name": NAME,
            "app.kubernetes.io/part-of": "podgrace",
            INSTANCE: self.instance,
            PART: part,
        }

    @property
    def selector(self) -> str:
        """Choose everything that is made."""
        return f"{INSTANCE}={self.instance}"

    @property
    def slices(self) -> str:
        """Choose the EndpointSlices of both Services."""
        return f"kubernetes.io/service-name in ({self.service},{self.headless})"


def services(plan: Plan) -> list[Tree]:
    """Make both Services."""
    return [_service(plan, plan.service, {}), _service(plan, plan.headless, {"clusterIP": "None"})]


def _service(plan: Plan, name: str, more: Tree) -> Tree:
    spec = {
        "selector": {INSTANCE: plan.instance, PART: "server"},
        "ports": [{"name": "http", "port": PORT, "targetPort": PORT}],
        **more,
    }
    labels = plan.labels("service")
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
    }


def server(plan: Plan, name: str) -> Tree:
    """Make a Pod that comes and goes, or stays."""
    container = _container(
        plan,
        "server",
        ["--as", "server", "--start", f"{plan.start:g}", "--linger", f"{plan.linger:g}"],
    )
    container["ports"] = [{"containerPort": PORT, "name": "http"}]
    if plan.probe:
        # The times that podgrace gives to a probe that it adds.
        container["readinessProbe"] = {
            "httpGet": {"path": READY, "port": PORT},
            "periodSeconds": 1,
            "timeoutSeconds": 2,
        }
    spec = {"terminationGracePeriodSeconds": int(plan.linger) + 10, "containers": [container]}
    return _pod(plan, name, "server", spec)


def observer(plan: Plan, name: str, node: str) -> Tree:
    """Make a Pod that asks from a node; it ends when nobody holds its standard input any more."""
    container = _container(plan, "observer", ["--as", "observer"])
    container |= {"stdin": True, "stdinOnce": True}
    terms = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]
    needed = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    spec = {
        "affinity": {"nodeAffinity": needed},
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
    }
    return _pod(plan, name, "observer", spec)


def ingress(plan: Plan, of_class: str, host: str) -> Tree:
    """Make an Ingress to the Service, for requests to that host."""
    backend = {"service": {"name": plan.service, "port": {"number": PORT}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": plan.instance, "labels": plan.labels("ingress")},
        "spec": {
            "ingressClassName": of_class,
            "rules": [{"host": host, "http": {"paths": [path]}}],
        },
    }


def _container(plan: Plan, name: str, words: list[str]) -> Tree:
    return {
        "name": name,
        "image": plan.image,
        "args": ["timeline", *words],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {
            "requests": {"cpu": "20m", "memory": "48Mi"},
            "limits": {"cpu": "1", "memory": "256Mi"},
        },
    }


def _pod(plan: Plan, name: str, part: str, spec: Tree) -> Tree:
    # The webhook would give them a preStop and a grace period, and the run measures those.
    labels = plan.labels(part) | {"podgrace.io/inject": "disabled"}
    common = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": _LIVE,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": common | spec,
    }
