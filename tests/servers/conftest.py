"""What every test here needs: root (namespaces), the servers, the built helper, a directory.

Other users may enter the directory.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import needs
from tests.servers.catalog import INSTALL, Server, missing
from tests.servers.scenario import HELPER


@pytest.fixture
def directory() -> Iterator[Path]:
    """Return a directory for one Pod. Not pytest's own, which only its user may enter."""
    place = Path(tempfile.mkdtemp(prefix="podgrace-servers-"))
    yield place
    shutil.rmtree(place, ignore_errors=True)


def require(server: Server, *, helper: bool, also: tuple[str, ...] = ()) -> None:
    """Say what is not there, and how to get it."""
    needs.root()
    if lacking := missing(server) + [word for word in also if not os.access(word, os.X_OK)]:
        needs.absent(
            f"needs {', '.join(lacking)}: {INSTALL}; Node and a JDK are packages of the system"
        )
    if helper and not HELPER.is_file():
        needs.absent("needs the helper: make helper")
