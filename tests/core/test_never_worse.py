"""With thin evidence we do less: any Pod that worked without podgrace works with it."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.passes import judged
from tests.core.pods import pods
from tests.core.test_properties import SLOW
from webhook.config import parse
from webhook.core.ports import SIDE_NAMES
from webhook.core.reasons import REASONS

Json = dict[str, Any]
CONFIG = parse("")
KINDS = ("httpGet", "tcpSocket", "grpc")

SIDE = st.tuples(
    st.sampled_from(["http", "web", "", "a"]),
    st.sampled_from(sorted(word for word in SIDE_NAMES if len(word) < 11)),
).map(lambda words: "-".join(word for word in words if word))
SERVING = st.sampled_from(["http", "web", "grpc", "http-main", "https"])


def container(name: str, port: Json | None = None, **more: Any) -> Json:
    """Make one, with at most one port."""
    return {
        "name": name,
        "image": f"r.example/{name}:1",
        **({"ports": [port]} if port else {}),
        **more,
    }


def pod(*containers: Json, owner: str = "") -> Json:
    """Make a Pod of a controller."""
    metadata: Json = {"name": "it"}
    if owner:
        reference = {"apiVersion": "apps/v1", "kind": owner, "name": "it", "uid": "1"}
        metadata["ownerReferences"] = [reference | {"controller": True}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": list(containers)},
    }


def after(subject: Json) -> list[Json]:
    patched, _ = judged(subject, CONFIG)
    containers: list[Json] = patched["spec"]["containers"]
    return containers


def served(number: int, name: str) -> Json:
    return {"containerPort": number, "name": name}


NUMBERS = st.integers(1, 65535)


@SLOW
@given(SERVING, NUMBERS, st.sampled_from(["StatefulSet", "KafkaNodePool", "PetSet"]))
def test_members_of_a_set_get_no_guess(name: str, number: int, owner: str) -> None:
    assert "readinessProbe" not in after(pod(container("m", served(number, name)), owner=owner))[0]


@SLOW
@given(
    SERVING,
    NUMBERS,
    st.sampled_from(["--leader-elect", "--enable-leader-election=true", "--election-id=x"]),
    st.lists(st.sampled_from(["--v=2", "serve", "--port", "80"]), max_size=3),
)
def test_operators_get_no_guess(name: str, number: int, word: str, others: list[str]) -> None:
    subject = container("m", served(number, name), args=[*others, word])
    assert "readinessProbe" not in after(pod(subject))[0]


@SLOW
@given(SIDE, NUMBERS)
def test_side_ports_get_no_guess_and_no_grace(name: str, number: int) -> None:
    subject = pod(container("m", served(number, name)))
    patched, _ = judged(subject, CONFIG)
    assert patched["spec"] == subject["spec"]


@SLOW
@given(
    NUMBERS,
    st.sampled_from(["127.0.0.1", "127.3.2.1", "localhost", "[::1]", "::1"]),
    st.sampled_from(["one", "two", "split"]),
)
def test_ports_on_loopback_get_no_guess(number: int, host: str, form: str) -> None:
    args = {
        "one": [f"--listen={'[::1]' if host == '::1' else host}:{number}"],
        "two": ["--bind", f"{'[::1]' if host == '::1' else host}:{number}"],
        "split": ["--http.host", host, f"--http.port={number}"],
    }[form]
    subject = container("m", served(number, "http"), args=args)
    assert "readinessProbe" not in after(pod(subject))[0]


@pytest.mark.parametrize(
    "more",
    [
        {"command": ["uvicorn", "shop:app"]},
        {"args": ["--peers=b,c"]},
        {"image": "r.example/socat:1", "args": ["TCP-LISTEN:8080,fork", "TCP:db:5432"]},
        {"image": "r.example/xinetd:1"},
    ],
    ids=lambda more: " ".join(map(str, more)),
)
def test_no_guess_where_a_probe_fails_or_disturbs(more: Json) -> None:
    assert "readinessProbe" not in after(pod(container("m", served(8080, "http"), **more)))[0]


@pytest.mark.parametrize("image", ["fluent/fluent-bit:3.1", "ghcr.io/google/cadvisor@sha256:0"])
def test_a_nodes_agent_is_left_as_it_is(image: str) -> None:
    ready = {"httpGet": {"path": "/api/v1/health", "port": "http"}}
    agent = container("a", served(2020, "http"), image=image, readinessProbe=ready)
    subject = pod(agent, owner="DaemonSet")
    assert judged(subject, CONFIG)[0]["spec"] == subject["spec"]
    opened = pod({**agent, "ports": [served(2020, "http") | {"hostPort": 80}]}, owner="DaemonSet")
    assert judged(opened, CONFIG)[0]["spec"] != opened["spec"]
    assert judged(pod(agent, owner="ReplicaSet"), CONFIG)[0]["spec"] != subject["spec"]


def test_whoever_may_wait_for_a_lock_on_a_volume_gets_no_guess() -> None:
    """The new Pod opens its port when the old one has gone, which waits for the new one."""
    mount = {"name": "d", "mountPath": "/d"}

    def guessed(image: str, claim: Json, **more: Any) -> bool:
        mounted = container("m", served(8080, "http"), image=image, volumeMounts=[mount | more])
        subject = pod(mounted, owner="ReplicaSet")
        subject["spec"]["volumes"] = [{"name": "d", "persistentVolumeClaim": claim}]
        return "readinessProbe" in after(subject)[0]

    assert not guessed("gitea:1", {"claimName": "d"})
    assert guessed("gitea:1", {"claimName": "d", "readOnly": True})
    assert guessed("gitea:1", {"claimName": "d"}, readOnly=True)
    assert guessed("nginx:1", {"claimName": "d"})


@pytest.mark.parametrize(("name", "number"), [("raft", 8300), ("gossip", 1), ("", 7946)])
def test_a_member_of_a_cluster_gets_no_guess(name: str, number: int) -> None:
    members: Json = {"containerPort": number, **({"name": name} if name else {})}
    subject = container("m") | {"ports": [served(8080, "http"), members]}
    assert "readinessProbe" not in after(pod(subject))[0]
    assert "readinessProbe" in after(pod(container("m", served(8080, "http"))))[0]


@SLOW
@given(SERVING, SERVING, NUMBERS, NUMBERS)
def test_two_that_serve_get_no_guess(one: str, two: str, first: int, second: int) -> None:
    made = after(pod(container("a", served(first, one)), container("b", served(second, two))))
    assert not any("readinessProbe" in found for found in made)


@SLOW
@given(
    st.sampled_from(["livenessProbe", "startupProbe"]),
    st.fixed_dictionaries(
        {"tcpSocket": st.just({"port": 8080})},
        optional={
            "timeoutSeconds": st.integers(1, 120),
            "periodSeconds": st.integers(1, 600),
            "failureThreshold": st.integers(1, 100),
            "initialDelaySeconds": st.integers(0, 300),
        },
    ),
)
def test_a_copy_is_never_stricter_than_its_source(kind: str, source: Json) -> None:
    made = after(pod(container("m", served(8080, "http"), **{kind: source})))[0]["readinessProbe"]
    every = source.get("periodSeconds", 10)
    assert made["timeoutSeconds"] >= source.get("timeoutSeconds", 1)
    assert made["periodSeconds"] * made["failureThreshold"] >= every * source.get(
        "failureThreshold", 3
    )
    assert 2 * made["periodSeconds"] >= every
    assert made["periodSeconds"] <= every


HOOKS = st.sampled_from(
    [
        None,
        {"exec": {"command": ["/bin/end"]}},
        {"exec": {"command": ["sh", "-c", "sleep 3"]}},
        {"httpGet": {"path": "/quit", "port": 1}},
        {"httpGet": {"path": "/quit", "port": 1, "scheme": "HTTPS"}},
        {"tcpSocket": {"port": 1}},
    ]
)


@SLOW
@given(
    HOOKS,
    st.sampled_from([None, served(9100, "metrics"), {"containerPort": 53, "protocol": "UDP"}]),
    st.sampled_from(["{}", "{bounds: {modes: [sleep]}}", "{patches: {sidecar: false}}"]),
    st.booleans(),
)
def test_whoever_is_needed_is_held_or_named(
    hook: Json | None, port: Json | None, config: str, first: bool
) -> None:
    """A container without users beside a server waits for it; or a warning names it."""
    lifecycle = {"lifecycle": {"preStop": hook}} if hook else {}
    both = [container("web", served(8080, "http")), container("behind", port, **lifecycle)]
    patched, outcome = judged(pod(*(reversed(both) if first else both)), parse(config))
    behind = next(c for c in patched["spec"]["containers"] if c["name"] == "behind")
    now = behind.get("lifecycle", {}).get("preStop")
    if now is not None and now != hook:
        words = now.get("exec", {}).get("command", [])
        assert "sleep" in now or ("--no-stop" in words and "--ports=8080" in words)
        assert "readinessProbe" not in behind
    else:
        assert any(d.container == "behind" and REASONS[d.code].warn for d in outcome.plan.decisions)


@settings(SLOW, max_examples=200)
@given(pods())
def test_a_guess_has_evidence(subject: Json) -> None:
    """A new probe copies one of the Pod's own, is annotated, or asks one declared TCP port."""
    patched, outcome = judged(subject, CONFIG)
    codes = {(d.container, d.code) for d in outcome.plan.decisions}
    for was, now in zip(subject["spec"]["containers"], patched["spec"]["containers"], strict=True):
        if was.get("readinessProbe") or not now.get("readinessProbe"):
            continue
        own = [was[p] for p in ("livenessProbe", "startupProbe") if was.get(p)]
        if (was["name"], "readiness-annotated") in codes:
            continue
        if any(kind in probe for probe in own for kind in KINDS):
            assert (was["name"], "readiness-tcp") not in codes
            continue
        asked = now["readinessProbe"]["tcpSocket"]["port"]
        assert asked in [
            p["containerPort"] for p in was["ports"] if p.get("protocol", "TCP") == "TCP"
        ]
