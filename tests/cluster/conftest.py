"""What the tests in a cluster share. They take any cluster; settings say how to reach it.

They also say how to give it images.

| setting (environment) | what it is, and what holds without it                                    |
|-----------------------|--------------------------------------------------------------------------|
| KUBECONFIG            | the cluster, with all rights; kubectl and helm on the PATH. Without: all |
|                       | tests are skipped                                                        |
| PODGRACE_CLIENT       | words before `prove ...` that run podgrace where Services are reachable. |
|                       | Without: `kubectl exec`, a Pod                                           |
| PODGRACE_IMAGE_BUILD  | words before NAME CONTEXT [OPTIONS] that build: `docker build -t`.       |
|                       | Without: the images are there                                            |
| PODGRACE_IMAGE_LOAD   | words before NAME that give a built image to the nodes:                  |
|                       | `kind load docker-image`. Without: nothing more                          |
| PODGRACE_BASE_IMAGE   | Debian 12 with Python 3.11. Without: python:3.11-slim-bookworm           |
| PODGRACE_IMAGE        | the webhook's image. Without: podgrace.test/podgrace:dev                 |
| PODGRACE_HELPER_IMAGE | the helper's. Without: podgrace.test/podgrace-helper:dev                 |
| PODGRACE_INGRESS      | CLASS NAMESPACE/SERVICE: an ingress controller and where it listens,     |
|                       | port 80. Without: none is measured                                       |
| PODGRACE_PROXY        | words before `nftables` or `iptables` that switch kube-proxy on all      |
|                       | nodes. Without: it is left alone                                         |
| PODGRACE_FULL         | 1: the long measurement behind docs/proof.md too. Without: the short one |
| PODGRACE_RESULTS      | a directory for the measured tables. Without: they are only printed      |
"""

import contextlib
import functools
import hashlib
import json
import os
import shlex
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.cluster import install, kube, mission
from tests.cluster.install import Release
from tests.cluster.kube import Api
from tests.cluster.mission import Front, Place, Prove, Reach, Row
from webhook.cli.check.nodes import mounts_images

HERE = Path(__file__).parent
IMAGE = os.environ.get("PODGRACE_IMAGE", "podgrace.test/podgrace:dev")
HELPER_IMAGE = os.environ.get("PODGRACE_HELPER_IMAGE", "podgrace.test/podgrace-helper:dev")


def _why_not() -> str:
    """Say why the tests cannot run here, or nothing."""
    if not os.environ.get("KUBECONFIG"):
        return "no cluster: set KUBECONFIG (make test-cluster brings one up where it can)"
    missing = [tool for tool in ("kubectl", "helm") if shutil.which(tool) is None]
    if missing:
        return f"no {' and no '.join(missing)} on the PATH"
    if os.environ.get("PYTEST_XDIST_WORKER"):
        return "the tests in a cluster run one after another: pytest tests/cluster -n 0"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mine = [item for item in items if HERE in item.path.parents]
    reason = _why_not()
    for item in mine:
        item.add_marker("cluster")
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))
    items.sort(key=lambda item: item.path == HERE / "test_proxy.py")


@pytest.fixture(scope="session")
def api() -> Iterator[Api]:
    with kube.proxy() as found:
        yield found


@pytest.fixture(scope="session")
def servers_image(api: Api) -> str:
    """Build the image of the servers under test, once: it is named by what is in it."""
    return _image(api, "podgrace.test/e2e-servers", HERE / "images" / "servers")


@pytest.fixture(scope="session")
def build_image(api: Api) -> Callable[..., str]:
    """Give a function that builds an image: name, context, what to do before.

    As `servers_image` does.
    """
    return functools.partial(_image, api)


def _image(api: Api, name: str, context: Path, before: Callable[[], object] = lambda: None) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in context.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(context)).encode() + b"\0" + path.read_bytes())
    full = f"{name}:{digest.hexdigest()[:12]}"
    there = {
        known
        for node in api.list("Node")
        for image in node["status"].get("images", ())
        for known in image["names"] or ()
    }
    builder = os.environ.get("PODGRACE_IMAGE_BUILD")
    if full not in there and builder:
        before()
        base = os.environ.get("PODGRACE_BASE_IMAGE", "python:3.11-slim-bookworm")
        kube.run(*shlex.split(builder), full, str(context), "--build-arg", f"BASE={base}")
        if loader := os.environ.get("PODGRACE_IMAGE_LOAD"):
            kube.run(*shlex.split(loader), full)
    return full


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    """Make a namespace of the test's own, without a label."""
    with made_namespace(api) as name:
        yield name


@pytest.fixture
def namespaces(api: Api) -> Iterator[Callable[..., str]]:
    """Give a function that makes namespaces with labels."""
    with contextlib.ExitStack() as stack:
        yield lambda labels: stack.enter_context(made_namespace(api, labels))


@contextlib.contextmanager
def made_namespace(api: Api, labels: "dict[str, str] | None" = None) -> Iterator[str]:
    name = f"e2e-{uuid.uuid4().hex[:8]}"
    api.create(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": labels or {}},
        }
    )
    kube.wait(
        "the default service account",
        lambda: api.ask("GET", api.path("ServiceAccount", name, "default")).status == 200,
    )
    try:
        yield name
    finally:
        # Nobody waits for what runs there: a minute of grace would be a minute of every test.
        for pod in api.pods(name):
            api.delete("Pod", name, pod["metadata"]["name"], gracePeriodSeconds=0)
        api.delete("Namespace", "", name)


@pytest.fixture(scope="session")
def prove(api: Api) -> Iterator[Prove]:
    """Give the command line of a `podgrace prove` that runs where Services can be reached."""
    if prefix := os.environ.get("PODGRACE_CLIENT"):
        yield lambda *words: [*shlex.split(prefix), "prove", *words]
        return
    with made_namespace(api) as name:
        # The image has no shell and no sleep: a command that reads standard input, which stays
        # open, waits as well.
        client = kube.container(
            "client", IMAGE, command=["podgrace", "inject", "-f", "-"], stdin=True
        )
        metadata = {"name": "client", "labels": {"app": "client", "podgrace.io/inject": "disabled"}}
        api.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": metadata,
                "spec": {"containers": [client]},
            },
            name,
        )
        kube.wait_ready(api, name, "client", 1)
        yield lambda *words: [
            "kubectl",
            "exec",
            "--namespace",
            name,
            "--stdin",
            "client",
            "--",
            "podgrace",
            "prove",
            *words,
        ]


@pytest.fixture
def place(api: Api, namespace: str, servers_image: str, prove: Prove) -> Place:
    return Place(api, namespace, servers_image, prove)


@pytest.fixture
def places(
    podgrace: Release, namespaces: Callable[..., str], servers_image: str, prove: Prove
) -> Callable[[], Place]:
    """Give a function that makes a place with its own namespace, so that variants run at once."""
    return lambda: Place(podgrace.api, namespaces(podgrace.labels), servers_image, prove)


@pytest.fixture
def ingress(api: Api) -> Reach:
    """Put an Ingress before each Service, with a host of its own."""
    if not (setting := os.environ.get("PODGRACE_INGRESS")):
        pytest.skip("no ingress controller: PODGRACE_INGRESS")
    name, _, listens = setting.partition(" ")
    if api.ask("GET", api.path("IngressClass", "", name)).status != 200:
        pytest.skip(f"the cluster has no IngressClass {name} (PODGRACE_INGRESS)")
    where = api.get("Service", *listens.split("/"))["spec"]["clusterIP"]

    def reach(api: Api, namespace: str, server: str, _: str) -> Front:
        host = f"{server}.{namespace}.test"
        backend = {"service": {"name": server, "port": {"number": 80}}}
        path = {"path": "/", "pathType": "Prefix", "backend": backend}
        api.create(
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "Ingress",
                "metadata": {"name": server},
                "spec": {
                    "ingressClassName": name,
                    "rules": [{"host": host, "http": {"paths": [path]}}],
                },
            },
            namespace,
        )
        return Front(where, ("--header", f"Host:{host}"))

    return reach


@pytest.fixture(scope="session")
def tally() -> Iterator[Callable[[str, Sequence[Row]], None]]:
    """Keep what was measured: printed at the end, and written to a directory if one is named."""
    measured: dict[str, Sequence[Row]] = {}
    yield measured.__setitem__
    for name, rows in measured.items():
        print(f"\n{name}\n\n{mission.told(rows)}")
        if where := os.environ.get("PODGRACE_RESULTS"):
            Path(where).mkdir(parents=True, exist_ok=True)
            (Path(where) / f"{name}.json").write_text(
                json.dumps([row._asdict() for row in rows], indent=1), encoding="utf-8"
            )


@pytest.fixture(scope="session")
def podgrace(api: Api) -> Iterator[Release]:
    """Install podgrace by its chart, as it comes; ready when a Pod has been mutated."""
    with (
        install.installed(api, install.images(IMAGE, HELPER_IMAGE)) as release,
        made_namespace(api, release.labels) as namespace,
    ):
        install.wait_serving(release, namespace)
        yield release


def without_image_volumes(api: Api) -> list[tuple[str, str]]:
    """Return the versions (runtime, kubelet) of nodes that cannot mount an image."""
    infos = [node["status"]["nodeInfo"] for node in api.list("Node")]
    versions = {(info["containerRuntimeVersion"], info["kubeletVersion"]) for info in infos}
    return [version for version in versions if not mounts_images(*version)]


@pytest.fixture(scope="session")
def by_image(api: Api) -> Iterator[Release]:
    """Install a second release, which mounts the helper's image; skips where a runtime cannot.

    Its class `edge` keeps the sidecar, behind a slow balancer.
    """
    if old := without_image_volumes(api):
        pytest.skip(f"no image volumes on nodes with {old}")
    edge = {"preset": "aws-nlb", "helper": {"delivery": "sidecar"}}
    config = {"helper": {"delivery": "image"}, "classes": {"edge": edge}}
    values = install.images(IMAGE, HELPER_IMAGE) | {"config": config}
    with (
        install.installed(api, values) as release,
        made_namespace(api, release.labels) as namespace,
    ):
        install.wait_serving(release, namespace)
        yield release
