"""`podgrace check` without a namespace: what it finds of an installation, and says of it."""

import argparse
import base64
import json
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.cli.apiserver import ApiServer, Call
from tests.cli.command import podgrace
from tests.cli.test_check import injected
from webhook.cli import cluster
from webhook.cli.check import facts, served, verdict
from webhook.cli.check.facts import (
    Binding,
    BindingSpec,
    Client,
    Conditions,
    Configuration,
    Container,
    Deployment,
    DeploymentSpec,
    Endpoint,
    Entry,
    Facts,
    Metadata,
    PodSpec,
    Policy,
    Release,
    Rule,
    Service,
    Space,
    Target,
    Template,
    Try,
)
from webhook.cli.check.namespace import Found
from webhook.cli.check.served import Served
from webhook.cli.cluster import Forbidden

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PEM = base64.b64encode(b"-----BEGIN CERTIFICATE-----\n...").decode()
DOCS = Path(__file__).parents[2] / "docs"


def configuration(name: str = "shop-podgrace", **more: Any) -> Configuration:
    client = Client(service=Service("podgrace", "ops"), ca_bundle=more.pop("bundle", PEM))
    entries = [
        Entry(name=f"{kind}.podgrace.io", client_config=client, timeout_seconds=3, **more)
        for kind in ("pod", "namespace")
    ]
    return Configuration(Metadata(name=name, labels={facts._INSTANCE: "shop"}), entries)


def deployment(
    replicas: int = 2, image: str = "podgrace/podgrace:0.1.0", **more: str
) -> Deployment:
    labels = {"helm.sh/chart": "podgrace-0.1.0", "app.kubernetes.io/version": "0.1.0", **more}
    spec = DeploymentSpec(replicas, Template(PodSpec([Container("webhook", image)])))
    return Deployment(Metadata("podgrace", "ops", labels), spec)


def endpoint(name: str, ready: bool | None = True) -> Endpoint:
    return Endpoint(["10.0.0.1"], Conditions(ready), Target(name))


INJECTED = Found("injected", 0, "a Pod gets the mark of podgrace 0.1.0: hook")
HELPER = "podgrace/helper:0.1.0"
SOUND = Release(
    "shop",
    "ops",
    configuration(),
    deployment(),
    endpoints=(endpoint("a"), endpoint("b")),
    served=(Served("a", expires=NOW + timedelta(days=50)),),
    opted_in=("web",),
    eligible=("api",),
    trial=Try("web", INJECTED, HELPER, 0.004),
)
POLICIES = ["shop-podgrace-missed", "shop-podgrace-labels"]


def whole(*releases: Release, **more: Any) -> Facts:
    every = Facts(
        releases,
        [r.configuration for r in releases if r.configuration],
        [r.deployment for r in releases if r.deployment],
        [Policy(Metadata(name)) for name in POLICIES],
        [Binding(Metadata(name), BindingSpec(name)) for name in POLICIES],
        [],
    )
    return every._replace(**more)


def said(found: Facts, code: str) -> tuple[str, str]:
    """Give the worst line of a code: its level, its text and remedy."""
    lines = [line for line in verdict.judge(found, NOW) if line.code == code]
    worst = max(lines, key=lambda line: ("ok", "warn", "fail").index(line.level))
    return worst.level, f"{worst.text} | {worst.remedy}"


def test_a_sound_installation_has_nothing_to_fix() -> None:
    lines = verdict.judge(whole(SOUND), NOW)
    assert {line.level for line in lines} == {"ok"}
    assert not any(line.remedy for line in lines)
    assert verdict.text(lines, colour=False).endswith("\nSound.")


REFUSED = Forbidden("list nodes: no; needed: the right to list nodes in the whole cluster", 403)
ONE = configuration()
ONE.webhooks.pop()


@pytest.mark.parametrize(
    ("change", "code", "level", "text"),
    [
        ({"configuration": None}, "configuration", "fail", "no MutatingWebhookConfiguration calls"),
        ({"configuration": ONE}, "configuration", "warn", "only pod.podgrace.io"),
        ({"endpoints": ()}, "endpoints", "fail", "no ready Pod behind Service podgrace"),
        (
            {"endpoints": (), "deployment": deployment(0)},
            "endpoints",
            "fail",
            "scaled to 0: nobody answers | kubectl -n ops scale deployment podgrace --replicas=2",
        ),
        ({"endpoints": (endpoint("a"), endpoint("b", False))}, "endpoints", "warn", "1 of 2"),
        (
            {"endpoints": (), "unready": "container webhook of Pod a: CrashLoopBackOff"},
            "endpoints",
            "fail",
            "nobody answers (container webhook of Pod a: CrashLoopBackOff)",
        ),
        (
            {"endpoints": (endpoint("a"),), "deployment": deployment(1)},
            "endpoints",
            "warn",
            "while it is replaced, nobody answers",
        ),
        ({"endpoints": REFUSED}, "endpoints", "warn", "needed: the right to list nodes"),
        ({"configuration": configuration(bundle="")}, "ca-bundle", "fail", "caBundle is empty"),
        (
            {"configuration": configuration(bundle="eA==")},
            "ca-bundle",
            "fail",
            "holds no certificate (1 bytes)",
        ),
        (
            {"served": (Served("a", "certificate has expired", NOW),)},
            "certificate",
            "fail",
            "container `certs`",
        ),
        (
            {"served": (Served("a", "unable to get local issuer certificate", NOW),)},
            "certificate",
            "fail",
            "caBundle is not of the authority that signed it",
        ),
        (
            {"served": (Served("a", "Hostname mismatch, certificate is not valid for 'x'", NOW),)},
            "certificate",
            "fail",
            "another Service's",
        ),
        (
            {"served": (Served("a", expires=NOW + timedelta(days=3)),)},
            "certificate",
            "warn",
            "should have been renewed",
        ),
        ({"served": (Served("a", trouble="no TLS: refused"),)}, "certificate", "fail", "no TLS"),
        ({"served": REFUSED}, "certificate", "warn", "not looked at"),
        (
            {"deployment": deployment(**{"helm.sh/chart": "podgrace-0.2.0"})},
            "versions",
            "warn",
            "chart 0.2.0, webhook 0.1.0",
        ),
        (
            {"trial": Try("web", INJECTED, "podgrace/helper:0.0.9")},
            "versions",
            "warn",
            "tags differ: podgrace/podgrace:0.1.0 and helper podgrace/helper:0.0.9",
        ),
        ({"opted_in": (), "eligible": ()}, "namespaces", "warn", "nothing is ever injected"),
        (
            {"trial": Try("web", Found("no-answer", 3, "it came back bare"))},
            "admission",
            "fail",
            "dry run in web: no-answer: it came back bare",
        ),
        ({"trial": Try("web", Found("refused", 1, "quota"))}, "admission", "warn", "quota"),
        ({"trial": Try("web", Found("runtime", 3, "node-1 cannot"))}, "nodes", "fail", "node-1"),
        ({"trial": Try("web", INJECTED, HELPER, 2.0)}, "latency", "warn", "2000 ms"),
    ],
)
def test_what_is_wrong_is_told(change: Any, code: str, level: str, text: str) -> None:
    found, told = said(whole(SOUND._replace(**change)), code)
    assert found == level and text in told


def test_nothing_is_installed() -> None:
    level, told = said(whole(), "installed")
    assert level == "fail" and "podgrace is not installed" in told


def test_two_releases_that_choose_one_namespace() -> None:
    other = SOUND._replace(name="canary")
    assert said(whole(SOUND, other), "overlap")[0] == "fail"
    apart = SOUND._replace(name="canary", opted_in=("elsewhere",))
    assert "overlap" not in {line.code for line in verdict.judge(whole(SOUND, apart), NOW)}


@pytest.mark.parametrize("left", [{"bindings": []}, {"policies": []}])
def test_a_policy_and_its_binding_go_together(left: Any) -> None:
    assert said(whole(SOUND, **left), "policies")[0] == "warn"


@pytest.mark.parametrize(
    ("again", "name", "level"),
    [("Never", "zz", "warn"), ("IfNeeded", "zz", "ok"), ("Never", "aa", None)],
)
def test_webhooks_that_come_after(again: str, name: str, level: str | None) -> None:
    mine = configuration(reinvocation_policy=again)
    rule = Rule(["CREATE"], ["pods"])
    other = Configuration(Metadata(name), [Entry("inject.example", rules=[rule])])
    found = whole(SOUND._replace(configuration=mine), configurations=[mine, other])
    assert {line.level for line in verdict.judge(found, NOW) if line.code == "order"} == (
        {level} if level else set()
    )


def test_every_code_is_documented() -> None:
    text = (DOCS / "debugging.md").read_text(encoding="utf-8")
    for code, meaning in verdict.CODES.items():
        assert f"| `{code}` | {meaning} |" in text


def test_namespaces_are_chosen_as_the_chart_chooses_them() -> None:
    def key(operator: str, *values: str) -> dict[str, Any]:
        term = {"key": "podgrace.io/inject", "operator": operator, "values": list(values)}
        return {"matchExpressions": [term]}

    pod = Entry(namespace_selector=key("NotIn", "disabled"), object_selector=key("In", "enabled"))
    space = Entry(
        namespace_selector=key("In", "enabled"),
        object_selector=key("NotIn", "enabled", "disabled"),
    )
    spaces = [
        Space(Metadata("in", labels={"podgrace.io/inject": "enabled"})),
        Space(Metadata("out", labels={"podgrace.io/inject": "disabled"})),
        Space(Metadata("neither")),
        Space(Metadata("ends", labels={"podgrace.io/inject": "enabled"}, deletion_timestamp="t")),
    ]
    found = facts.selected(Configuration(Metadata(), [pod, space]), spaces)
    assert found == (("in",), ("in", "neither"))


class Tls:
    """Serves one certificate over TLS; what is said after the handshake does not matter."""

    def __init__(self, leaf: trustme.LeafCert) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(context)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.address = ("127.0.0.1", self.server.server_address[1])
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


NAME = "podgrace.ops.svc"


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> Iterator[Tls]:
    made = Tls(authority.issue_cert(NAME))
    yield made
    made.close()


def test_what_is_served_is_judged_as_an_api_server_does(authority: trustme.CA, tls: Tls) -> None:
    bundle = authority.cert_pem.bytes()
    good = served.look("a", tls.address, bundle, NAME)
    assert (good.refusal, good.trouble) == ("", "") and good.expires is not None
    assert "ostname mismatch" in served.look("a", tls.address, bundle, "other.ops.svc").refusal
    other = trustme.CA().cert_pem.bytes()
    assert "issuer" in served.look("a", tls.address, other, NAME).refusal
    assert served.look("a", tls.address, b"", NAME).refusal


def test_nobody_listens(tls: Tls) -> None:
    tls.close()
    assert served.look("a", tls.address, b"", NAME).trouble.startswith("no TLS: ")


def test_a_tunnel_goes_through_kubectls_port_forward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "kubectl"
    program.write_text(
        f'#!/bin/sh\necho "$*" > {tmp_path}/words\n'
        'echo "Forwarding from 127.0.0.1:4711 -> 8443"\nexec sleep 60\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with reach("--context", "c").tunnel("ops", "a", "10.0.0.1", 8443) as address:
        assert address == ("127.0.0.1", 4711)
    words = (tmp_path / "words").read_text().strip()
    assert words == "--context=c --namespace ops port-forward pod/a :8443"
    program.write_text("#!/bin/sh\necho 'error: unable to forward' >&2\nexit 1\n")
    with (
        pytest.raises(cluster.ClusterError, match="8443 of Pod ops/a: unable to forward"),
        reach().tunnel("ops", "a", "10.0.0.1", 8443),
    ):
        raise AssertionError


def reach(*words: str) -> cluster.Cluster:
    parser = argparse.ArgumentParser()
    cluster.add_options(parser)
    return cluster.of(parser.parse_args(words))


class Api(ApiServer):
    """A cluster with one release, as lists by path; Pods are admitted as the webhook does it."""

    def __init__(self) -> None:
        client = {"service": {"name": "podgrace", "namespace": "ops"}, "caBundle": PEM}
        entries = [
            {"name": f"{kind}.podgrace.io", "clientConfig": client, "timeoutSeconds": 3}
            for kind in ("pod", "namespace")
        ]
        labels = {"app.kubernetes.io/instance": "shop", "podgrace.io/inject": "enabled"}
        admission = "/apis/admissionregistration.k8s.io/v1"
        address = {"addresses": ["10.0.0.1"], "targetRef": {"name": "a"}}
        self.lists: dict[str, list[Any]] = {
            f"{admission}/mutatingwebhookconfigurations": [
                {"metadata": {"name": "x", "labels": labels}, "webhooks": entries}
            ],
            f"{admission}/validatingadmissionpolicies": [],
            f"{admission}/validatingadmissionpolicybindings": [],
            "/apis/apps/v1/deployments": [
                {
                    "metadata": {"name": "podgrace", "namespace": "ops", "labels": labels},
                    "spec": {"replicas": 2},
                }
            ],
            "/apis/discovery.k8s.io/v1/namespaces/ops/endpointslices": [
                {"endpoints": [address, address]}
            ],
            "/api/v1/namespaces": [{"metadata": {"name": "shop", "labels": labels}}],
        }
        super().__init__(self._answer)

    def _answer(self, call: Call) -> tuple[int, Any]:
        if call.body is not None:
            label = call.body["metadata"]["labels"]["podgrace.io/inject"]
            return 200, injected(call.body) if label == "enabled" else call.body
        if call.path not in self.lists:
            return 404, {"message": "the server could not find it"}
        return 200, {"items": self.lists[call.path]}


@pytest.fixture
def api() -> Iterator[Api]:
    made = Api()
    yield made
    made.close()


def test_the_whole_command(api: Api) -> None:
    """What it cannot look at is a warning, and no reason to fail."""
    ran = podgrace("check", "--api", api.url, "-o", "json")
    told = json.loads(ran.out)
    levels = {line["code"]: line["level"] for line in told["lines"]}
    assert (ran.code, told["sound"]) == (0, True)
    assert levels["admission"] == levels["endpoints"] == "ok"
    assert levels["certificate"] == "warn"
    assert set(levels) <= set(verdict.CODES)


def test_a_deleted_configuration_fails_the_command(api: Api) -> None:
    for name in api.lists:
        if name.endswith("/mutatingwebhookconfigurations"):
            api.lists[name] = []
    ran = podgrace("check", "--api", api.url)
    assert ran.code == 3
    assert "fail  configuration" in ran.out and "to fix it: helm upgrade" in ran.out


def test_no_cluster_is_an_error_and_no_verdict(api: Api) -> None:
    api.close()
    ran = podgrace("check", "--api", api.url)
    assert (ran.code, ran.out) == (1, "") and "refused" in ran.err
