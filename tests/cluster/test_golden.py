"""The real API server accepts each golden Pod of tests/pods, and the webhook decides the same.

Each Pod takes its usual way: defaulted by the API server, patched, and validated by the API server
again. If a file has its own configuration, the same code makes the patch here; else the installed
webhook does.
"""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import jsonpatch
import msgspec
import pytest
from ruamel.yaml import YAML

from tests.cluster import kube
from tests.cluster.conftest import made_namespace
from tests.cluster.install import STATUS, Release
from tests.cluster.kube import Api, Tree
from webhook.admission import mutate
from webhook.config import parse
from webhook.core.pod import Pod

PODS = sorted((Path(__file__).parents[1] / "pods").glob("*.yaml"))

_SERVER_MADE = (
    "uid",
    "creationTimestamp",
    "managedFields",
    "resourceVersion",
    "generation",
    "selfLink",
)


@pytest.fixture(scope="module")
def journey(api: Api) -> Iterator[Callable[[Tree], kube.Answer]]:
    """Give a function that creates a Pod by dry run, unseen by webhooks, with all that it names."""
    with made_namespace(api, {"podgrace.io/inject": "disabled"}) as namespace:
        yield lambda pod: create(api, namespace, pod)


@pytest.fixture(scope="module")
def looked_at(api: Api, podgrace: Release) -> Iterator[str]:
    with made_namespace(api, podgrace.labels) as namespace:
        yield namespace


def create(api: Api, namespace: str, pod: Tree) -> kube.Answer:
    pod = json.loads(json.dumps(pod))
    pod["metadata"]["namespace"] = namespace
    account = pod["spec"].get("serviceAccountName")
    if account and api.ask("GET", api.path("ServiceAccount", namespace, account)).status == 404:
        api.create(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}}, namespace
        )
    return api.ask("POST", api.path("Pod", namespace) + "?dryRun=All", pod)


@pytest.mark.parametrize("path", PODS, ids=lambda path: path.stem)
def test_accepted_after_mutation(
    path: Path, journey: Callable[[Tree], kube.Answer], podgrace: Release, looked_at: str
) -> None:
    golden = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    plain = journey(golden["pod"])
    assert plain.status == 201, plain.message
    text = io.StringIO()
    YAML(typ="safe", pure=True).dump(golden.get("config") or {}, text)
    outcome = mutate(
        msgspec.json.decode(msgspec.json.encode(_bare(plain.body)), type=Pod),
        parse(text.getvalue()),
        "e2e",
    )
    patched = jsonpatch.apply_patch(_bare(plain.body), outcome.ops)
    answer = journey(patched)
    assert answer.status == 201, answer.message
    _nothing_dropped(patched, answer.body, path.stem)
    if not golden.get("config"):
        live = create(podgrace.api, looked_at, {**golden["pod"], "kind": "Pod", "apiVersion": "v1"})
        assert live.status == 201, live.message
        labelled = (golden["pod"]["metadata"].get("labels") or {}).get(
            "podgrace.io/inject"
        ) == "enabled"
        wanted = patched["metadata"].get("annotations", {}).get(STATUS) if labelled else None
        assert live.body["metadata"].get("annotations", {}).get(STATUS) == wanted


def _bare(pod: Tree) -> Tree:
    """Give a Pod as a webhook sees it: without what the API server writes last."""
    pod = json.loads(json.dumps(pod))
    for name in _SERVER_MADE:
        pod["metadata"].pop(name, None)
    pod.pop("status", None)
    return pod


def _nothing_dropped(patched: Tree, stored: Tree, name: str) -> None:
    """Compare: the API server silently drops fields that it does not know."""
    for kind in ("containers", "initContainers"):
        for before, after in zip(
            patched["spec"].get(kind, ()), stored["spec"].get(kind, ()), strict=True
        ):
            for field in ("command", "lifecycle", "readinessProbe", "restartPolicy"):
                assert _within(before.get(field), after.get(field)), (
                    f"{name}: {before['name']}.{field}: {before.get(field)} became "
                    f"{after.get(field)}"
                )
    assert patched["spec"].get("terminationGracePeriodSeconds") == stored["spec"].get(
        "terminationGracePeriodSeconds"
    )


def _within(part: object, whole: object) -> bool:
    """Tell whether everything in a tree is in another, which may have defaults besides."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and _within(value, whole[key]) for key, value in part.items())
    return part == whole
