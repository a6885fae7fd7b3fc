"""Bodies that no API server sends, and some that one might.

Each gets an answer, never an exception, never a denial.
"""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.admission.test_recorded import CONFIG, EXPECTED, recorded
from tests.core.passes import judged
from webhook import admission
from webhook.admission import Answer, answer
from webhook.core.names import STATUS_ANNOTATION
from webhook.core.reasons import REASONS

POD = {
    "metadata": {"name": "p"},
    "spec": {"containers": [{"name": "web", "image": "shop", "ports": [{"containerPort": 8080}]}]},
}
KIND = {"group": "", "version": "v1", "kind": "Pod"}


def review(**request: Any) -> dict[str, Any]:
    whole = {
        "uid": "u",
        "kind": KIND,
        "operation": "CREATE",
        "namespace": "shop",
        "object": POD,
    } | request
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": whole}


def ask(body: bytes | dict[str, Any]) -> Answer:
    return answer(body if isinstance(body, bytes) else json.dumps(body).encode(), CONFIG)


INVALID: dict[str, tuple[bytes | dict[str, Any], str]] = {
    "empty": (b"", "not an AdmissionReview"),
    "no JSON": (b"{", "not an AdmissionReview"),
    "a list": (b"[]", "not an AdmissionReview"),
    "null": (b"null", "not an AdmissionReview"),
    "not UTF-8": (b'{"apiVersion":"\xff"}', "not an AdmissionReview"),
    "two values": (b"{}{}", "not an AdmissionReview"),
    "nested lists": (b"[" * 200_000, "not an AdmissionReview"),
    "nested objects": (b'{"a":' * 200_000, "not an AdmissionReview"),
    "a review of nothing": ({}, "accepted: admission.k8s.io/v1, AdmissionReview"),
    "v1beta1": (
        review() | {"apiVersion": "admission.k8s.io/v1beta1"},
        "'admission.k8s.io/v1beta1'",
    ),
    "another kind": (review() | {"kind": "ConversionReview"}, "'ConversionReview'"),
    "no request": (
        {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"},
        "request is missing",
    ),
    "request null": (
        {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": None},
        "request is missing",
    ),
    "no uid": (review(uid=""), "request.uid is missing"),
    "uid a number": (review(uid=5), "$.request.uid"),
    "kind null": (review(kind=None), "$.request.kind"),
    "object a list": (review(object=[]), "request.object is not a Pod"),
    "object without spec": (review(object={}), "request.object is not a Pod"),
    "containers null": (review(object={"spec": {"containers": None}}), "$.spec.containers"),
    "a container without name": (
        review(object={"spec": {"containers": [{}]}}),
        "$.spec.containers[0]",
    ),
    "annotations of numbers": (
        review(object=POD | {"metadata": {"annotations": {"a": 5}}}),
        "$.metadata.annotations",
    ),
    "a preStop of a number": (
        review(
            object={
                "spec": {
                    "containers": [
                        {"name": "a", "ports": [{"containerPort": 1}], "lifecycle": {"preStop": 5}}
                    ]
                }
            }
        ),
        "request.object is not a Pod",
    ),
    "object nested": (
        b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"object":'
        + b'{"a":' * 100_000,
        "not an",
    ),
}


@pytest.mark.parametrize("name", INVALID)
def test_refused(name: str) -> None:
    body, text = INVALID[name]
    answered = ask(body)
    assert answered.status == 400
    assert answered.result == "invalid"
    error = json.loads(answered.body)["error"]
    assert text in error
    assert len(error) < 300


SKIPPED = {
    "an update": (review(operation="UPDATE"), "not-create"),
    "a delete": (review(operation="DELETE", object=None), "not-create"),
    "a connect": (review(operation="CONNECT", object={}), "not-create"),
    "no operation": (review(operation=""), "not-create"),
    "an unknown operation": (review(operation="DANCE"), "not-create"),
    "a sub-resource": (review(subResource="status"), "sub-resource"),
    "a Deployment": (
        review(kind={"group": "apps", "version": "v1", "kind": "Deployment"}),
        "not-a-pod",
    ),
    "a Pod of another group": (review(kind=KIND | {"group": "evil.example"}), "not-a-pod"),
    "a Pod of another version": (review(kind=KIND | {"version": "v2"}), "not-a-pod"),
    "object null": (review(object=None), "not-a-pod"),
    "namespace of the system": (review(namespace="kube-system"), "excluded-namespace"),
}


@pytest.mark.parametrize("name", SKIPPED)
def test_allowed_unchanged(name: str) -> None:
    body, code = SKIPPED[name]
    answered = ask(body)
    response = json.loads(answered.body)["response"]
    assert answered.status == 200
    assert answered.codes == (code,)
    assert response == {
        "uid": "u",
        "allowed": True,
        "auditAnnotations": {"result": "skipped", "codes": code},
    }


def test_uid_comes_back_whatever_it_is() -> None:
    for uid in ("x" * 5000, 'a"b\\c', "ü\n"):
        assert json.loads(ask(review(uid=uid)).body)["response"]["uid"] == uid


@pytest.mark.parametrize("field", ["uid", "namespace", "name"])
def test_half_a_surrogate_is_no_exception(field: str) -> None:
    answered = ask(json.dumps(review(**{field: "X"})).replace('"X"', '"\\ud800"').encode())
    assert answered.status in (200, 400)


def test_two_hundred_containers() -> None:
    containers = [
        {"name": f"c{i}", "image": "shop", "ports": [{"containerPort": 8000 + i}]}
        for i in range(200)
    ]
    pod = {"metadata": {}, "spec": {"containers": containers}}
    answered = ask(review(object=pod))
    assert answered.status == 200
    assert len(answered.body) < 1 << 20
    judged(pod, CONFIG)


def test_a_thousand_unknown_annotations() -> None:
    """Eight warnings at most: all webhooks of a request share 4096 characters."""
    pod = POD | {
        "metadata": {"annotations": {f"podgrace.io/{'x' * 50}{i}": "1" for i in range(1000)}}
    }
    response = json.loads(ask(review(object=pod)).body)["response"]
    assert len(response["warnings"]) == 8
    assert all(len(warning) <= 120 for warning in response["warnings"])
    assert "patch" in response


def test_annotations_that_leave_no_room() -> None:
    """The API server refuses more than 256 KiB of annotations: better no help than no Pod."""
    for left, patched in ((100, False), (10_000, True)):
        pod = POD | {"metadata": {"annotations": {"note": "ä" * ((256 * 1024 - left) // 2)}}}
        answered = ask(review(object=pod))
        assert ("annotations-full" in answered.codes) != patched
        assert ("patch" in json.loads(answered.body)["response"]) == patched
    assert (
        "annotations"
        in json.loads(
            ask(review(object=POD | {"metadata": {"annotations": {"n": "x" * 262_100}}})).body
        )["response"]["warnings"][0]
    )


def test_a_bug_of_ours_is_not_the_users_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(admission, "mutate", broken)
    answered = ask(review())
    response = json.loads(answered.body)["response"]
    assert (answered.status, answered.result, answered.codes) == (200, "bug", ("bug",))
    assert response["allowed"] is True
    assert "patch" not in response
    assert "report it" in response["warnings"][0]


def test_overload_allows_without_deciding() -> None:
    response = json.loads(admission.allow(json.dumps(review()).encode(), "overload").body)[
        "response"
    ]
    assert (response["uid"], response["allowed"], "patch" in response) == ("u", True, False)
    assert "overloaded" in response["warnings"][0]
    assert admission.allow(b"nonsense", "overload").status == 400


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_byte_changed(data: st.DataObject) -> None:
    """A recorded review with a few bytes replaced, cut or doubled is answered, and never denied."""
    body = bytearray(recorded(data.draw(st.sampled_from(sorted(EXPECTED)))))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        piece = data.draw(
            st.one_of(
                st.binary(max_size=3),
                st.sampled_from([b"null", b"-1", b'"', b"[]", b"{}", b"\\ud800", b"1e999"]),
            )
        )
        body[at : at + data.draw(st.integers(0, 4))] = piece
    _never_harmful(bytes(body))


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(body=st.binary(max_size=200))
def test_any_bytes(body: bytes) -> None:
    _never_harmful(body)


def _never_harmful(body: bytes) -> None:
    answered = answer(body, CONFIG)
    assert answered.status in (200, 400)
    assert answered.result != "bug"
    assert set(answered.codes) <= set(REASONS)
    reply = json.loads(answered.body)
    assert ("error" in reply) == (answered.status == 400)
    if answered.status == 200:
        assert reply["response"]["allowed"] is True


def test_a_status_that_would_break_the_decoder() -> None:
    for text in (
        "[" * 100_000,
        '{"containers":{"web":{"preStop":' + "[" * 5000,
        '{"containers":{"web":{"preStop":5}}}',
        "\x00",
    ):
        answered = ask(
            review(object=POD | {"metadata": {"annotations": {STATUS_ANNOTATION: text}}})
        )
        assert answered.status == 200
        assert "hook" in answered.codes
