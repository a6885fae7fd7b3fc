"""kube-proxy in nftables mode: bare, with a sleep, with podgrace, at once under the same load.

It switches the mode on all nodes and back (PODGRACE_PROXY): these tests come last, and need a
cluster of their own.
"""

import os
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cluster import kube
from tests.cluster.mission import Place, beside, explained, lost

FULL = bool(os.environ.get("PODGRACE_FULL"))
SERVERS = ["exits", "nginx", "gunicorn", "node"] if FULL else ["nginx"]


@pytest.fixture
def nftables() -> Iterator[None]:
    if not (words := shlex.split(os.environ.get("PODGRACE_PROXY", ""))):
        pytest.skip("nothing says how kube-proxy's mode is switched: PODGRACE_PROXY")
    try:
        kube.run(*words, "nftables")
        yield
    finally:
        kube.run(*words, "iptables")


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("nftables")
def test_with_nftables_no_request_is_lost(places: Callable[[], Place], tally: Any) -> None:
    rows, reports = beside(places, SERVERS, "rolling update")
    tally("nftables", rows)
    missed = lost(rows, "podgrace")
    assert not missed, explained(reports, missed)
    assert lost(rows, "bare"), "that podgrace loses none is worth something"
