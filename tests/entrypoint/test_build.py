"""The files themselves: size, how they are linked, the other architecture, the manual."""

import re
import shutil
import struct
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import needs
from tests.entrypoint.conftest import BUILD, ROOT, _make, until

LIMIT = 96 * 1024
LOAD, DYNAMIC, INTERP, STACK, RELRO = 1, 2, 3, 0x6474E551, 0x6474E552
WRITE, EXECUTE = 2, 1
PAGES = (4096, 16384, 65536)


class Segment(NamedTuple):
    """A row of an ELF file's program headers."""

    kind: int
    flags: int
    offset: int
    address: int
    in_file: int
    in_memory: int


class Program(NamedTuple):
    """A built helper, taken apart."""

    data: bytes
    type: int
    segments: list[Segment]

    def of(self, kind: int) -> list[Segment]:
        return [s for s in self.segments if s.kind == kind]


@pytest.fixture(scope="module", params=["x86_64", "aarch64"])
def built(request: pytest.FixtureRequest) -> Program:
    _make(f"build/podgrace-helper-{request.param}")
    data = (BUILD / f"podgrace-helper-{request.param}").read_bytes()
    (start,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    rows = [struct.unpack_from("<IIQQQQQ", data, start + i * size) for i in range(count)]
    segments = [Segment(*row[:4], row[5], row[6]) for row in rows]
    return Program(data, struct.unpack_from("<H", data, 16)[0], segments)


def test_at_most_96_kb_static_and_stripped(built: Program) -> None:
    """Nothing to load, nothing to resolve: it runs in an image that has no file at all."""
    assert len(built.data) <= LIMIT
    assert built.of(LOAD)
    assert not built.of(INTERP)
    assert b".symtab" not in built.data
    for dynamic in built.of(DYNAMIC):
        end = dynamic.offset + dynamic.in_file
        tags = struct.iter_unpack("<QQ", built.data[dynamic.offset : end])
        assert 1 not in [tag for tag, _ in tags], "needs a library"


def test_it_runs_at_any_address_with_nothing_both_writable_and_executable(built: Program) -> None:
    """A position-independent executable; no segment and no stack that takes code."""
    assert built.type == 3, "a fixed address"
    assert all(s.flags & 3 != WRITE | EXECUTE for s in built.of(LOAD))
    assert [s.flags & EXECUTE for s in built.of(STACK)] == [0]


@pytest.mark.parametrize("page", PAGES)
def test_every_page_size_of_a_kernel_can_map_it(built: Program, page: int) -> None:
    """aarch64 has pages of 4, 16 or 64 KB.

    A segment's place in the file and in memory agree modulo the page; two segments whose rights
    differ share none; and what is protected after relocation ends where a page does.
    """
    loads = built.of(LOAD)
    for segment in loads:
        assert segment.offset % page == segment.address % page, segment
    for one, two in pairwise(loads):
        assert (one.address + one.in_memory - 1) // page < two.address // page, (one, two)
    for relro in built.of(RELRO):
        assert (relro.address + relro.in_memory) % page == 0


def test_relocated_data_is_read_only_when_it_runs(released: str) -> None:
    """A static program has no loader that would see to it."""
    data = Path(released).read_bytes()
    (start,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    rows = [struct.unpack_from("<IIQQQQQ", data, start + i * size) for i in range(count)]
    (relro,) = [row for row in rows if row[0] == RELRO]
    with subprocess.Popen([released, "sidecar"], stdin=subprocess.DEVNULL) as process:
        maps = Path(f"/proc/{process.pid}/maps")
        name = Path(released).resolve()

        def rights() -> str | None:
            mine = [line.split() for line in maps.read_text().splitlines() if str(name) in line]
            if not mine:
                return None
            base = int(mine[0][0].split("-")[0], 16)
            for row in mine:
                low, high = (int(word, 16) for word in row[0].split("-"))
                if low <= base + relro[3] < high:
                    return row[1]
            return None

        until(lambda: rights() == "r--p", "relocated data is read-only")
        process.terminate()


def test_functions_with_arrays_have_a_canary(built: Program) -> None:
    """Without it an overrun of a buffer would be found by whoever exploits it.

    Seen in the code of x86-64, which reads the canary from %fs:0x28 as no other code does. Both
    machines are compiled by one rule.
    """
    if struct.unpack_from("<H", built.data, 18) == (62,):
        reads = re.findall(rb"\x64\x48.{2}\x25\x28\x00\x00\x00", built.data, re.DOTALL)
        assert len(reads) > 40, len(reads)
    rule = (ROOT / "entrypoint/Makefile").read_text()
    assert "-fstack-protector-strong" in rule
    assert "no-stack-protector" not in rule


def test_no_compiler_warns() -> None:
    """Every warning of clang that makes sense, and what gcc's analyzer finds."""
    needs.programs("gcc")
    _make("warn")


def test_in_an_empty_root(released: str) -> None:
    """No /proc, no /dev, no library: it still runs a command, and says what it is."""
    needs.root()
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
    emulator = shutil.which("qemu-aarch64") or needs.program("qemu-aarch64-static")
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
    found = re.findall(r'^    \{"([a-z-]+)", ON_', source, re.MULTILINE)
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
        assert option in options(), f"--help speaks of --{option}, which is not an option"
    assert max(map(len, text.splitlines())) <= 80
    assert "\0" not in text


def test_the_manual_names_every_field_of_the_log() -> None:
    readme = (ROOT / "entrypoint/README.md").read_text()
    source = (ROOT / "entrypoint/src/record.c").read_text()
    listed = re.search(r"static const char names\[\] =([^;]*);", source)
    assert listed is not None
    names = "".join(re.findall(r'"([^"]*)"', listed[1])).split(",")
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
        r"}, /\* (.+) \*/", generated
    )
    for profile in table.values():
        for match in profile.get("match") or ():
            assert match in generated


def test_every_launcher_is_compiled_in() -> None:
    """Each process that the webhook looks through in a command is one in the helper's tree."""
    import tomllib  # noqa: PLC0415

    table = tomllib.loads((ROOT / "webhook/launchers.toml").read_text())
    _make("build/podgrace-helper")
    lines = re.findall(r'#define (\w+) "(.*)"', (BUILD / "launchers.gen.h").read_text())
    lists = {name: set(words.split(",")) for name, words in lines}
    for kind in table.values():
        for name in () if kind.get("builtin") else kind["names"]:
            assert any(name in names for names in lists.values()), name
    assert "tini" in lists["FORWARDING_INITS"] <= lists["LAUNCHERS"]
    assert "npm-cli.js" in lists["SCRIPT_LAUNCHERS"]
    assert not lists["LAUNCHERS"] & (lists["SCRIPT_LAUNCHERS"] | lists["INTERPRETERS"])
