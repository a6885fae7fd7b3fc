"""What every test here needs: root (namespaces), the servers, the built helper, and a directory that other users may enter."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.catalog import INSTALL, Server, missing
from tests.servers.scenario import HELPER


@pytest.fixture
def directory() -> Iterator[Path]:
    """Return a directory for one Pod. Not pytest's own, which only its user may enter."""
    place = Path(tempfile.mkdtemp(prefix="podgrace-servers-"))
    yield place
    shutil.rmtree(place, ignore_errors=True)


def absent(what: str) -> None:
    """Skip; on CI, where the project itself installs what its tests need, fail."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def require(server: Server, *, helper: bool, also: tuple[str, ...] = ()) -> None:
    """Say what is not there, and how to get it."""
    if os.geteuid():
        absent(
            "namespaces need root: sudo, or: unshare --map-root-user --net --pid --fork --mount-proc pytest ..."
        )
    if lacking := missing(server) + [word for word in also if not os.access(word, os.X_OK)]:
        absent(
            f"{', '.join(lacking)}: not here; install: {INSTALL}, and Node and a JDK by the system's packages"
        )
    if helper and not HELPER.is_file():
        absent(f"{HELPER.name}: not built; build: make helper")
