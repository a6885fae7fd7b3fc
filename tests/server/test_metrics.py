"""For Prometheus and people: each metric parses, is documented, counts what it says.

Every log line is JSON.
"""

import json
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.server.serving import REVIEW, Served, encode, review, served, until
from webhook.core.reasons import REASONS

REVIEW_BYTES = REVIEW.read_bytes()
DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


def families(server: Served) -> dict[str, object]:
    answer = server.plain("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {family.name: family for family in text_string_to_metric_families(answer.body.decode())}


def documented() -> set[str]:
    return set(
        re.findall(
            r"^\| `([a-z_]+)(?:\{[^`]*\})?`", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE
        )
    )


def shown(server: Served) -> set[str]:
    return {
        name + "_total" if family.type == "counter" else name
        for name, family in families(server).items()
    }


def test_every_metric_is_documented_and_every_documented_one_exists(server: Served):
    ours = {name for name in shown(server) if name.startswith("podgrace_")}
    assert ours == {
        name
        for name in documented()
        if name.startswith("podgrace_") and not name.startswith("podgrace_certs_")
    }
    assert {name for name in documented() if name.startswith(("process_", "python_"))} <= shown(
        server
    )


def test_what_the_chart_looks_at_exists():
    charts = Path(__file__).parents[2] / "charts"
    used = {
        name
        for path in charts.rglob("*")
        if path.is_file()
        for name in re.findall(r"\bpodgrace_[a-z_]+", path.read_text(errors="replace"))
    }
    assert {
        name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for name in used
    } <= documented() | {f"{name}_count" for name in documented()}
    assert used


def test_every_metric_has_a_sentence_and_labels_of_a_known_vocabulary(server: Served):
    server.ask(REVIEW_BYTES)
    vocabulary = {
        "podgrace_reasons": ("code", set(REASONS)),
        "podgrace_requests": ("result", {"patched", "unchanged", "skipped", "invalid", "bug"}),
    }
    for name, family in families(server).items():
        assert family.documentation, name
        if name in vocabulary:
            label, values = vocabulary[name]
            assert {
                sample.labels[label] for sample in family.samples if sample.name.endswith("_total")
            } == values
        assert not any(
            word in key
            for sample in family.samples
            for key in sample.labels
            for word in ("namespace", "pod", "uid")
        )


def test_calls_are_counted_by_result_reason_and_status(tmp_path: Path):
    with served(tmp_path) as server:
        answer = server.ask(REVIEW_BYTES)
        codes = answer.json()["response"]["auditAnnotations"]["codes"].split(",")
        server.ask(encode(review(operation="DELETE")))
        server.ask(b"{}")
        server.ask(REVIEW_BYTES, "/elsewhere")
        server.ask(REVIEW_BYTES, method="PUT")
        assert server.metric("podgrace_requests_total", result="patched") == 1
        assert server.metric("podgrace_requests_total", result="skipped") == 1
        assert server.metric("podgrace_requests_total", result="invalid") == 1
        for code in (*codes, "not-create"):
            assert server.metric("podgrace_reasons_total", code=code) == 1
        for status, count in (("200", 2), ("400", 1), ("404", 1), ("405", 1)):
            assert server.metric("podgrace_http_responses_total", status=status) == count
        assert server.metric("podgrace_request_duration_seconds_count") == 3
        assert server.metric("podgrace_request_duration_seconds_bucket", le="3.0") == 3
        assert server.metric("podgrace_request_bytes_total") >= 2 * len(REVIEW_BYTES)
        assert server.metric("podgrace_patch_operations_total") > 5
        assert server.metric("podgrace_requests_in_flight") == 0


def test_replicas_with_other_settings_show_another_hash(tmp_path: Path):
    (tmp_path / "config.yaml").write_text("defaults: {delayMax: 20}\n")
    (tmp_path / "spelled.yaml").write_text("defaults:\n  delayMax: 15 # as built in\n")
    found = []
    for number, options in enumerate(
        (
            [],
            ["--config", str(tmp_path / "spelled.yaml")],
            ["--config", str(tmp_path / "config.yaml")],
        )
    ):
        with served(tmp_path / str(number), *options) as server:
            family = families(server)["podgrace_config_info"]
            found.append(family.samples[0].labels["hash"])
    assert found[0] == found[1] != found[2]


def test_a_call_leaves_one_line(server: Served):
    server.ask(REVIEW_BYTES)
    sent = json.loads(REVIEW_BYTES)["request"]
    line = server.wait_for("admission", uid=sent["uid"])
    assert line["namespace"] == sent["namespace"]
    assert line["name"] == sent["object"]["metadata"]["generateName"]
    assert (line["operation"], line["dryRun"], line["result"]) == ("CREATE", False, "patched")
    assert line["ops"] > 5
    assert line["ms"] > 0, "measured by a clock that is finer than the event loop's"
    assert set(line["codes"]) <= set(REASONS)
    fields = set(
        re.findall(
            r"^\| `([a-zA-Z]+)`",
            DOCUMENT.read_text(encoding="utf-8").split("## The log")[1],
            re.MULTILINE,
        )
    )
    assert set(line) <= fields, "every field of the line is documented"


@pytest.mark.parametrize("size", [300, 5000])
def test_a_line_is_cut_rather_than_broken(server: Served, size: int):
    server.ask(encode(review(name="n" * size, uid=f"cut-{size}")))
    line = server.wait_for("admission", uid=f"cut-{size}")
    assert len(json.dumps(line)) < 2500


BUGGY = """
import sys
from webhook import admission, cli
def boom(*_):
    secret = "c3VwZXItc2VjcmV0"
    raise KeyError(secret)
admission.decide = boom
sys.exit(cli.main(sys.argv[1:]))
"""


def test_a_bug_of_ours_allows_warns_counts_and_logs_its_place_only(tmp_path: Path):
    """The decision is made to fail: the only planted fault, since no known input makes one."""
    program = tmp_path / "buggy.py"
    program.write_text(BUGGY)
    with served(tmp_path / "tls", main=[str(program)]) as server:
        answer = server.ask(REVIEW_BYTES)
        response = answer.json()["response"]
        assert (answer.status, response["allowed"]) == (200, True)
        assert "patch" not in response
        assert "report" in response["warnings"][0]
        line = server.wait_for("admission", result="bug")
        assert (line["error"], line["at"]) == ("KeyError", "buggy.py:6")
        until(lambda: server.metric("podgrace_requests_total", result="bug") == 1, "it is counted")
        assert "c3VwZXItc2VjcmV0" not in server.text()
        assert server.plain("/readyz").status == 200
