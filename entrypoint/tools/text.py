# ruff: noqa: INP001 - a script of the Makefile, no package
"""Write a text file as a C string, line by line: `text.py manual.txt > manual.gen.h`."""

import json
import sys
from pathlib import Path

if __name__ == "__main__":
    lines = Path(sys.argv[1]).read_text(encoding="ascii").splitlines(keepends=True)
    sys.stdout.write("".join(json.dumps(line) + "\n" for line in lines))
