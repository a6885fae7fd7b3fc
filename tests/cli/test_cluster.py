"""How commands reach a cluster: through kubectl, or over HTTP; what they say when they do not."""

import argparse
import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.apiserver import Answer, ApiServer, Call, Json
from webhook.cli import cluster
from webhook.cli.cluster import ClusterError, Forbidden, Missing
from webhook.cli.kubectl import reply


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    """Serve what a function says."""
    with contextlib.ExitStack() as stack:

        def start(answer: Answer) -> str:
            return stack.enter_context(contextlib.closing(ApiServer(answer))).url

        yield start


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Put a kubectl first on the PATH that says what it is told, and keeps its arguments."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def make(out: str = "{}", err: str = "", code: int = 0) -> Path:
        (tmp_path / "out").write_text(out)
        (tmp_path / "err").write_text(err)
        program = tmp_path / "kubectl"
        program.write_text(
            f'#!/bin/sh\ncd {tmp_path}; printf "%s\\n" "$@" > words; cat out; cat err >&2\n'
            f"case $* in *' -f -') cat > body;; esac\nexit {code}\n"
        )
        program.chmod(0o755)
        return tmp_path

    return make


def reach(*words: str) -> cluster.Cluster:
    parser = argparse.ArgumentParser()
    cluster.add_options(parser, everywhere=True, selector=True)
    return cluster.of(parser.parse_args(words))


def book(total: int, size: int, expires: int = 0) -> tuple[Answer, list[dict[str, str]]]:
    """Serve a list in pages; the `expires`-th call with a token finds that it is too old."""
    seen: list[dict[str, str]] = []

    def answer(call: Call) -> tuple[int, Json]:
        query = call.query
        seen.append(query)
        if len(seen) == expires:
            return 410, {"kind": "Status", "message": "The provided continue parameter is too old"}
        begin = int(query.get("continue", 0))
        end = min(begin + size, total)
        items = [{"metadata": {"name": f"p{n}", "uid": f"u{n}"}} for n in range(begin, end)]
        metadata = {"continue": str(end)} if end < total else {}
        return 200, {"metadata": metadata, "items": items}

    return answer, seen


def names(found: Iterator[Json]) -> list[str]:
    return [item["metadata"]["name"] for item in found]


def test_a_list_is_read_in_pages(serve: Callable[[Answer], str]) -> None:
    answer, seen = book(7, 3)
    found = reach("--api", serve(answer), "-A").items("/api/v1/pods", selector="app=shop")
    assert names(found) == [f"p{n}" for n in range(7)]
    assert [query.get("continue") for query in seen] == [None, "3", "6"]
    assert all(query["limit"] == "500" and query["labelSelector"] == "app=shop" for query in seen)


def test_an_expired_page_begins_again_and_repeats_nothing(serve: Callable[[Answer], str]) -> None:
    answer, seen = book(7, 3, expires=2)
    assert names(reach("--api", serve(answer)).items("/api/v1/pods")) == [f"p{n}" for n in range(7)]
    assert [query.get("continue") for query in seen] == [None, "3", None, "3", "6"]


def test_a_list_that_expires_again_and_again_is_an_error(serve: Callable[[Answer], str]) -> None:
    url = serve(lambda _: (410, {"message": "too old"}))
    with pytest.raises(ClusterError, match="too old"):
        list(reach("--api", url).items("/api/v1/pods"))


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (["-n", "shop"], "/apis/apps/v1/namespaces/shop/deployments"),
        (["-n", "shop", "-A"], "/apis/apps/v1/deployments"),
    ],
)
def test_the_namespace_is_in_the_path(
    kubectl: Callable[..., Path], words: list[str], path: str
) -> None:
    kubectl()
    assert reach(*words).listing("apps/v1", "deployments") == path


def test_without_a_namespace_it_is_the_contexts(kubectl: Callable[..., Path]) -> None:
    folder = kubectl(out="shop")
    assert reach("--context", "c").listing("v1", "pods") == "/api/v1/namespaces/shop/pods"
    words = (folder / "words").read_text().splitlines()
    assert words[:4] == ["--context=c", "config", "view", "--minify"]


def test_kubectl_is_given_the_options(kubectl: Callable[..., Path]) -> None:
    folder = kubectl(out='{"a": 1}')
    assert reach("--kubeconfig", "/k", "--context", "c").get("/api/v1") == {"a": 1}
    words = (folder / "words").read_text().splitlines()
    assert words == [
        "--kubeconfig=/k", "--context=c", "get", "--request-timeout=60s", "--raw", "/api/v1",
    ]  # fmt: skip


def test_a_dry_run_goes_through_kubectl_with_its_warnings(kubectl: Callable[..., Path]) -> None:
    folder = kubectl(out='{"kind": "Pod"}', err="Warning: podgrace: this\n")
    made, warnings = reach().dry_run("/api/v1/namespaces/shop/pods", {"kind": "Pod"})
    assert made == {"kind": "Pod"} and warnings == ("podgrace: this",)
    assert json.loads((folder / "body").read_text()) == {"kind": "Pod"}
    words = (folder / "words").read_text().splitlines()
    assert words[0] == "create"
    assert "/api/v1/namespaces/shop/pods?dryRun=All&fieldManager=podgrace" in words


FORBIDDEN = 'pods is forbidden: User "a" cannot list resource "pods" in API group "" {}'


@pytest.mark.parametrize(
    ("where", "needed"),
    [
        ("at the cluster scope", "the right to list pods in the whole cluster"),
        ('in the namespace "shop"', "the right to list pods in namespace shop"),
    ],
)
def test_a_missing_right_is_named(
    kubectl: Callable[..., Path], serve: Callable[[Answer], str], where: str, needed: str
) -> None:
    """Whichever way the call went."""
    told = FORBIDDEN.format(where)
    url = serve(lambda _: (403, {"kind": "Status", "message": told}))
    kubectl(err=f"Error from server (Forbidden): {told}", code=1)
    for way in (reach("--api", url), reach()):
        with pytest.raises(Forbidden, match=f"needed: {needed}") as caught:
            way.get("/api/v1/pods")
        assert caught.value.told == told and caught.value.status == 403


def test_a_selector_that_is_refused_is_named(serve: Callable[[Answer], str]) -> None:
    told = "found '=', expected: ',' or 'end of string'"
    url = serve(lambda _: (400, {"kind": "Status", "message": told}))
    with pytest.raises(ClusterError, match="selector 'a=b=c': found"):
        list(reach("--api", url).items("/api/v1/pods", selector="a=b=c"))


@pytest.mark.parametrize(
    ("err", "said"),
    [
        ('error: context "x" does not exist', "kubectl config get-contexts"),
        (
            "error: stat /nope: no such file or directory",
            "--kubeconfig or KUBECONFIG names no file",
        ),
        (
            (
                "The connection to the server localhost:8080 was refused - did you specify the "
                "right host or port?"
            ),
            "no kubeconfig was found",
        ),
        (
            (
                "The connection to the server 10.0.0.1:6443 was refused - did you specify the right"
                " host or port?"
            ),
            "is the cluster up",
        ),
        (
            (
                "E1126 17:00:00.000000   12 memcache.go:265] couldn't get server API group list\n"
                "Unable to connect to the server: dial tcp: lookup k.example: no such host"
            ),
            "VPN",
        ),
        (
            "Unable to connect to the server: getting credentials: exec: executable aws not found",
            "login program",
        ),
        ("error: You must be logged in to the server (Unauthorized)", "renew the login"),
    ],
)
def test_what_kubectl_cannot_do_is_told_with_the_remedy(
    kubectl: Callable[..., Path], err: str, said: str
) -> None:
    kubectl(err=err, code=1)
    with pytest.raises(ClusterError, match=said) as caught:
        reach().get("/api/v1/pods")
    assert "\n" not in str(caught.value) and "memcache" not in str(caught.value)


def test_without_kubectl_and_outside_of_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ClusterError, match=r"no kubectl on the PATH, .*: install"):
        reach()


def test_what_is_not_there(kubectl: Callable[..., Path]) -> None:
    kubectl(err='Error from server (NotFound): namespaces "x" not found', code=1)
    with pytest.raises(Missing, match='namespaces "x" not found'):
        reach().get("/api/v1/namespaces/x")


def test_an_answer_that_is_no_json(kubectl: Callable[..., Path]) -> None:
    kubectl(out="<html>")
    with pytest.raises(ClusterError, match="/api/v1/x: unexpected answer"):
        reach().get("/api/v1/x")


@pytest.mark.parametrize(
    ("err", "status"),
    [
        ("Error from server (InternalError): failed calling webhook", 500),
        ("Error from server (Expired): too old", 410),
        ('The Pod "x" is invalid: spec.containers: Required value', 422),
        ("Error from server: etcdserver: request timed out", 500),
        ("Unable to connect to the server: EOF", 0),
        ("", 0),
    ],
)
def test_statuses_by_kubectls_words(err: str, status: int) -> None:
    found = reply(1, b"", err)
    assert found.status == status and found.told
