"""The files themselves: size, how they are linked, the other architecture, the manual."""

import os
import re
import shutil
import struct
import subprocess

import pytest

from tests.entrypoint.conftest import BUILD, ROOT, _make

LIMIT = 64 * 1024


@pytest.fixture(scope="module", params=["x86_64", "aarch64"])
def built(request: pytest.FixtureRequest) -> str:
    _make(f"build/podgrace-helper-{request.param}")
    return str(BUILD / f"podgrace-helper-{request.param}")


def test_at_most_64_kb_static_and_stripped(built: str) -> None:
    """Nothing to load, nothing to resolve: it runs in an image that has no file at all."""
    with open(built, "rb") as file:  # noqa: PTH123
        data = file.read()
    assert len(data) <= LIMIT
    offset, size, count = (
        struct.unpack_from("<Q", data, 32)[0],
        *struct.unpack_from("<HH", data, 54),
    )
    kinds = [struct.unpack_from("<I", data, offset + i * size)[0] for i in range(count)]
    assert 1 in kinds
    assert not {2, 3} & set(kinds), "dynamic section or interpreter"
    assert b".symtab" not in data
    for i in range(count):
        kind, flags = struct.unpack_from("<II", data, offset + i * size)
        assert kind != 1 or flags & 3 != 3, "a segment that can be written and executed"


def test_in_an_empty_root(released: str) -> None:
    """No /proc, no /dev, no library: it still runs a command, and says what it is."""
    if os.geteuid() != 0:
        pytest.skip("chroot needs root")
    script = f"mount -t tmpfs none /mnt; cp {released} /mnt/h; exec chroot /mnt /h"
    done = subprocess.run(
        ["unshare", "-m", "--", "sh", "-c", f"{script} version"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("podgrace-helper ")
    done = subprocess.run(
        ["unshare", "-m", "--", "sh", "-c", f"{script} run -- /h nonsense"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 125
    assert "nonsense" in done.stderr


def test_the_other_architecture_runs() -> None:
    """Under user-mode emulation: starts commands, passes codes on, drains."""
    emulator = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if emulator is None:
        if os.environ.get("CI"):
            pytest.fail("CI installs qemu-user-static")
        pytest.skip("qemu-user-static is not installed")
    _make("build/podgrace-helper-aarch64")
    helper = [emulator, str(BUILD / "podgrace-helper-aarch64")]

    def code(*argv: str) -> int:
        return subprocess.run(
            [*helper, *argv], check=False, capture_output=True, timeout=60
        ).returncode

    assert subprocess.run(
        [*helper, "version"], check=True, capture_output=True, text=True
    ).stdout.startswith("podgrace-helper ")
    assert [code("run", "--", "sh", "-c", f"exit {n}") for n in (0, 7, 255)] == [0, 7, 255]
    assert code("run", "--", "sh", "-c", "kill -9 $$") == 137
    assert code("run", "--", "/nowhere") == 127
    done = subprocess.run(
        [
            *helper,
            "drain",
            "--ports=1",
            "--delay-min=0",
            "--quiet=0",
            "--delay-max=1",
            "--drain-timeout=1",
            "--no-stop",
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0


def options() -> list[str]:
    source = (ROOT / "entrypoint/src/options.c").read_text()
    found = re.findall(r'^    \{"([a-z-]+)", set_', source, re.MULTILINE)
    assert len(found) > 25
    return found


def test_the_manual_names_every_option(released: str) -> None:
    """`--help` and README.md, each of them."""
    text = subprocess.run([released, "--help"], check=True, capture_output=True, text=True).stdout
    readme = (ROOT / "entrypoint/README.md").read_text()
    for option in options():
        assert f"--{option}" in text, f"--{option} is not in --help"
        assert f"--{option}" in readme, f"--{option} is not in README.md"
    for option in set(re.findall(r"--([a-z][a-z-]+)", text)) - {"help"}:
        assert option in options(), f"--help speaks of --{option}, which is none"
    assert max(map(len, text.splitlines())) <= 80
    assert "\0" not in text


def test_the_manual_names_every_field_of_the_log() -> None:
    readme = (ROOT / "entrypoint/README.md").read_text()
    source = (ROOT / "entrypoint/src/phases.c").read_text()
    names = re.findall(r'(?:field|word)\(line, "([a-z_]+)"', source)
    assert len(names) > 15
    for name in names:
        assert f"`{name}`" in readme, name


def test_every_profile_is_compiled_in() -> None:
    """As many as webhook/profiles.toml has with names to match."""
    import tomllib  # noqa: PLC0415

    table = tomllib.loads((ROOT / "webhook/profiles.toml").read_text())
    _make("build/podgrace-helper")
    generated = (BUILD / "profiles.gen.h").read_text()
    assert [name for name, p in table.items() if p.get("match")] == re.findall(
        r'\.name = "([^"]+)"', generated
    )
    for profile in table.values():
        for match in profile.get("match") or ():
            assert match in generated
