"""Files on a real file system: each is whole or absent, whoever reads, writes or dies meanwhile."""

import os
import signal
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from certs import Authority, Leaf, store
from certs.errors import BadMaterial, StoreError
from certs.local import ephemeral

NOW = datetime.now(UTC)
NAMES = (store.CA_FILE, store.CERT_FILE, store.KEY_FILE)


def numbered(number: int) -> dict[str, bytes]:
    return {name: f"{name} {number}".encode() for name in NAMES}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    store.write(tmp_path / "new" / "dir", numbered(1))
    assert store.read(tmp_path / "new" / "dir") == numbered(1)
    store.write(tmp_path / "new" / "dir", numbered(2))
    assert store.read(tmp_path / "new" / "dir") == numbered(2)


def test_the_key_is_for_its_owner_and_the_rest_for_everybody(tmp_path: Path) -> None:
    """The umask does not matter: a container may run with any."""
    before = os.umask(0o077)
    try:
        store.write(tmp_path, numbered(1))
    finally:
        os.umask(before)
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in NAMES}
    assert modes == {store.CA_FILE: 0o644, store.CERT_FILE: 0o644, store.KEY_FILE: 0o600}


def test_a_mounted_secret_is_read_alike(tmp_path: Path) -> None:
    """In the kubelet's layout, with a time in the name."""
    version = tmp_path / "..2026_11_24_12_00_00.123456789"
    version.mkdir()
    for name, content in numbered(1).items():
        (version / name).write_bytes(content)
        (tmp_path / name).symlink_to(f"..data/{name}")
    (tmp_path / "..data").symlink_to(version.name)
    assert store.read(tmp_path) == numbered(1)


def test_files_and_links_of_before_are_replaced(tmp_path: Path) -> None:
    """Versions up to 0.1 kept links through a directory; their targets are left alone."""
    (tmp_path / store.CA_FILE).write_bytes(b"by hand")
    (tmp_path / "there").write_bytes(b"mine")
    (tmp_path / store.KEY_FILE).symlink_to("there")
    store.write(tmp_path, numbered(1))
    assert store.read(tmp_path) == numbered(1)
    assert (tmp_path / "there").read_bytes() == b"mine"


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("mine")
    for number in range(3):
        store.write(tmp_path, numbered(number))
    assert {path.name for path in tmp_path.iterdir()} == {"README", *NAMES}


def test_files_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    assert store.read(tmp_path) == {}
    assert store.read(tmp_path / "nowhere") == {}
    (tmp_path / store.CA_FILE).symlink_to("dangling")
    assert store.read(tmp_path) == {}


def test_each_file_is_always_there_and_whole(tmp_path: Path) -> None:
    store.write(tmp_path, numbered(0))
    done = threading.Event()
    missed: list[str] = []

    def read() -> None:
        while not done.is_set():
            found = store.read(tmp_path)
            missed.extend(
                name for name in NAMES if found.get(name, b"").split()[:1] != [name.encode()]
            )

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(300):
        store.write(tmp_path, numbered(number))
    done.set()
    reader.join()
    assert not missed


def test_a_pair_caught_in_a_switch_is_found_out() -> None:
    """A reader may open two files one after the other: `Leaf.load` refuses a mixture."""
    authority = Authority.create(now=NOW)
    one, two = authority.issue("localhost", now=NOW), authority.issue("localhost", now=NOW)
    with pytest.raises(BadMaterial, match="does not belong"):
        Leaf.load(one.cert_pem, two.key_pem)


KILLER = """
import os, signal, sys
from pathlib import Path
from certs import store
left = int(sys.argv[2])
def watch(event, arguments):
    global left
    at = str(arguments and arguments[0])
    kind = event.partition(".")[0]
    if kind in ("open", "os", "shutil", "tempfile") and at.startswith(sys.argv[1]):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
names = ("ca.crt", "tls.crt", "tls.key")
store.write(Path(sys.argv[1]), {name: f"{name} 1".encode() for name in names})
print(left)
"""


def write_and_die(directory: Path, after: int) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", KILLER, str(directory), str(after)]
    return subprocess.run(command, check=False, timeout=60, capture_output=True, text=True)


@pytest.mark.parametrize("call", range(1, 7))
def test_a_crash_in_the_middle_leaves_each_file_old_or_new(tmp_path: Path, call: int) -> None:
    """The process kills itself at its n-th file system call; the next write repairs it."""
    store.write(tmp_path, numbered(0))
    assert write_and_die(tmp_path, call).returncode == -signal.SIGKILL
    found = store.read(tmp_path)
    assert all(found[name] in (numbered(0)[name], numbered(1)[name]) for name in NAMES)
    store.write(tmp_path, numbered(2))
    assert store.read(tmp_path) == numbered(2)


def test_a_directory_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    """As an ordinary user, since root may write everywhere."""
    store.write(tmp_path, numbered(0))
    tmp_path.chmod(0o555)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    script = """
import os, sys
from pathlib import Path
from certs import store
from certs.errors import StoreError
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    store.write(Path(sys.argv[1]), {"ca.crt": b"new"})
except StoreError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.startswith(f"can't write certificates to {tmp_path}: Permission denied ("), (
        done.stdout + done.stderr
    )
    assert store.read(tmp_path) == numbered(0)


def test_a_file_where_the_directory_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"can't write certificates to .*/file: "):
        store.write(tmp_path / "file", numbered(0))


def test_throw_away_certificates_are_whole(tmp_path: Path) -> None:
    ephemeral(tmp_path, ["localhost", "127.0.0.1"])
    found = store.read(tmp_path)
    leaf = Leaf.load(found[store.CERT_FILE], found[store.KEY_FILE])
    assert leaf.certificate.names == {"localhost", "127.0.0.1"}
    assert b"PRIVATE" not in found[store.CA_FILE], "the authority's key is forgotten"
