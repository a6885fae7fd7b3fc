"""What is remembered never differs from a new decision.

For every recorded review, and for Pods made to confuse.
"""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.server.serving import REVIEW, SAMPLES, encode, review
from webhook.admission import Answer, answer, answer_by
from webhook.config import load, parse
from webhook.server.replicas import LARGEST, MOST, SIGHTS, Replicas

CONFIG = load(None)
CREATED = sorted(SAMPLES.glob("*.json"))


def pod(**changes: Any) -> dict[str, Any]:
    """Give the object of the recorded review, changed."""
    return json.loads(REVIEW.read_bytes())["request"]["object"] | changes


def asked(replicas: Replicas, body: bytes) -> Answer:
    """Ask twice: a verdict is remembered at the second sight of its Pod, for the third."""
    fresh = answer(body, CONFIG)
    made = [answer_by(body, replicas.judge) for _ in range(2)]
    assert made == [fresh, fresh], "the answer is the one that a new decision gives"
    return fresh


@pytest.mark.parametrize("path", CREATED, ids=lambda path: path.stem)
def test_recorded_reviews_asked_twice_in_any_company(path: Path):
    replicas = Replicas(CONFIG)
    for other in (path, *CREATED, path):
        asked(replicas, other.read_bytes())


def test_replicas_with_names_and_tokens_of_their_own_are_decided_about_twice():
    replicas, text = Replicas(CONFIG), REVIEW.read_text()
    token = text[text.index("kube-api-access-") :][:21]
    for number in range(5):
        tree = json.loads(text.replace(token, f"kube-api-access-ab{number}cd"))
        tree["request"]["uid"] = f"uid-{number}"
        tree["request"]["object"]["metadata"] |= {
            "name": f"web-{number}",
            "managedFields": [{"time": f"2026-01-01T00:00:0{number}Z"}],
        }
        made = asked(replicas, encode(tree))
        assert json.loads(made.body)["response"]["uid"] == f"uid-{number}"
        assert made.log["name"] == f"web-{number}"
    assert replicas.counts == {"decided": 2, "remembered": 8}


CONFUSING: dict[str, list[dict[str, Any]]] = {
    "namespace": [{"namespace": "shop"}, {"namespace": "kube-system"}, {"namespace": None}],
    "label": [
        {"object": pod(metadata={"labels": {"podgrace.io/inject": value}})}
        for value in ("enabled", "disabled", "maybe")
    ],
    "annotation": [
        {"object": pod(metadata={"annotations": {"podgrace.io/delay": value}})}
        for value in ("5", "6", "x")
    ],
    "metadata": [
        {"object": pod(metadata=value)}
        for value in (
            None,
            {},
            {"annotations": None},
            {"annotations": {}},
            {"annotations": {"a": "b"}},
        )
    ],
    "no-metadata": [
        {"object": {"spec": pod()["spec"]}},
        {"object": {"metadata": {}, "spec": pod()["spec"]}},
    ],
    "order-of-members": [
        {"object": {"spec": dict(sorted(pod()["spec"].items()))}},
        {"object": {"spec": dict(reversed(pod()["spec"].items()))}},
    ],
}


@pytest.mark.parametrize("name", CONFUSING)
def test_what_differs_is_told_apart(name: str):
    replicas = Replicas(CONFIG)
    for changes in CONFUSING[name] * 2:
        asked(replicas, encode(review(**changes)))


def test_a_name_like_a_token_never_passes_into_another_pod():
    """A container named as the token is: its patch holds the name, so it is not remembered."""
    replicas = Replicas(CONFIG)
    for name in ("kube-api-access-aaaaa", "kube-api-access-bbbbb", "kube-api-access-\N{ASTERISK}"):
        tree = review()
        spec = tree["request"]["object"]["spec"]
        spec["containers"][0]["name"] = name
        spec["volumes"] = [{"name": name}, *spec["volumes"]]
        made = asked(replicas, json.dumps(tree, separators=(",", ":")).encode())
        assert made.result == "patched"
    assert replicas.counts["remembered"] == 0


TOKENS = ("kube-api-access-aaaaa", "kube-api-access-bbbbb")
ELSEWHERE: dict[str, Callable[[dict[str, Any], str], object]] = {
    "args": lambda pod, name: pod["spec"]["containers"][0].update(args=["--volume", name]),
    "part of an arg": lambda pod, name: pod["spec"]["containers"][0].update(
        command=["sh", "-c", f'echo {{"name":"{name}","projected":{{}}}}; exec /app']
    ),
    "env": lambda pod, name: pod["spec"]["containers"][0].update(
        env=[{"name": name, "value": name}]
    ),
    "image": lambda pod, name: pod["spec"]["containers"][0].update(image=name),
    "label of a node": lambda pod, name: pod["spec"].update(nodeSelector={name: name}),
    "annotation": lambda pod, name: pod["metadata"].update(annotations={"note": name}),
    "another volume": lambda pod, name: pod["spec"]["volumes"].append(
        {"name": name, "emptyDir": {}}
    ),
    "another mount": lambda pod, name: pod["spec"]["containers"][0]["volumeMounts"].append(
        {"name": name, "mountPath": "/.podgrace"}
    ),
    "a port": lambda pod, name: pod["spec"]["containers"][0].update(
        ports=[{"name": name, "containerPort": 80}]
    ),
}


def with_token(name: str) -> dict[str, Any]:
    """Give the recorded review with the token's volume under another name."""
    text = REVIEW.read_text()
    return json.loads(text.replace(text[text.index("kube-api-access-") :][:21], name))


@pytest.mark.parametrize("where", ELSEWHERE)
@pytest.mark.parametrize("alone", [True, False], ids=["alone", "beside its volume"])
def test_the_token_is_text_like_any_other_elsewhere(where: str, alone: bool):
    """Two Pods that differ in that text get a verdict each; the same text in both is remembered."""
    replicas = Replicas(CONFIG)
    for name in TOKENS:
        tree = with_token(TOKENS[0] if alone else name)
        ELSEWHERE[where](tree["request"]["object"], name)
        asked(replicas, encode(tree))
    assert replicas.counts == {"decided": 4, "remembered": 0}


def test_a_token_beside_another_ones_text():
    """The text of a token that is not this Pod's is not masked: only the volume's own name is."""
    replicas = Replicas(CONFIG)
    for name in TOKENS:
        tree = with_token(name)
        tree["request"]["object"]["spec"]["containers"][0]["args"] = ["kube-api-access-zzzzz"]
        asked(replicas, encode(tree))
    assert replicas.counts == {"decided": 2, "remembered": 2}


def test_two_tokens_are_not_taken_for_each_other():
    replicas = Replicas(CONFIG)
    for names in (TOKENS, TOKENS[::-1]):
        tree = with_token(names[0])
        spec = tree["request"]["object"]["spec"]
        spec["volumes"].append({"name": names[1], "projected": {"sources": []}})
        asked(replicas, encode(tree))
    assert replicas.counts == {"decided": 4, "remembered": 0}


def test_what_is_no_pod_is_refused_every_time():
    replicas = Replicas(CONFIG)
    for body in (
        encode(review(object={"spec": {"containers": 1}})),
        encode(review(object={"metadata": {"labels": 1}, "spec": {}})),
    ) * 2:
        assert asked(replicas, body).status == 400


def test_memory_has_an_end():
    replicas = Replicas(CONFIG)
    for number in range(MOST + 50):
        spec = copy.deepcopy(pod()["spec"]) | {"hostname": f"h{number}"}
        asked(replicas, encode(review(object=pod(spec=spec))))
    assert len(replicas._known) == MOST
    large = encode(review(object=pod(spec=pod()["spec"] | {"hostname": "x" * LARGEST})))
    asked(replicas, large)
    assert replicas.counts == {"decided": 2 * (MOST + 51), "remembered": 0}


def test_pods_that_come_once_push_none_out():
    replicas, body = Replicas(CONFIG), REVIEW.read_bytes()
    asked(replicas, body)
    for number in range(SIGHTS + 1):
        spec = {"hostname": f"h{number}", "containers": [{"name": "a"}]}
        answer_by(encode(review(object={"spec": spec})), replicas.judge)
    assert replicas.counts == {"decided": SIGHTS + 3, "remembered": 0}
    asked(replicas, body)
    assert replicas.counts["remembered"] == 2
    assert len(replicas._once) == SIGHTS


def test_another_configuration_remembers_nothing():
    replicas, body = Replicas(parse("defaults: {delayMax: 20}")), REVIEW.read_bytes()
    assert answer_by(body, replicas.judge).body != answer(body, CONFIG).body
