"""`install`: whole or not at all."""

import os
import subprocess
import threading
from pathlib import Path

import pytest

from tests import needs


def install(helper: str, where: Path | str, *prefix: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*prefix, helper, "install", str(where)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_it_copies_itself(helper: str, tmp_path: Path) -> None:
    os.umask(0o077)
    assert install(helper, tmp_path).returncode == 0
    os.umask(0o022)
    copy = tmp_path / "podgrace-helper"
    assert copy.read_bytes() == Path(helper).read_bytes()
    assert copy.stat().st_mode & 0o777 == 0o755
    assert subprocess.run(
        [copy, "version"], check=True, capture_output=True, text=True
    ).stdout.startswith("podgrace-helper ")
    assert [p.name for p in tmp_path.iterdir()] == ["podgrace-helper"]


def test_a_second_time_changes_nothing(helper: str, tmp_path: Path) -> None:
    install(helper, tmp_path)
    before = (tmp_path / "podgrace-helper").stat()
    assert install(helper, tmp_path).returncode == 0
    after = (tmp_path / "podgrace-helper").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


@pytest.mark.parametrize("old", [b"", b"#!/bin/sh\n", b"x" * 3_000_000])
def test_another_version_is_replaced_as_a_whole(helper: str, tmp_path: Path, old: bytes) -> None:
    """Shorter or longer; by renaming, so whoever runs the old one keeps it."""
    copy = tmp_path / "podgrace-helper"
    copy.write_bytes(old)
    before = copy.stat().st_ino
    assert install(helper, tmp_path).returncode == 0
    assert copy.read_bytes() == Path(helper).read_bytes()
    assert copy.stat().st_ino != before


def test_while_it_runs_it_can_be_installed_again(helper: str, tmp_path: Path) -> None:
    install(helper, tmp_path)
    copy = tmp_path / "podgrace-helper"
    with subprocess.Popen([copy, "run", "--", "cat"], stdin=subprocess.PIPE) as running:
        copy.write_bytes(b"") if not os.path.exists(f"/proc/{running.pid}/exe") else None  # noqa: PTH110
        copy.chmod(0o700)  # so that it differs
        assert install(helper, tmp_path).returncode == 0
        assert running.stdin is not None
        running.stdin.close()
        assert running.wait(30) == 0


def test_many_at_once(helper: str, tmp_path: Path) -> None:
    """A postStart hook and the sidecar itself do it at the same time."""
    codes = []
    threads = [
        threading.Thread(target=lambda: codes.append(install(helper, tmp_path).returncode))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0] * 8
    assert [p.name for p in tmp_path.iterdir()] == ["podgrace-helper"]


def test_any_user(released: str) -> None:
    needs.root()
    target = Path(f"/tmp/podgrace-any-user-{os.getpid()}")
    target.mkdir(mode=0o777)
    target.chmod(0o777)
    done = install(
        released,
        target,
        "setpriv",
        "--reuid=12345",
        "--regid=12345",
        "--clear-groups",
        "--no-new-privs",
    )
    assert done.returncode == 0, done.stderr
    assert (target / "podgrace-helper").stat().st_uid == 12345
    (target / "podgrace-helper").unlink()
    target.rmdir()


@pytest.mark.parametrize("old", [False, True])
def test_a_full_volume(helper: str, old: bool) -> None:
    """Says so, with its own code; leaves no part of a file, and the old one as it was."""
    needs.root()
    script = f"""
        mount -t tmpfs -o size=32k none /mnt
        {"echo old >/mnt/podgrace-helper" if old else ":"}
        {helper} install /mnt; echo code $?; ls -A /mnt; cat /mnt/* 2>/dev/null || :
    """
    done = subprocess.run(
        ["unshare", "-m", "--", "sh", "-c", script],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == (
        ["code", "125", "podgrace-helper", "old"] if old else ["code", "125"]
    )
    assert "No space left on device" in done.stderr


@pytest.mark.parametrize("where", ["/nowhere/at/all", "/proc", "/etc/passwd", "/" + "d" * 600])
def test_a_place_that_cannot_be_written(helper: str, where: str) -> None:
    done = install(helper, where)
    assert done.returncode == 125
    assert done.stderr.startswith("podgrace-helper: install: ")
    assert where[:100] in done.stderr


def test_a_read_only_volume(helper: str) -> None:
    needs.root()
    script = f"mount -t tmpfs -o ro none /mnt; {helper} install /mnt"
    done = subprocess.run(
        ["unshare", "-m", "--", "sh", "-c", script],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 125
    assert "Read-only file system" in done.stderr


def run_in(tmp_path: Path, helper: str) -> "subprocess.CompletedProcess[str]":
    done = install(helper, tmp_path)
    assert done.returncode == 0, done.stderr
    copy = tmp_path / "podgrace-helper"
    assert not copy.is_symlink()
    assert copy.is_file()
    assert copy.read_bytes() == Path(helper).read_bytes()
    assert copy.stat().st_mode & 0o7777 == 0o755
    return done


def test_a_fifo_at_the_name_is_replaced(helper: str, tmp_path: Path) -> None:
    """Nobody will ever open its other end."""
    os.mkfifo(tmp_path / "podgrace-helper")
    run_in(tmp_path, helper)


@pytest.mark.parametrize("empty", [True, False])
def test_a_directory_at_the_name(helper: str, tmp_path: Path, empty: bool) -> None:
    """Replaced if nothing is in it; else it is named, and nothing is left behind."""
    target = tmp_path / "podgrace-helper"
    target.mkdir()
    if not empty:
        (target / "mine").touch()
    done = subprocess.run(
        [helper, "install", str(tmp_path)], check=False, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == (0 if empty else 125)
    assert target.is_file() is empty
    assert list(tmp_path.iterdir()) == [target]
    if not empty:
        assert "podgrace-helper: Directory not empty" in done.stderr


@pytest.mark.parametrize("kind", ["the same program", "another file", "nothing"])
def test_a_link_at_the_name_is_replaced_and_not_followed(
    helper: str, tmp_path: Path, kind: str
) -> None:
    """What it leads to stays as it was, even where that is the same to the last byte."""
    (tmp_path / "volume").mkdir()
    target = tmp_path / "elsewhere"
    if kind != "nothing":
        target.write_bytes(Path(helper).read_bytes() if "same" in kind else b"kept")
        target.chmod(0o755)
    before = target.read_bytes() if target.exists() else None
    (tmp_path / "volume" / "podgrace-helper").symlink_to(target)
    run_in(tmp_path / "volume", helper)
    assert (target.read_bytes() if target.exists() else None) == before


def test_nobody_can_have_put_something_at_the_temporary_name(released: str, tmp_path: Path) -> None:
    """It was told by the process's number once: whoever could write there could lay links."""
    needs.root()
    kept = tmp_path / "kept"
    kept.write_bytes(b"kept")
    volume = tmp_path / "volume"
    volume.mkdir()
    script = f"""
        for i in $(seq 1 9); do ln -s {kept} {volume}/.podgrace-helper.$i; done
        exec {released} install {volume}
    """
    subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "--", "sh", "-c", script],
        check=True,
        timeout=60,
    )
    assert kept.read_bytes() == b"kept"
    assert not (volume / "podgrace-helper").is_symlink()
    assert (volume / "podgrace-helper").read_bytes() == Path(released).read_bytes()


def test_a_volume_that_starts_nothing(released: str) -> None:
    """Copied there it could not be run: said now, and not by every container that tries."""
    needs.root()
    script = f"mount -t tmpfs -o noexec none /mnt; {released} install /mnt; echo $?; ls -A /mnt"
    done = subprocess.run(
        ["unshare", "-m", "--", "sh", "-c", script],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == ["125"]
    assert "/mnt: mounted with noexec" in done.stderr
