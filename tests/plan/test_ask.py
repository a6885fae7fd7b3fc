"""`plan` over a cluster's API: what must be there, and what may be missing."""

import contextlib
from collections.abc import Iterator

import pytest

from tests.cli.apiserver import ApiServer, Call, Json
from tests.cli.command import podgrace

SHOP = "/api/v1/namespaces/shop"


class Cluster(ApiServer):
    """A namespace without anything in it; `refused` says what a path gets instead."""

    def __init__(self) -> None:
        self.refused: dict[str, tuple[int, Json]] = {}
        super().__init__(self._answer)

    def _answer(self, call: Call) -> tuple[int, Json]:
        namespace = {"metadata": {"name": "shop"}}
        found = namespace if call.path == SHOP else {"groups": [], "items": []}
        return self.refused.get(call.path, (200, found))


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with contextlib.closing(Cluster()) as made:
        yield made


def test_a_namespace_that_is_not_there_is_an_error(cluster: Cluster) -> None:
    """With a typo in its name the plan would be empty, and look like good news."""
    cluster.refused[SHOP] = (404, {"message": 'namespaces "shop" not found'})
    ran = podgrace("plan", "-n", "shop", "--api", cluster.url)
    assert (ran.code, ran.out) == (1, "")
    assert 'namespaces "shop" not found' in ran.err


def test_without_the_right_to_read_the_namespace_there_is_a_plan(cluster: Cluster) -> None:
    cluster.refused[SHOP] = (403, {"message": "namespaces is forbidden"})
    ran = podgrace("plan", "-n", "shop", "--api", cluster.url)
    assert ran.code == 0 and ran.out.startswith("0 workloads")
    assert "namespaces were not read" in ran.err


def test_without_the_right_to_read_workloads_there_is_none(cluster: Cluster) -> None:
    path = "/apis/apps/v1/namespaces/shop/deployments"
    cluster.refused[path] = (403, {"message": "deployments is forbidden"})
    ran = podgrace("plan", "-n", "shop", "--api", cluster.url)
    assert (ran.code, ran.out) == (1, "")
