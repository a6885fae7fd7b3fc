"""The image's root holds what Python needs to serve, but no shell and no package manager.

The Dockerfile keeps its promises.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import needs

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")

APPLICATION = """
import asyncio, ctypes, decimal, hashlib, http.server, json, multiprocessing, socket, ssl
import threading, tomllib, urllib.request, uuid, zlib

def main():
    ssl.create_default_context()
    thread = threading.Thread(target=lambda: hashlib.sha256(b"x"))
    thread.start()
    thread.join()
    print("serves", asyncio.run(asyncio.sleep(0, "well")))
    return 0
"""


def stages() -> dict[str, str]:
    parts = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    return {part.splitlines()[0].rpartition(" AS ")[2]: part for part in parts}


@pytest.mark.parametrize("stage", ["webhook", "helper"])
def test_an_image_is_made_from_nothing_and_runs_as_nobody(stage: str) -> None:
    text = stages()[stage]
    assert text.startswith("scratch ")
    assert "\nUSER 65532:65532\n" in text, (
        "numeric: the kubelet cannot tell that a name is not root"
    )
    assert "\nRUN " not in text
    assert "org.opencontainers.image.licenses" in text


def test_what_is_installed_from_an_index_is_installed_by_hash() -> None:
    for line in re.findall(r"pip install [^&\n]*", DOCKERFILE):
        assert "--require-hashes" in line or "--no-index" in line, line


def test_what_is_copied_is_sent_to_the_builder() -> None:
    """And nothing else is: a secret in the folder never gets into a layer."""
    kept = [
        line[1:]
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    ]
    copied = [
        word
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
        for word in line.split()[:-1]
    ]
    assert copied
    for word in copied:
        assert (ROOT / word).exists(), word
        assert any(word == keep or word.startswith(f"{keep}/") for keep in kept), word
    assert {
        keep
        for keep in kept
        if not any(word == keep or word.startswith(f"{keep}/") for word in copied)
    } == set()


def test_python_serves_from_the_collected_root_alone(tmp_path: Path) -> None:
    """As in the image: another root directory, another user, nothing from this machine."""
    needs.root()
    needs.programs("dpkg-query")
    application, root = tmp_path / "application", tmp_path / "root"
    (application / "webhook").mkdir(parents=True)
    (application / "webhook" / "cli.py").write_text(APPLICATION, encoding="utf-8")
    (application / "webhook" / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, str(ROOT / ".ci" / "image_root.py"), str(application), str(root)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for directory in (root.parent, root):
        directory.chmod(0o755)
    told = subprocess.run(
        ["/usr/bin/podgrace"],
        env={"PYTHONPATH": "/app", "PATH": "/usr/bin"}, capture_output=True, text=True, check=False,
        preexec_fn=lambda: (os.chroot(root), os.chdir("/"), os.setgid(65532), os.setuid(65532)),
    )  # fmt: skip
    assert (told.stdout, told.stderr, told.returncode) == ("serves well\n", "", 0)
    programs = {
        path.name
        for path in root.rglob("*")
        if path.is_file() and path.parent.name in ("bin", "sbin")
    }
    assert not programs & {"sh", "bash", "dash", "pip", "pip3", "apt", "dpkg", "busybox"}
    assert not list(root.rglob("ensurepip")) + list(root.rglob("site-packages"))
    assert (
        (root / "var/lib/dpkg/status.d/libc6")
        .read_text(encoding="utf-8")
        .startswith("Package: libc6\n")
    ), "scanners find Debian's packages by these"
