"""The chart, installed as an operator does it, with helm.

In: values. Out: a `Release`, whose `labels` a namespace needs so that this release, and no other on
the cluster, looks at it.
"""

import base64
import contextlib
import json
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.cluster import kube
from tests.cluster.kube import Answer, Api, Tree

CHART = Path(__file__).parents[2] / "charts" / "podgrace"
STATUS = "podgrace.io/status"
SIDECAR = "podgrace"


class Release(NamedTuple):
    """One installation. Its revision keeps it apart from every other one on the cluster."""

    api: Api
    name: str
    namespace: str
    revision: str

    @property
    def labels(self) -> dict[str, str]:
        """Labels of a namespace that this release handles, where opted in."""
        return {"podgrace.io/revision": self.revision}

    def deployment(self) -> Tree:
        (found,) = self.api.list("Deployment", self.namespace)
        return found

    def configuration(self) -> Tree:
        found = [
            tree
            for tree in self.api.list("MutatingWebhookConfiguration")
            if _service_namespace(tree) == self.namespace
        ]
        assert len(found) == 1, [tree["metadata"]["name"] for tree in found]
        return found[0]


def _service_namespace(configuration: Tree) -> str:
    return str(configuration["webhooks"][0]["clientConfig"].get("service", {}).get("namespace"))


def images(webhook: str, helper: str) -> Tree:
    """Give the values that name the images."""

    def split(name: str) -> Tree:
        repository, _, tag = name.rpartition(":")
        return {"repository": repository, "tag": tag}

    return {"image": {**split(webhook), "pullPolicy": "IfNotPresent"}, "helperImage": split(helper)}


PODGRACE = (sys.executable, "-m", "webhook.cli")


def b64(path: Path) -> str:
    """Read a file as a Secret holds it."""
    return base64.b64encode(path.read_bytes()).decode()


def helm(verb: str, release: Release, values: Tree, *options: str, chart: Path = CHART) -> None:
    """Run `helm install` or `helm upgrade`, and wait as `--wait` does."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(values, file)
        file.flush()
        kube.run(
            "helm",
            verb,
            release.name,
            str(chart),
            "--namespace",
            release.namespace,
            "-f",
            file.name,
            "--wait",
            "--timeout",
            "180s",
            *options,
        )


@contextlib.contextmanager
def installed(
    api: Api, values: Tree, prepare: Callable[[Release], None] = lambda _: None
) -> Iterator[Release]:
    """Install into a new namespace, and remove it whatever happens.

    `prepare` may make objects that values name.
    """
    tag = uuid.uuid4().hex[:6]
    release = Release(api, "podgrace", f"e2e-system-{tag}", f"e2e-{tag}")
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    api.create(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": release.namespace, "labels": restricted},
        }
    )
    try:
        prepare(release)
        helm("install", release, {**values, "revision": release.revision})
        yield release
    finally:
        kube.run("helm", "uninstall", release.name, "--namespace", release.namespace, check=False)
        for pod in api.pods(release.namespace):
            api.delete("Pod", release.namespace, pod["metadata"]["name"], gracePeriodSeconds=0)
        api.delete("Namespace", "", release.namespace)


def wait_serving(release: Release, namespace: str) -> None:
    """Wait until the API server's calls arrive: it trusts the certificate, and knows us."""

    def mutated() -> bool:
        answer = try_pod(release.api, namespace, labels={"podgrace.io/inject": "enabled"})
        return answer.status < 300 and is_injected(
            answer.body
        )  # under Fail it is refused until then

    kube.wait("the first mutation", mutated, 90)


def try_pod(
    api: Api, namespace: str, *, labels: "dict[str, str] | None" = None, **spec: Any
) -> Answer:
    """Create a Pod by a dry run: everything but the storing."""
    return api.ask(
        "POST",
        api.path("Pod", namespace) + "?dryRun=All",
        simple_pod("try-", labels=labels, **spec),
    )


def simple_pod(
    name: str,
    *,
    labels: "dict[str, str] | None" = None,
    annotations: "dict[str, str] | None" = None,
    **spec: Any,
) -> Tree:
    """Make a Pod that serves on 8080; `name` ends in - to be completed by the API server."""
    app = kube.container(
        "app", "podgrace.test/none:1", command=["/server"], ports=[{"containerPort": 8080}]
    )
    named = {"generateName": name} if name.endswith("-") else {"name": name}
    metadata = {**named, "labels": labels or {}, "annotations": annotations or {}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [app], "terminationGracePeriodSeconds": 30, **spec},
    }


def is_injected(pod: Tree) -> bool:
    """Tell whether a Pod was patched, by what is in it and not only by the mark."""
    parts = (*pod["spec"].get("initContainers", ()), *pod["spec"].get("volumes", ()))
    return STATUS in pod["metadata"].get("annotations", {}) and any(
        part["name"] == SIDECAR for part in parts
    )


def is_untouched(pod: Tree) -> bool:
    """Tell whether nothing of ours is in it."""
    return "podgrace" not in json.dumps(
        {**pod["spec"], "annotations": pod["metadata"].get("annotations", {})}
    ).replace("podgrace.test/", "")


class Stream:
    """Pods created one after another by dry run, a stream without gaps. Runs in a thread."""

    def __init__(self, api: Api, namespace: str, rate: float) -> None:
        self.answers: list[Answer] = []
        self._api, self._namespace, self._pause = api, namespace, 1 / rate
        self.stopped = False

    def __call__(self) -> None:
        while not self.stopped:
            begin = time.monotonic()
            self.answers.append(
                try_pod(self._api, self._namespace, labels={"podgrace.io/inject": "enabled"})
            )
            time.sleep(max(0.0, self._pause - (time.monotonic() - begin)))

    def verdict(self) -> tuple[int, int, int]:
        """Give how many were created, how many failed, how many came out unpatched."""
        failed = [answer for answer in self.answers if answer.status >= 300]
        missed = [
            answer
            for answer in self.answers
            if answer.status < 300 and not is_injected(answer.body)
        ]
        return len(self.answers), len(failed), len(missed)
