"""The status table of `webhook.server.application`, row by row, over TLS with a running server.

Also what no API server sends.

Two things hold for every row: the answer is JSON, and the next ordinary call is answered as if
nothing had happened.
"""

import base64
import json
import random
from pathlib import Path
from typing import Any

import jsonpatch
import pytest

from tests.server.serving import REVIEW, Response, Served, encode, receive, review, served

REVIEW_BYTES = REVIEW.read_bytes()
MIB = 1 << 20


def patch_of(answer: Response) -> list[dict[str, Any]]:
    return json.loads(base64.b64decode(answer.json()["response"]["patch"]))


def expect_ordinary(server: Served) -> None:
    answer = server.ask(REVIEW_BYTES)
    assert answer.status == 200
    assert patch_of(answer)


def filled(before: str, item: str, after: str, size: int) -> bytes:
    """Write a review of `size` bytes at most whose object repeats an item."""
    head, tail = encode(review(object="@")).decode().split('"@"')
    room = size - len(head) - len(tail) - len(before) - len(after)
    return f"{head}{before}{','.join([item] * (room // (len(item) + 1)))}{after}{tail}".encode()


def test_a_recorded_review_is_patched_and_the_patch_applies(server: Served):
    answer = server.ask(REVIEW_BYTES, "/mutate?timeout=10s")
    tree, sent = answer.json(), json.loads(REVIEW_BYTES)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert (tree["apiVersion"], tree["kind"]) == (sent["apiVersion"], sent["kind"])
    assert tree["response"]["uid"] == sent["request"]["uid"]
    assert tree["response"]["allowed"] is True
    assert tree["response"]["patchType"] == "JSONPatch"
    patched = jsonpatch.apply_patch(sent["request"]["object"], patch_of(answer))
    assert patched["spec"]["initContainers"][0]["name"] == "podgrace"
    assert "podgrace.io/status" in patched["metadata"]["annotations"]


def test_a_dry_run_is_answered_the_same(server: Served):
    wet, dry = server.ask(encode(review(dryRun=False))), server.ask(encode(review(dryRun=True)))
    assert dry.json() == wet.json()


def grace(answer: Response) -> int:
    """Give the grace period that an answer asks for."""
    place = "/spec/terminationGracePeriodSeconds"
    (value,) = [op["value"] for op in patch_of(answer) if op["path"] == place]
    return int(value)


def test_a_class_has_a_path_and_an_unknown_one_is_like_the_rest(tmp_path: Path):
    """The same Pod at each path, twice: what is remembered of one class is not said to another."""
    config = tmp_path / "config.yaml"
    config.write_text("classes: {slow: {defaults: {drainTimeout: 300}}}", encoding="utf-8")
    with served(tmp_path / "served", "--config", str(config)) as server:
        for _ in range(2):
            rest, slow, unknown = (
                grace(server.ask(REVIEW_BYTES, path))
                for path in ("/mutate", "/mutate/slow?timeout=3s", "/mutate/new?timeout=3s")
            )
            assert slow >= rest + 200
            assert unknown == rest
        # Spelt another way it goes through the application, to the same end.
        assert grace(server.ask(REVIEW_BYTES, "/mutate/sl%6Fw")) == slow
        for path in ("/mutate/slow/x", "/mutate/"):
            assert server.ask(REVIEW_BYTES, path).status == 404
        assert server.metric("podgrace_decisions_total", how="remembered") >= 2


def text(old: bytes, new: bytes) -> bytes:
    assert REVIEW_BYTES.count(old) >= 1, old
    return REVIEW_BYTES.replace(old, new, 1)


DEEP = 100_000
IN_OBJECT = b'"object":{'
NOT_A_REVIEW = {
    "empty": (b"", "truncated"),
    "not-json": (b"hello", "malformed"),
    "half": (REVIEW_BYTES[:1000], "truncated"),
    "two": (REVIEW_BYTES + REVIEW_BYTES, "trailing"),
    "list": (b"[]", "Expected `object`"),
    "utf-16": (REVIEW_BYTES.decode().encode("utf-16"), "malformed"),
    "byte-order-mark": (b"\xef\xbb\xbf" + REVIEW_BYTES, "malformed"),
    "broken-utf-8": (text(b'"samples"', b'"\xff"'), "utf-8"),
    "deep-list": (b"[" * DEEP, "Expected `object`"),
    "deep-beside": (b'{"x":' + b"[" * DEEP + b"]" * DEEP + b"}", "recursion"),
    "deep-in-object": (
        text(IN_OBJECT, IN_OBJECT + b'"x":' + b"[" * DEEP + b"]" * DEEP + b","),
        "recursion",
    ),
    "deep-maps-in-object": (
        text(IN_OBJECT, IN_OBJECT + b'"x":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b","),
        "recursion",
    ),
    "not-a-number": (text(IN_OBJECT, IN_OBJECT + b'"x":NaN,'), "malformed"),
    "infinity": (text(b'"dryRun":false', b'"dryRun":Infinity'), "malformed"),
    "lone-surrogate": (text(b'"samples"', b'"\\ud800"'), "surrogate"),
    "lone-surrogate-unread": (text(IN_OBJECT, IN_OBJECT + b'"x":"\\ud800",'), "malformed"),
    "v1beta1": (
        text(b"admission.k8s.io/v1", b"admission.k8s.io/v1beta1"),
        "admission.k8s.io/v1beta1",
    ),
    "other-kind": (text(b'"AdmissionReview"', b'"ConversionReview"'), "ConversionReview"),
    "no-kind": (b"{}", "accepted: admission.k8s.io/v1, AdmissionReview"),
    "no-request": (
        b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}',
        "request is missing",
    ),
    "null-request": (
        b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":null}',
        "request is missing",
    ),
    "no-uid": (encode(review(uid="")), "uid is missing"),
    "uid-is-a-number": (encode(review(uid=7)), "$.request.uid"),
    "object-is-a-list": (encode(review(object=[])), "Expected `object`"),
    "no-spec": (encode(review(object={"metadata": {}})), "`spec`"),
    "containers-are-text": (
        encode(review(object={"spec": {"containers": "x"}})),
        "$.spec.containers",
    ),
    "container-without-name": (encode(review(object={"spec": {"containers": [{}]}})), "`name`"),
    "huge-number": (
        text(b'"terminationGracePeriodSeconds":45', b'"terminationGracePeriodSeconds":1e400'),
        "out of range",
    ),
    "huge-integer": (
        text(
            b'"terminationGracePeriodSeconds":45',
            b'"terminationGracePeriodSeconds":1' + b"0" * 30000,
        ),
        "out of range",
    ),
    "3MiB-of-lists-for-containers": (
        filled('{"spec":{"containers":[', "[]", "]}}", 3 << 19),
        "$.spec.containers[0]",
    ),
}


@pytest.mark.parametrize("name", NOT_A_REVIEW)
def test_400_says_what_is_wrong_and_where(server: Served, name: str):
    body, why = NOT_A_REVIEW[name]
    answer = server.ask(body)
    assert answer.status == 400
    assert why in answer.json()["error"]
    assert len(answer.body) < 400, "an error is short, whatever was sent"
    expect_ordinary(server)


NAMED = {"metadata": {}, "spec": {"containers": [{"name": "a", "ports": [{"containerPort": 80}]}]}}
LEFT_ALONE = {
    "null-object": (encode(review(object=None)), "not-a-pod"),
    "not-a-pod": (
        encode(review(kind={"group": "apps", "version": "v1", "kind": "Deployment"})),
        "not-a-pod",
    ),
    "update": (encode(review(operation="UPDATE")), "not-create"),
    "delete": (encode(review(operation="DELETE", object=None)), "not-create"),
    "connect": (
        encode(
            review(
                operation="CONNECT",
                kind={"group": "", "version": "v1", "kind": "PodExecOptions"},
                subResource="exec",
            )
        ),
        "sub-resource",
    ),
    "status": (encode(review(subResource="status", operation="UPDATE")), "sub-resource"),
    "eviction": (encode(review(subResource="eviction")), "sub-resource"),
    "over-1.5MiB": (
        filled('{"spec":{"containers":[{"name":"a"}],"x":[', "[]", "]}}", 3 * MIB),
        "oversized",
    ),
    "3MiB-of-maps": (
        filled('{"spec":{"containers":[{"name":"a"}],"x":[', "{}", "]}}", 3 * MIB),
        "oversized",
    ),
    "30000-containers": (
        filled(
            '{"spec":{"containers":[', '{"name":"a","ports":[{"containerPort":80}]}', "]}}", 3 << 19
        ),
        "oversized",
    ),
    "80000-ports": (
        filled(
            '{"spec":{"containers":[{"name":"a","ports":[', '{"containerPort":80}', "]}]}}", 3 << 19
        ),
        "oversized",
    ),
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_200_allowed_without_a_patch_and_with_the_reason(server: Served, name: str):
    body, code = LEFT_ALONE[name]
    answer = server.ask(body)
    response = answer.json()["response"]
    assert answer.status == 200
    assert response["allowed"] is True
    assert response["auditAnnotations"]["codes"] == code
    assert not {"patch", "patchType"} & response.keys(), "both or neither, and here neither"
    expect_ordinary(server)


PATCHED = {
    "duplicate-keys-last-wins": text(b'"uid":"', b'"uid":"first","uid":"'),
    "broken-utf-8-in-what-is-not-read": text(IN_OBJECT, IN_OBJECT + b'"x":"\xff",'),
    "unknown-fields": text(IN_OBJECT, IN_OBJECT + b'"fieldOf2031":{"a":[1,2,{"b":null}]},'),
    "negative-grace": text(
        b'"terminationGracePeriodSeconds":45', b'"terminationGracePeriodSeconds":-5'
    ),
    "200-containers": encode(
        review(
            object={
                "metadata": {},
                "spec": {
                    "containers": [
                        {"name": f"c{i}", "ports": [{"containerPort": 8000 + i}]}
                        for i in range(200)
                    ]
                },
            }
        )
    ),
    "odd-names": encode(
        review(
            object={"metadata": {"annotations": {"a/b~c": "", "~1": "x"}}, "spec": NAMED["spec"]}
        )
    ),
    "100000-empty-words": filled(
        '{"spec":{"containers":[{"name":"a","ports":[{"containerPort":80}],"command":[',
        '""',
        "]}]}}",
        300_000,
    ),
}


@pytest.mark.parametrize("name", PATCHED)
def test_200_patched_although_it_looks_odd(server: Served, name: str):
    answer = server.ask(PATCHED[name])
    sent = json.loads(PATCHED[name].decode(errors="replace"))["request"]
    assert answer.status == 200
    assert answer.json()["response"]["uid"] == sent["uid"]
    assert jsonpatch.apply_patch(sent["object"], patch_of(answer)) != sent["object"]


@pytest.mark.parametrize(
    ("status", "method", "path", "headers"),
    [
        (404, "POST", "/", {}),
        (404, "POST", "/mutate/", {}),
        (404, "GET", "/metrics", {}),
        (404, "POST", "/%6dutate%00", {}),
        (405, "GET", "/mutate", {}),
        (405, "PUT", "/mutate", {}),
        (405, "DELETE", "/mutate", {}),
        (415, "POST", "/mutate", {"Content-Type": "text/plain"}),
        (415, "POST", "/mutate", {"Content-Type": "application/x-www-form-urlencoded"}),
        (415, "POST", "/mutate", {"Content-Type": "application/json-patch+json"}),
        (415, "POST", "/mutate", {"Content-Encoding": "gzip"}),
        (200, "POST", "/mutate", {"Content-Type": "application/json; charset=utf-8"}),
        (200, "POST", "/mutate", {"Content-Type": "Application/JSON"}),
    ],
)
def test_other_paths_methods_and_types(
    server: Served, status: int, method: str, path: str, headers: dict[str, str]
):
    answer = server.ask(REVIEW_BYTES, path, method, **headers)
    assert answer.status == status
    if status != 200:
        assert set(answer.json()) == {"error"}
    if status == 405:
        assert answer.headers["allow"] == "POST"
    expect_ordinary(server)


@pytest.mark.parametrize(
    ("request_line", "headers", "status"),
    [
        (b"OPTIONS * HTTP/1.1", b"", 404),
        (b"CONNECT x:443 HTTP/1.1", b"", 400),
        (b"PRI * HTTP/2.0", b"", 400),
        (b"HEAD /mutate HTTP/1.1", b"", 405),
        (b"GET /mutate HTTP/1.1", b"Connection: Upgrade\r\nUpgrade: websocket\r\n", 405),
        (b"POST /mutate HTTP/1.1", b"Content-Length: 99999999999999999999\r\n", 400),
        (b"POST /mutate HTTP/1.1", b"Content-Length: 2\r\nContent-Length: 3\r\n", 400),
        (b"POST /mutate HTTP/1.1", b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", 400),
        (
            b"POST /mutate HTTP/1.1",
            b"Transfer-Encoding: gzip, chunked\r\nContent-Type: text/x\r\n\r\n0\r\n",
            415,
        ),
        (b"POST http://elsewhere/mutate HTTP/1.1", b"Content-Length: 0\r\n", 415),
        (b"POST /\xff HTTP/1.1", b"", 400),
        (b"POST /%ff%00%0d HTTP/1.1", b"Content-Length: 0\r\n", 404),
    ],
)
def test_what_http_allows_and_nobody_sends(
    server: Served, request_line: bytes, headers: bytes, status: int
):
    with server.raw() as secure:
        secure.sendall(request_line + b"\r\nHost: x\r\n" + headers + b"\r\n")
        line = secure.recv(65536).split(b"\r\n")[0]
    assert line.startswith(b"HTTP/1.1 %d " % status)
    expect_ordinary(server)


def test_nothing_behind_a_refused_request_is_looked_at(server: Served):
    call = (
        b"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b"
        % (
            len(REVIEW_BYTES),
            REVIEW_BYTES,
        )
    )
    with server.raw() as secure:
        trailers = b"POST /mutate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
        secure.sendall(trailers + call)
        assert receive(secure).status == 400
        assert secure.recv(1000) == b"", "one answer, and the end"


def test_415_for_no_content_type_at_all(server: Served):
    with server.raw() as secure:
        secure.sendall(b"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        assert receive(secure).status == 415


@pytest.mark.parametrize(
    "junk",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01 is TLS in TLS\r\n\r\n",
        b"POST /mutate HTTP/9.9\r\n\r\n",
        b"GET http:// HTTP/1.1\r\n\r\n",
    ],
)
def test_400_for_what_is_not_http(server: Served, junk: bytes):
    with server.raw() as secure:
        secure.sendall(junk)
        answer = receive(secure)
    assert answer.status == 400
    assert answer.headers["connection"] == "close"
    assert "error" in answer.json()
    expect_ordinary(server)


def test_a_chunked_body_is_read(server: Served):
    with server.raw() as secure:
        chunks = (
            b"".join(
                b"%x\r\n%b\r\n" % (len(part), part)
                for part in (REVIEW_BYTES[:2000], REVIEW_BYTES[2000:])
            )
            + b"0\r\n\r\n"
        )
        secure.sendall(
            b"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n" + chunks
        )
        assert patch_of(receive(secure))


def test_expect_100_is_honoured(server: Served):
    head = (
        b"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n"
    )
    with server.raw() as secure:
        secure.sendall(head % len(REVIEW_BYTES))
        assert secure.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        secure.sendall(REVIEW_BYTES)
        assert patch_of(receive(secure))


def call_of(body: bytes) -> bytes:
    head = b"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize(
    "behind",
    [
        call_of(REVIEW_BYTES),
        b"\x00garbage",
        b"POST /mutate HTTP/1.1\r\n",
        b"GET /x HTTP/1.1\r\n\r\n",
    ],
    ids=["another-call", "garbage", "half-a-call", "another-path"],
)
@pytest.mark.parametrize("path", [b"/mutate", b"/elsewhere"])
def test_a_call_with_something_behind_it_gets_its_answer_and_the_connection_ends(
    server: Served, path: bytes, behind: bytes
):
    """No API server pipelines. What is answered before the next is read needs no memory for it."""
    with server.raw() as secure:
        secure.sendall(call_of(REVIEW_BYTES).replace(b"/mutate", path, 1) + behind)
        answer = receive(secure)
        assert answer.headers["connection"] == "close"
        if path == b"/mutate":
            assert patch_of(answer)
        else:
            assert answer.status == 404
        assert secure.recv(1000) == b"", "one answer, and the end"
    expect_ordinary(server)


def test_an_upgrade_is_refused_or_ignored_but_always_answered(server: Served):
    """What is behind the head of an upgrade is no body for the parser: it must not wait for one."""
    upgrade = (
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    )
    for number, (call, status) in enumerate(
        [
            (call_of(REVIEW_BYTES).replace(b"Host: x\r\n", b"Host: x\r\n" + upgrade), 400),
            (b"GET /x HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n", 404),
        ]
    ):
        with server.raw() as secure:
            secure.sendall(call)
            answer = receive(secure)
            assert answer.status == status, number
            assert answer.headers["connection"] == "close"
            assert "error" in answer.json()
            assert secure.recv(1000) == b""
    expect_ordinary(server)


@pytest.mark.parametrize(
    "target", ["/mutate", "/%6dutate", "http://elsewhere/mutate", "/mutate?a=b"]
)
def test_however_the_path_is_spelled_the_answer_is_the_same(server: Served, target: str):
    """Beneath FastAPI, or by it."""
    body = encode(review(uid="u-1"))
    assert server.ask(body, target).body == server.ask(body).body


@pytest.mark.parametrize("seed", range(12))
def test_calls_are_answered_however_their_bytes_come(server: Served, seed: int):
    """Three calls in pieces of any size: the parser and the bounds meet in every place."""
    cut = random.Random(seed)  # noqa: S311 - to be repeatable
    with server.raw() as secure:
        for number in range(3):
            data = call_of(encode(review(uid=f"{seed}-{number}")))
            while data:
                size = cut.choice((1, 2, 7, 50, 300, 2000, 20_000))
                secure.sendall(data[:size])
                data = data[size:]
            assert receive(secure).json()["response"]["uid"] == f"{seed}-{number}"


def test_nothing_of_a_pod_is_logged(server: Served):
    secret = "c3VwZXItc2VjcmV0"  # noqa: S105 - one that must not be seen
    tree = review()
    tree["request"]["object"]["spec"]["containers"][0]["env"] = [
        {"name": "PASSWORD", "value": secret}
    ]
    tree["request"]["object"]["metadata"]["annotations"] = {
        "podgrace.io/delay": secret,
        "x": secret,
    }
    server.ask(encode(tree))
    server.ask(encode(tree)[:-40])
    tree["request"]["object"]["spec"]["containers"][0]["ports"] = secret
    server.ask(encode(tree))
    server.ask(REVIEW_BYTES)
    server.wait_for("admission", uid=json.loads(REVIEW_BYTES)["request"]["uid"])
    assert secret not in server.text()
