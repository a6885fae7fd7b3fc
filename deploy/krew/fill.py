# ruff: noqa: INP001, T201 - a program, not a package
"""Fill the krew manifest for a release.

    fill.py VERSION HOMEPAGE DOWNLOADS FOLDER > podgrace.yaml

In: the version, the project's address, the address below which each version's archives are, and a
folder with the archives. Out: the manifest. An archive that is missing, or that does not hold
`kubectl-podgrace`, is an error: what is published has to be there.
"""

import hashlib
import re
import sys
import tarfile
from pathlib import Path

TEMPLATE = Path(__file__).with_name("podgrace.yaml")
PROGRAM = "kubectl-podgrace"


def fill(version: str, homepage: str, downloads: str, folder: Path) -> str:
    """Give the manifest. Raises ValueError and OSError where an archive is not as it must be."""
    if not re.fullmatch(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?", version):
        raise ValueError(f"version {version!r}: accepted: one such as 1.2.3, without a v")
    values = {"VERSION": version, "HOMEPAGE": homepage, "DOWNLOADS": downloads.rstrip("/")}

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name.startswith("SHA256_"):
            platform = name.removeprefix("SHA256_").lower()
            return _sha256(folder / f"{PROGRAM}_{platform}.tar.gz")
        return values[name]

    lines = TEMPLATE.read_text(encoding="utf-8").splitlines(keepends=True)
    text = "".join(line for line in lines if not line.startswith("#"))
    return re.sub(r"@([A-Z0-9_]+)@", value, text)


def _sha256(archive: Path) -> str:
    """Give the checksum of an archive that holds the program."""
    with tarfile.open(archive) as held:
        if PROGRAM not in {name.removeprefix("./") for name in held.getnames()}:
            raise ValueError(f"{archive}: holds no {PROGRAM}")
    return hashlib.sha256(archive.read_bytes()).hexdigest()


if __name__ == "__main__":
    print(fill(*sys.argv[1:4], Path(sys.argv[4])), end="")
