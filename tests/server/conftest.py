"""One server for all tests of a file that do not change it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.serving import Served, served


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve, and afterwards see that no bug of ours was hidden behind an answer."""
    directory: Path = tmp_path_factory.mktemp("served")
    with served(directory) as running:
        yield running
        assert running.events("failed", "uvicorn") == []
        assert running.metric("podgrace_requests_total", result="bug") == 0
    assert running.process.returncode == 0
