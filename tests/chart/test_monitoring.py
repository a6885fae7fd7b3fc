"""Alerts and dashboard name metrics that exist, and every alert has its section in the runbook."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from certs.manager import Figures
from certs.metrics import render
from tests import needs
from tests.chart.rendering import CHART, Object, ci, objects, text

ROOT = CHART.parents[1]
ENABLED = {"monitoring.prometheusRule.enabled": "true"}
OF_OTHERS = {
    # kube-apiserver (pkg/admission/metrics, pkg/admission/plugin/policy/validating/metrics), from a
    # v1.36 server
    "apiserver_admission_webhook_admission_duration_seconds_bucket",
    "apiserver_admission_webhook_fail_open_count",
    "apiserver_admission_webhook_rejection_count",
    "apiserver_admission_webhook_request_total",
    "apiserver_validating_admission_policy_check_total",
    # kube-state-metrics
    "kube_deployment_spec_replicas",
    "kube_deployment_status_replicas_available",
    # Python's Prometheus client, on Linux
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
}


def rules(**sets: str) -> list[Object]:
    found: list[Object] = objects(sets=ENABLED | sets).one("PrometheusRule")["spec"]["groups"][0][
        "rules"
    ]
    return found


def queries() -> list[str]:
    board = json.loads((CHART / "files" / "dashboard.json").read_text(encoding="utf-8"))
    shown = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    return [rule["expr"] for rule in rules()] + shown


def metrics_of(query: str) -> set[str]:
    return set(
        re.findall(
            r"\b((?:podgrace|apiserver|kube|process)_[a-z_]+)\b", re.sub(r'"[^"]*"', "", query)
        )
    )


def exposed() -> set[str]:
    """Read our metrics' names from the code that declares them, with the text format's suffixes."""
    source = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "webhook" / "server").glob("*.py")
    )
    names = set(re.findall(r'"(podgrace_[a-z_]+)"', source))
    ours = {
        name + suffix for name in names for suffix in ("", "_total", "_bucket", "_count", "_sum")
    }
    return (
        ours
        | set(re.findall(r"^(podgrace_certs_[a-z_]+)", render(Figures(expiries={})), re.MULTILINE))
        | {"podgrace_certs_not_after_timestamp_seconds"}
    )


def test_queries_name_metrics_that_exist() -> None:
    unknown = {query: metrics_of(query) - exposed() - OF_OTHERS for query in queries()}
    assert all(metrics_of(query) for query in unknown)
    assert {query: names for query, names in unknown.items() if names} == {}


def test_every_alert_has_its_section_in_the_runbook() -> None:
    headings = re.findall(
        r"^## (\w+)$", (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert sorted(headings) == sorted(rule["alert"] for rule in rules())
    for rule in rules():
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"


def test_alerts_say_how_bad_and_what() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"].endswith(".")


def test_alerts_can_be_left_out_labelled_and_added() -> None:
    found = objects(ci("monitoring")).one("PrometheusRule")["spec"]["groups"][0]["rules"]
    assert "PodgraceReplicasMissing" not in [rule.get("alert") for rule in found]
    assert found[0]["labels"]["team"] == "platform"
    assert (
        found[0]["annotations"]["runbook_url"]
        == "https://docs.example.internal/podgrace/runbook#podgracepodsmissed"
    )
    assert found[-1]["record"] == "podgrace:requests:rate5m"


@pytest.mark.parametrize(
    ("life", "soon", "now"),
    [("60d", 14 * 86400, 7 * 86400), ("12h", 3 * 3600, 5400), ("8d", 2 * 86400, 86400)],
)
def test_alerts_on_expiry_follow_the_life_of_the_certificate(
    life: str, soon: int, now: int
) -> None:
    """Renewal is due when a third is left: an alert before that would be noise.

    One at a fixed week would be useless for short lives.
    """
    expressions = {
        rule["alert"]: rule["expr"] for rule in rules(**{"tls.selfManaged.leafLife": f'"{life}"'})
    }
    assert expressions["PodgraceCertificateExpiresSoon"].endswith(f"< {soon}")
    assert expressions["PodgraceCertificateExpires"].endswith(f"< {now}")


def test_only_self_managed_certificates_are_watched_being_made() -> None:
    mine, theirs = (
        rules(),
        objects(ci("provided"), sets=ENABLED).one("PrometheusRule")["spec"]["groups"][0]["rules"],
    )
    assert {rule["alert"] for rule in mine} - {rule["alert"] for rule in theirs} == {
        "PodgraceCertificatesUnattended",
        "PodgraceRotationStuck",
    }


def test_monitors_scrape_ports_that_are_there() -> None:
    for mode, ports in (("monitoring", ["metrics", "certs-metrics"]), ("provided", ["metrics"])):
        rendered = objects(ci("monitoring"), ci(mode))
        service, pod = rendered.one("ServiceMonitor")["spec"], rendered.one("PodMonitor")["spec"]
        assert [endpoint["port"] for endpoint in service["endpoints"]] == ports
        assert [endpoint["port"] for endpoint in pod["podMetricsEndpoints"]] == ports
        assert set(ports) <= {port["name"] for port in rendered.one("Service")["spec"]["ports"]}
        assert set(ports) <= {
            port["name"]
            for container in rendered.pod()["containers"]
            for port in container["ports"]
        }
        assert (
            service["selector"]["matchLabels"].items()
            <= rendered.one("Service")["metadata"]["labels"].items()
        )


def test_prometheus_accepts_the_rules(tmp_path: Path) -> None:
    """`promtool` (Debian's package prometheus) checks, if it is installed."""
    promtool = needs.program("promtool")
    file = tmp_path / "rules.yaml"
    with file.open("w", encoding="utf-8") as out:
        YAML(typ="safe", pure=True).dump(
            {"groups": objects(sets=ENABLED).one("PrometheusRule")["spec"]["groups"]}, out
        )
    done = subprocess.run(
        [promtool, "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_of_it_is_there_by_default() -> None:
    assert "monitoring.coreos.com" not in text()
    assert "dashboard" not in text()
