"""What a test needs of this machine: programs, root. A missing one costs milliseconds and a line.

In: names. Out: nothing, a path, or a skip whose reason says how to get it; `tests/conftest.py` adds
the reasons up at the end of a run. With CI=true, where the project itself installs everything, the
same is a failure: nothing is skipped in silence there.
"""

import os
import shutil
from typing import Final, NoReturn

import pytest

PACKAGES: Final = {
    "caddy": "caddy",
    "cc": "gcc libc6-dev",
    "chromium": "chromium",
    "dumb-init": "dumb-init",
    "gcc": "gcc libc6-dev",
    "git": "git",
    "haproxy": "haproxy",
    "ip": "iproute2",
    "java": "default-jre-headless",
    "lighttpd": "lighttpd",
    "nginx": "nginx-light",
    "node": "nodejs",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "patch": "patch",
    "pgrep": "procps",
    "pkill": "procps",
    "promtool": "prometheus",
    "ps": "procps",
    "qemu-aarch64-static": "qemu-user-static",
    "setpriv": "util-linux",
    "ss": "iproute2",
    "strace": "strace",
    "tini": "tini",
    "unshare": "util-linux",
}
"""Debian's package of each program."""

ROOT: Final = "needs root, for namespaces"
INSTALL: Final = "apt-get install "


def absent(reason: str) -> NoReturn:
    """Skip the test; on CI, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def programs(*names: str) -> None:
    """Go on if all of them are there."""
    lacking = sorted({name for name in names if shutil.which(name) is None})
    if not lacking:
        return
    packages = sorted({PACKAGES[name] for name in lacking if name in PACKAGES})
    remedy = f": {INSTALL}{' '.join(packages)}" if packages else ", which Debian does not have"
    absent(f"needs {', '.join(lacking)}{remedy}")


def program(name: str) -> str:
    """Path of a program that must be there."""
    programs(name)
    return shutil.which(name) or name


def root() -> None:
    """Go on if namespaces, mounts and other users are ours to make."""
    if os.geteuid():
        absent(ROOT)
