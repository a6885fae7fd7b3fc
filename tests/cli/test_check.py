"""`podgrace check` as a process, against an API server over a socket, like the real one."""

import base64
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonpatch
import msgspec
import pytest

from tests.cli.apiserver import ApiServer, Call, Json
from webhook.admission import answer as webhook_answer
from webhook.cli.check.namespace import pod
from webhook.cli.check.nodes import mounts_images
from webhook.cli.check.selector import selects
from webhook.config import load

NAMESPACE = "/api/v1/namespaces/shop"
PODS = f"POST {NAMESPACE}/pods"
CONFIGURATIONS = "GET /apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"


def injected(body: Json) -> Json:
    """Do what the API server and our webhook do with the Pod."""
    review = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "operation": "CREATE",
            "namespace": "shop",
            "dryRun": True,
            "object": body,
        },
    }
    told = json.loads(webhook_answer(msgspec.json.encode(review), load(None)).body)
    patched: Json = jsonpatch.apply_patch(
        body, base64.b64decode(told["response"]["patch"]).decode()
    )
    return patched


def configuration(
    namespaces: Json | None = None, objects: Json | None = None, name: str = "pod.podgrace.io"
) -> Json:
    return {
        "items": [
            {
                "webhooks": [
                    {"name": name, "namespaceSelector": namespaces, "objectSelector": objects}
                ]
            }
        ]
    }


class Api(ApiServer):
    """Answers by method and path: a status and a body, or a function of the body that was sent."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {
            f"GET {NAMESPACE}": (200, {"metadata": {"name": "shop", "labels": {}}}),
            CONFIGURATIONS: (200, configuration()),
        }
        self.seen: list[Call] = []
        super().__init__(self._answer)

    def _answer(self, call: Call) -> tuple[int, Any]:
        self.seen.append(call)
        status, told = self.answers.get(
            f"{call.method} {call.path}", (404, {"message": "not found"})
        )
        return status, told(call.body) if callable(told) else told

    def pods(self, status: int, told: Json | Callable[[Json], Json]) -> None:
        self.answers[PODS] = (status, told)


@pytest.fixture
def api() -> Iterator[Api]:
    made = Api()
    yield made
    made.close()


def check(api: Api, *more: str, status: int) -> "subprocess.CompletedProcess[str]":
    command = [
        sys.executable,
        "-m",
        "webhook.cli",
        "check",
        "--namespace",
        "shop",
        "--api",
        api.url,
        *more,
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env=environment
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def forbidden(text: str) -> Json:
    return {
        "kind": "Status",
        "status": "Failure",
        "message": text,
        "reason": "Forbidden",
        "code": 403,
    }


def test_a_pod_that_comes_back_marked(api: Api) -> None:
    api.pods(201, injected)
    done = check(api, status=0)
    assert done.stdout.startswith(
        "podgrace: injected: a Pod labelled podgrace.io/inject=enabled in shop gets "
        "the mark of podgrace "
    )
    assert done.stderr == ""


def test_nothing_is_created_and_one_call_is_enough(api: Api) -> None:
    api.pods(201, injected)
    check(api, status=0)
    (call,) = api.seen
    assert f"{call.method} {call.path}" == PODS
    assert call.query == {"dryRun": "All", "fieldManager": "podgrace"}
    assert call.body == pod()


def test_the_webhook_finds_something_to_do_for_it() -> None:
    """Else the check would show less than it says."""
    patched = injected(pod())
    (container, *_) = patched["spec"]["containers"]
    assert "preStop" in container["lifecycle"] and "readinessProbe" in container


def test_warnings_are_shown(api: Api) -> None:
    api.pods(201, injected)
    api.warnings = ["podgrace: something to know"]
    assert check(api, status=0).stdout.splitlines()[1] == "warning: podgrace: something to know"


def test_a_mark_that_is_not_json_is_a_mark(api: Api) -> None:
    api.pods(201, {"kind": "Pod", "metadata": {"annotations": {"podgrace.io/status": "?"}}})
    assert "gets the annotation podgrace.io/status" in check(api, status=0).stdout


@pytest.mark.parametrize(
    ("status", "told", "found", "text"),
    [
        (
            401,
            forbidden("Unauthorized"),
            "not-allowed",
            "401: Unauthorized (needed: create pods in shop)",
        ),
        (
            403,
            forbidden('pods is forbidden: User "a" cannot create resource "pods" in API group ""'),
            "not-allowed",
            "needed: create pods",
        ),
        (
            403,
            forbidden('pods "x" is forbidden: violates PodSecurity "restricted:latest"'),
            "refused",
            "PodSecurity",
        ),
        (
            403,
            forbidden('pods "x" is forbidden: exceeded quota: small'),
            "refused",
            "exceeded quota",
        ),
        (
            400,
            {"message": 'admission webhook "policy.example" denied the request: no'},
            "refused",
            "policy.example",
        ),
        (404, {"message": 'namespaces "shop" not found'}, "no-namespace", "not found"),
        (404, {"message": "the server could not find the requested resource"}, "refused", "404"),
        (500, None, "refused", "500: Internal Server Error"),
    ],
)
def test_who_says_no_is_told_apart(
    api: Api, status: int, told: Json | None, found: str, text: str
) -> None:
    api.pods(status, told)  # type: ignore[arg-type]
    done = check(api, status=1)
    assert (
        done.stdout == "" and done.stderr.startswith(f"podgrace: {found}: ") and text in done.stderr
    )


def test_a_webhook_that_does_not_answer_under_failure_policy_fail(api: Api) -> None:
    api.pods(
        500,
        {
            "message": 'Internal error occurred: failed calling webhook "pod.podgrace.io": '
            "context deadline exceeded"
        },
    )
    done = check(api, status=3)
    assert (
        "podgrace: no-answer: " in done.stderr
        and "context deadline exceeded" in done.stderr
        and "failurePolicy Fail" in done.stderr
    )


def test_the_failure_of_somebody_elses_webhook_is_not_ours(api: Api) -> None:
    api.pods(
        500, {"message": 'Internal error occurred: failed calling webhook "other.example": EOF'}
    )
    assert "podgrace: refused: " in check(api, status=1).stderr


def test_a_webhook_that_does_not_answer_under_failure_policy_ignore(api: Api) -> None:
    api.pods(201, lambda body: {"kind": "Pod", **body})
    api.warnings = ["the API server's own words"]
    done = check(api, status=3)
    assert (
        "podgrace: no-answer: pod.podgrace.io selects the Pod, and it came back without "
        "podgrace.io/status" in done.stderr
    )
    assert "warning: the API server's own words" in done.stderr


def test_a_namespace_that_opts_out(api: Api) -> None:
    api.pods(201, lambda body: body)
    api.answers[f"GET {NAMESPACE}"] = (
        200,
        {"metadata": {"labels": {"podgrace.io/inject": "disabled"}}},
    )
    assert (
        "podgrace: opted-out: namespace shop is labelled podgrace.io/inject=disabled"
        in check(api, status=3).stderr
    )


def test_a_namespace_that_no_entry_selects(api: Api) -> None:
    api.pods(201, lambda body: body)
    others = {
        "matchExpressions": [
            {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["shop"]}
        ]
    }
    api.answers[f"GET {NAMESPACE}"] = (
        200,
        {"metadata": {"labels": {"kubernetes.io/metadata.name": "shop"}}},
    )
    api.answers[CONFIGURATIONS] = (200, configuration(others))
    assert (
        "podgrace: excluded: none of pod.podgrace.io selects namespace shop"
        in check(api, status=3).stderr
    )


def test_a_cluster_without_podgrace(api: Api) -> None:
    api.pods(201, lambda body: body)
    api.answers[CONFIGURATIONS] = (200, configuration(name="other.example"))
    assert "podgrace: missing: " in check(api, status=3).stderr


@pytest.mark.parametrize("hidden", [f"GET {NAMESPACE}", CONFIGURATIONS])
def test_without_the_right_to_look_all_reasons_are_named(api: Api, hidden: str) -> None:
    api.pods(201, lambda body: body)
    api.answers[hidden] = (403, forbidden("no"))
    told = check(api, status=3).stderr
    assert (
        "podgrace: unmarked: " in told
        and "did not answer, or shop is excluded or opted out" in told
        and "it says which" in told
    )


@pytest.mark.parametrize("told", [[], "x", {"kind": "Status"}, None])
def test_an_answer_that_is_no_pod(api: Api, told: Any) -> None:
    api.pods(201, told)
    assert "podgrace: unreachable: " in check(api, status=1).stderr


def test_no_api_server(api: Api) -> None:
    api.close()
    assert (
        "podgrace: unreachable: POST /api/v1/namespaces/shop/pods at http://127.0.0.1:"
        in check(api, status=1).stderr
    )


def test_the_same_as_json(api: Api) -> None:
    api.pods(403, forbidden("cannot create resource"))
    found = json.loads(check(api, "-o", "json", status=1).stdout)
    assert found["found"] == "not-allowed" and found["warnings"] == []


def test_waiting_until_it_works(api: Api) -> None:
    """As `helm test` after an installation: first no rights, then no webhook, then success."""
    stages: list[tuple[int, Any]] = [
        (403, forbidden("cannot create resource")),
        (201, lambda body: body),
        (201, injected),
    ]

    def serve(body: Json) -> Json:
        status, told = stages.pop(0) if len(stages) > 1 else stages[0]
        if stages:
            api.answers[PODS] = (stages[0][0], serve)
        result: Json = told(body) if callable(told) else told
        assert status
        return result

    api.answers[PODS] = (403, serve)
    assert "podgrace: injected" in check(api, "--wait", "60s", status=0).stdout
    assert sum(call.method == "POST" for call in api.seen) == 3


def test_waiting_ends(api: Api) -> None:
    api.pods(403, forbidden("cannot create resource"))
    start = time.monotonic()
    check(api, "--wait", "5s", status=1)
    assert 5 <= time.monotonic() - start < 60
    assert len(api.seen) > 1


def test_what_waiting_does_not_change_is_told_at_once(api: Api) -> None:
    api.pods(201, lambda body: body)
    api.answers[f"GET {NAMESPACE}"] = (
        200,
        {"metadata": {"labels": {"podgrace.io/inject": "disabled"}}},
    )
    check(api, "--wait", "10m", status=3)
    assert sum(call.method == "POST" for call in api.seen) == 1


def test_every_word_is_in_the_document() -> None:
    root = Path(__file__).parents[2]
    folder = root / "webhook" / "cli" / "check"
    text = "".join((folder / name).read_text() for name in ("namespace.py", "command.py"))
    words = set(re.findall(r'Found\(\s*"([a-z-]+)"', text))
    document = (root / "docs" / "certificates.md").read_text()
    assert len(words) == 11
    assert [word for word in sorted(words) if f"`{word}`" not in document] == []


def test_wrong_arguments(api: Api) -> None:
    assert (
        "accepted: a whole number and s, m, h or d" in check(api, "--wait", "soon", status=2).stderr
    )
    assert "accepted: https://HOST:PORT" in check(api, "--api", "ftp://x", status=1).stderr


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (None, True),
        ({}, True),
        ({"matchLabels": {"a": "1"}}, True),
        ({"matchLabels": {"a": "2"}}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, True),
        ({"matchExpressions": [{"key": "b", "operator": "In", "values": ["1"]}]}, False),
        ({"matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["1"]}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, False),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, False),
        (
            {"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "Exists"}]},
            False,
        ),
    ],
)
def test_selectors_are_the_api_servers(selector: Json | None, expected: bool) -> None:
    assert selects(selector, {"a": "1"}) is expected


def by_image_volume(body: Json) -> Json:
    """Inject as `helper.delivery: image` does."""
    patched = injected(body)
    volumes = [v for v in patched["spec"].get("volumes") or [] if v["name"] != "podgrace"]
    patched["spec"]["volumes"] = [*volumes, {"name": "podgrace", "image": {"reference": "x"}}]
    return patched


def node(name: str, runtime: str, kubelet: str = "v1.36.3", system: str = "linux") -> Json:
    info = {
        "containerRuntimeVersion": runtime,
        "kubeletVersion": kubelet,
        "operatingSystem": system,
    }
    return {"metadata": {"name": name}, "status": {"nodeInfo": info}}


def test_nodes_that_cannot_mount_an_image_volume_are_named(api: Api) -> None:
    api.pods(201, by_image_volume)
    api.answers["GET /api/v1/nodes"] = (
        200,
        {
            "items": [
                node("new", "containerd://2.1.0"),
                node("old", "containerd://1.6.20"),
                node("windows", "containerd://1.7.0", system="windows"),
            ]
        },
    )
    done = check(api, status=3)
    assert "these nodes cannot mount: old (containerd://1.6.20, kubelet v1.36.3)" in done.stderr
    assert "config.helper.delivery: sidecar" in done.stderr


@pytest.mark.parametrize("nodes", [(200, {"items": [node("a", "cri-o://1.34.1")]}), (403, {})])
def test_nodes_that_can_or_may_not_be_read_say_nothing(api: Api, nodes: tuple[int, Json]) -> None:
    api.pods(201, by_image_volume)
    api.answers["GET /api/v1/nodes"] = nodes
    assert check(api, status=0).stdout.startswith("podgrace: injected")


@pytest.mark.parametrize(
    ("runtime", "kubelet", "can"),
    [
        ("containerd://2.1.0", "v1.36.3", True),
        ("containerd://2.0.5", "v1.36.3", False),
        ("containerd://2.1.0", "v1.34.9", False),
        ("containerd://2.4.2-k3s1", "v1.35.0+k3s1", True),
        ("cri-o://1.32.9", "v1.36.0", False),
        ("cri-o://1.33.0", "v1.36.0", True),
        ("docker://28.0.1", "v1.36.0", False),
        ("other://0.1", "v1.36.0", True),
    ],
)
def test_who_mounts_image_volumes(runtime: str, kubelet: str, can: bool) -> None:
    assert mounts_images(runtime, kubelet) is can
