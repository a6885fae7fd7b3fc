"""Certificate files in a directory; a mounted Secret is read in the same way.

In: files by name. Out: the directory with these files, each replaced by one rename.

A reader that opens two files one after the other can catch a half-replaced pair: it must check that
certificate and key match, as `certs.authority.Leaf.load` and the server do, and try again.
"""

import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from certs.errors import StoreError

CA_FILE = "ca.crt"
CERT_FILE = "tls.crt"
KEY_FILE = "tls.key"


def write(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write files into *directory*. Keys (`*.key`) get mode 0600, the rest 0644."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            _replace(directory / name, content, 0o600 if name.endswith(".key") else 0o644)
    except OSError as error:
        where = error.filename or directory
        raise StoreError(
            f"can't write certificates to {directory}: {error.strerror} ({where})"
        ) from error


def read(
    directory: Path, names: tuple[str, ...] = (CA_FILE, CERT_FILE, KEY_FILE)
) -> dict[str, bytes]:
    """Read the files that are there."""
    found = {}
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            found[name] = (directory / name).read_bytes()
    return found


def _replace(path: Path, content: bytes, mode: int) -> None:
    # Beside it, since a rename works only within one file system.
    descriptor, aside = tempfile.mkstemp(prefix=f"..{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
        Path(aside).replace(path)
    except BaseException:
        Path(aside).unlink()
        raise
