"""Certificate files in a directory, replaced as a whole.

The layout is the kubelet's for Secret volumes: each version is a directory of its own, `..data` is a symbolic link to the present one,
and the names that people use are links through it. One rename switches all files at once, so the same reader works on a mounted Secret
and here.

    tls.crt -> ..data/tls.crt      ..data -> ..v-k2x9q0ab      ..v-k2x9q0ab/tls.crt

A reader that opens two files one after the other can still catch a switch in between: it must check that certificate and key match, as
`certs.authority.Leaf.load` does, and try again.
"""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from certs.errors import StoreError

CA_FILE = "ca.crt"
CERT_FILE = "tls.crt"
KEY_FILE = "tls.key"

_DATA = "..data"
_VERSION = "..v-"
_SWITCH = "..switch-"
_STALE = 60.0
"""Seconds after which older versions, and what a crash left behind, are removed; what is younger may be another process's, at work."""


def write(directory: Path, files: Mapping[str, bytes]) -> bool:
    """Replace the files of *directory* in one step. Keys (`*.key`) get mode 0600, the rest 0644. False: they were the same already."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if read(directory, tuple(files)) == dict(files):
            return False
        _switch(directory, files)
    except OSError as error:
        raise StoreError(
            f"can't write certificates to {directory}: {error.strerror} ({error.filename or directory})"
        ) from error
    return True


def read(
    directory: Path, names: tuple[str, ...] = (CA_FILE, CERT_FILE, KEY_FILE)
) -> dict[str, bytes]:
    """Read the files that are there."""
    found = {}
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            found[name] = (directory / name).read_bytes()
    return found


def _switch(directory: Path, files: Mapping[str, bytes]) -> None:
    # mkdtemp makes it 0700; a mounted directory is shared with a container of the same user, or of the same group by fsGroup.
    version = Path(tempfile.mkdtemp(prefix=_VERSION, dir=directory))
    version.chmod(0o755)
    before = _target(directory / _DATA)
    for name, content in files.items():
        _write_synced(version / name, content, 0o600 if name.endswith(".key") else 0o644)
    _point(directory / _DATA, version.name)
    for name in files:
        if _target(directory / name) != f"{_DATA}/{name}":
            _point(directory / name, f"{_DATA}/{name}")
    _clear(directory, before)


def _clear(directory: Path, before: str | None) -> None:
    """Remove what is neither in use nor the version before: a reader may be on its way into that one."""
    for found in directory.glob("..*"):
        ours = found.name.startswith((_VERSION, _SWITCH))
        if ours and found.name not in {before, _target(directory / _DATA)} and _age(found) > _STALE:
            shutil.rmtree(found, ignore_errors=True)


def _target(link: Path) -> str | None:
    try:
        return str(link.readlink())
    except OSError:
        return None


def _age(path: Path) -> float:
    try:
        return time.time() - path.lstat().st_mtime
    except OSError:
        return 0.0


def _write_synced(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _point(link: Path, target: str) -> None:
    """Set a symbolic link by rename: a reader sees the old target or the new one, never none."""
    # mkdtemp draws a name that nobody else uses; the link is made inside and renamed out of it.
    aside = Path(tempfile.mkdtemp(prefix=_SWITCH, dir=link.parent))
    try:
        (aside / "link").symlink_to(target)
        (aside / "link").replace(link)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
