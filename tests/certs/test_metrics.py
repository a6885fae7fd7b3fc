"""The figures as Prometheus reads them, over a real socket."""

import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from certs import metrics
from certs.manager import Figures

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def figures() -> Figures:
    return Figures(
        leader=True,
        phase="steady",
        succeeded_at=NOW,
        failures=2,
        expiries={"leaf": NOW, "authority": NOW},
    )


@pytest.fixture
def url(figures: Figures) -> Iterator[str]:
    server = metrics.listen(figures, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_prometheus_parses_it(url: str, figures: Figures) -> None:
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        found = samples(answer.read().decode())
    assert (
        found["podgrace_certs_not_after_timestamp_seconds", (("kind", "leaf"),)] == NOW.timestamp()
    )
    assert found["podgrace_certs_last_success_timestamp_seconds", ()] == NOW.timestamp()
    assert found["podgrace_certs_failures_total", ()] == figures.failures
    assert found["podgrace_certs_leader", ()] == 1
    phases = {
        labels[0][1]: value
        for (name, labels), value in found.items()
        if name == "podgrace_certs_phase"
    }
    assert phases == {"missing": 0, "steady": 1, "trusting": 0, "retiring": 0}
    assert {name for name, _ in found} >= {"podgrace_certs_writes_total"}


def test_every_family_has_help_and_type_and_fits_its_name() -> None:
    families = list(text_string_to_metric_families(metrics.render(Figures())))
    assert len(families) == 6
    for family in families:
        assert family.documentation and family.type in ("gauge", "counter")
        assert family.name.startswith("podgrace_certs_")


def test_before_anything_happened_it_is_valid_too() -> None:
    found = samples(metrics.render(Figures()))
    assert found["podgrace_certs_last_success_timestamp_seconds", ()] == 0
    assert not any(name == "podgrace_certs_not_after_timestamp_seconds" for name, _ in found)


def test_only_the_leader_shows_a_phase() -> None:
    found = samples(metrics.render(Figures(leader=False, phase="steady")))
    assert not any(value for (name, _), value in found.items() if name == "podgrace_certs_phase")


def test_health_and_unknown_paths(url: str) -> None:
    assert urllib.request.urlopen(f"{url}/healthz?x=1", timeout=10).read() == b"ok\n"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{url}/other", timeout=10)
    with caught.value as answer:
        assert answer.code == 404 and answer.read() == b"accepted: /metrics, /healthz, /startz\n"


def test_it_has_started_once_there_is_a_pair_or_no_hope_of_one_soon() -> None:
    now = 100.0
    figures = Figures()
    server = metrics.listen(figures, "127.0.0.1", 0, clock=lambda: now)

    def started() -> int:
        url = f"http://127.0.0.1:{server.server_address[1]}/startz"
        try:
            return int(urllib.request.urlopen(url, timeout=10).status)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code

    try:
        assert started() == 503
        figures.served = True
        assert started() == 200
        figures.served = False
        now += metrics.PATIENCE
        assert started() == 200
    finally:
        server.shutdown()
        server.server_close()


def test_a_silent_client_holds_nobody_up(url: str) -> None:
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))):
        start = time.monotonic()
        assert urllib.request.urlopen(f"{url}/healthz", timeout=10).status == 200
        assert time.monotonic() - start < 9


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6 sockets")
def test_every_address_means_ipv6_too() -> None:
    """A Pod may have IPv6 addresses only."""
    server = metrics.listen(Figures(), "", 0)
    try:
        for host in ("127.0.0.1", "[::1]"):
            assert (
                urllib.request.urlopen(
                    f"http://{host}:{server.server_address[1]}/healthz", timeout=10
                ).read()
                == b"ok\n"
            )
    finally:
        server.shutdown()
        server.server_close()


def test_the_document_names_every_family() -> None:
    document = (Path(__file__).parents[2] / "docs" / "certificates.md").read_text()
    missing = [
        family.name
        for family in text_string_to_metric_families(metrics.render(Figures()))
        if (family.name + ("_total" if family.type == "counter" else "")) not in document
    ]
    assert not missing
