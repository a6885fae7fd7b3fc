"""Ports that users reach are told from side ports by more than a number or a part of a name."""

from typing import Any

import pytest

from tests.core.passes import judged
from webhook.config import parse

Json = dict[str, Any]


def watched(*ports: Json, **more: Any) -> list[int]:
    """Give the ports whose requests are waited for."""
    web = {"name": "web", "image": "shop", "ports": [*ports], **more}
    _, outcome = judged({"metadata": {"name": "p"}, "spec": {"containers": [web]}}, parse(""))
    (made,) = outcome.plan.containers
    return list(made.watched or ())


def named(name: str, number: int) -> Json:
    return {"name": name, "containerPort": number}


@pytest.mark.parametrize(
    ("name", "users"),
    [
        ("stats-api", True),
        ("health-records", True),
        ("cluster-api", True),
        ("admin-ui", True),
        ("promo", True),
        ("metrics", False),
        ("app-metrics", False),
        ("http-metrics", False),
        ("metrics-http", False),
        ("metrics-http2", False),
        ("health-check", False),
        ("raft-rpc", False),
        ("peer-service", False),
        ("gossip-lan", False),
        ("admin-tcp-1", False),
    ],
)
def test_the_last_word_of_a_name_says_what_a_port_is(name: str, users: bool) -> None:
    assert watched(named("http", 8080), named(name, 7777)) == [7777] * users + [8080]


ASKS = {"httpGet": {"path": "/ready", "port": 9090}}


@pytest.mark.parametrize(
    "more",
    [
        {"readinessProbe": ASKS},
        {"readinessProbe": {"tcpSocket": {"port": 9090}}},
        {"livenessProbe": {"grpc": {"port": 9090}}},
        {"args": ["--grpc-port=9090"]},
    ],
)
def test_a_number_alone_does_not_make_a_side_port(more: Json) -> None:
    assert watched({"containerPort": 9090}, **more) == [9090]


@pytest.mark.parametrize(
    "more", [{"livenessProbe": {"grpc": {"port": 9090}}}, {"args": ["--grpc-port=9090"]}]
)
def test_nor_beside_another_port(more: Json) -> None:
    assert watched(named("http", 8080), {"containerPort": 9090}, **more) == [8080, 9090]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"livenessProbe": ASKS},
        {"readinessProbe": ASKS, "image": "r.example/node-exporter:1"},
        {"readinessProbe": {"httpGet": {"path": "/metrics", "port": 9090}}},
        {"args": ["--metrics-port=9090"]},
    ],
)
def test_without_better_evidence_it_does(more: Json) -> None:
    assert watched({"containerPort": 9090}, **more) == []


def test_beside_another_port_readiness_may_ask_for_management() -> None:
    assert watched(named("http", 8080), {"containerPort": 9090}, readinessProbe=ASKS) == [8080]
