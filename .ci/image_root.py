# ruff: noqa: INP001 - a program, not a package
"""Collect what a Python program needs to run, for an image without a shell or package manager.

In: the interpreter that runs this, an application folder, an empty folder. Out: in that folder the
interpreter, its standard library without the parts that a server does not use, the shared libraries
of all of it, and the records by which scanners recognise Debian's packages. The Dockerfile runs it;
it works with the distribution's Python and with one built into /usr/local.

    python3 .ci/image_root.py APPLICATION ROOT
"""

import compileall
import os
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

UNUSED = (
    "__pycache__", "config-*", "curses", "dist-packages", "distutils", "ensurepip", "idlelib",
    "lib2to3", "pydoc_data", "site-packages", "sqlite3", "test", "tests", "tkinter", "turtledemo",
    "turtle.py", "venv", "*.a", "*.c", "*.h", "*.pxd", "*.pyx",
    # Modules that would bring libraries along: databases, terminals, sound, NIS with Kerberos.
    "_crypt.*", "_ctypes_test*", "_curses*", "_dbm*", "_gdbm*", "_sqlite3*", "_test*",
    "_tkinter*", "_xxtestfuzz*", "audioop*", "nis.*", "ossaudiodev*", "readline*", "xxlimited*",
)  # fmt: skip
EXTRA = ("libgcc_s.so.1",)
"""glibc opens it by name when a thread ends."""


def main(application: Path, root: Path) -> None:
    """Fill *root*."""
    interpreter = Path(os.path.realpath(sys.executable))
    stdlib = Path(
        sysconfig.get_path(
            "stdlib", vars={"base": sys.base_prefix, "installed_base": sys.base_prefix}
        )
    )
    copy(interpreter, root)
    shutil.copytree(
        stdlib,
        root / stdlib.relative_to("/"),
        ignore=shutil.ignore_patterns(*UNUSED),
        symlinks=False,
    )
    shutil.copytree(
        application, root / "app", ignore=shutil.ignore_patterns("*.c", "*.h", "*.pxd", "*.pyx")
    )
    compiled = compileall.compile_dir(
        root,
        quiet=1,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        stripdir=str(root),
    )
    if not compiled:
        sys.exit("image_root: something could not be compiled")
    packages = owners(
        [
            copy(library, root)
            for library in libraries([interpreter, *root.rglob("*.so"), *root.rglob("*.so.*")])
        ]
    )
    records(packages, root)
    write(root / "etc/passwd", "podgrace:x:65532:65532::/:/nonexistent\n")
    write(root / "etc/group", "podgrace:x:65532:\n")
    (root / "tmp").mkdir(mode=0o1777)
    command = root / "usr/bin/podgrace"
    write(
        command, f"#!{interpreter} -P\nfrom webhook.cli import main\n\nraise SystemExit(main())\n"
    )
    command.chmod(0o755)


def write(path: Path, text: str) -> None:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def copy(path: Path, root: Path) -> Path:
    """Copy a file to the same place below *root*, under the name given; returns the real path."""
    target = root / path.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(os.path.realpath(path), target)
    return Path(os.path.realpath(path))


def libraries(programs: list[Path]) -> list[Path]:
    """List the shared libraries that the loader would open for these, and the loader itself."""
    found: set[str] = set()
    for program in programs:
        told = subprocess.run(
            ["ldd", str(program)], capture_output=True, text=True, check=False
        ).stdout
        found |= set(re.findall(r"(?:=>\s+|^\s+)(/\S+)", told, re.MULTILINE))
    cache = subprocess.run(
        ["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True
    ).stdout
    found |= {
        path for name in EXTRA for path in re.findall(rf"{re.escape(name)} .*=> (/\S+)", cache)[:1]
    }
    return [Path(path) for path in sorted(found) if not path.startswith(str(Path(sys.argv[2])))]


def owners(files: list[Path]) -> set[str]:
    """Name the Debian packages that these files come from."""
    packages = set()
    for file in files:
        for spelling in {str(file), str(file).removeprefix("/usr")}:
            told = subprocess.run(
                ["dpkg-query", "--search", spelling], capture_output=True, text=True, check=False
            ).stdout
            packages |= {line.split(": ")[0].split(":")[0] for line in told.splitlines()}
    return packages


def records(packages: set[str], root: Path) -> None:
    """Write one record per package, where scanners of images without a package manager look."""
    write(root / "etc/os-release", Path("/etc/os-release").read_text(encoding="utf-8"))
    for package in sorted(packages):
        told = subprocess.run(
            ["dpkg-query", "--status", package], capture_output=True, text=True, check=True
        ).stdout
        write(root / f"var/lib/dpkg/status.d/{package}", told)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
